//! Connections that wait for their next request.
//!
//! hyper's own pool keeps a task and two buffers of 8 KiB for each waiting
//! connection. Here, once an answer has been read to its end, hyper's connection
//! is taken apart and only the stream is kept: for plain HTTP that is a socket
//! and some hundred bytes. HTTP/2 connections stay whole and are shared.
//!
//! Nothing watches a waiting connection. It is looked at when it is taken, and
//! all of them are looked at every few seconds while any request is made:
//! closed by the peer, talking out of turn, or waiting too long ends it.

use crate::{
    net::{spawn::Spawn, stream::Stream},
    runtime::Tasks,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, ReadBuf};

/// How often all waiting connections are looked at, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How many connections to one place wait. A target whose profiles are scraped
/// one beside the other uses one of them nearly all the time.
const MAX_IDLE_PER_PLACE: usize = 2;

/// The largest buffer, and head, of an answer under way.
const MAX_BUFFER: usize = 64 << 10;

/// All waiting connections of one client.
pub(super) struct Pool {
    waiting: Arc<Mutex<Waiting>>,
    tasks: Tasks,
}

/// One connection, for one request.
pub(super) struct Lease {
    kind: Kind,
    forwarded: bool,
    tasks: Tasks,
}

enum Kind {
    Http1(Box<Exchange>),
    Http2(Http2),
}

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

/// One request and its answer on an HTTP/1 connection.
struct Exchange {
    sender: Http1,
    connection: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    /// Where the stream goes when the answer is complete.
    home: Weak<Mutex<Waiting>>,
    key: Arc<str>,
}

struct Waiting {
    places: HashMap<Arc<str>, Place>,
    streams: usize,
    max_streams: usize,
    idle_timeout: Duration,
    swept: Instant,
}

#[derive(Default)]
struct Place {
    http1: Vec<(Stream, Instant)>,
    http2: Option<(Http2, Instant)>,
}

enum Taken {
    Http1(Stream),
    Http2(Http2),
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self {
            waiting: Arc::new(Mutex::new(Waiting {
                places: HashMap::new(),
                streams: 0,
                max_streams: max_idle,
                idle_timeout,
                swept: Instant::now(),
            })),
            tasks: Tasks::default(),
        }
    }

    /// A waiting connection to `key`, if there is one that still lives.
    pub(super) async fn take(&self, key: &Arc<str>) -> Option<Lease> {
        let taken = {
            let mut waiting = lock(&self.waiting);
            waiting.sweep();
            waiting.take(key)
        };
        match taken? {
            Taken::Http1(stream) => self.open_http1(key.clone(), stream).await.ok(),
            Taken::Http2(sender) => Some(self.share(sender)),
        }
    }

    /// A lease of the new connection `stream`, to be kept under `key` later.
    pub(super) async fn open(&self, key: Arc<str>, stream: Stream) -> hyper::Result<Lease> {
        if !stream.is_h2() {
            return self.open_http1(key, stream).await;
        }
        let (sender, connection) = http2::Builder::new(Spawn(self.tasks.clone()))
            .handshake(TokioIo::new(stream))
            .await?;
        self.tasks.spawn("http2 connection", async move {
            let _ = connection.await;
        });
        let kept = (sender.clone(), Instant::now());
        lock(&self.waiting).places.entry(key).or_default().http2 = Some(kept);
        Ok(self.share(sender))
    }

    async fn open_http1(&self, key: Arc<str>, stream: Stream) -> hyper::Result<Lease> {
        let forwarded = stream.is_forwarded();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Lease {
            kind: Kind::Http1(Box::new(Exchange {
                sender,
                connection,
                home: Arc::downgrade(&self.waiting),
                key,
            })),
            forwarded,
            tasks: self.tasks.clone(),
        })
    }

    fn share(&self, sender: Http2) -> Lease {
        Lease {
            kind: Kind::Http2(sender),
            forwarded: false,
            tasks: self.tasks.clone(),
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

// === impl Lease ===

impl Lease {
    /// Whether requests are HTTP/2's.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::Http2(_))
    }

    /// Whether the peer is a proxy that forwards requests.
    pub(super) fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    /// Sends the one request. The connection returns to the pool once the
    /// answer's body has been read to its end.
    pub(super) async fn send(
        self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self.kind {
            Kind::Http2(mut sender) => sender.send_request(request).await,
            Kind::Http1(mut exchange) => {
                let response = exchange.sender.send_request(request);
                self.tasks.spawn("http connection", exchange.run());
                response.await
            }
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Moves bytes until the answer has been read or the connection ends.
    async fn run(mut self: Box<Self>) {
        let complete = poll_fn(|cx| {
            if self.connection.poll_without_shutdown(cx).is_ready() {
                return Poll::Ready(false);
            }
            // hyper asks for another request only when it is done with the last.
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await;
        let Some(home) = self.home.upgrade().filter(|_| complete) else {
            return;
        };
        let parts = self.connection.into_parts();
        if parts.read_buf.is_empty() {
            lock(&home).keep(self.key, parts.io.into_inner());
        }
    }
}

// === impl Waiting ===

impl Waiting {
    fn take(&mut self, key: &Arc<str>) -> Option<Taken> {
        let place = self.places.get_mut(key)?;
        if let Some((sender, used)) = &mut place.http2
            && !sender.is_closed()
        {
            *used = Instant::now();
            return Some(Taken::Http2(sender.clone()));
        }
        let mut found = None;
        while let Some((mut stream, since)) = place.http1.pop() {
            self.streams -= 1;
            if since.elapsed() < self.idle_timeout && is_quiet(&mut stream) {
                found = Some(Taken::Http1(stream));
                break;
            }
        }
        if place.is_empty() {
            self.places.remove(key);
        }
        found
    }

    /// Keeps `stream`, unless there are enough: then it closes.
    fn keep(&mut self, key: Arc<str>, stream: Stream) {
        if self.streams >= self.max_streams {
            return;
        }
        let place = self.places.entry(key).or_default();
        if place.http1.len() >= MAX_IDLE_PER_PLACE {
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
        let longest = self.idle_timeout;
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
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream)
        .poll_read(&mut cx, &mut buffer)
        .is_pending()
}
