//! Connections that wait for their next request.
//!
//! hyper's own pool keeps a task and two buffers of 8 KiB for each waiting
//! connection. Here only the stream is kept: for plain HTTP that is a socket and
//! some hundred bytes. HTTP/2 connections stay whole and are shared.
//!
//! Nothing watches a waiting connection. It is looked at when it is taken, and
//! all of them are looked at every few seconds while any request is made:
//! closed by the peer, talking out of turn, or waiting too long ends it.

use crate::{
    net::{spawn::Spawn, stream::Stream},
    runtime::Tasks,
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::unconstrained,
};

/// How often all waiting connections are looked at, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// What is kept for later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// HTTP/1 connections of all places.
    pub(super) streams: usize,
    /// HTTP/1 connections to one place.
    pub(super) per_place: usize,
    /// How long one waits for its next request.
    pub(super) idle: Duration,
    /// HTTP/2 pings while a request is under way: after how long a silence, and
    /// how long their answer may take.
    pub(super) pings: Option<(Duration, Duration)>,
}

/// All waiting connections of one client.
pub(super) struct Pool {
    waiting: Arc<Mutex<Waiting>>,
    pings: Option<(Duration, Duration)>,
    tasks: Tasks,
}

/// A connection that takes a request.
pub(super) enum Lease {
    /// Its stream, for one request.
    Http1(Stream),
    /// A share of it.
    Http2(Http2),
}

/// Where requests of one HTTP/2 connection go in.
pub(super) type Http2 = http2::SendRequest<Full<Bytes>>;

/// Where an HTTP/1 stream goes when its answer is complete.
#[derive(Debug)]
pub(super) struct Home {
    waiting: Weak<Mutex<Waiting>>,
    key: Arc<str>,
}

#[derive(Debug)]
struct Waiting {
    places: HashMap<Arc<str>, Place>,
    streams: usize,
    keep: Keep,
    swept: Instant,
}

#[derive(Debug, Default)]
struct Place {
    http1: Vec<(Stream, Instant)>,
    http2: Option<(Http2, Instant)>,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            waiting: Arc::new(Mutex::new(Waiting {
                places: HashMap::new(),
                streams: 0,
                keep,
                swept: Instant::now(),
            })),
            pings: keep.pings,
            tasks: Tasks::default(),
        }
    }

    /// A waiting connection to `key`, if there is one that still lives.
    pub(super) fn take(&self, key: &Arc<str>) -> Option<Lease> {
        let mut waiting = lock(&self.waiting);
        waiting.sweep();
        waiting.take(key)
    }

    /// No other request goes over the connections to `key` that wait.
    pub(super) fn leave(&self, key: &Arc<str>) {
        let mut waiting = lock(&self.waiting);
        if let Some(place) = waiting.places.remove(key) {
            waiting.streams -= place.http1.len();
        }
    }

    /// A lease of the new connection `stream` to `key`.
    pub(super) async fn open(&self, key: &Arc<str>, stream: Stream) -> hyper::Result<Lease> {
        if !stream.is_h2() {
            return Ok(Lease::Http1(stream));
        }
        let mut builder = http2::Builder::new(Spawn(self.tasks.clone()));
        if let Some((silence, answer)) = self.pings {
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(silence)
                .keep_alive_timeout(answer);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn("http2 connection", async move {
            let _ = connection.await;
        });
        let kept = (sender.clone(), Instant::now());
        let mut waiting = lock(&self.waiting);
        waiting.places.entry(key.clone()).or_default().http2 = Some(kept);
        Ok(Lease::Http2(sender))
    }

    /// Where a stream to `key` is kept.
    pub(super) fn home(&self, key: &Arc<str>) -> Home {
        Home {
            waiting: Arc::downgrade(&self.waiting),
            key: key.clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).streams
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Home ===

impl Home {
    /// Keeps `stream`, unless there are enough or the client is gone.
    pub(super) fn keep(self, stream: Stream) {
        if let Some(waiting) = self.waiting.upgrade() {
            lock(&waiting).keep(self.key, stream);
        }
    }
}

// === impl Waiting ===

impl Waiting {
    fn take(&mut self, key: &Arc<str>) -> Option<Lease> {
        let place = self.places.get_mut(key)?;
        if let Some((sender, used)) = &mut place.http2
            && !sender.is_closed()
        {
            *used = Instant::now();
            return Some(Lease::Http2(sender.clone()));
        }
        let mut found = None;
        while let Some((mut stream, since)) = place.http1.pop() {
            self.streams -= 1;
            if since.elapsed() < self.keep.idle && is_quiet(&mut stream) {
                found = Some(Lease::Http1(stream));
                break;
            }
        }
        if place.is_empty() {
            self.places.remove(key);
        }
        found
    }

    fn keep(&mut self, key: Arc<str>, mut stream: Stream) {
        // Looking also lets rustls shrink the buffer that it read the body with.
        if self.streams >= self.keep.streams || !is_quiet(&mut stream) {
            return;
        }
        let place = self.places.entry(key).or_default();
        if place.http1.len() >= self.keep.per_place {
            return;
        }
        // A vector's own first step is room for four.
        place.http1.reserve_exact(1);
        place.http1.push((stream, Instant::now()));
        self.streams += 1;
    }

    /// Ends what has waited too long or is dead.
    fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP_EVERY {
            return;
        }
        self.swept = Instant::now();
        let longest = self.keep.idle;
        let mut streams = 0;
        self.places.retain(|_, place| {
            place
                .http1
                .retain_mut(|(stream, since)| since.elapsed() < longest && is_quiet(stream));
            place
                .http2
                .take_if(|(sender, used)| sender.is_closed() || used.elapsed() >= longest);
            streams += place.http1.len();
            !place.is_empty()
        });
        self.streams = streams;
    }
}

impl Place {
    fn is_empty(&self) -> bool {
        self.http1.is_empty() && self.http2.is_none()
    }
}

/// Whether the peer neither closed the stream nor says anything: then it can
/// take a request.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer));
    // tokio lets a task read so much at a time; beyond, all streams seem quiet.
    unconstrained(read).now_or_never().is_none()
}
