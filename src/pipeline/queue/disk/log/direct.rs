//! Writing past the page cache.
//!
//! What is appended is as a rule handed out from memory, and read back only after
//! an outage. In the page cache it would cost a copy and a page for each 4 KiB,
//! and a sync would wait until the file system has found something to do with
//! these. Past it, a write is on its way to the disk when it returns.
//!
//! Such writes begin and end with a block and come from memory that is aligned
//! like one. The block in which the records end is therefore written again with
//! each append, its bytes so far and what follows them; the page cache does the
//! same. However such a write is cut short, what was kept before stays as it was.

use super::fs::{File, FileSystem, read_full, write_all};
use std::{
    io::{self, ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

/// The most bytes of one write.
const STAGE: usize = 1 << 20;

/// A segment that is written past the page cache.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    file: Arc<dyn File>,
    block: usize,
    /// What is in the last block, up to where the records end.
    tail: Vec<u8>,
}

/// Memory in which blocks are put together. Nothing is kept in it.
#[derive(Debug, Default)]
pub(super) struct Stage(Vec<u8>);

// === impl Direct ===

impl Direct {
    /// Opens a segment whose records end at `end`, beside `file`.
    pub(super) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        file: &dyn File,
        end: u64,
    ) -> io::Result<Self> {
        let (direct, block) = fs.open_direct(path)?;
        let within = end % block as u64;
        let mut tail = vec![0; within as usize];
        let read = read_full(file, &mut tail, end - within)?;
        if read < tail.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Self {
            file: direct,
            block,
            tail,
        })
    }

    /// Writes `pieces` at `offset`, where the records end, and zeros up to the end
    /// of a block. After an error the segment has to be opened anew.
    pub(super) fn write(
        &mut self,
        stage: &mut Stage,
        pieces: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let stage = stage.of(self.block, self.tail.len() + bytes);
        let mut at = offset - self.tail.len() as u64;
        let mut filled = 0;
        let tail = IoSlice::new(&self.tail);
        for piece in [&tail].into_iter().chain(pieces) {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let some = rest.len().min(stage.len() - filled);
                let (now, later) = rest.split_at(some);
                stage[filled..filled + some].copy_from_slice(now);
                (rest, filled) = (later, filled + some);
                if filled == stage.len() {
                    write_all(&*self.file, &mut [IoSlice::new(stage)], at)?;
                    at += filled as u64;
                    filled = 0;
                }
            }
        }
        let whole = filled.next_multiple_of(self.block);
        stage[filled..whole].fill(0);
        write_all(&*self.file, &mut [IoSlice::new(&stage[..whole])], at)?;
        self.tail.clear();
        let last = filled - filled % self.block;
        self.tail.extend_from_slice(&stage[last..filled]);
        Ok(())
    }

    /// The end of the file when records end at `end`.
    pub(super) fn file_end(&self, end: u64) -> u64 {
        end.next_multiple_of(self.block as u64)
    }
}

// === impl Stage ===

impl Stage {
    /// Whole blocks for so many bytes, or as many as are written at once.
    fn of(&mut self, block: usize, bytes: usize) -> &mut [u8] {
        let wanted = bytes.min(STAGE).next_multiple_of(block);
        if self.0.len() < wanted + block {
            self.0 = vec![0; wanted + block];
        }
        let start = self.0.as_ptr().align_offset(block);
        &mut self.0[start..start + wanted]
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}
