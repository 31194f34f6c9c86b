//! The file system of the operating system.

use super::{Access, Entry, File, FileSystem};
use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, IoSlice},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// What is written past the page cache: no disk that is in use has larger sectors.
const BLOCK: usize = 4096;

/// The file system of the operating system. What is in the queue is for the
/// relay's user: folders are made with mode 0750, files with 0600.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

// === impl RealFileSystem ===

impl FileSystem for RealFileSystem {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().filter(|path| !path.as_os_str().is_empty());
        if let Some(above) = above {
            self.create_folder(above)?;
        }
        match DirBuilder::new().mode(0o750).create(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            created => created?,
        }
        // A folder that is forgotten takes along all that was synced in it.
        self.sync_folder(above.unwrap_or(Path::new(".")))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) => entries.push(Entry {
                    name: entry.file_name(),
                    bytes: about.len(),
                    is_file: about.is_file(),
                }),
                // It went while the folder was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true),
            Access::Create => options.write(true).create(true).truncate(false),
            Access::New => options.write(true).create_new(true),
        };
        Ok(Arc::new(options.open(path)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<(Arc<dyn File>, usize)> {
        let mut options = OpenOptions::new();
        let past_the_cache = OFlags::DIRECT.bits() as i32;
        let file = options
            .write(true)
            .custom_flags(past_the_cache)
            .open(path)?;
        Ok((Arc::new(file), BLOCK))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let volume = statvfs(folder)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn random(&self) -> u32 {
        rand::random()
    }
}

// === impl File ===

impl File for fs::File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, pieces, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::empty(), 0, bytes)?)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}
