//! What a connection does, and when that is reason to end it: it says nothing, has
//! nothing more to say, or is old.

use super::{
    server::{Bounds, HELLO},
    windows::Window,
};
use crate::pipeline::Permit;
use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The bytes by which HTTP/2 is told from HTTP/1.
const PREFACE: usize = 24;

/// How long a connection may take to end once it was idle for too long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Bytes heard, up to the length of the preface.
    heard: AtomicUsize,
    /// A request has come.
    asked: AtomicBool,
    /// By a protocol in which it can be told to go at any time.
    speaks_http2: CancellationToken,
    window: Window,
    in_flight: Mutex<InFlight>,
    /// When the last request ended, in milliseconds after `since`.
    ended: AtomicU64,
}

/// The requests in flight, and what their connection may have sent unread.
#[derive(Debug, Default)]
struct InFlight {
    requests: usize,
    memory: Option<Permit>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

// === impl Activity ===

impl Activity {
    pub(super) fn new(window: Window) -> Self {
        Self {
            since: Instant::now(),
            heard: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            speaks_http2: CancellationToken::new(),
            window,
            in_flight: Mutex::default(),
            ended: AtomicU64::new(0),
        }
    }

    /// Resolves when the connection should end, with the time that is left to
    /// what is in flight.
    pub(super) async fn end(&self, bounds: &Bounds) -> Option<Duration> {
        // As gRPC's servers do it, so that connections that came together do
        // not go together.
        let age = bounds
            .age
            .map(|age| age.mul_f64(0.9 + rand::random::<f64>() * 0.2));
        let old = age.map(|age| self.since + age);
        loop {
            let now = Instant::now();
            if old.is_some_and(|old| now >= old) {
                return bounds.age_grace;
            }
            let silent = (!self.has_spoken()).then(|| self.since + HELLO);
            if silent.is_some_and(|silent| now >= silent) {
                return Some(Duration::ZERO);
            }
            let idle = bounds.idle.map(|idle| self.idle_since(now) + idle);
            if idle.is_some_and(|idle| now >= idle) {
                return Some(LAST_WORDS);
            }
            match [old, silent, idle].into_iter().flatten().min() {
                Some(next) => sleep_until(next).await,
                None => return pending().await,
            }
        }
    }

    /// So many bytes more were heard.
    pub(super) fn heard(&self, more: usize) {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard < PREFACE {
            self.heard.store(heard + more, Ordering::Relaxed);
        }
    }

    /// HTTP/2 is spoken here.
    pub(super) fn is_http2(&self) {
        self.speaks_http2.cancel();
    }

    /// Resolves once it is known that HTTP/2 is spoken.
    pub(super) async fn speaks_http2(&self) {
        self.speaks_http2.cancelled().await;
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn has_spoken(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.heard.load(Ordering::Relaxed) >= PREFACE
    }

    /// Now, while a request is in flight.
    fn idle_since(&self, now: Instant) -> Instant {
        if self.in_flight().requests > 0 {
            return now;
        }
        self.since + Duration::from_millis(self.ended.load(Ordering::Relaxed))
    }
}

// === impl Busy ===

impl Busy {
    /// A request that has come; `None` without the memory for what its connection
    /// may send unread.
    pub(super) fn new(activity: &Arc<Activity>) -> Option<Self> {
        activity.asked.store(true, Ordering::Relaxed);
        let mut in_flight = activity.in_flight();
        if in_flight.requests == 0 {
            in_flight.memory = Some(activity.window.charge()?);
        }
        in_flight.requests += 1;
        drop(in_flight);
        Some(Self(activity.clone()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let elapsed = self.0.since.elapsed().as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.0.ended.store(elapsed, Ordering::Relaxed);
        let mut in_flight = self.0.in_flight();
        in_flight.requests -= 1;
        if in_flight.requests == 0 {
            in_flight.memory = None;
        }
    }
}
