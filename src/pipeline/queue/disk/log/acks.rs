//! The file of a segment's acknowledgements: 8 bytes for each, the record's
//! number and a check, which covers the segment's tag, so that the file speaks of
//! no other segment.
//!
//! An entry is written at once, so that the end of the process forgets none, and
//! synced every now and then, so that a power failure forgets few. One that is
//! torn or damaged is ignored: its record is delivered again.

use super::{
    format::check,
    fs::{Access, File, FileSystem, read_full, write_all},
    names,
};
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

const ENTRY: usize = 8;
/// The file may be so much longer than it needs to be, on a disk that fails.
const MOST_COPIES: u64 = 16;
/// How much is read at once.
const STRIDE: usize = 64 << 10;

/// The file of a segment's acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// The bytes of its whole entries; the next one goes there.
    pub(super) bytes: u64,
    /// The highest number in it.
    pub(super) highest: Option<u32>,
    /// Where the first entry is that says nothing.
    pub(super) damaged: Option<u64>,
    /// Whether there is a file.
    pub(super) exists: bool,
    /// Whether it has entries that were not synced.
    pub(super) is_dirty: bool,
    file: Option<Arc<dyn File>>,
    pending: Vec<u32>,
}

// === impl Acks ===

impl Acks {
    /// Reads the acknowledgements of a segment, and calls `each` with every
    /// number; it may come several times.
    pub(super) fn read(file: &dyn File, tag: u32, mut each: impl FnMut(u32)) -> io::Result<Self> {
        let mut acks = Self {
            exists: true,
            ..Self::default()
        };
        let mut buffer = vec![0; STRIDE];
        loop {
            let read = read_full(file, &mut buffer, acks.bytes)?;
            let (entries, _) = buffer.get(..read).unwrap_or_default().as_chunks::<ENTRY>();
            for entry in entries {
                match decode(entry, tag) {
                    Some(number) => {
                        acks.highest = acks.highest.max(Some(number));
                        each(number);
                    }
                    None => acks.damaged = acks.damaged.or(Some(acks.bytes)),
                }
                acks.bytes += ENTRY as u64;
            }
            if read < STRIDE {
                // Whoever wrote them may have ended before they were synced.
                acks.is_dirty = acks.bytes > 0;
                return Ok(acks);
            }
        }
    }

    /// To be written by the next [`write`](Self::write).
    pub(super) fn push(&mut self, number: u32) {
        self.pending.push(number);
    }

    /// Whether something waits to be written.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what is pending. After an error it still is.
    pub(super) fn write(
        &mut self,
        fs: &dyn FileSystem,
        folder: &Path,
        sequence: u64,
        tag: u32,
    ) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let file = self.file(fs, folder, sequence)?;
        let entries = self.pending.iter();
        let bytes: Vec<u8> = entries.flat_map(|number| encode(*number, tag)).collect();
        write_all(&*file, &mut [IoSlice::new(&bytes)], self.bytes)?;
        self.bytes += bytes.len() as u64;
        self.pending.clear();
        self.is_dirty = true;
        Ok(())
    }

    /// Makes what was written outlast a power failure. Where that fails nobody
    /// knows what the file holds, so `all` that is acknowledged is written again,
    /// by the next [`write`](Self::write).
    pub(super) fn sync(
        &mut self,
        fs: &dyn FileSystem,
        folder: &Path,
        sequence: u64,
        all: impl Iterator<Item = u32>,
    ) -> io::Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        let file = self.file(fs, folder, sequence)?;
        if let Err(error) = file.sync_data() {
            self.pending = all.collect();
            let again = (self.pending.len() * ENTRY) as u64;
            if self.bytes > MOST_COPIES * again {
                self.bytes = 0;
            }
            return Err(error);
        }
        self.is_dirty = false;
        Ok(())
    }

    /// Closes the file; it is opened again when needed.
    pub(super) fn close(&mut self) {
        if !self.is_dirty {
            self.file = None;
        }
    }

    fn file(
        &mut self,
        fs: &dyn FileSystem,
        folder: &Path,
        sequence: u64,
    ) -> io::Result<Arc<dyn File>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => fs.open(&names::acks(folder, sequence), Access::Create)?,
        };
        self.exists = true;
        Ok(Arc::clone(self.file.insert(file)))
    }
}

fn encode(number: u32, tag: u32) -> [u8; ENTRY] {
    let [a, b, c, d] = number.to_le_bytes();
    let [e, f, g, h] = check(tag, number).to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

fn decode(entry: &[u8; ENTRY], tag: u32) -> Option<u32> {
    let [a, b, c, d, e, f, g, h] = *entry;
    let number = u32::from_le_bytes([a, b, c, d]);
    (check(tag, number) == u32::from_le_bytes([e, f, g, h])).then_some(number)
}
