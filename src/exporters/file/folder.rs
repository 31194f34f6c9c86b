//! A folder of profiles that never holds more than it may.
//!
//! The folder is listed once, when it is opened; from then on its files are
//! known in memory, in the order in which they were written. One file is written
//! at a time: first the oldest go until it fits, then it is written under a
//! hidden name, synced and renamed, so that no reader ever finds half a file and
//! no file replaces another.

use super::{RotationSettings, name};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};
use tracing::debug;

/// A folder of profiles.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    rotation: RotationSettings,
    files: Mutex<Files>,
}

/// A step that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}: {source}{}", path.display(), way_out(source))]
pub(super) struct FolderError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The files that are there, the oldest first.
#[derive(Debug, Default)]
struct Files {
    known: VecDeque<Written>,
    bytes: u64,
}

#[derive(Debug)]
struct Written {
    at: SystemTime,
    name: Box<str>,
    bytes: u64,
}

// === impl Folder ===

impl Folder {
    /// Creates the folder if it is missing, sees that it can be written to, and
    /// removes what is left of an earlier process: files that were never
    /// completed, and those that are too many.
    pub(super) fn open(
        path: PathBuf,
        rotation: RotationSettings,
        now: SystemTime,
    ) -> Result<Self, FolderError> {
        fs::create_dir_all(&path).map_err(|e| failed("create", &path, e))?;
        let trial = path.join(".profile-relay.tmp");
        File::create(&trial)
            .and_then(|_| fs::remove_file(&trial))
            .map_err(|e| failed("write to", &path, e))?;
        let files = Files::list(&path).map_err(|e| failed("list", &path, e))?;
        let folder = Self {
            path,
            rotation,
            files: Mutex::new(files),
        };
        folder.make_room(&mut folder.lock(), 0, 0, now)?;
        Ok(folder)
    }

    /// Writes a file and returns once it is complete. On an error nothing is
    /// left of it.
    pub(super) fn store(
        &self,
        stem: &str,
        content: &[u8],
        now: SystemTime,
    ) -> Result<(), FolderError> {
        let mut files = self.lock();
        let bytes = content.len() as u64;
        self.make_room(&mut files, 1, bytes, now)?;
        let name = match self.write(stem, content) {
            // Somebody took the folder away.
            Err(error) if error.source.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.path).map_err(|e| failed("create", &self.path, e))?;
                self.write(stem, content)
            }
            written => written,
        }?;
        files.push(Written {
            at: now,
            name: name.into(),
            bytes,
        });
        Ok(())
    }

    /// Removes the oldest files until `count` more with `bytes` in all fit.
    fn make_room(
        &self,
        files: &mut Files,
        count: u64,
        bytes: u64,
        now: SystemTime,
    ) -> Result<(), FolderError> {
        while let Some(oldest) = files.known.front() {
            let fits = self.fits(files, count, bytes) && !self.is_expired(oldest, now);
            if fits {
                break;
            }
            let path = self.path.join(&*oldest.name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", &path, error));
                }
                _ => debug!(file = %path.display(), "removed an old profile"),
            }
            files.forget_oldest();
        }
        Ok(())
    }

    fn fits(&self, files: &Files, count: u64, bytes: u64) -> bool {
        let max_files = self.rotation.max_files;
        let total = files.known.len() as u64 + count;
        (max_files == 0 || total <= max_files)
            && files.bytes.saturating_add(bytes) <= self.rotation.max_bytes.get()
    }

    /// A file from the future, after the clock was set back, is young.
    fn is_expired(&self, file: &Written, now: SystemTime) -> bool {
        let max_age = self.rotation.max_age;
        let age = now.duration_since(file.at).unwrap_or_default();
        !max_age.is_zero() && age > max_age.get()
    }

    /// Whoever has created the hidden file may decide about its name.
    fn write(&self, stem: &str, content: &[u8]) -> Result<String, FolderError> {
        let mut number = 0;
        loop {
            let name = name::numbered(stem, number);
            let path = self.path.join(&name);
            let hidden = self.path.join(name::temporary(&name));
            match File::create_new(&hidden) {
                Ok(file) => match place(file, &hidden, &path, content) {
                    Ok(true) => return Ok(name),
                    Ok(false) => discard(&hidden),
                    Err(error) => {
                        discard(&hidden);
                        return Err(failed("write", &path, error));
                    }
                },
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("write", &path, error)),
            }
            number += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the hidden file and gives it its name; `false` when that is taken.
fn place(mut file: File, hidden: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(hidden, path)?;
    Ok(true)
}

fn discard(hidden: &Path) {
    if let Err(error) = fs::remove_file(hidden) {
        debug!(file = %hidden.display(), %error, "an incomplete file stays until the next start");
    }
}

// === impl Files ===

impl Files {
    /// What an earlier process wrote. Incomplete files are removed.
    fn list(folder: &Path) -> io::Result<Self> {
        let mut known = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name::is_own_temporary(name) {
                discard(&entry.path());
            } else if name::is_own(name) {
                // It may be gone by now.
                let Ok(about) = entry.metadata() else {
                    continue;
                };
                if about.is_file() {
                    known.push(Written {
                        at: about.modified()?,
                        name: name.into(),
                        bytes: about.len(),
                    });
                }
            }
        }
        known.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        let mut files = Self::default();
        known.into_iter().for_each(|file| files.push(file));
        Ok(files)
    }

    fn push(&mut self, file: Written) {
        self.bytes += file.bytes;
        self.known.push_back(file);
    }

    fn forget_oldest(&mut self) {
        if let Some(file) = self.known.pop_front() {
            self.bytes -= file.bytes;
        }
    }
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> FolderError {
    FolderError {
        step,
        path: path.into(),
        source,
    }
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => ": let the relay's user write there",
        ErrorKind::ReadOnlyFilesystem => ": name a folder on a writable file system",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": make room, or lower rotation.max_bytes"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ": name a folder, not a file or a path through one"
        }
        _ => "",
    }
}
