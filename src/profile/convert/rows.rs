//! Samples with the same identity added up.

use hashbrown::{HashTable, hash_table::Entry};
use std::hash::{BuildHasher, RandomState};

/// What makes samples the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The stack's place in its table.
    pub(super) stack: u32,
    /// The place of the set of labels or attributes.
    pub(super) set: u32,
    /// The link's place in its table.
    pub(super) link: u32,
}

/// Samples in the order in which they first came, a value for each sample type.
#[derive(Debug)]
pub(super) struct Rows {
    width: usize,
    identities: Vec<Identity>,
    values: Vec<i64>,
    index: HashTable<(u64, u32)>,
    hasher: RandomState,
}

// === impl Identity ===

impl Identity {
    fn packed(self) -> u128 {
        u128::from(self.stack) | u128::from(self.set) << 32 | u128::from(self.link) << 64
    }
}

// === impl Rows ===

impl Rows {
    /// No rows yet, of `width` values each.
    pub(super) fn new(width: usize, capacity: usize) -> Self {
        // A sender's claim is not worth more room than this.
        let capacity = capacity.min(1 << 16);
        Self {
            width,
            identities: Vec::with_capacity(capacity),
            values: Vec::with_capacity(capacity.saturating_mul(width).min(1 << 18)),
            index: HashTable::with_capacity(capacity),
            hasher: RandomState::new(),
        }
    }

    /// The values of the row, which are 0 at first.
    pub(super) fn row(&mut self, identity: Identity) -> &mut [i64] {
        let hash = self.hasher.hash_one(identity.packed());
        let identities = &self.identities;
        let is_it = |(had, place): &(u64, u32)| {
            *had == hash && identities.get(*place as usize) == Some(&identity)
        };
        let place = match self.index.entry(hash, is_it, |(hash, _)| *hash) {
            Entry::Occupied(found) => found.get().1,
            Entry::Vacant(vacant) => {
                let place = self.identities.len() as u32;
                vacant.insert((hash, place));
                self.identities.push(identity);
                self.values.resize(self.values.len() + self.width, 0);
                place
            }
        };
        let begin = place as usize * self.width;
        &mut self.values[begin..begin + self.width]
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.identities.len()
    }

    /// The identity and the values of the row at `place`.
    #[inline]
    pub(super) fn at(&self, place: usize) -> (Identity, &[i64]) {
        let begin = place * self.width;
        (
            self.identities[place],
            &self.values[begin..begin + self.width],
        )
    }

    /// The identity and the values of each row.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Identity, &[i64])> {
        (0..self.len()).map(|place| self.at(place))
    }
}
