//! A table of messages in their encoded form, each once.
//!
//! Equal messages have equal bytes, because all are written by this module's
//! neighbours, fields in order: so one table serves strings, functions, stacks
//! and all others. Hashes are keyed at random: what is hashed comes from the
//! network.

use super::wire::{field_len, put_bytes};
use hashbrown::{HashTable, hash_table::Entry};
use std::hash::{BuildHasher, RandomState};

/// Entries counted from 0; entry 0 is there from the start.
#[derive(Debug)]
pub(in crate::profile) struct Table {
    bytes: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<usize>,
    /// The bytes of all entries as fields.
    encoded: usize,
    index: HashTable<Indexed>,
    hasher: RandomState,
}

/// An entry's place and the hash of its bytes.
#[derive(Debug)]
struct Indexed {
    hash: u64,
    place: u32,
}

// === impl Table ===

impl Table {
    /// A table of one entry.
    pub(in crate::profile) fn new(zero: &[u8]) -> Self {
        let mut table = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            encoded: 0,
            index: HashTable::new(),
            hasher: RandomState::new(),
        };
        table.intern(zero);
        table
    }

    /// The place of an entry, which is added when it is new.
    pub(in crate::profile) fn intern(&mut self, content: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(content);
        let (bytes, ends) = (&self.bytes, &self.ends);
        let is_it = |have: &Indexed| have.hash == hash && entry(bytes, ends, have.place) == content;
        match self.index.entry(hash, is_it, |have| have.hash) {
            Entry::Occupied(found) => found.get().place,
            Entry::Vacant(vacant) => {
                // Nobody may write 4 billion entries: limits are in bytes.
                let place = self.ends.len() as u32;
                vacant.insert(Indexed { hash, place });
                self.bytes.extend_from_slice(content);
                self.ends.push(self.bytes.len());
                self.encoded += field_len(content.len());
                place
            }
        }
    }

    /// The bytes of an entry; none for a place beyond the end.
    pub(in crate::profile) fn get(&self, place: u32) -> &[u8] {
        entry(&self.bytes, &self.ends, place)
    }

    /// The number of entries.
    pub(in crate::profile) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that [`Table::put`] writes.
    pub(in crate::profile) fn encoded_len(&self) -> usize {
        self.encoded
    }

    /// Removes all entries from place `len` on.
    pub(in crate::profile) fn cut(&mut self, len: usize) {
        for place in (len..self.ends.len()).rev() {
            let content = entry(&self.bytes, &self.ends, place as u32);
            let hash = self.hasher.hash_one(content);
            let is_it = |have: &Indexed| have.place as usize == place;
            if let Ok(found) = self.index.find_entry(hash, is_it) {
                found.remove();
            }
            self.encoded -= field_len(content.len());
        }
        self.ends.truncate(len);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Appends all entries as fields of this number.
    pub(in crate::profile) fn put(&self, out: &mut Vec<u8>, number: u32) {
        for place in 0..self.ends.len() {
            put_bytes(out, number, self.get(place as u32));
        }
    }
}

fn entry<'b>(bytes: &'b [u8], ends: &[usize], place: u32) -> &'b [u8] {
    let place = place as usize;
    let begin = match place {
        0 => 0,
        _ => ends.get(place - 1).copied().unwrap_or(bytes.len()),
    };
    let end = ends.get(place).copied().unwrap_or(begin);
    bytes.get(begin..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_forgotten() {
        let mut table = Table::new(b"");
        assert_eq!([b"a", b"b", b"a"].map(|x| table.intern(x)), [1, 2, 1]);
        let (len, encoded) = (table.len(), table.encoded_len());
        assert_eq!([b"c", b"d"].map(|x| table.intern(x)), [3, 4]);
        table.cut(len);
        assert_eq!(table.encoded_len(), encoded);
        assert_eq!([b"d", b"b", b"c"].map(|x| table.intern(x)), [3, 2, 4]);
        assert_eq!(table.get(3), b"d");
        assert_eq!(table.get(9), b"");
        let mut out = Vec::new();
        table.put(&mut out, 5);
        assert_eq!(out.len(), table.encoded_len());
    }
}
