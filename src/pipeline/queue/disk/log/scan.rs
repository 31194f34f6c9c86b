//! Finds the records of a segment without its index: of one that was not sealed,
//! or whose index or trailer is damaged.
//!
//! It goes from header to header and reads no payload. Where a header is damaged
//! it searches for the next one; what lies between becomes an entry that is
//! *lost*: it keeps its place in the count, and whoever reads it learns that it
//! is damaged. Only the end needs judgement:
//!
//! | after the last whole record | is |
//! |---|---|
//! | nothing but zeros | room that was allocated and not used |
//! | something that does not end with the mark of a record | a write that was cut short: nobody was told that it is kept |
//! | something that does | damage |

use super::{
    format::{ANCHOR, Entry, FIRST_RECORD, IndexHeader, MARK, RecordHeader, decode_mark, most},
    fs::{File, read_full},
};
use std::io;

/// How much is read at once when hopping from header to header.
const HOP: usize = 4 << 10;
/// How much is read at once when searching.
const STRIDE: usize = 64 << 10;

/// The records of a segment, as they were found.
#[derive(Debug)]
pub(super) struct Scan {
    /// The segment's tag: the given one, or the first record's.
    pub(super) tag: Option<u32>,
    /// All records, in their order.
    pub(super) entries: Vec<Entry>,
    /// Where they end.
    pub(super) end: u64,
    /// The bytes of a write that was cut short, after that.
    pub(super) torn: u64,
    /// Whether an index follows.
    pub(super) has_index: bool,
}

/// What is known of the end of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// They end where they are found to, before this offset.
    AtMost(u64),
    /// They fill all up to this offset.
    Exactly(u64),
}

#[derive(Debug)]
struct Scanner<'f> {
    window: Window<'f>,
    until: Until,
    limit: u64,
    offset: u64,
    next: u32,
    found: Scan,
}

/// A piece of a file in memory.
#[derive(Debug)]
struct Window<'f> {
    file: &'f dyn File,
    start: u64,
    bytes: Vec<u8>,
}

/// Something from which one can go on.
#[derive(Clone, Copy, Debug)]
enum Anchor {
    Record(RecordHeader),
    Index,
}

/// Finds the records of a segment of which at most the tag is known.
pub(super) fn scan(file: &dyn File, tag: Option<u32>, until: Until) -> io::Result<Scan> {
    let (Until::AtMost(limit) | Until::Exactly(limit)) = until;
    let mut scanner = Scanner {
        window: Window {
            file,
            start: 0,
            bytes: Vec::new(),
        },
        until,
        limit,
        offset: FIRST_RECORD,
        next: 0,
        found: Scan {
            tag,
            entries: Vec::new(),
            end: FIRST_RECORD,
            torn: 0,
            has_index: false,
        },
    };
    while scanner.step()? {}
    scanner.found.end = scanner.offset;
    Ok(scanner.found)
}

// === impl Scanner ===

impl Scanner<'_> {
    /// Goes one record on; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        match self.anchor(self.offset)? {
            Some(Anchor::Index) => {
                self.found.has_index = true;
                Ok(false)
            }
            Some(Anchor::Record(header)) => {
                let entry = header.entry(self.offset);
                if self.is_whole(&entry)? {
                    self.push(entry);
                    return Ok(true);
                }
                self.over(Some(entry))
            }
            None => self.over(None),
        }
    }

    /// A record is whole when it ends with a mark, or is followed by something
    /// sound, or has the right checksum.
    fn is_whole(&mut self, entry: &Entry) -> io::Result<bool> {
        if entry.end() > self.limit {
            return Ok(false);
        }
        if self.mark_before(entry.end())? == Some(entry.number) {
            return Ok(true);
        }
        let is_last = self.until == Until::Exactly(entry.end());
        Ok(is_last || self.anchor(entry.end())?.is_some() || self.has_sound_payload(entry)?)
    }

    fn has_sound_payload(&mut self, entry: &Entry) -> io::Result<bool> {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = entry.offset + RecordHeader::BYTES as u64;
        let end = entry.end() - MARK as u64;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(STRIDE).min(STRIDE);
            let bytes = self.window.get(at, most)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            hasher.update(bytes);
            at += bytes.len() as u64;
        }
        Ok(hasher.finalize() == entry.crc)
    }

    /// Steps over what is no whole record; `false` when nothing follows.
    fn over(&mut self, broken: Option<Entry>) -> io::Result<bool> {
        let content = match self.until {
            Until::AtMost(limit) => self.end_of_content(limit)?,
            Until::Exactly(limit) => limit,
        };
        if content <= self.offset {
            return Ok(false);
        }
        let header = RecordHeader::BYTES as u64;
        let from = self.offset + if broken.is_some() { header } else { 1 };
        if let Some((offset, anchor)) = self.find(from, content)? {
            let next = match anchor {
                Anchor::Record(header) => Some(header.number),
                Anchor::Index => None,
            };
            self.lose(offset, next, broken)?;
            return Ok(true);
        }
        let is_torn = match broken {
            // What was written in vain ends before its mark does.
            Some(entry) if content <= entry.end() => content < entry.end(),
            _ => self.found.tag.is_some() && self.mark_before(content)?.is_none(),
        };
        if is_torn && self.until != Until::Exactly(self.limit) {
            self.found.torn = content - self.offset;
        } else {
            self.lose(content, None, broken)?;
        }
        Ok(false)
    }

    /// All up to `end` is lost; the record that follows, if one does, has the
    /// number `next`.
    fn lose(&mut self, end: u64, next: Option<u32>, broken: Option<Entry>) -> io::Result<()> {
        let stored = end - self.offset;
        let next = match next {
            Some(next) => next,
            None => {
                let last = self.mark_before(end)?.or(broken.map(|entry| entry.number));
                last.unwrap_or(self.next).saturating_add(1)
            }
        };
        let missing = u64::from(next.saturating_sub(self.next));
        let room = most(self.offset + stored) - most(self.offset);
        let first = broken.unwrap_or(Entry {
            number: self.next,
            at_ms: self.found.entries.last().map_or(0, |entry| entry.at_ms),
            profiles: 1,
            ..Entry::default()
        });
        for index in 0..missing.min(room.max(1)) {
            self.push(Entry {
                number: self.next,
                lost: true,
                crc: 0,
                offset: self.offset,
                // The first one takes the place of all.
                stored: if index == 0 { stored } else { 0 },
                at_ms: first.at_ms,
                profiles: if index == 0 { first.profiles } else { 1 },
            });
        }
        self.offset = end;
        Ok(())
    }

    fn push(&mut self, entry: Entry) {
        self.next = entry.number.saturating_add(1);
        self.offset = entry.end();
        self.found.entries.push(entry);
    }

    /// The number in the mark that ends at `end`.
    fn mark_before(&mut self, end: u64) -> io::Result<Option<u32>> {
        let bytes = self.window.get(end.saturating_sub(MARK as u64), MARK)?;
        Ok(decode_mark(bytes, self.found.tag.unwrap_or_default()))
    }

    /// What is sound at `offset`, and belongs to this segment.
    fn anchor(&mut self, offset: u64) -> io::Result<Option<Anchor>> {
        let bytes = self.window.get(offset, RecordHeader::BYTES)?;
        Ok(recognise(bytes, offset, self.next, &mut self.found.tag))
    }

    /// Searches for something sound.
    fn find(&mut self, mut from: u64, to: u64) -> io::Result<Option<(u64, Anchor)>> {
        while from < to {
            let bytes = self.window.get(from, STRIDE)?;
            let places = bytes.windows(ANCHOR.len()).enumerate();
            for (index, _) in places.filter(|(_, place)| *place == ANCHOR) {
                let rest = bytes.get(index..).unwrap_or_default();
                if rest.len() < RecordHeader::BYTES && bytes.len() == STRIDE {
                    break;
                }
                let offset = from + index as u64;
                if let Some(anchor) = recognise(rest, offset, self.next, &mut self.found.tag) {
                    return Ok(Some((offset, anchor)));
                }
            }
            if bytes.len() < STRIDE {
                break;
            }
            from += (STRIDE - RecordHeader::BYTES) as u64;
        }
        Ok(None)
    }

    /// Where the zeros begin with which the file ends.
    fn end_of_content(&mut self, mut end: u64) -> io::Result<u64> {
        while end > self.offset {
            let start = end.saturating_sub(STRIDE as u64).max(self.offset);
            let length = usize::try_from(end - start).unwrap_or(STRIDE);
            let bytes = self.window.get(start, length)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(end)
    }
}

/// What is sound at the beginning of `bytes`. Takes over the first tag where
/// there is none.
fn recognise(bytes: &[u8], offset: u64, next: u32, tag: &mut Option<u32>) -> Option<Anchor> {
    let (found, anchor) = match RecordHeader::decode(bytes) {
        Some(header) => {
            let can_be = header.number >= next && u64::from(header.number) <= most(offset);
            (header.tag, can_be.then_some(Anchor::Record(header)))
        }
        None => (IndexHeader::decode(bytes)?.tag, Some(Anchor::Index)),
    };
    let anchor = anchor.filter(|_| tag.is_none_or(|tag| tag == found))?;
    *tag = Some(found);
    Some(anchor)
}

// === impl Window ===

impl Window<'_> {
    /// The bytes at `offset`; fewer at the end of the file.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let inside = offset.checked_sub(self.start).and_then(|skip| {
            let skip = usize::try_from(skip).ok()?;
            let end = skip.checked_add(length)?;
            (end <= self.bytes.len()).then_some(skip..end)
        });
        let range = match inside {
            Some(range) => range,
            None => {
                self.bytes.resize(length.max(HOP), 0);
                let read = read_full(self.file, &mut self.bytes, offset)?;
                self.bytes.truncate(read);
                self.start = offset;
                0..length.min(read)
            }
        };
        Ok(self.bytes.get(range).unwrap_or_default())
    }
}
