//! A file system that leaves it to the operating system when to write.
//!
//! What was written outlives the process, but not a crash of the machine.

use super::{Access, Entry, File, FileSystem};
use std::{
    io::{self, ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

/// Another file system, without its syncs.
#[derive(Debug)]
pub struct Unsynced<F>(pub F);

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn File>);

// === impl Unsynced ===

impl<F: FileSystem> FileSystem for Unsynced<F> {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(folder)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnsyncedFile(self.0.open(path, access)?)))
    }

    /// When to write is the page cache's business.
    fn open_direct(&self, _: &Path) -> io::Result<(Arc<dyn File>, usize)> {
        Err(ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.0.free_bytes(folder)
    }

    fn random(&self) -> u32 {
        self.0.random()
    }
}

// === impl UnsyncedFile ===

impl File for UnsyncedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.0.write_at(pieces, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
}
