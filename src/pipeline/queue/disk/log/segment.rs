//! What the log knows of one segment.
//!
//! Always: sums over the records that are not acknowledged, and one bit for each
//! that is. While records of it are handed out, and while it is written: where
//! they all are.

use super::{
    Meta, Order, RecordId, Totals,
    acks::Acks,
    bits::Bits,
    format::{Entry, FIRST_RECORD, most},
    fs::FileSystem,
    recovery::Body,
};
use std::{io, path::Path};

/// What the log knows of one segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) tag: u32,
    /// Where its records end.
    pub(super) end: u64,
    /// The number of the next record.
    pub(super) next: u32,
    /// The length of its file.
    pub(super) file_bytes: u64,
    /// Whether it has an index and a trailer.
    pub(super) is_sealed: bool,
    /// All its records, acknowledged or not.
    pub(super) whole: Totals,
    /// Those that are not acknowledged.
    pub(super) live: Totals,
    /// Times of the first and the last of them.
    pub(super) times: Option<(u64, u64)>,
    /// The file of its acknowledgements.
    pub(super) acks: Acks,
    acked: Bits,
    out: Bits,
    out_count: u64,
    index: Option<Index>,
}

/// Where the records are.
#[derive(Debug)]
struct Index {
    entries: Vec<Entry>,
    /// Those that are neither handed out nor acknowledged lie between these.
    waiting: Bounds,
    /// Those that are not acknowledged lie between these.
    live: Bounds,
}

/// Positions, the upper one exclusive, outside of which nobody needs to look.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    from: usize,
    to: usize,
}

// === impl Segment ===

impl Segment {
    /// A segment without records.
    pub(super) fn new(sequence: u64, tag: u32) -> Self {
        Self {
            sequence,
            tag,
            end: FIRST_RECORD,
            next: 0,
            file_bytes: 0,
            is_sealed: false,
            whole: Totals::default(),
            live: Totals::default(),
            times: None,
            acks: Acks::default(),
            acked: Bits::default(),
            out: Bits::default(),
            out_count: 0,
            index: Some(Index::new(Vec::new())),
        }
    }

    /// A segment as its file says it is, before it is known what is acknowledged.
    /// Of one that is not sealed the records are still to be loaded.
    pub(super) fn found(sequence: u64, body: &Body, file_bytes: u64) -> Self {
        let trailer = match body {
            Body::Sealed(trailer) => trailer,
            Body::Open(scan) => {
                return Self {
                    end: scan.end,
                    file_bytes,
                    ..Self::new(sequence, scan.tag.unwrap_or_default())
                };
            }
        };
        let whole = Totals {
            records: trailer.records,
            profiles: trailer.profiles,
            bytes: trailer.bytes,
        };
        Self {
            end: trailer.index,
            file_bytes,
            is_sealed: true,
            whole,
            live: whole,
            times: (whole.records > 0).then_some((trailer.oldest_ms, trailer.newest_ms)),
            index: None,
            ..Self::new(sequence, trailer.tag)
        }
    }

    /// Takes a record in, after all others.
    pub(super) fn push(&mut self, entry: Entry) {
        self.end = entry.end();
        self.next = entry.number.saturating_add(1);
        self.whole += Totals::of(&entry);
        self.live += Totals::of(&entry);
        let oldest = self.times.map_or(entry.at_ms, |(oldest, _)| oldest);
        self.times = Some((oldest, entry.at_ms));
        if let Some(index) = &mut self.index {
            index.entries.push(entry);
            index.waiting.to = index.entries.len();
            index.live.to = index.entries.len();
        }
    }

    /// All records; nothing when they are not in memory.
    pub(super) fn entries(&self) -> &[Entry] {
        self.index.as_ref().map_or(&[], |index| &index.entries)
    }

    /// The records that are not acknowledged; nothing when they are not in memory.
    pub(super) fn live_entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.entries().iter();
        entries.filter(|entry| !self.acked.contains(entry.number))
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.index.is_some()
    }

    /// Takes note of where the records are, and counts anew those that are not
    /// acknowledged.
    pub(super) fn load(&mut self, entries: Vec<Entry>) {
        self.whole = entries.iter().map(Totals::of).sum();
        self.next = entries
            .last()
            .map_or(0, |last| last.number.saturating_add(1));
        self.index = Some(Index::new(entries));
        self.live = self.live_entries().map(Totals::of).sum();
        self.update_times();
    }

    /// Forgets where the records are, unless some are handed out.
    pub(super) fn unload(&mut self) {
        if self.out_count == 0 {
            self.index = None;
            self.out.clear();
        }
    }

    /// Marks as acknowledged before the segment was loaded.
    pub(super) fn mark_acked(&mut self, number: u32) {
        self.acked.insert(number);
    }

    /// Whether an acknowledgement speaks of a record that is still to come.
    pub(super) fn acks_reach_on(&self) -> bool {
        self.acks
            .highest
            .is_some_and(|highest| highest >= self.next)
    }

    /// Acknowledges a record that is none, for whoever opens the segment next.
    pub(super) fn disown(&mut self, number: u32) {
        self.acked.insert(number);
        self.acks.push(number);
    }

    /// How many records are neither handed out nor acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        self.live.records.saturating_sub(self.out_count)
    }

    /// Hands a record out, if one waits and the segment is loaded.
    pub(super) fn draw(&mut self, order: Order) -> Option<Meta> {
        let index = self.index.as_mut()?;
        let (acked, out) = (&self.acked, &self.out);
        let entry = index.waiting.look(&index.entries, order, |entry| {
            !acked.contains(entry.number) && !out.contains(entry.number)
        })?;
        self.out.insert(entry.number);
        self.out_count += 1;
        Some(entry.meta(self.sequence))
    }

    /// The first record that is not acknowledged, if the segment is loaded.
    pub(super) fn oldest(&mut self) -> Option<Meta> {
        self.first_live(Order::OldestFirst)
    }

    /// Acknowledges a record; `false` when it was before, or is none.
    pub(super) fn acknowledge(&mut self, meta: &Meta) -> bool {
        let number = meta.id.number;
        let is_known = u64::from(number) <= most(self.end);
        if !is_known || !self.acked.insert(number) {
            return false;
        }
        if self.out.remove(number) {
            self.out_count -= 1;
        }
        self.live -= Totals::from(meta);
        self.update_times();
        true
    }

    /// Makes its acknowledgements outlast a power failure.
    pub(super) fn sync_acks(&mut self, fs: &dyn FileSystem, folder: &Path) -> io::Result<()> {
        let all = self.acked.iter();
        let synced = self.acks.sync(fs, folder, self.sequence, all);
        if self.out_count == 0 {
            self.acks.close();
        }
        synced
    }

    /// Takes back a record that was handed out; `false` when it was not.
    pub(super) fn release(&mut self, number: u32) -> bool {
        if self.acked.contains(number) || !self.out.remove(number) {
            return false;
        }
        self.out_count -= 1;
        if let Some(index) = &mut self.index {
            let position = index.entries.partition_point(|entry| entry.number < number);
            index.waiting.from = index.waiting.from.min(position);
            index.waiting.to = index.waiting.to.max(position + 1);
        }
        true
    }

    fn update_times(&mut self) {
        if self.live.records == 0 {
            self.times = None;
        } else if let Some(oldest) = self.first_live(Order::OldestFirst)
            && let Some(newest) = self.first_live(Order::NewestFirst)
        {
            self.times = Some((oldest.at_ms, newest.at_ms));
        }
    }

    fn first_live(&mut self, order: Order) -> Option<Meta> {
        let index = self.index.as_mut()?;
        let entry = index.live.look(&index.entries, order, |entry| {
            !self.acked.contains(entry.number)
        })?;
        Some(entry.meta(self.sequence))
    }
}

// === impl Index ===

impl Index {
    fn new(entries: Vec<Entry>) -> Self {
        let all = Bounds {
            from: 0,
            to: entries.len(),
        };
        Self {
            entries,
            waiting: all,
            live: all,
        }
    }
}

// === impl Bounds ===

impl Bounds {
    /// The first entry, from one end, that is wanted. What lies before it is
    /// not looked at again.
    fn look<'e>(
        &mut self,
        entries: &'e [Entry],
        order: Order,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Option<&'e Entry> {
        let within = entries.get(self.from..self.to)?;
        let found = match order {
            Order::OldestFirst => within.iter().position(is_wanted),
            Order::NewestFirst => within.iter().rposition(is_wanted),
        };
        let Some(found) = found else {
            self.from = self.to;
            return None;
        };
        let position = self.from + found;
        match order {
            Order::OldestFirst => self.from = position,
            Order::NewestFirst => self.to = position + 1,
        }
        entries.get(position)
    }
}

// === impl Entry ===

impl Entry {
    /// What the log says of it.
    pub(super) fn meta(&self, sequence: u64) -> Meta {
        Meta {
            id: RecordId {
                segment: sequence,
                number: self.number,
            },
            at_ms: self.at_ms,
            profiles: self.profiles,
            stored: self.stored,
            offset: self.offset,
            crc: self.crc,
            is_lost: self.lost,
        }
    }
}
