//! A set of small numbers.

/// A set of numbers; takes an eighth of the highest one in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

// === impl Bits ===

impl Bits {
    /// Whether `number` is in the set.
    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// `false` when it was in the set already.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = place(number);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// `false` when it was not in the set.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let was_in = self.contains(number);
        let (word, bit) = place(number);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
        was_in
    }

    /// The numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let words = (0_u32..).zip(&self.0);
        words.flat_map(|(index, word)| {
            let bits = (0..64).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| index * 64 + bit)
        })
    }

    /// Takes all out, and gives back the memory.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

fn place(number: u32) -> (usize, u64) {
    (number as usize / 64, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_put_in() {
        let mut bits = Bits::default();
        assert!(bits.insert(70) && !bits.insert(70) && bits.insert(0));
        assert!(bits.contains(70) && bits.contains(0) && !bits.contains(6) && !bits.contains(900));
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 70]);
        assert!(bits.remove(70) && !bits.remove(70) && !bits.remove(900));
        assert!(!bits.contains(70));
    }
}
