//! One budget of memory for the process.
//!
//! Every body in flight, every inflated buffer and every decode asks for its
//! bytes before it allocates them. A [`Permit`] gives them back when dropped,
//! so `used` can never leak and never exceeds `limit`.

use crate::profile::Charge;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
    used: AtomicU64,
}

/// A share of the budget, returned when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: u64,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            shared: Arc::new(Inner {
                limit: AtomicU64::new(limit),
                used: AtomicU64::new(0),
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
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or nothing when they are not free.
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        let cap = self.cap();
        self.shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= cap)
            })
            .ok()
            .map(|_| Permit {
                budget: self.clone(),
                bytes,
            })
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
                self.bytes += std::mem::take(&mut extra.bytes);
                true
            }
            None => false,
        }
    }

    /// Takes over what `other`, of the same budget, holds.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
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
            .used
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
}
