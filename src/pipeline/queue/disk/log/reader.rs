//! Reads records, beside the log and from any thread.

use super::{
    Meta,
    format::{RECORD_OVERHEAD, RecordHeader},
    fs::{Access, File, FileSystem, read_full},
    names,
    quarantine::Quarantine,
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::warn;

/// How many segments stay open.
const OPEN: usize = 16;

/// Reads records; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    /// `None` where nothing may be changed.
    quarantine: Option<Quarantine>,
    /// The one opened last is at the end.
    open: Mutex<VecDeque<(u64, Arc<dyn File>)>>,
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its bytes are not those that were written, and trying again does not
    /// help: acknowledge it.
    #[error(
        "{}: the record at {offset} is damaged{}",
        path.display(),
        set_aside(set_aside_at.as_deref())
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
        /// Where its bytes are kept, unless they were too many, or could not be
        /// written.
        set_aside_at: Option<PathBuf>,
    },
    /// Its segment is not there any more: acknowledge it.
    #[error("{}: somebody removed the segment", path.display())]
    Gone {
        /// The segment.
        path: PathBuf,
    },
    /// The disk fails: try again later.
    #[error("cannot read {} at {offset}: {source}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

fn set_aside(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| {
        format!("; its bytes are in {}", path.display())
    })
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        folder: PathBuf,
        quarantine: Option<Quarantine>,
    ) -> Self {
        Self(Arc::new(Shared {
            fs,
            folder,
            quarantine,
            open: Mutex::default(),
        }))
    }

    /// The payload of a record, whose checksum is right. Blocks; takes the
    /// payload's size in memory.
    pub fn read(&self, meta: &Meta) -> Result<Bytes, ReadError> {
        let path = names::segment(&self.0.folder, meta.id.segment);
        let offset = meta.offset;
        let file = match self.segment(meta.id.segment) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ReadError::Gone { path });
            }
            Err(source) => {
                return Err(ReadError::Io {
                    path,
                    offset,
                    source,
                });
            }
        };
        match payload(&*file, meta) {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err(ReadError::Damaged {
                set_aside_at: self.set_aside(&*file, meta),
                path,
                offset,
            }),
            Err(source) => Err(ReadError::Io {
                path,
                offset,
                source,
            }),
        }
    }

    /// The bytes that were set aside.
    pub(super) fn quarantine_bytes(&self) -> u64 {
        self.0.quarantine.as_ref().map_or(0, Quarantine::bytes)
    }

    /// Takes over a segment that is open.
    pub(super) fn keep(&self, sequence: u64, file: Arc<dyn File>) {
        let mut open = self.open();
        open.retain(|(known, _)| *known != sequence);
        open.push_back((sequence, file));
        if open.len() > OPEN {
            open.pop_front();
        }
    }

    /// Closes a segment.
    pub(super) fn forget(&self, sequence: u64) {
        self.open().retain(|(known, _)| *known != sequence);
    }

    /// An open segment.
    pub(super) fn segment(&self, sequence: u64) -> io::Result<Arc<dyn File>> {
        let known = self.open().iter().find_map(|(known, file)| {
            let is_it = *known == sequence;
            is_it.then(|| Arc::clone(file))
        });
        if let Some(file) = known {
            return Ok(file);
        }
        let path = names::segment(&self.0.folder, sequence);
        let file = self.0.fs.open(&path, Access::Read)?;
        self.keep(sequence, Arc::clone(&file));
        Ok(file)
    }

    /// Sets aside the bytes of a record whose payload means nothing to its reader.
    pub fn quarantine(&self, meta: &Meta) -> Option<PathBuf> {
        let file = self.segment(meta.id.segment).ok()?;
        self.set_aside(&*file, meta)
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<dyn File>)>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_aside(&self, file: &dyn File, meta: &Meta) -> Option<PathBuf> {
        let quarantine = self.0.quarantine.as_ref()?;
        let put = quarantine.put(file, meta.id.segment, meta.offset, meta.stored);
        put.unwrap_or_else(|error| {
            warn!(
                segment = meta.id.segment,
                offset = meta.offset,
                %error,
                "the bytes of a damaged record could not be set aside"
            );
            None
        })
    }
}

/// The payload of a record; `None` when it is damaged.
fn payload(file: &dyn File, meta: &Meta) -> io::Result<Option<Bytes>> {
    let length = meta.stored.checked_sub(RECORD_OVERHEAD);
    let Some(length) = length.filter(|_| !meta.is_lost) else {
        return Ok(None);
    };
    // It may have been cut since the record was found.
    if meta.offset.saturating_add(meta.stored) > file.bytes()? {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    let read = read_full(file, &mut payload, meta.offset + RecordHeader::BYTES as u64)?;
    let is_sound = read == length && crc32fast::hash(&payload) == meta.crc;
    Ok(is_sound.then(|| payload.into()))
}
