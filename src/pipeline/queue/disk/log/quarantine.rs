//! Where damaged records are set aside: a folder that is bounded in bytes, the
//! oldest go first.

use super::{
    fs::{Access, File, FileSystem, read_full, write_all},
    names,
};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, IoSlice},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much is copied at once.
const STRIDE: u64 = 64 << 10;

/// Where damaged records are set aside.
#[derive(Debug)]
pub(super) struct Quarantine {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    max_bytes: u64,
    files: Mutex<Files>,
}

/// Bytes of the files that are there, by segment and offset.
#[derive(Debug, Default)]
struct Files {
    known: BTreeMap<(u64, u64), u64>,
    bytes: u64,
}

// === impl Quarantine ===

impl Quarantine {
    /// The folder, which need not exist. One that cannot be read counts as
    /// empty: nothing depends on it.
    pub(super) fn open(fs: Arc<dyn FileSystem>, folder: PathBuf, max_bytes: u64) -> Self {
        let mut files = Files::default();
        for entry in fs.list(&folder).unwrap_or_default() {
            if let Some(key) = names::parse_damaged(&entry.name).filter(|_| entry.is_file) {
                files.insert(key, entry.bytes);
            }
        }
        Self {
            fs,
            folder,
            max_bytes,
            files: Mutex::new(files),
        }
    }

    /// The bytes that are in it.
    pub(super) fn bytes(&self) -> u64 {
        self.files().bytes
    }

    /// The highest number of a segment of which something is in it.
    pub(super) fn highest_segment(&self) -> Option<u64> {
        let files = self.files();
        files
            .known
            .last_key_value()
            .map(|((segment, _), _)| *segment)
    }

    /// Copies bytes of a segment; where to, unless they are more than may be
    /// kept at all.
    pub(super) fn put(
        &self,
        file: &dyn File,
        sequence: u64,
        offset: u64,
        bytes: u64,
    ) -> io::Result<Option<PathBuf>> {
        if bytes == 0 || bytes > self.max_bytes {
            return Ok(None);
        }
        let mut files = self.files();
        let path = names::damaged(&self.folder, sequence, offset);
        if files.known.get(&(sequence, offset)) == Some(&bytes) {
            return Ok(Some(path));
        }
        files.forget((sequence, offset));
        while files.bytes.saturating_add(bytes) > self.max_bytes {
            let Some((segment, offset)) = files.known.first_key_value().map(|(key, _)| *key) else {
                break;
            };
            self.remove(segment, offset)?;
            files.forget((segment, offset));
        }
        self.fs.create_folder(&self.folder)?;
        let copied = self.copy(file, sequence, offset, bytes);
        match copied {
            Ok(copied) => {
                files.insert((sequence, offset), copied);
                Ok(Some(path))
            }
            Err(error) => {
                // Half a copy helps nobody; what is left of it goes next time.
                _ = self.remove(sequence, offset);
                Err(error)
            }
        }
    }

    fn copy(&self, from: &dyn File, sequence: u64, start: u64, bytes: u64) -> io::Result<u64> {
        let path = names::damaged(&self.folder, sequence, start);
        let to = self.fs.open(&path, Access::Create)?;
        let mut buffer = vec![0; usize::try_from(bytes.min(STRIDE)).unwrap_or_default()];
        let mut copied = 0;
        while copied < bytes {
            let most = usize::try_from(bytes - copied).unwrap_or(usize::MAX);
            let length = most.min(buffer.len());
            let some = buffer.get_mut(..length).unwrap_or_default();
            let read = read_full(from, some, start.saturating_add(copied))?;
            let some = buffer.get(..read).unwrap_or_default();
            if some.is_empty() {
                break;
            }
            write_all(&*to, &mut [IoSlice::new(some)], copied)?;
            copied += some.len() as u64;
        }
        to.truncate(copied)?;
        to.sync_data()?;
        self.fs.sync_folder(&self.folder)?;
        Ok(copied)
    }

    fn remove(&self, sequence: u64, offset: u64) -> io::Result<()> {
        let path = names::damaged(&self.folder, sequence, offset);
        match self.fs.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Files ===

impl Files {
    fn insert(&mut self, key: (u64, u64), bytes: u64) {
        self.bytes += bytes;
        self.known.insert(key, bytes);
    }

    fn forget(&mut self, key: (u64, u64)) {
        if let Some(bytes) = self.known.remove(&key) {
            self.bytes -= bytes;
        }
    }
}
