//! The bytes of a segment, all little-endian.
//!
//! | where | bytes | is |
//! |---|---|---|
//! | start | 64 | [`SegmentHeader`]: magic, format version, tag, sequence number, created |
//! | then | 48 + payload + 12 | records: [`RecordHeader`], payload, a mark: number, check, magic |
//! | sealed: then | 20 | [`IndexHeader`]: magic, tag, how many entries, their checksum |
//! | | 44 each | [`Entry`]: a record's number, place, time, profiles, checksum |
//! | | 72 | [`Trailer`]: where the index is, sums over the records |
//!
//! Each of these ends with the CRC-32 of its own bytes, so one that is damaged is
//! known to be. The *tag* is chosen at random for each segment and is repeated in
//! all its parts: nothing of another segment, or made by somebody else, is taken
//! for a part of this one. The mark after a payload tells a record that was
//! damaged from one whose writing was cut short, and how many were damaged where
//! the last of them was.
//!
//! Other versions keep the place of magic, version and checksum in the segment's
//! header; everything else may change with the version.

use bytes::{Buf, BufMut};

/// What this code writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

/// The bytes of the mark after a payload.
pub(super) const MARK: usize = 12;
/// A record's bytes that are not payload.
pub(super) const RECORD_OVERHEAD: u64 = (RecordHeader::BYTES + MARK) as u64;
/// Where the records of a segment begin.
pub(super) const FIRST_RECORD: u64 = SegmentHeader::BYTES as u64;

/// With what records and indexes begin, before the byte that tells them apart.
pub(super) const ANCHOR: [u8; 3] = *b"\x9dPR";
const RECORD_MAGIC: [u8; 4] = *b"\x9dPRr";
const INDEX_MAGIC: [u8; 4] = *b"\x9dPRi";
/// Its last byte is not zero, so that a mark is never taken for allocated room.
const MARK_MAGIC: [u8; 4] = *b"\x9dend";
const SEGMENT_MAGIC: [u8; 8] = *b"\x9dPRqueue";
const TRAILER_MAGIC: [u8; 8] = *b"\x9dPRtrail";

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    pub(super) tag: u32,
    pub(super) sequence: u64,
    /// Unix milliseconds.
    pub(super) created_ms: u64,
}

/// How a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) tag: u32,
    /// Counts the records of a segment, from 0.
    pub(super) number: u32,
    /// CRC-32 of the payload.
    pub(super) crc: u32,
    /// Unix milliseconds.
    pub(super) at_ms: u64,
    pub(super) profiles: u64,
    /// Of the payload, in bytes.
    pub(super) length: u64,
}

/// How the index of a sealed segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexHeader {
    pub(super) tag: u32,
    pub(super) entries: u32,
    /// CRC-32 of the entries.
    pub(super) crc: u32,
}

/// One record, as an index knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u32,
    /// Nothing of it can be read: what it says is a guess, except its number.
    pub(super) lost: bool,
    /// CRC-32 of the payload.
    pub(super) crc: u32,
    /// Where it begins.
    pub(super) offset: u64,
    /// All its bytes.
    pub(super) stored: u64,
    /// Unix milliseconds.
    pub(super) at_ms: u64,
    pub(super) profiles: u64,
}

/// How a sealed segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) tag: u32,
    /// Where records end and the index begins.
    pub(super) index: u64,
    pub(super) records: u64,
    pub(super) profiles: u64,
    /// All bytes of the records.
    pub(super) bytes: u64,
    /// Time of the first record, in Unix milliseconds.
    pub(super) oldest_ms: u64,
    /// Time of the last record, in Unix milliseconds.
    pub(super) newest_ms: u64,
}

/// Puts the checksum of all bytes before it into the last four.
fn seal<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    if let Some((content, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(content).to_le_bytes();
    }
    bytes
}

/// What comes before the checksum, when that is right and the magic too.
fn opened<'b>(bytes: &'b [u8], size: usize, magic: &[u8]) -> Option<&'b [u8]> {
    let (content, checksum) = bytes.get(..size)?.split_last_chunk::<4>()?;
    let rest = content.strip_prefix(magic)?;
    (crc32fast::hash(content).to_le_bytes() == *checksum).then_some(rest)
}

// === impl SegmentHeader ===

impl SegmentHeader {
    pub(super) const BYTES: usize = 64;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut to = &mut bytes[..];
        to.put_slice(&SEGMENT_MAGIC);
        to.put_u32_le(self.version);
        to.put_u32_le(self.tag);
        to.put_u64_le(self.sequence);
        to.put_u64_le(self.created_ms);
        seal(bytes)
    }

    /// `None` for one that is damaged. Of a newer version only `version` counts.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = opened(bytes, Self::BYTES, &SEGMENT_MAGIC)?;
        Some(Self {
            version: from.get_u32_le(),
            tag: from.get_u32_le(),
            sequence: from.get_u64_le(),
            created_ms: from.get_u64_le(),
        })
    }
}

// === impl RecordHeader ===

impl RecordHeader {
    pub(super) const BYTES: usize = 48;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut to = &mut bytes[..];
        to.put_slice(&RECORD_MAGIC);
        to.put_u32_le(self.tag);
        to.put_u32_le(self.number);
        to.put_u32_le(self.crc);
        to.put_u64_le(self.at_ms);
        to.put_u64_le(self.profiles);
        to.put_u64_le(self.length);
        seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = opened(bytes, Self::BYTES, &RECORD_MAGIC)?;
        Some(Self {
            tag: from.get_u32_le(),
            number: from.get_u32_le(),
            crc: from.get_u32_le(),
            at_ms: from.get_u64_le(),
            profiles: from.get_u64_le(),
            length: from.get_u64_le(),
        })
    }

    /// The entry of the record that begins with this at `offset`.
    pub(super) fn entry(&self, offset: u64) -> Entry {
        Entry {
            number: self.number,
            lost: false,
            crc: self.crc,
            offset,
            stored: self.length.saturating_add(RECORD_OVERHEAD),
            at_ms: self.at_ms,
            profiles: self.profiles,
        }
    }
}

/// The mark after a payload.
pub(super) fn encode_mark(tag: u32, number: u32) -> [u8; MARK] {
    let mut bytes = [0; MARK];
    let mut to = &mut bytes[..];
    to.put_u32_le(number);
    to.put_u32_le(check(tag, number));
    to.put_slice(&MARK_MAGIC);
    bytes
}

/// The record's number, where there is a mark.
pub(super) fn decode_mark(mut bytes: &[u8], tag: u32) -> Option<u32> {
    let number = bytes.try_get_u32_le().ok()?;
    let is_sound = bytes.try_get_u32_le().ok()? == check(tag, number);
    (is_sound && bytes == MARK_MAGIC).then_some(number)
}

/// What is beside a number that has no header of its own.
pub(super) fn check(tag: u32, number: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&tag.to_le_bytes());
    hasher.finalize()
}

// === impl IndexHeader ===

impl IndexHeader {
    pub(super) const BYTES: usize = 20;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut to = &mut bytes[..];
        to.put_slice(&INDEX_MAGIC);
        to.put_u32_le(self.tag);
        to.put_u32_le(self.entries);
        to.put_u32_le(self.crc);
        seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = opened(bytes, Self::BYTES, &INDEX_MAGIC)?;
        Some(Self {
            tag: from.get_u32_le(),
            entries: from.get_u32_le(),
            crc: from.get_u32_le(),
        })
    }
}

// === impl Entry ===

impl Entry {
    pub(super) const BYTES: usize = 44;

    fn encode(&self, to: &mut Vec<u8>) {
        to.put_u32_le(self.number);
        to.put_u32_le(u32::from(self.lost));
        to.put_u32_le(self.crc);
        to.put_u64_le(self.offset);
        to.put_u64_le(self.stored);
        to.put_u64_le(self.at_ms);
        to.put_u64_le(self.profiles);
    }

    fn decode(mut from: &[u8]) -> Self {
        Self {
            number: from.get_u32_le(),
            lost: from.get_u32_le() != 0,
            crc: from.get_u32_le(),
            offset: from.get_u64_le(),
            stored: from.get_u64_le(),
            at_ms: from.get_u64_le(),
            profiles: from.get_u64_le(),
        }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored)
    }
}

/// The index of `entries`, with its header and without a trailer.
pub(super) fn encode_index(tag: u32, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; IndexHeader::BYTES];
    bytes.reserve(entries.len() * Entry::BYTES + Trailer::BYTES);
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    let (header, content) = bytes.split_at_mut(IndexHeader::BYTES);
    let encoded = IndexHeader {
        tag,
        entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        crc: crc32fast::hash(content),
    };
    header.copy_from_slice(&encoded.encode());
    bytes
}

/// The entries of an index that begins at `end`, where the records end. `None`
/// for one that is damaged or says what cannot be.
pub(super) fn decode_index(bytes: &[u8], tag: u32, end: u64) -> Option<Vec<Entry>> {
    let header = IndexHeader::decode(bytes).filter(|header| header.tag == tag)?;
    let content = bytes.get(IndexHeader::BYTES..)?;
    let (entries, rest) = content.as_chunks::<{ Entry::BYTES }>();
    let is_sound = rest.is_empty()
        && entries.len() as u64 == u64::from(header.entries)
        && crc32fast::hash(content) == header.crc;
    if !is_sound {
        return None;
    }
    let entries: Vec<_> = entries.iter().map(|bytes| Entry::decode(bytes)).collect();
    let mut before = None;
    for entry in &entries {
        let follows =
            before.is_none_or(|(number, end)| number < entry.number && end <= entry.offset);
        let is_whole = entry.lost || entry.stored >= RECORD_OVERHEAD;
        if !follows || !is_whole || entry.end() > end || u64::from(entry.number) > most(end) {
            return None;
        }
        before = Some((entry.number, entry.end()));
    }
    Some(entries)
}

/// The highest number that a record at `offset` can have.
pub(super) fn most(offset: u64) -> u64 {
    offset.saturating_sub(FIRST_RECORD) / RECORD_OVERHEAD
}

// === impl Trailer ===

impl Trailer {
    pub(super) const BYTES: usize = 72;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut to = &mut bytes[..];
        to.put_slice(&TRAILER_MAGIC);
        to.put_u32_le(self.tag);
        to.put_u64_le(self.index);
        to.put_u64_le(self.records);
        to.put_u64_le(self.profiles);
        to.put_u64_le(self.bytes);
        to.put_u64_le(self.oldest_ms);
        to.put_u64_le(self.newest_ms);
        seal(bytes)
    }

    /// The trailer of a file of `file_bytes`. `None` for one that is damaged or
    /// says what cannot be.
    pub(super) fn decode(bytes: &[u8], file_bytes: u64) -> Option<Self> {
        let mut from = opened(bytes, Self::BYTES, &TRAILER_MAGIC)?;
        let trailer = Self {
            tag: from.get_u32_le(),
            index: from.get_u64_le(),
            records: from.get_u64_le(),
            profiles: from.get_u64_le(),
            bytes: from.get_u64_le(),
            oldest_ms: from.get_u64_le(),
            newest_ms: from.get_u64_le(),
        };
        let end = trailer.index.checked_add(trailer.index_bytes()?)?;
        let is_sound = end.checked_add(Self::BYTES as u64) == Some(file_bytes)
            && FIRST_RECORD.checked_add(trailer.bytes)? <= trailer.index
            && trailer.records <= u64::from(u32::MAX);
        is_sound.then_some(trailer)
    }

    /// The bytes of the index, with its header.
    pub(super) fn index_bytes(&self) -> Option<u64> {
        let entries = self.records.checked_mul(Entry::BYTES as u64)?;
        entries.checked_add(IndexHeader::BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: RecordHeader = RecordHeader {
        tag: 7,
        number: 3,
        crc: 0xdead_beef,
        at_ms: 1_750_000_000_000,
        profiles: 12,
        length: 32 << 10,
    };

    const TRAILER: Trailer = Trailer {
        tag: 7,
        index: FIRST_RECORD,
        records: 0,
        profiles: 0,
        bytes: 0,
        oldest_ms: 1,
        newest_ms: 2,
    };

    /// Files are read by the next release, so their bytes are a contract.
    #[test]
    fn the_bytes_do_not_change() {
        let header = SegmentHeader {
            version: 1,
            tag: 7,
            sequence: 5,
            created_ms: 9,
        };
        let index = encode_index(7, &[HEADER.entry(64)]);
        let all = [
            &header.encode()[..],
            &HEADER.encode(),
            &encode_mark(7, 3),
            &index,
            &TRAILER.encode(),
        ]
        .concat();
        assert_eq!(all.len(), 64 + 48 + 12 + 20 + 44 + 72);
        assert_eq!(format!("{:08x}", crc32fast::hash(&all)), "b40fb236");
    }

    #[test]
    fn what_is_written_is_read() {
        let header = SegmentHeader {
            version: VERSION,
            tag: 1,
            sequence: 2,
            created_ms: 3,
        };
        assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
        assert_eq!(RecordHeader::decode(&HEADER.encode()), Some(HEADER));
        let bytes = FIRST_RECORD + 20 + 72;
        assert_eq!(Trailer::decode(&TRAILER.encode(), bytes), Some(TRAILER));
        let entries = [HEADER.entry(64)];
        let end = entries[0].end();
        let index = encode_index(7, &entries);
        assert_eq!(decode_index(&index, 7, end).as_deref(), Some(&entries[..]));
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        let index = encode_index(7, &[HEADER.entry(64)]);
        let end = HEADER.entry(64).end();
        all_bits_count(&HEADER.encode(), |bytes| {
            RecordHeader::decode(bytes).is_some()
        });
        all_bits_count(&encode_mark(7, 3), |bytes| decode_mark(bytes, 7) == Some(3));
        all_bits_count(&index, |bytes| decode_index(bytes, 7, end).is_some());
        all_bits_count(&TRAILER.encode(), |bytes| {
            Trailer::decode(bytes, 156).is_some()
        });
    }

    fn all_bits_count(bytes: &[u8], is_read: impl Fn(&[u8]) -> bool) {
        assert!(is_read(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_read(&damaged), "bit {bit} of {}", bytes.len());
        }
    }

    #[test]
    fn an_index_that_points_out_of_its_file_is_none() {
        let entry = HEADER.entry(64);
        let far = Entry {
            offset: u64::MAX - 10,
            ..entry
        };
        let again = [entry, entry];
        for entries in [&[far][..], &again] {
            let index = encode_index(7, entries);
            assert_eq!(decode_index(&index, 7, entry.end() + 1), None);
        }
        let trailer = Trailer {
            records: u64::MAX / 44 + 1,
            ..TRAILER
        };
        assert_eq!(Trailer::decode(&trailer.encode(), 156), None);
    }
}
