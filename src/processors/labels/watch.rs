//! Files whose content is a label's value, read again on a thread of their own.
//!
//! The thread sleeps on a channel whose other end the processor owns, so it ends
//! as soon as the processor is dropped. It reads the files instead of asking for
//! their times of change: they are small, and a Kubernetes volume changes a link.

use crate::settings::Id;
use arc_swap::ArcSwap;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};
use tracing::{info, warn};

/// How often files are read again.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The longest value taken from a file.
const MAX_BYTES: u64 = 64 * 1024;

/// A file's content as it was last read; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Content {
    path: Arc<Path>,
    pub(super) text: Arc<ArcSwap<String>>,
}

/// The thread that reads; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _stop: Sender<()>,
}

/// Why a label's value cannot be taken from a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    /// The system refuses, or the content is not UTF-8.
    #[error("cannot read {path}: {source}: make it a readable text file")]
    Read { path: String, source: io::Error },
    /// It cannot be meant as a label's value.
    #[error("{path} is larger than {MAX_BYTES} bytes: a label's value must be short")]
    TooLarge { path: String },
    /// It may be about to be written.
    #[error("{path} has become empty: write the label's new value")]
    Emptied { path: String },
    /// The system has no thread left.
    #[error("cannot start the thread that reads the files of value_file: {0}")]
    Thread(io::Error),
}

// === impl Content ===

impl Content {
    /// Reads the file for the first time.
    pub(super) fn read(path: PathBuf) -> Result<Self, WatchError> {
        Ok(Self {
            text: Arc::new(ArcSwap::from_pointee(read(&path)?)),
            path: path.into(),
        })
    }

    /// The content, without white space at its ends.
    pub(super) fn get(&self) -> Arc<String> {
        self.text.load_full()
    }

    /// Reads the file again; on error the old content stays.
    pub(super) fn refresh(&self) -> Result<bool, WatchError> {
        let text = read(&self.path)?;
        let last = self.text.load_full();
        if text.is_empty() && !last.is_empty() {
            return Err(WatchError::Emptied {
                path: self.path.display().to_string(),
            });
        }
        let changed = *last != text;
        if changed {
            self.text.store(Arc::new(text));
        }
        Ok(changed)
    }
}

fn read(path: &Path) -> Result<String, WatchError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|source| WatchError::Read {
            path: path.display().to_string(),
            source,
        })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(WatchError::TooLarge {
            path: path.display().to_string(),
        });
    }
    Ok(text.trim().to_owned())
}

// === impl Watch ===

impl Watch {
    /// Reads `files` again, once an interval; `None` when there are none.
    pub(super) fn start(
        processor: Id,
        files: Vec<Content>,
        interval: Duration,
    ) -> Result<Option<Self>, WatchError> {
        if files.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        thread::Builder::new()
            .name("label-files".into())
            .spawn(move || watch(&processor, &files, interval, &stopped))
            .map_err(WatchError::Thread)?;
        Ok(Some(Self { _stop: stop }))
    }
}

fn watch(processor: &Id, files: &[Content], interval: Duration, stopped: &Receiver<()>) {
    // One warning for each time a file becomes unreadable.
    let mut unreadable = vec![false; files.len()];
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        for (file, unreadable) in files.iter().zip(&mut unreadable) {
            let path = file.path.display();
            match file.refresh() {
                Ok(changed) => {
                    if changed {
                        info!(%processor, file = %path, "read a label's value anew");
                    }
                    *unreadable = false;
                }
                Err(error) if !*unreadable => {
                    warn!(%processor, file = %path, %error, "keeping a label's last value");
                    *unreadable = true;
                }
                Err(_) => {}
            }
        }
    }
}
