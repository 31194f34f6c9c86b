//! What the log does now and then: seals, acknowledgements on the disk, files
//! that are done with.

use super::{
    Log,
    append::Active,
    format::{Trailer, encode_index},
    fs::{File, write_all},
    names,
};
use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
};
use tracing::warn;

/// A segment that was removed before its acknowledgements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retired {
    pub(super) sequence: u64,
    /// Of the acknowledgements.
    pub(super) bytes: u64,
}

// === impl Log ===

impl Log {
    /// Makes acknowledgements outlast a power failure, and catches up with what
    /// failed before. To be called now and then: a second apart, say. Costs
    /// nothing when nothing was acknowledged.
    pub fn sync_acks(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        let sequences: Vec<u64> = self.segments.keys().copied().collect();
        for sequence in sequences {
            let written = self.write_acks(sequence);
            result = result.and(written);
            if let Some(segment) = self.segments.get_mut(&sequence) {
                result = result.and(segment.sync_acks(&*self.fs, &self.folder));
            }
            result = result.and(self.finish(sequence));
        }
        for file in std::mem::take(&mut self.unsynced) {
            // Without it the segment is scanned after a power failure.
            result = result.and(file.sync_data());
        }
        for sequence in std::mem::take(&mut self.stuck) {
            self.note(sequence);
        }
        self.stage.clear();
        result.and(self.sync_folder())
    }

    /// Ends the use of the folder in good order. A log that is dropped instead
    /// has lost nothing; it may deliver more than once what was acknowledged
    /// since the last [`sync_acks`](Self::sync_acks) if the power fails too.
    pub fn close(mut self) -> io::Result<()> {
        let active = self.active.take();
        let segment = active.as_ref().and_then(|a| self.segments.get(&a.sequence));
        let result = match active.as_ref().zip(segment) {
            Some((active, segment)) => active.file.truncate(segment.end),
            None => Ok(()),
        };
        result.and(self.sync_acks())
    }

    /// Writes what is acknowledged of a segment.
    pub(super) fn write_acks(&mut self, sequence: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(&sequence) else {
            return Ok(());
        };
        let tag = segment.tag;
        let acks = &mut segment.acks;
        if !acks.exists && acks.is_pending() {
            self.is_folder_dirty = true;
        }
        acks.write(&*self.fs, &self.folder, sequence, tag)
    }

    /// Removes a segment of which nothing is left, unless it is written. What
    /// fails is tried again by [`sync_acks`](Self::sync_acks).
    pub(super) fn finish(&mut self, sequence: u64) -> io::Result<()> {
        let segment = self.segments.get(&sequence);
        let finished = segment.filter(|s| s.live.records == 0 && !self.is_active(sequence));
        let Some(segment) = finished else {
            return Ok(());
        };
        let retired = segment.acks.exists.then_some(Retired {
            sequence,
            bytes: segment.acks.bytes,
        });
        if let Err(error) = self.fs.remove(&names::segment(&self.folder, sequence))
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        self.segments.remove(&sequence);
        self.ready.remove(&sequence);
        self.stuck.remove(&sequence);
        self.reader.forget(sequence);
        self.is_folder_dirty = true;
        self.retired.extend(retired);
        Ok(())
    }

    /// Gives a full segment its index and the length that it needs. Without it
    /// the segment is as good, but whoever opens it has to scan it.
    pub(super) fn seal(&mut self, full: Active) {
        let sequence = full.sequence;
        _ = self.finish(sequence);
        let Some(segment) = self.segments.get_mut(&sequence) else {
            return;
        };
        let entries = segment.entries();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let trailer = Trailer {
            tag: segment.tag,
            index: segment.end,
            records: segment.whole.records,
            profiles: segment.whole.profiles,
            bytes: segment.whole.bytes,
            oldest_ms: first.at_ms,
            newest_ms: last.at_ms,
        };
        let mut bytes = encode_index(segment.tag, entries);
        bytes.extend(trailer.encode());
        match end_with(&*full.file, segment.end, &bytes) {
            Ok(file_bytes) => {
                segment.file_bytes = file_bytes;
                segment.is_sealed = true;
                self.unsynced.push(Arc::clone(&full.file));
            }
            Err(error) => {
                warn!(segment = sequence, %error, "a full segment stays without its index");
                if full.file.truncate(segment.end).is_ok() {
                    segment.file_bytes = segment.end;
                }
            }
        }
        self.relax(sequence);
    }

    /// Makes what came and went in the folder outlast a power failure. Only then
    /// may acknowledgements go whose segment went: one that came back without
    /// them would be delivered again.
    fn sync_folder(&mut self) -> io::Result<()> {
        if !self.is_folder_dirty {
            return Ok(());
        }
        self.fs.sync_folder(&self.folder)?;
        self.is_folder_dirty = false;
        let mut result = Ok(());
        for retired in std::mem::take(&mut self.retired) {
            match self.fs.remove(&names::acks(&self.folder, retired.sequence)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    self.retired.push(retired);
                    self.is_folder_dirty = true;
                    result = Err(error);
                }
                _ => {}
            }
        }
        result
    }
}

/// Lets a file end with `bytes` at `offset`; its length.
fn end_with(file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<u64> {
    write_all(file, &mut [IoSlice::new(bytes)], offset)?;
    let length = offset + bytes.len() as u64;
    file.truncate(length)?;
    Ok(length)
}
