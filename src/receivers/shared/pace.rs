//! Paces senders by what leaves.
//!
//! Taking a request in costs less than passing it on, so senders that never pause
//! fill any queue until requests are refused: their bodies were read for nothing,
//! and the memory of a full queue is gone for as long as it lasts. So while much
//! has not left yet, a request has its body read when another one has left. The
//! sender waits a moment longer for its answer, which is how it is slowed down.
//!
//! The queue is still there for a backend that is slow or away: nobody waits for
//! more than `max_wait`, and nobody begins to wait when nothing has left for
//! [`STUCK`]. What only left memory for a queue's disk has not left.

use crate::{
    pipeline::Permit,
    profile::Charge,
    settings::{ByteSize, Duration as Setting},
};
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// When nothing leaves for so long, waiting helps nobody.
const STUCK: Duration = Duration::from_millis(100);

/// Turns that are kept for those who come later.
const KEPT: usize = 4;

/// When senders are slowed down to the pace of what leaves, before a queue fills.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Pacing {
    /// While so much of one protocol is on its way, a request's body is read when
    /// another request has left. What fits the CPU's caches costs least to pass on.
    pub above: ByteSize,
    /// The longest that a request waits for that; `0` for not at all.
    pub max_wait: Setting,
}

/// Who may have a body read, of one way in; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Pacing,
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
    /// It waits on disk.
    is_spilled: AtomicBool,
}

// === impl Pacing ===

impl Default for Pacing {
    fn default() -> Self {
        Self {
            above: ByteSize::new(8 << 20),
            max_wait: Setting::from_secs(1),
        }
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(bounds: Pacing) -> Self {
        Self(Arc::new(Shared {
            bounds,
            held: AtomicU64::new(0),
            turns: Semaphore::new(0),
            since: Instant::now(),
            left: AtomicU64::new(0),
        }))
    }

    /// Returns when a body may be read; `paced` counts those who wait for it.
    pub(super) async fn turn(&self, paced: &Counter) {
        let (shared, patience) = (&self.0, self.0.bounds.max_wait.get());
        let is_easy = shared.held.load(Ordering::Relaxed) < shared.bounds.above.get();
        if is_easy || patience.is_zero() || self.is_stuck() {
            return;
        }
        if let Ok(turn) = shared.turns.try_acquire() {
            return turn.forget();
        }
        paced.inc();
        if let Ok(Ok(turn)) = timeout(patience, shared.turns.acquire()).await {
            turn.forget();
        }
    }

    /// Notes a request that is about to be handed on, until it has left.
    pub(super) fn hold(&self, permit: Permit) -> Held {
        self.0.held.fetch_add(permit.bytes(), Ordering::Relaxed);
        Held {
            pace: self.clone(),
            permit,
            is_spilled: AtomicBool::new(false),
        }
    }

    fn is_stuck(&self) -> bool {
        let left = Duration::from_millis(self.0.left.load(Ordering::Relaxed));
        self.0.since.elapsed().saturating_sub(left) > STUCK
    }
}

// === impl Held ===

impl Charge for Held {
    fn spilled(&self) {
        self.is_spilled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.pace.0;
        let bytes = self.permit.bytes();
        let before = shared.held.fetch_sub(bytes, Ordering::Relaxed);
        let has_left = !*self.is_spilled.get_mut();
        if has_left && before >= shared.bounds.above.get() {
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

    const EASY: u64 = 8 << 20;
    const PATIENCE: Duration = Duration::from_secs(1);

    async fn turn(pace: &Pace) {
        pace.turn(&Counter::default()).await;
    }

    /// Half of what may be held, so many times.
    fn halves(pace: &Pace, count: usize) -> Vec<Held> {
        let budget = Budget::new(u64::MAX);
        let half = || pace.hold(budget.try_take(EASY / 2).unwrap());
        (0..count).map(|_| half()).collect()
    }

    /// What has more on its way than is easy, and has just sent some.
    fn busy() -> (Pace, Vec<Held>) {
        let pace = Pace::new(Pacing::default());
        let mut held = halves(&pace, 3);
        held.pop();
        while let Ok(turn) = pace.0.turns.try_acquire() {
            turn.forget();
        }
        (pace, held)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_little_is_on_its_way() {
        let pace = Pace::new(Pacing::default());
        let _one = halves(&pace, 1);
        assert!(turn(&pace).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_comes_in_when_one_has_left() {
        let (pace, mut held) = busy();
        let mut first = Box::pin(turn(&pace));
        let mut second = Box::pin(turn(&pace));
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
        let (began, paced) = (Instant::now(), Counter::default());
        pace.turn(&paced).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(paced.get(), 1);
        assert!(pace.turn(&paced).now_or_never().is_some());
        assert_eq!(paced.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_all_goes_to_disk() {
        let (pace, mut held) = busy();
        tokio::time::advance(STUCK * 2).await;
        for _ in 0..3 {
            let one = halves(&pace, 1).pop().unwrap();
            one.spilled();
            drop(one);
            let turns = (0..KEPT * 2).map(|_| turn(&pace).now_or_never());
            assert!(turns.into_iter().all(|turn| turn.is_some()));
        }
        held.extend(halves(&pace, 1));
        held.pop();
        let turns = (0..KEPT * 2).map(|_| turn(&pace).now_or_never());
        assert!(!turns.into_iter().all(|turn| turn.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_who_is_not_to() {
        let bounds = Pacing {
            max_wait: Setting::default(),
            ..Pacing::default()
        };
        let pace = Pace::new(bounds);
        let mut held = halves(&pace, 4);
        held.pop();
        while let Ok(turn) = pace.0.turns.try_acquire() {
            turn.forget();
        }
        let paced = Counter::default();
        assert!(pace.turn(&paced).now_or_never().is_some());
        assert_eq!(paced.get(), 0);
    }
}
