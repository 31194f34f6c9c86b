//! The memory that an outline takes, asked for before it is taken.

use super::Unreadable;

/// What is asked for at a time, so that asking costs nothing.
const STEP: u64 = 64 << 10;

/// Memory granted so far.
pub(super) struct Room<'g> {
    grant: &'g mut dyn FnMut(u64) -> bool,
    left: u64,
}

// === impl Room ===

impl<'g> Room<'g> {
    pub(super) fn new(grant: &'g mut dyn FnMut(u64) -> bool) -> Self {
        Self { grant, left: 0 }
    }

    /// Takes `bytes`, or fails before they are allocated.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Unreadable> {
        let bytes = bytes as u64;
        if bytes > self.left {
            let more = (bytes - self.left).max(STEP);
            if !(self.grant)(more) {
                return Err(Unreadable::NoMemory);
            }
            self.left += more;
        }
        self.left -= bytes;
        Ok(())
    }

    /// Takes what so many items take.
    pub(super) fn take_items<T>(&mut self, items: usize) -> Result<(), Unreadable> {
        self.take(items.saturating_mul(size_of::<T>()))
    }
}
