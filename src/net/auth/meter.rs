//! How much somebody may send: requests in a second, bytes at a time.

use crate::pipeline::{Budget, Permit};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The limits of one identity, and how much of them is used.
#[derive(Debug)]
pub(super) struct Meter {
    requests: Option<Bucket>,
    bytes: Option<Budget>,
}

/// Tokens that come at a rate; as many are kept as come in a second.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

// === impl Meter ===

impl Meter {
    /// Zero is no limit.
    pub(super) fn new(requests_per_second: Option<u32>, bytes: Option<u64>) -> Self {
        let requests = requests_per_second.filter(|rate| *rate > 0);
        let bytes = bytes.filter(|bytes| *bytes > 0);
        Self {
            requests: requests.map(|rate| Bucket::new(rate.into())),
            bytes: bytes.map(Budget::new),
        }
    }

    /// Counts a request; one that is too many may come after the time that is
    /// returned.
    pub(super) fn request(&self) -> Result<(), Duration> {
        self.requests.as_ref().map_or(Ok(()), Bucket::take)
    }

    /// A share of the bytes at a time, of none yet; nothing when they are not
    /// limited.
    pub(super) fn bytes(&self) -> Option<Permit> {
        self.bytes.as_ref()?.try_take(0)
    }

    /// Bytes under way now.
    pub(super) fn bytes_used(&self) -> u64 {
        self.bytes.as_ref().map_or(0, Budget::used)
    }

    /// The most bytes at a time.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.bytes.as_ref().map(Budget::limit)
    }
}

// === impl Bucket ===

impl Bucket {
    fn new(rate: f64) -> Self {
        let at = Instant::now();
        Self {
            rate,
            level: Mutex::new(Level { tokens: rate, at }),
        }
    }

    /// Takes one; else says when there will be one.
    fn take(&self) -> Result<(), Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.saturating_duration_since(level.at).as_secs_f64() * self.rate;
        level.at = now;
        level.tokens = (level.tokens + gained).min(self.rate);
        if level.tokens >= 1.0 {
            level.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - level.tokens) / self.rate;
        Err(Duration::from_secs_f64(missing).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_has_as_many_requests_as_are_allowed_and_says_when_the_next_is() {
        let meter = Meter::new(Some(10), None);
        for _ in 0..10 {
            assert_eq!(meter.request(), Ok(()));
        }
        let Err(wait) = meter.request() else {
            panic!("an eleventh");
        };
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(meter.request(), Ok(()));
        assert!(meter.request().is_err());
        // What was not used for long is not kept.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!((0..100).filter(|_| meter.request().is_ok()).count(), 10);
    }

    #[test]
    fn zero_and_nothing_are_no_limit() {
        for none in [Meter::new(None, None), Meter::new(Some(0), Some(0))] {
            assert!((0..10_000).all(|_| none.request().is_ok()));
            assert!(none.bytes().is_none());
        }
    }
}
