//! The disk queue's log: records in segment files, appended at one end and
//! forgotten, whole files at a time, once all in them is acknowledged.
//!
//! It knows bytes, not profiles. Calls block, and one owner makes them; only
//! [`Reader`] may be used elsewhere at the same time.
//!
//! In the folder of a log:
//!
//! | file | is |
//! |---|---|
//! | `<20 digits>.segment` | records; once it is full, and so *sealed*, also an index of them |
//! | `<20 digits>.acks` | which records of that segment are acknowledged |
//! | `quarantine/<segment>-<offset>.record` | the bytes of a record that turned out to be damaged |
//!
//! Invariants:
//! - What [`Log::append`] returned is on the disk. After an error none of it
//!   counts: it is cut off again, and where that fails, or a sync did, nothing is
//!   written to that segment ever again.
//! - A record is handed out once in the life of a log, unless it is released; and
//!   again by the next log that opens the folder, unless it is acknowledged. The
//!   end of the process forgets no acknowledgement, a power failure only those
//!   since the last [`Log::sync_acks`].
//! - Files are only appended to, cut and removed; of what was written, at most the
//!   block in which the records end is written again, with the same bytes. A segment
//!   is gone for good before its acknowledgements go.
//! - Damage costs the record that it hit. Its place stays in the count until its
//!   reader was told and has acknowledged it, so the books of whoever counts
//!   profiles stay right.
//! - Opening reads the ends of sealed segments, and the record headers of the one
//!   that is not sealed. Where records are is in memory only for segments that are
//!   being handed out.

mod acks;
mod append;
mod bits;
mod direct;
mod format;
pub mod fs;
mod lock;
mod names;
mod quarantine;
mod reader;
mod recovery;
mod scan;
mod segment;
mod snapshot;
mod upkeep;

#[cfg(test)]
mod tests;

pub use self::{
    append::{AppendError, NewRecord},
    lock::{Lock, LockError},
    reader::{ReadError, Reader},
    recovery::{OpenError, Opened, Recovered, Torn, Unreadable},
    snapshot::{Damage, Snapshot, Verification},
};

use self::{
    append::Active, direct::Stage, format::Entry, fs::FileSystem, segment::Segment, upkeep::Retired,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    iter::Sum,
    ops::{AddAssign, SubAssign},
    path::PathBuf,
    sync::Arc,
};
use tracing::warn;

/// The bounds of a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment of this size is full. A larger record gets one of its own.
    pub segment_bytes: u64,
    /// The most bytes of damaged records that are set aside. 0 keeps none.
    pub quarantine_bytes: u64,
}

/// Names a record as long as it exists; in the order in which records were
/// appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The number of its segment.
    pub segment: u64,
    /// Its place among the segment's records.
    pub number: u32,
}

/// What is known of a record without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its name.
    pub id: RecordId,
    /// When its content was accepted, in Unix milliseconds.
    pub at_ms: u64,
    /// How many profiles it counts for.
    pub profiles: u64,
    /// Its bytes on disk, with what the log adds.
    pub stored: u64,
    offset: u64,
    crc: u32,
    is_lost: bool,
}

/// Which of the records that wait is handed out next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order in which they were appended.
    #[default]
    OldestFirst,
    /// The one appended last.
    NewestFirst,
}

/// What a log holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that are not acknowledged.
    pub records: u64,
    /// Their profiles.
    pub profiles: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Bytes of all files, also those of what is acknowledged, was allocated in
    /// advance or was set aside.
    pub disk_bytes: u64,
    /// Bytes of damaged records that were set aside.
    pub quarantine_bytes: u64,
    /// Files with records.
    pub segments: u64,
    /// When the first record that is not acknowledged was accepted, in Unix
    /// milliseconds.
    pub oldest_ms: Option<u64>,
    /// When the last one was.
    pub newest_ms: Option<u64>,
}

/// A log of records in a folder.
#[derive(Debug)]
pub struct Log {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    options: Options,
    segments: BTreeMap<u64, Segment>,
    /// Those with records that wait.
    ready: BTreeSet<u64>,
    /// Those whose index could not be read; tried again now and then.
    stuck: BTreeSet<u64>,
    active: Option<Active>,
    stage: Stage,
    /// The one from which the last record was handed out.
    drawn: Option<u64>,
    next_sequence: u64,
    totals: Totals,
    reader: Reader,
    /// Removed segments whose acknowledgements are still there.
    retired: Vec<Retired>,
    /// Sealed segments whose index is not synced yet.
    unsynced: Vec<Arc<dyn fs::File>>,
    /// Whether names in the folder came or went since it was synced.
    is_folder_dirty: bool,
}

/// Sums over records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    records: u64,
    profiles: u64,
    bytes: u64,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            quarantine_bytes: 64 << 20,
        }
    }
}

// === impl RecordId ===

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.segment, self.number)
    }
}

// === impl Log ===

impl Log {
    /// Hands out a record that is neither acknowledged nor handed out; `None`
    /// when there is none. A segment whose index cannot be read is passed over
    /// until the next [`sync_acks`](Self::sync_acks).
    pub fn next(&mut self, order: Order) -> Option<Meta> {
        loop {
            let sequence = match order {
                Order::OldestFirst => *self.ready.first()?,
                Order::NewestFirst => *self.ready.last()?,
            };
            if !self.load(sequence) {
                self.stuck.insert(sequence);
                self.ready.remove(&sequence);
                continue;
            }
            let before = self.drawn.replace(sequence);
            if let Some(before) = before.filter(|before| *before != sequence) {
                self.relax(before);
            }
            let drawn = self.segments.get_mut(&sequence).and_then(|s| s.draw(order));
            self.note(sequence);
            match drawn {
                Some(meta) => return Some(meta),
                // The sums said that one waits, and were wrong.
                None => _ = self.ready.remove(&sequence),
            }
        }
    }

    /// Acknowledges records, in any order, whether they were handed out or not;
    /// those that are acknowledged already are passed over. Segments of which
    /// none is left are removed; the one that is written once it is full, or the
    /// log is closed.
    ///
    /// After an error they are acknowledged all the same, for this log; what
    /// could not be written is tried again by the next call and by
    /// [`sync_acks`](Self::sync_acks), and is delivered again should the process
    /// end before.
    pub fn ack(&mut self, metas: &[Meta]) -> io::Result<()> {
        let mut touched = BTreeSet::new();
        for meta in metas {
            let sequence = meta.id.segment;
            // Without it only the times in `stats` are old.
            self.load(sequence);
            let Some(segment) = self.segments.get_mut(&sequence) else {
                continue;
            };
            if segment.acknowledge(meta) {
                segment.acks.push(meta.id.number);
                self.totals -= Totals::from(meta);
                touched.insert(sequence);
            }
        }
        let mut result = Ok(());
        for sequence in touched {
            let written = self.write_acks(sequence);
            self.note(sequence);
            _ = self.finish(sequence);
            self.relax(sequence);
            result = result.and(written);
        }
        result
    }

    /// Takes back a record that was handed out: it may be handed out again.
    pub fn release(&mut self, meta: &Meta) {
        if let Some(segment) = self.segments.get_mut(&meta.id.segment) {
            segment.release(meta.id.number);
            self.note(meta.id.segment);
            self.relax(meta.id.segment);
        }
    }

    /// The first record that is not acknowledged, handed out or not.
    pub fn oldest(&mut self) -> Option<Meta> {
        let sequence = self.first_live()?;
        self.load(sequence);
        self.segments.get_mut(&sequence)?.oldest()
    }

    /// What the log holds.
    pub fn stats(&self) -> Stats {
        let segments = self.segments.values();
        let files = segments.clone().map(|s| s.file_bytes + s.acks.bytes);
        let retired = self.retired.iter().map(|retired| retired.bytes);
        let quarantine_bytes = self.reader.quarantine_bytes();
        let mut times = segments.filter_map(|segment| segment.times);
        let first = times.next();
        Stats {
            records: self.totals.records,
            profiles: self.totals.profiles,
            bytes: self.totals.bytes,
            disk_bytes: files.chain(retired).sum::<u64>() + quarantine_bytes,
            quarantine_bytes,
            segments: self.segments.len() as u64,
            oldest_ms: first.map(|(oldest, _)| oldest),
            newest_ms: times.next_back().or(first).map(|(_, newest)| newest),
        }
    }

    /// Reads records, also beside this log.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The bytes that may still be written to the volume.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.fs.free_bytes(&self.folder)
    }

    /// Sees that it is known where a segment's records are.
    fn load(&mut self, sequence: u64) -> bool {
        let Some(segment) = self.segments.get_mut(&sequence) else {
            return false;
        };
        if segment.is_loaded() {
            return true;
        }
        match recovery::locate(&self.reader, segment) {
            Ok(entries) => {
                self.totals -= segment.live;
                segment.load(entries);
                self.totals += segment.live;
                true
            }
            Err(error) => {
                warn!(segment = sequence, %error, "a segment of the queue cannot be read now");
                false
            }
        }
    }

    /// Forgets where a segment's records are, unless that is needed soon.
    fn relax(&mut self, sequence: u64) {
        let is_needed = self.is_active(sequence)
            || self.drawn == Some(sequence)
            || self.first_live() == Some(sequence);
        if let Some(segment) = self.segments.get_mut(&sequence).filter(|_| !is_needed) {
            segment.unload();
        }
    }

    /// Takes note of whether a segment has records that wait.
    fn note(&mut self, sequence: u64) {
        let waiting = self.segments.get(&sequence).map_or(0, Segment::waiting);
        if waiting > 0 && !self.stuck.contains(&sequence) {
            self.ready.insert(sequence);
        } else {
            self.ready.remove(&sequence);
        }
    }

    fn first_live(&self) -> Option<u64> {
        let mut live = self.segments.values().filter(|s| s.live.records > 0);
        live.next().map(|segment| segment.sequence)
    }

    fn is_active(&self, sequence: u64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.sequence == sequence)
    }
}

// === impl Totals ===

impl Totals {
    fn of(entry: &Entry) -> Self {
        Self {
            records: 1,
            profiles: entry.profiles,
            bytes: entry.stored,
        }
    }
}

impl From<&Meta> for Totals {
    fn from(meta: &Meta) -> Self {
        Self {
            records: 1,
            profiles: meta.profiles,
            bytes: meta.stored,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.profiles = self.profiles.saturating_add(other.profiles);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.profiles = self.profiles.saturating_sub(other.profiles);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), |mut sum, totals| {
            sum += totals;
            sum
        })
    }
}
