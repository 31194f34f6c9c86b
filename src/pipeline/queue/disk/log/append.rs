//! Appending: one write and one sync for all records of a call, or none of them
//! counts.
//!
//! The records of a call that do not fit into the segment go to new ones. Nothing
//! of that is known to the log before all files, and the folder where one is new,
//! are synced; until then it can be taken back.

use super::{
    Log, Meta, Totals,
    direct::{Direct, Stage},
    format::{
        Entry, FIRST_RECORD, RECORD_OVERHEAD, RecordHeader, SegmentHeader, VERSION, encode_mark,
    },
    fs::{Access, File, write_all},
    names,
    segment::Segment,
};
use bytes::Bytes;
use std::{
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::{debug, warn};

/// A record to be appended.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// When its content was accepted, in Unix milliseconds.
    pub at_ms: u64,
    /// How many profiles it counts for.
    pub profiles: u64,
    /// Its bytes, in pieces, which are written without being copied together.
    pub payload: Vec<Bytes>,
}

/// Nothing was appended. The next call may succeed: the log needs no help to
/// recover when the cause is gone.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The volume or a quota is exhausted.
    #[error("cannot write to {}: {source}: make room on the volume", path.display())]
    Full {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system takes no writes.
    #[error("cannot write to {}: {source}: mount it writable", path.display())]
    ReadOnly {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk fails, or something stands in the way.
    #[error("cannot write to {}: {source}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) sequence: u64,
    pub(super) file: Arc<dyn File>,
    /// How records get there, where not by way of `file`.
    pub(super) direct: Option<Direct>,
}

/// The records of one call that go to one segment.
#[derive(Debug)]
struct Run {
    sequence: u64,
    tag: u32,
    file: Arc<dyn File>,
    direct: Option<Direct>,
    is_new: bool,
    file_bytes: u64,
    /// Where the segment's records ended before.
    start: u64,
    /// The number of the next record.
    next: u32,
    entries: Vec<Entry>,
    is_sync_failed: bool,
}

// === impl NewRecord ===

impl NewRecord {
    /// Its bytes on disk.
    pub fn stored(&self) -> u64 {
        let payload = self.payload.iter().map(|piece| piece.len() as u64);
        payload.sum::<u64>() + RECORD_OVERHEAD
    }

    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        self.payload.iter().for_each(|piece| hasher.update(piece));
        hasher.finalize()
    }
}

// === impl AppendError ===

impl AppendError {
    fn new(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path, source },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            _ => Self::Io { path, source },
        }
    }
}

// === impl Log ===

impl Log {
    /// Appends records. When it returns they are on the disk, and outlast a power
    /// failure. Blocks for one sync, as a rule; for a few when a new segment is
    /// begun.
    pub fn append(&mut self, records: &[NewRecord]) -> Result<Vec<Meta>, AppendError> {
        let mut runs = Vec::new();
        match self.write(records, &mut runs) {
            Ok(()) => Ok(self.commit(runs)),
            Err(source) => {
                let last = runs.last().map_or(self.next_sequence, |run| run.sequence);
                runs.into_iter().for_each(|run| self.take_back(run));
                Err(AppendError::new(names::segment(&self.folder, last), source))
            }
        }
    }

    fn write(&mut self, mut records: &[NewRecord], runs: &mut Vec<Run>) -> io::Result<()> {
        while let Some(first) = records.first() {
            let mut run = match self.continued().filter(|_| runs.is_empty()) {
                Some(run) if run.takes(first, self.options.segment_bytes) => run,
                _ => self.begin()?,
            };
            let count = run.plan(records, self.options.segment_bytes);
            let (now, later) = records.split_at(count);
            let written = run.write(now, &mut self.stage);
            runs.push(run);
            written?;
            records = later;
        }
        for run in runs.iter_mut() {
            run.file
                .sync_data()
                .inspect_err(|_| run.is_sync_failed = true)?;
        }
        if runs.iter().any(|run| run.is_new) {
            self.fs.sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// A way past the page cache to a segment whose records end at `end`, where
    /// there is one.
    pub(super) fn direct(&self, path: &Path, file: &dyn File, end: u64) -> Option<Direct> {
        let opened = Direct::open(&*self.fs, path, file, end);
        let opened = opened.inspect_err(|error| {
            debug!(%error, "a segment of the queue is written by way of the page cache");
        });
        opened.ok()
    }

    /// Goes on in the segment that is written.
    fn continued(&self) -> Option<Run> {
        let active = self.active.as_ref()?;
        let segment = self.segments.get(&active.sequence)?;
        Some(Run {
            sequence: segment.sequence,
            tag: segment.tag,
            file: Arc::clone(&active.file),
            direct: active.direct.clone(),
            is_new: false,
            file_bytes: segment.file_bytes,
            start: segment.end,
            next: segment.next,
            entries: Vec::new(),
            is_sync_failed: false,
        })
    }

    /// Begins a segment.
    fn begin(&mut self) -> io::Result<Run> {
        let sequence = self.next_sequence;
        let path = names::segment(&self.folder, sequence);
        let file = self.fs.open(&path, Access::New)?;
        self.next_sequence += 1;
        Ok(Run {
            sequence,
            tag: self.fs.random(),
            file_bytes: allocate(&*file, self.options.segment_bytes, 0),
            direct: self.direct(&path, &*file, 0),
            file,
            is_new: true,
            start: FIRST_RECORD,
            next: 0,
            entries: Vec::new(),
            is_sync_failed: false,
        })
    }

    /// Takes in what is on the disk. All segments but the last are full.
    fn commit(&mut self, runs: Vec<Run>) -> Vec<Meta> {
        let mut metas = Vec::new();
        for run in runs {
            if run.is_new {
                if let Some(full) = self.active.take() {
                    self.seal(full);
                }
                self.reader.keep(run.sequence, Arc::clone(&run.file));
                let segment = Segment::new(run.sequence, run.tag);
                self.segments.insert(run.sequence, segment);
            }
            let file_end = run.file_end();
            self.active = Some(Active {
                sequence: run.sequence,
                file: run.file,
                direct: run.direct,
            });
            if let Some(segment) = self.segments.get_mut(&run.sequence) {
                for entry in run.entries {
                    segment.push(entry);
                    self.totals += Totals::of(&entry);
                    metas.push(entry.meta(run.sequence));
                }
                segment.file_bytes = run.file_bytes.max(file_end);
            }
            self.note(run.sequence);
        }
        metas
    }

    /// Cuts off what was written, or gives the segment up.
    fn take_back(&mut self, run: Run) {
        if run.is_new {
            self.discard(&run);
            return;
        }
        let cut = run.file.truncate(run.start);
        if let Some(segment) = self.segments.get_mut(&run.sequence).filter(|_| cut.is_ok()) {
            segment.file_bytes = run.start;
        }
        if let Err(error) = &cut {
            warn!(segment = run.sequence, %error, "what was written in vain cannot be cut off");
            self.disown(&run);
        }
        // What a file holds after a failed sync is anybody's guess.
        if cut.is_err() || run.is_sync_failed {
            self.abandon(run.sequence);
        }
    }

    /// Removes a segment that was begun in vain.
    fn discard(&mut self, run: &Run) {
        self.is_folder_dirty = true;
        let path = names::segment(&self.folder, run.sequence);
        let Err(error) = self.fs.remove(&path) else {
            return;
        };
        warn!(segment = run.sequence, %error, "a segment that was begun in vain stays for now");
        // `sync_acks` removes it, as all that have no records.
        let mut segment = Segment::new(run.sequence, run.tag);
        let cut = run.file.truncate(0);
        segment.file_bytes = if cut.is_ok() { 0 } else { run.file_bytes };
        self.segments.insert(run.sequence, segment);
        if cut.is_err() {
            self.disown(run);
        }
    }

    /// Acknowledges records that could not be cut off, for whoever opens the
    /// folder next.
    fn disown(&mut self, run: &Run) {
        if let Some(segment) = self.segments.get_mut(&run.sequence) {
            let numbers = run.entries.iter().map(|entry| entry.number);
            numbers.for_each(|number| segment.disown(number));
        }
        if let Err(error) = self.write_acks(run.sequence) {
            debug!(segment = run.sequence, %error, "nor can they be acknowledged now");
        }
    }

    /// Never writes to the segment again.
    fn abandon(&mut self, sequence: u64) {
        self.active = None;
        _ = self.finish(sequence);
        self.relax(sequence);
    }
}

// === impl Run ===

impl Run {
    /// Whether a record may go here.
    fn takes(&self, record: &NewRecord, segment_bytes: u64) -> bool {
        let end = self.end().saturating_add(record.stored());
        end <= segment_bytes && self.next < u32::MAX
    }

    /// Plans where records go; how many of them do. At least one does.
    fn plan(&mut self, records: &[NewRecord], segment_bytes: u64) -> usize {
        for record in records {
            let is_first = self.end() == FIRST_RECORD;
            if !is_first && !self.takes(record, segment_bytes) {
                break;
            }
            self.entries.push(Entry {
                number: self.next,
                lost: false,
                crc: record.crc(),
                offset: self.end(),
                stored: record.stored(),
                at_ms: record.at_ms,
                profiles: record.profiles,
            });
            self.next += 1;
        }
        self.entries.len()
    }

    /// Writes `records`, for which the entries were planned.
    fn write(&mut self, records: &[NewRecord], stage: &mut Stage) -> io::Result<()> {
        let begin = self.is_new.then(|| self.segment_header().encode());
        let headers: Vec<_> = self
            .entries
            .iter()
            .map(|entry| self.header(entry))
            .collect();
        let marks: Vec<_> = self
            .entries
            .iter()
            .map(|entry| encode_mark(self.tag, entry.number))
            .collect();
        let mut pieces = Vec::new();
        pieces.extend(begin.iter().map(|header| IoSlice::new(header)));
        for ((header, mark), record) in headers.iter().zip(&marks).zip(records) {
            pieces.push(IoSlice::new(header));
            pieces.extend(record.payload.iter().map(|piece| IoSlice::new(piece)));
            pieces.push(IoSlice::new(mark));
        }
        let offset = if self.is_new { 0 } else { self.start };
        if let Some(direct) = &mut self.direct {
            match direct.write(stage, &pieces, offset) {
                Err(error) if is_impossible(&error) => {
                    debug!(%error, "the queue is written by way of the page cache");
                    self.direct = None;
                }
                written => return written,
            }
        }
        write_all(&*self.file, &mut pieces, offset)
    }

    fn header(&self, entry: &Entry) -> [u8; RecordHeader::BYTES] {
        let header = RecordHeader {
            tag: self.tag,
            number: entry.number,
            crc: entry.crc,
            at_ms: entry.at_ms,
            profiles: entry.profiles,
            length: entry.stored - RECORD_OVERHEAD,
        };
        header.encode()
    }

    fn segment_header(&self) -> SegmentHeader {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        SegmentHeader {
            version: VERSION,
            tag: self.tag,
            sequence: self.sequence,
            created_ms: now.map_or(0, |now| now.as_millis() as u64),
        }
    }

    fn end(&self) -> u64 {
        self.entries.last().map_or(self.start, Entry::end)
    }

    /// Where what was written ends.
    fn file_end(&self) -> u64 {
        let direct = self.direct.as_ref();
        direct.map_or(self.end(), |direct| direct.file_end(self.end()))
    }
}

/// Whether a file system says that nothing can be written past its page cache.
fn is_impossible(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

/// Takes room for a segment in advance, so that syncs need not write the file's
/// length; the file's length. Not every file system can, and a full one has no
/// room: it does without.
pub(super) fn allocate(file: &dyn File, bytes: u64, end: u64) -> u64 {
    match file.allocate(bytes) {
        Ok(()) => bytes.max(end),
        Err(error) => {
            debug!(%error, "no room is taken in advance for a segment of the queue");
            // Some of it may have been.
            _ = file.truncate(end);
            end
        }
    }
}
