//! From places in a table of the dictionary to places in a pprof.

use std::collections::HashMap;

/// Numbers from 1 on by index; 0 for those that have none yet.
///
/// A request may have a huge dictionary and thousands of small profiles: a
/// profile then must not cost the size of the dictionary.
#[derive(Debug)]
pub(super) enum Remap {
    /// By place.
    Dense(Vec<u32>),
    /// The few that are used.
    Sparse(HashMap<u32, u32>),
}

// === impl Remap ===

impl Remap {
    /// For a table of this many entries of which about `uses` are asked for.
    pub(super) fn new(entries: usize, uses: usize) -> Self {
        match entries <= uses.saturating_mul(64).saturating_add(1_024) {
            true => Self::Dense(vec![0; entries]),
            false => Self::Sparse(HashMap::new()),
        }
    }

    /// The number of an index that is within the table.
    #[inline]
    pub(super) fn get(&self, index: u32) -> u32 {
        match self {
            Self::Dense(numbers) => numbers.get(index as usize).copied().unwrap_or(0),
            Self::Sparse(numbers) => numbers.get(&index).copied().unwrap_or(0),
        }
    }

    /// Gives an index a number.
    pub(super) fn set(&mut self, index: u32, number: u32) {
        match self {
            Self::Dense(numbers) => {
                if let Some(place) = numbers.get_mut(index as usize) {
                    *place = number;
                }
            }
            Self::Sparse(numbers) => _ = numbers.insert(index, number),
        }
    }
}
