//! What a connection does, and when that is reason to end it: it says nothing, has
//! nothing more to say, is old, nobody knows its client, or its client misbehaves.

use super::{
    frames::{Counted, PREFACE},
    server::Bounds,
    windows::Window,
};
use crate::pipeline::Permit;
use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a connection may take to end once it was idle for too long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long those may take that nobody needs to wait for.
const DISMISSED: Duration = Duration::from_secs(1);

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Bytes heard, up to the length of the preface.
    heard: AtomicUsize,
    /// A request has come.
    asked: AtomicBool,
    /// Requests of HTTP/2 that its client has opened.
    opened: AtomicU32,
    /// Those that it has taken back.
    cancelled: AtomicU32,
    max_cancelled: u32,
    /// A request was let in.
    admitted: AtomicBool,
    /// By a protocol in which it can be told to go at any time.
    speaks_http2: CancellationToken,
    window: Window,
    in_flight: Mutex<InFlight>,
    /// When the last request ended, in milliseconds after `since`.
    ended: AtomicU64,
    dismissed: CancellationToken,
    /// Why.
    reason: OnceLock<&'static str>,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The time that is left to what is in flight; without end if there is none.
    pub(super) grace: Option<Duration>,
    /// How it is counted, if its client is to blame.
    pub(super) reason: Option<&'static str>,
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
    /// `max_cancelled` requests may be taken back, or half of all; 0 is no bound.
    pub(super) fn new(window: Window, max_cancelled: u32) -> Self {
        Self {
            since: Instant::now(),
            heard: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            opened: AtomicU32::new(0),
            cancelled: AtomicU32::new(0),
            max_cancelled,
            admitted: AtomicBool::new(false),
            speaks_http2: CancellationToken::new(),
            window,
            in_flight: Mutex::default(),
            ended: AtomicU64::new(0),
            dismissed: CancellationToken::new(),
            reason: OnceLock::new(),
        }
    }

    /// Resolves when the connection should end.
    pub(super) async fn end(&self, bounds: &Bounds) -> End {
        tokio::select! {
            end = self.end_in_time(bounds) => end,
            () = self.dismissed.cancelled() => End {
                grace: Some(DISMISSED),
                reason: self.reason.get().copied(),
            },
        }
    }

    async fn end_in_time(&self, bounds: &Bounds) -> End {
        // As gRPC's servers do it, so that connections that came together do
        // not go together.
        let age = bounds
            .age
            .map(|age| age.mul_f64(0.9 + rand::random::<f64>() * 0.2));
        let old = age.map(|age| self.since + age);
        loop {
            let now = Instant::now();
            let past = |at: Option<Instant>| at.is_some_and(|at| now >= at);
            if past(old) {
                return End::of(bounds.age_grace);
            }
            let silent = (!self.has_spoken()).then(|| self.since + bounds.hello);
            if past(silent) {
                return End::blamed("silent");
            }
            let stranger = bounds.stranger.filter(|_| !self.is_admitted());
            let stranger = stranger.map(|time| self.quiet_since(now).max(self.since + time));
            if past(stranger) {
                return End::blamed("stranger");
            }
            let idle = bounds.idle.map(|idle| self.idle_since(now) + idle);
            if past(idle) {
                return End::of(Some(LAST_WORDS));
            }
            match [old, silent, stranger, idle].into_iter().flatten().min() {
                Some(next) => sleep_until(next).await,
                None => return pending().await,
            }
        }
    }

    /// Has it end soon, for a reason that is counted.
    pub(super) fn dismiss(&self, reason: &'static str) {
        let _ = self.reason.set(reason);
        self.dismissed.cancel();
    }

    /// Resolves once it was dismissed.
    pub(super) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    /// Something of it was let in.
    pub(super) fn admitted(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Whether anything of it was let in.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// So many bytes more were heard, and these frames in them.
    pub(super) fn heard(&self, more: usize, frames: Counted) {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard < PREFACE.len() {
            self.heard.store(heard + more, Ordering::Relaxed);
        }
        if frames == Counted::default() {
            return;
        }
        let count = |all: &AtomicU32, more| all.fetch_add(more, Ordering::Relaxed) + more;
        let opened = count(&self.opened, frames.opened);
        let cancelled = count(&self.cancelled, frames.cancelled);
        let most = self.max_cancelled;
        if most > 0 && cancelled > most && cancelled > opened / 2 {
            self.dismiss("cancelled_requests");
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
        self.asked.load(Ordering::Relaxed) || self.heard.load(Ordering::Relaxed) >= PREFACE.len()
    }

    /// Now, while a request is in flight.
    fn idle_since(&self, now: Instant) -> Instant {
        if self.in_flight().requests > 0 {
            return now;
        }
        self.since + Duration::from_millis(self.ended.load(Ordering::Relaxed))
    }

    /// In a moment, while a request is in flight: who sends it may just be asked
    /// for.
    fn quiet_since(&self, now: Instant) -> Instant {
        if self.in_flight().requests > 0 {
            return now + DISMISSED;
        }
        self.since
    }
}

// === impl End ===

impl End {
    /// With some time, and nobody to blame.
    pub(super) fn in_peace(grace: Duration) -> Self {
        Self::of(Some(grace))
    }

    fn of(grace: Option<Duration>) -> Self {
        Self {
            grace,
            reason: None,
        }
    }

    fn blamed(reason: &'static str) -> Self {
        Self {
            grace: Some(DISMISSED),
            reason: Some(reason),
        }
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
