//! One process at a time in a directory of queues.
//!
//! The lock is the kernel's, so it ends with the process that holds it, however
//! that ends. The file says in text who that is; it stays when the lock goes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How long until the lock is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// Nobody who wrote the file wrote more.
const MAX_TEXT: u64 = 512;

/// The right to write in a directory; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// The directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{} is in use by {holder}: stop that one, or name another directory",
        directory.display()
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who has it: process id, program, and since when.
        holder: String,
    },
    /// The system refused.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

// === impl Lock ===

impl Lock {
    /// Locks a directory, which is made where it is missing, by its file `lock`.
    /// Blocks for as long as `wait` while another process has it: the one before,
    /// which is on its way out.
    pub fn take(directory: &Path, wait: Duration) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        let end = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held {
                        directory: directory.into(),
                        holder: holder(&mut file),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        sign(&mut file).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Who reads it later should not be sent after a process that is gone.
        _ = self.file.set_len(0);
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    let since = humantime::format_rfc3339_seconds(SystemTime::now());
    let text = format!(
        "process {} ({}) since {since}\n",
        std::process::id(),
        program.display()
    );
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

/// What the holder wrote; it may be about to.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| {
        let mut file: &File = file;
        Read::by_ref(&mut file)
            .take(MAX_TEXT)
            .read_to_string(&mut text)
    });
    let said = text.trim();
    if read.is_err() || said.is_empty() {
        "another process".to_owned()
    } else {
        printable(said)
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
