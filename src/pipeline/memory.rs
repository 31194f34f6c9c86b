//! One budget of memory for the process.
//!
//! Every body in flight, every inflated buffer and every decode asks for its
//! bytes before it allocates them. A [`Permit`] gives them back when dropped,
//! so `used` can never leak and never exceeds `limit`.
//!
//! What is free may for a moment be large buffers that the next body can have
//! ([`Budget::spare`]). They are within the limit, and go when it is wanted for
//! something else.

use super::spares::{Spares, class, is_worth_keeping};
use crate::profile::Charge;
use bytes::Bytes;
use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// How often is looked for buffers that nobody wants.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// The most that buffers without a user take, in bytes, and as a share of the limit.
const MOST_SPARE: u64 = 32 << 20;
const MOST_SPARE_SHARE: u64 = 8;

/// The process's bytes, shared by all who hold bodies.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Inner>,
    /// Whether this is the view of who takes profiles in.
    is_intake: bool,
}

#[derive(Debug)]
struct Inner {
    limit: AtomicU64,
    /// What is used, and what is spare.
    taken: AtomicU64,
    /// What `spares` hold, in bytes.
    spare: AtomicU64,
    spares: Mutex<Spares>,
}

/// A share of the budget, returned when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: u64,
}

/// A body in a buffer that goes back.
struct Lent {
    buffer: Vec<u8>,
    budget: Budget,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            shared: Arc::new(Inner {
                limit: AtomicU64::new(limit),
                taken: AtomicU64::new(0),
                spare: AtomicU64::new(0),
                spares: Mutex::default(),
            }),
            is_intake: false,
        }
    }

    /// The same budget for who takes profiles in: a quarter is left, so that
    /// there is always memory to get rid of what was accepted.
    pub fn for_intake(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            is_intake: true,
        }
    }

    /// Changes the limit. What is taken above a lower one stays taken; nothing
    /// more is given before enough of it came back.
    pub fn set_limit(&self, limit: u64) {
        self.shared.limit.store(limit, Ordering::Relaxed);
    }

    /// What only delivery may take, in bytes.
    pub fn reserve(&self) -> u64 {
        self.limit() / 4
    }

    /// The most that may be used, in bytes.
    pub fn limit(&self) -> u64 {
        self.shared.limit.load(Ordering::Relaxed)
    }

    /// The most that this view may fill it to, in bytes: what is larger can never
    /// be taken.
    pub fn cap(&self) -> u64 {
        let limit = self.limit();
        if self.is_intake {
            limit - limit / 4
        } else {
            limit
        }
    }

    /// The most that one request can have beside what its connection may send
    /// unread, in bytes: what needs more never passes.
    pub fn largest(&self) -> u64 {
        self.cap() - self.limit() / 32
    }

    /// What is used now, in bytes.
    pub fn used(&self) -> u64 {
        let taken = self.shared.taken.load(Ordering::Relaxed);
        taken.saturating_sub(self.shared.spare.load(Ordering::Relaxed))
    }

    /// Takes `bytes`, or nothing when they are not free.
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        let cap = self.cap();
        while !self.shared.take(bytes, cap) {
            self.shared.free_oldest()?;
        }
        Some(Permit {
            budget: self.clone(),
            bytes,
        })
    }

    /// An empty buffer with room for `length` bytes that was used before, so there is
    /// memory behind all of it. It is nobody's any more: the caller charges it.
    pub fn spare(&self, length: usize) -> Option<Vec<u8>> {
        self.shared.reuse(length)
    }

    /// The capacity of a buffer that others can use for `length` bytes, too: an eighth
    /// more at most, which an allocator would round up to as well.
    pub fn capacity(length: usize) -> usize {
        class(length)
    }

    /// Gives back to the system what nobody wanted for a while, for ever.
    pub async fn tidy(self) {
        loop {
            sleep(TIDY_INTERVAL).await;
            while self.shared.free_expired().is_some() {}
        }
    }

    fn keep(&self, buffer: Vec<u8>) {
        let (bytes, limit) = (buffer.capacity() as u64, self.limit());
        let most = MOST_SPARE.min(limit / MOST_SPARE_SHARE);
        let mut spares = self.shared.spares();
        if self.shared.spare.load(Ordering::Relaxed) + bytes <= most
            && self.shared.take(bytes, limit)
        {
            self.shared.spare.fetch_add(bytes, Ordering::Relaxed);
            spares.push(buffer);
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Takes `bytes` if not more than `cap` are taken then.
    fn take(&self, bytes: u64, cap: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= cap);
        let taken = &self.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn reuse(&self, length: usize) -> Option<Vec<u8>> {
        if self.spare.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let buffer = self.spares().take(length);
        buffer.inspect(|buffer| self.took(buffer))
    }

    fn free_oldest(&self) -> Option<()> {
        let buffer = self.spares().oldest();
        buffer.map(|buffer| self.took(&buffer))
    }

    fn free_expired(&self) -> Option<()> {
        let buffer = self.spares().expired();
        buffer.map(|buffer| self.took(&buffer))
    }

    /// A buffer is none of the spare ones any more.
    fn took(&self, buffer: &Vec<u8>) {
        let bytes = buffer.capacity() as u64;
        self.spare.fetch_sub(bytes, Ordering::Relaxed);
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Lent ===

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.budget.keep(mem::take(&mut self.buffer));
    }
}

// === impl Permit ===

impl Permit {
    /// The bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes in addition; on `false` nothing changed.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        match self.budget.try_take(more) {
            Some(mut extra) => {
                self.bytes += mem::take(&mut extra.bytes);
                true
            }
            None => false,
        }
    }

    /// What was read into `buffer`, which is kept for a moment when nobody has the
    /// bytes any more, if others can use it.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        if !is_worth_keeping(&buffer) {
            return Bytes::from(buffer.into_boxed_slice());
        }
        Bytes::from_owner(Lent {
            buffer,
            budget: self.budget.clone(),
        })
    }

    /// Takes over what `other`, of the same budget, holds.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += mem::take(&mut other.bytes);
    }

    /// Holds `bytes` from now on, more or less than before; on `false` nothing
    /// changed.
    #[must_use]
    pub fn set(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        self.shrink_to(bytes);
        more == 0 || self.grow(more)
    }

    /// Gives back all above `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.budget
            .shared
            .taken
            .fetch_sub(surplus, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Charge for Permit {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let mut a = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none());
        assert!(!a.grow(41));
        assert!(a.grow(40));
        a.shrink_to(10);
        assert_eq!(budget.used(), 10);
        drop(a);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_take(u64::MAX).is_none());
    }

    #[test]
    fn a_lower_limit_waits_for_what_is_taken() {
        let budget = Budget::new(100);
        let intake = budget.for_intake();
        let held = budget.try_take(80).unwrap();
        budget.set_limit(40);
        assert!(budget.try_take(1).is_none());
        drop(held);
        assert_eq!((budget.cap(), intake.cap()), (40, 30));
        assert_eq!(intake.largest(), 29);
        assert!(budget.try_take(41).is_none() && intake.try_take(30).is_some());
    }

    #[test]
    fn intake_leaves_a_quarter_to_delivery() {
        let budget = Budget::new(100);
        let intake = budget.for_intake();
        assert_eq!((intake.limit(), intake.reserve()), (100, 25));
        let _held = intake.try_take(75).unwrap();
        assert!(intake.try_take(1).is_none());
        assert!(budget.try_take(25).is_some());
    }

    /// A buffer for a body of this size, with the body in it.
    fn read(budget: &Budget, length: usize) -> (Bytes, Permit) {
        let permit = budget.try_take(length as u64).unwrap();
        let mut buffer = Vec::with_capacity(Budget::capacity(length));
        buffer.resize(length, 7);
        (permit.lend(buffer), permit)
    }

    #[test]
    fn a_large_buffer_comes_back_once_nobody_has_its_bytes() {
        let budget = Budget::new(64 << 20);
        let (bytes, permit) = read(&budget, 2_000_000);
        let (place, part) = (bytes.as_ptr(), bytes.slice(9..99));
        drop((bytes, permit));
        assert!(budget.spare(2_000_000).is_none());
        drop(part);
        assert_eq!(budget.used(), 0);
        let again = budget.spare(1_999_000).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(budget.spare(2_000_000).is_none());
    }

    #[test]
    fn spare_buffers_are_within_the_limit_and_go_when_it_is_wanted() {
        let budget = Budget::new(32 << 20);
        let bodies: Vec<_> = (0..8).map(|_| read(&budget, 1 << 20)).collect();
        drop(bodies);
        // An eighth of the limit.
        assert_eq!(budget.shared.spare.load(Ordering::Relaxed), 4 << 20);
        assert_eq!(budget.used(), 0);
        let all = budget.try_take(31 << 20).unwrap();
        assert_eq!(budget.shared.spare.load(Ordering::Relaxed), 1 << 20);
        assert!(budget.try_take((1 << 20) + 1).is_none());
        drop(all);
        assert_eq!(budget.shared.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_grew_by_itself_or_is_small_is_not_kept() {
        let budget = Budget::new(64 << 20);
        for (length, capacity) in [(1_000, 1_000), (1 << 20, 2 << 20), (100, 1 << 20)] {
            let permit = budget.try_take(1).unwrap();
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(length, 7);
            drop(permit.lend(buffer));
        }
        assert_eq!(budget.shared.spare.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_goes_back_to_the_system() {
        let budget = Budget::new(64 << 20);
        drop(read(&budget, 1 << 20));
        let tidying = timeout(3 * TIDY_INTERVAL, budget.clone().tidy());
        assert!(tidying.await.is_err());
        assert_eq!(budget.shared.taken.load(Ordering::Relaxed), 0);
    }
}
