//! Paces senders by what leaves.
//!
//! Taking a request in costs less than passing it on, so senders that never pause
//! fill any queue until requests are refused: their bodies were read for nothing,
//! and the memory of a full queue is gone for as long as it lasts. So while much
//! has not left yet, a request has its body read when another one has left. The
//! sender waits a moment longer for its answer, which is how it is slowed down.
//!
//! The queue is still there for a backend that is slow or away: nobody waits for
//! more than [`PATIENCE`], and nobody begins to wait when nothing has left for
//! [`STUCK`].

use crate::{pipeline::Permit, profile::Charge};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// So many bytes may be on their way before anybody waits. What is passed on while
/// it is still in the CPU's caches costs less, so this is no more than it takes to
/// keep senders busy.
const EASY: u64 = 8 << 20;

/// The longest that a request waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// When nothing leaves for so long, waiting helps nobody.
const STUCK: Duration = Duration::from_millis(100);

/// Turns that are kept for those who come later.
const KEPT: usize = 4;

/// Who may have a body read, of one way in; clones are the same.
#[derive(Clone, Debug)]
pub(in crate::receivers) struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that have not left yet.
    held: AtomicU64,
    /// One for each request that has left.
    turns: Semaphore,
    since: Instant,
    /// When the last one has left, in milliseconds after `since`.
    left: AtomicU64,
}

/// The memory of a request that has not left yet.
#[derive(Debug)]
pub(in crate::receivers) struct Held {
    pace: Pace,
    permit: Permit,
}

// === impl Pace ===

impl Pace {
    pub(in crate::receivers) fn new() -> Self {
        Self(Arc::new(Shared {
            held: AtomicU64::new(0),
            turns: Semaphore::new(0),
            since: Instant::now(),
            left: AtomicU64::new(0),
        }))
    }

    /// Returns when a body may be read.
    pub(in crate::receivers) async fn turn(&self) {
        if self.0.held.load(Ordering::Relaxed) < EASY || self.is_stuck() {
            return;
        }
        if let Ok(Ok(turn)) = timeout(PATIENCE, self.0.turns.acquire()).await {
            turn.forget();
        }
    }

    /// Notes a request that is about to be handed on, until it has left.
    pub(in crate::receivers) fn hold(&self, permit: Permit) -> Held {
        self.0.held.fetch_add(permit.bytes(), Ordering::Relaxed);
        Held {
            pace: self.clone(),
            permit,
        }
    }

    fn is_stuck(&self) -> bool {
        let left = Duration::from_millis(self.0.left.load(Ordering::Relaxed));
        self.0.since.elapsed().saturating_sub(left) > STUCK
    }
}

// === impl Held ===

impl Charge for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.pace.0;
        let bytes = self.permit.bytes();
        let before = shared.held.fetch_sub(bytes, Ordering::Relaxed);
        if before >= EASY {
            let now = u64::try_from(shared.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            shared.left.store(now, Ordering::Relaxed);
        }
        if shared.turns.available_permits() < KEPT {
            shared.turns.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Budget;
    use futures_util::FutureExt;

    /// Half of what may be held, so many times.
    fn halves(pace: &Pace, count: usize) -> Vec<Held> {
        let budget = Budget::new(u64::MAX);
        let half = || pace.hold(budget.try_take(EASY / 2).unwrap());
        (0..count).map(|_| half()).collect()
    }

    /// What has more on its way than is easy, and has just sent some.
    fn busy() -> (Pace, Vec<Held>) {
        let pace = Pace::new();
        let mut held = halves(&pace, 3);
        held.pop();
        while let Ok(turn) = pace.0.turns.try_acquire() {
            turn.forget();
        }
        (pace, held)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_little_is_on_its_way() {
        let pace = Pace::new();
        let _one = halves(&pace, 1);
        assert!(pace.turn().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_comes_in_when_one_has_left() {
        let (pace, mut held) = busy();
        let mut first = Box::pin(pace.turn());
        let mut second = Box::pin(pace.turn());
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        held.pop();
        assert!(first.now_or_never().is_some());
        assert!((&mut second).now_or_never().is_none());
        held.pop();
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_does_not_leave() {
        let (pace, _held) = busy();
        let began = Instant::now();
        pace.turn().await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(pace.turn().now_or_never().is_some());
    }
}
