//! Large buffers that are kept for the next body.
//!
//! The allocator returns to the system what nobody has used for 10 ms, and the
//! system makes fresh memory at a page fault for each 4 KiB: up to a fifth of what it
//! costs to pass on 2 MB. A buffer that comes back is therefore kept for a moment.
//! It counts in the budget, and goes before anything is refused for it
//! ([`Budget`](super::Budget)).

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What is smaller the allocator keeps itself.
const SMALLEST: usize = 128 << 10;
/// So long a buffer is kept that nobody wants.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Buffers that nobody uses, those that came last at the end.
#[derive(Debug, Default)]
pub(super) struct Spares(VecDeque<Spare>);

#[derive(Debug)]
struct Spare {
    buffer: Vec<u8>,
    since: Instant,
}

/// The capacity of a buffer for `length` bytes, by which buffers are alike: an
/// eighth more at most, which is what an allocator rounds up too.
pub(super) fn class(length: usize) -> usize {
    match length {
        0..SMALLEST => length,
        _ => {
            let step = (1 << length.ilog2()) / 8;
            length.checked_next_multiple_of(step).unwrap_or(length)
        }
    }
}

/// Whether a buffer is worth keeping for other bodies of the size of the one in it.
pub(super) fn is_worth_keeping(buffer: &Vec<u8>) -> bool {
    buffer.capacity() >= SMALLEST && buffer.capacity() == class(buffer.len())
}

// === impl Spares ===

impl Spares {
    /// Keeps a buffer.
    pub(super) fn push(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        let since = Instant::now();
        self.0.push_back(Spare { buffer, since });
    }

    /// The buffer for `length` bytes that came last, as the processor's cache may
    /// still have it.
    pub(super) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let class = class(length);
        let at = self.0.iter().rposition(|s| s.buffer.capacity() == class)?;
        self.0.remove(at).map(|spare| spare.buffer)
    }

    /// The one that nobody wanted for longest, if that is too long.
    pub(super) fn expired(&mut self) -> Option<Vec<u8>> {
        let oldest = self.0.front()?;
        let expired = oldest.since.elapsed() >= KEPT_FOR;
        self.0.pop_front_if(|_| expired).map(|spare| spare.buffer)
    }

    /// The one that nobody wanted for longest.
    pub(super) fn oldest(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front().map(|spare| spare.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_alike_within_an_eighth() {
        for length in (0..9 << 20).step_by(12_345) {
            let class = class(length);
            assert!((length..=length + length / 8).contains(&class), "{length}");
        }
        let alike = [1_980_000, 2_000_000].map(class);
        assert_eq!(alike[0], alike[1]);
        assert_ne!(alike[0], class(2_200_000));
        assert_eq!(class(usize::MAX), usize::MAX);
    }

    #[test]
    fn the_last_of_a_class_is_taken_and_the_oldest_goes() {
        let mut spares = Spares::default();
        let [one, two, four] = [1, 2, 4].map(|megabytes| {
            let buffer = Vec::with_capacity(megabytes << 20);
            let place = place(&buffer);
            spares.push(buffer);
            place
        });
        let last = Vec::with_capacity(2 << 20);
        let last_place = place(&last);
        spares.push(last);
        assert!(spares.expired().is_none());
        let first = spares.take((2 << 20) - 9).unwrap();
        let second = spares.take(2 << 20).unwrap();
        assert_eq!([place(&first), place(&second)], [last_place, two]);
        assert!(spares.take(2 << 20).is_none());
        let rest = [spares.oldest().unwrap(), spares.oldest().unwrap()];
        assert_eq!([place(&rest[0]), place(&rest[1])], [one, four]);
    }

    /// Where a buffer is.
    fn place(buffer: &[u8]) -> usize {
        buffer.as_ptr().addr()
    }
}
