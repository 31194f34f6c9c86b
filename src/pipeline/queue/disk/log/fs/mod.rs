//! The file system as the log sees it: few calls, so that a test can stand in
//! for the disk and fail, forget and fill up as disks do.

mod real;
mod unsynced;

pub use self::{real::RealFileSystem, unsynced::Unsynced};

use std::{
    ffi::OsString,
    fmt,
    io::{self, ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

#[cfg(test)]
pub(super) mod memory;

/// Linux takes no more pieces in one write (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

/// Folders, and the files in them. Calls block.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Makes a folder and those above it, so that they outlast a power failure; it
    /// may be there already.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// What is in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Opens a file that is there to write it past the page cache: whole blocks,
    /// from memory that is aligned like them; and the bytes of a block, which are a
    /// power of two. Not every file system can, or should.
    fn open_direct(&self, path: &Path) -> io::Result<(Arc<dyn File>, usize)>;

    /// Takes a file out of its folder. Who has it open can still use it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created in a folder, and removed from it, outlast a power
    /// failure.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// The bytes that this process may still write to the volume of a folder.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;

    /// Any number: chance is part of the world outside.
    fn random(&self) -> u32;
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `pieces`, one after the other; how many bytes it took.
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes what was written, and the length, outlast a power failure.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file at least so long, with zeros, and its place on the disk
    /// sure. Not every file system can.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file so long.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Its length, where it is a file.
    pub bytes: u64,
    /// Whether it is a regular file.
    pub is_file: bool,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only to read it.
    Read,
    /// To read and write it; it must be there.
    Write,
    /// To read and write it; it is made where it is missing.
    Create,
    /// To read and write it; it must not be there yet.
    New,
}

/// Reads until `buffer` is full or the file ends; how many bytes there were.
pub(super) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `pieces`, one after the other, in as few calls as it takes.
pub(super) fn write_all(
    file: &dyn File,
    mut pieces: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    // A piece of nothing would be left at the end and look like a full disk.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        let some = pieces.get(..MAX_PIECES).unwrap_or(pieces);
        match file.write_at(some, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
