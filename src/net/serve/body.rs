//! Bodies, read into memory that was charged to the budget first.
//!
//! A body is copied once, into a buffer of its own size: what waits in a queue
//! must not keep a connection's whole read buffer alive. A peer that announces a
//! large body gets memory as it sends, not as it promises: the charge grows by
//! doubling, before the bytes do. So does the buffer where nothing was announced;
//! otherwise it has room for all from the start, because to move 2 MB costs as much
//! as to read them.

use super::{Failure, InFlight, Kind};
use crate::pipeline::{Budget, Permit};
use bytes::Bytes;
use http::{HeaderMap, Version, header, request::Parts};
use hyper::body::{Body, Incoming};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// What an announced body gets before any of it has come.
const EAGER: u64 = 1 << 20;

/// What a body whose size nobody knows gets at first.
const FIRST: u64 = 16 << 10;

/// The most of an unwanted body that is read so that its sender hears why.
const UNWANTED: usize = 1 << 20;

/// The longest that an unwanted body is read.
const UNWANTED_TIME: Duration = Duration::from_secs(1);

/// How bodies are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The largest body, in bytes as they travel.
    pub max: u64,
    /// How the configuration calls `max`.
    pub max_key: &'static str,
    /// The longest that a body may take; zero is no limit.
    pub patience: Duration,
    /// What bodies are charged to.
    pub memory: Budget,
}

/// A bound of time, and how the configuration calls it.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The time.
    pub limit: Duration,
    /// The key that sets it.
    pub key: &'static str,
}

/// A body, and what it is charged with: its own size.
#[derive(Debug)]
pub struct Received {
    /// As they came.
    pub bytes: Bytes,
    /// Returned when dropped.
    pub permit: Permit,
}

/// A body that comes.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    permit: Permit,
}

/// The pieces of a body, within a deadline.
pub(super) struct Pieces {
    body: Incoming,
    deadline: Option<Instant>,
    patience: Duration,
    /// What they are charged to, beside memory.
    share: Option<InFlight>,
}

// === impl Reading ===

impl Reading {
    /// Refuses an HTTP request that announces more than is allowed.
    pub fn check(&self, parts: &Parts) -> Result<(), Failure> {
        self.admit(announced(&parts.headers)).map(|_| ())
    }

    /// Reads the body of an HTTP request.
    pub async fn read(&self, parts: &Parts, body: Incoming) -> Result<Received, Failure> {
        let share = parts.extensions.get().cloned();
        let mut pieces = Pieces::new(body, self.patience, None).charged_to(share);
        let mut read = self
            .read_pieces(announced(&parts.headers), &mut pieces)
            .await;
        // hyper takes it for the end when a client cancels what it began.
        if parts.version == Version::HTTP_2 && read.is_ok() && !pieces.body.is_end_stream() {
            let message = "the request was cancelled before its end";
            read = Err(Failure::new(Kind::Broken, message));
        }
        if read.is_err() && is_alone(parts) {
            pieces.discard().await;
        }
        read
    }

    async fn read_pieces(&self, expected: u64, pieces: &mut Pieces) -> Result<Received, Failure> {
        self.admit(expected)?;
        let mut buffer = Buffer::new(self)?;
        while let Some(piece) = pieces.next().await? {
            self.admit(buffer.len() + piece.len() as u64)?;
            buffer.push(self, &piece, expected)?;
        }
        Ok(buffer.finish())
    }

    /// The length, unless it is too large.
    pub(super) fn admit(&self, length: u64) -> Result<u64, Failure> {
        if length > self.max {
            return Err(self.too_large(length));
        }
        Ok(length)
    }

    fn too_large(&self, length: u64) -> Failure {
        let message = format!(
            "the request has {length} bytes or more, and {} allows {}: send less at a time or raise it",
            self.max_key, self.max
        );
        Failure::new(Kind::TooLarge, message)
    }

    /// What is said when the budget is used up.
    pub fn no_memory(&self) -> Failure {
        Failure::new(
            Kind::Unavailable,
            format!(
                "the memory budget (service.memory.limit, {} bytes) is used up: try again later",
                self.memory.limit()
            ),
        )
    }
}

/// The size that the headers announce; 0 when they do not.
pub(super) fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH);
    length
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// Whether the connection ends when the body is not read: HTTP/1, unless the
/// client waits for leave to send.
fn is_alone(parts: &Parts) -> bool {
    parts.version != Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT)
}

/// Reads on for a moment and keeps nothing, whatever HTTP is spoken: some clients
/// of HTTP/2 too (curl 7.88) do not read an answer that comes before they have sent
/// all.
pub(super) async fn drain(parts: &Parts, body: Incoming) {
    if !parts.headers.contains_key(header::EXPECT) && !body.is_end_stream() {
        Pieces::new(body, Duration::ZERO, None).discard().await;
    }
}

/// Reads on for a moment and keeps nothing: who sends over HTTP/1, and finds the
/// connection closed meanwhile, does not read the answer.
pub async fn discard(parts: &Parts, body: Incoming) {
    if is_alone(parts) && !body.is_end_stream() {
        Pieces::new(body, Duration::ZERO, None).discard().await;
    }
}

// === impl Patience ===

impl Patience {
    /// The outcome of `work`, unless that takes longer than this, or until `theirs`,
    /// the client's own deadline.
    pub async fn bound<T>(
        &self,
        theirs: Option<Instant>,
        what: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let ours = Instant::now() + self.limit;
        let until = theirs.map_or(ours, |theirs| theirs.min(ours));
        let done = timeout_at(until, work).await;
        done.unwrap_or_else(|_| Err(self.failure(what)))
    }

    /// What is said when it is over.
    pub fn failure(&self, what: &str) -> Failure {
        let message = format!("{what} within {:?} ({})", self.limit, self.key);
        Failure::new(Kind::Late, message)
    }
}

// === impl Pieces ===

impl Pieces {
    /// `deadline` is the client's own.
    pub(super) fn new(body: Incoming, patience: Duration, deadline: Option<Instant>) -> Self {
        let ours = (!patience.is_zero()).then(|| Instant::now() + patience);
        Self {
            body,
            deadline: [ours, deadline].into_iter().flatten().min(),
            patience,
            share: None,
        }
    }

    /// The same, charged to the sender of the request that they are of.
    pub(super) fn charged_to(mut self, share: Option<InFlight>) -> Self {
        self.share = share;
        self
    }

    /// The next piece; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
            let frame = match self.deadline {
                Some(deadline) => timeout_at(deadline, frame).await.map_err(|_| self.late())?,
                None => frame.await,
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        if let Some(share) = &self.share {
                            share.take(data.len())?;
                        }
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    let message = format!("the body ended before its end: {error}");
                    return Err(Failure::new(Kind::Broken, message));
                }
            }
        }
    }

    async fn discard(&mut self) {
        let until = Instant::now() + UNWANTED_TIME;
        self.deadline = Some(until);
        self.share = None;
        let mut rest = UNWANTED;
        while let Ok(Some(piece)) = self.next().await {
            match rest.checked_sub(piece.len()) {
                Some(left) => rest = left,
                None => return,
            }
        }
    }

    fn late(&self) -> Failure {
        let message = format!(
            "the body did not come in time: read_timeout is {:?}, unless the request's own deadline is shorter",
            self.patience
        );
        Failure::new(Kind::Late, message)
    }
}

// === impl Buffer ===

impl Buffer {
    pub(super) fn new(reading: &Reading) -> Result<Self, Failure> {
        let permit = reading.memory.try_take(0);
        Ok(Self {
            bytes: Vec::new(),
            permit: permit.ok_or_else(|| reading.no_memory())?,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Adds a piece of a body of `expected` bytes in all; 0 if that is unknown.
    pub(super) fn push(
        &mut self,
        reading: &Reading,
        piece: &[u8],
        expected: u64,
    ) -> Result<(), Failure> {
        let length = self.len() + piece.len() as u64;
        if length > self.permit.bytes() {
            self.reserve(reading, length, expected)?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Makes room for `length` bytes, and for some of what is yet to come, charged
    /// first.
    fn reserve(&mut self, reading: &Reading, length: u64, expected: u64) -> Result<(), Failure> {
        let (first, most) = match expected {
            0 => (FIRST, reading.max),
            _ => (EAGER, expected),
        };
        let charged = self.permit.bytes();
        let mut wanted = (charged * 2).max(first).min(most).max(length);
        if let Some(spare) = self.spare(reading, expected) {
            self.bytes = spare;
            wanted = expected;
        }
        let capacity = self.bytes.capacity() as u64;
        // While it moves, the buffer stands twice.
        let moved = if wanted > capacity { capacity } else { 0 };
        if !self.permit.grow(wanted + moved - charged) {
            return Err(reading.no_memory());
        }
        if wanted > capacity {
            // Of what is announced only the addresses are taken: no memory is behind
            // them before it is written to.
            let room = usize::try_from(wanted.max(expected)).unwrap_or(usize::MAX);
            let room = Budget::capacity(room);
            let grown = self.bytes.try_reserve_exact(room - self.bytes.len());
            grown.map_err(|_| reading.no_memory())?;
        }
        self.permit.shrink_to(wanted);
        Ok(())
    }

    /// A buffer of an earlier body, for one of which nothing has come yet.
    fn spare(&self, reading: &Reading, expected: u64) -> Option<Vec<u8>> {
        let has_begun = self.bytes.capacity() > 0;
        let expected = usize::try_from(expected).ok().filter(|_| !has_begun)?;
        reading.memory.spare(expected)
    }

    /// The bytes in a buffer of their size, and the charge for it.
    pub(super) fn finish(self) -> Received {
        let Self { bytes, mut permit } = self;
        permit.shrink_to(bytes.len() as u64);
        Received {
            bytes: permit.lend(bytes),
            permit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(max: u64, limit: u64) -> Reading {
        Reading {
            max,
            max_key: "max_request_body_size",
            patience: Duration::ZERO,
            memory: Budget::new(limit),
        }
    }

    #[test]
    fn a_promise_is_not_charged_before_it_is_kept() {
        let reading = reading(64 << 20, 256 << 20);
        let mut buffer = Buffer::new(&reading).unwrap();
        buffer.push(&reading, b"first", 64 << 20).unwrap();
        assert!(reading.memory.used() <= EAGER, "{}", reading.memory.used());
    }

    #[test]
    fn what_was_announced_is_charged_as_it_comes_and_never_moved() {
        let reading = reading(64 << 20, 256 << 20);
        let mut buffer = Buffer::new(&reading).unwrap();
        let (piece, all) = (vec![7_u8; 16 << 10], 8 << 20);
        buffer.push(&reading, &piece, all).unwrap();
        let place = buffer.bytes.as_ptr();
        while buffer.len() < all {
            buffer.push(&reading, &piece, all).unwrap();
            let charged = reading.memory.used();
            let most = (2 * buffer.len()).max(EAGER);
            assert!((buffer.len()..=most).contains(&charged), "{charged}");
        }
        assert_eq!(buffer.finish().bytes.as_ptr(), place);
    }

    #[test]
    fn a_buffer_that_was_used_before_is_charged_at_once() {
        let reading = reading(64 << 20, 256 << 20);
        let all = 4 << 20;
        let mut first = Buffer::new(&reading).unwrap();
        first.push(&reading, &vec![7; all], all as u64).unwrap();
        let first = first.finish();
        let place = first.bytes.as_ptr();
        drop(first);
        assert_eq!(reading.memory.used(), 0);
        let mut second = Buffer::new(&reading).unwrap();
        second.push(&reading, b"some", all as u64).unwrap();
        assert_eq!(reading.memory.used(), all as u64);
        assert_eq!((second.bytes.as_ptr(), second.len()), (place, 4));
    }

    #[test]
    fn a_whole_body_is_charged_with_its_size() {
        for expected in [0, 100_000] {
            let reading = reading(64 << 20, 256 << 20);
            let mut buffer = Buffer::new(&reading).unwrap();
            for piece in vec![7_u8; 100_000].chunks(1_000) {
                buffer.push(&reading, piece, expected).unwrap();
                assert!(reading.memory.used() >= buffer.len());
            }
            let received = buffer.finish();
            assert_eq!(received.bytes.len(), 100_000);
            assert_eq!(reading.memory.used(), 100_000);
            drop(received);
            assert_eq!(reading.memory.used(), 0);
        }
    }

    #[test]
    fn a_full_budget_is_a_retryable_failure_and_nothing_stays_charged() {
        let reading = reading(64 << 20, 50_000);
        let mut buffer = Buffer::new(&reading).unwrap();
        let pieces = vec![7_u8; 100_000];
        let failed = pieces
            .chunks(1_000)
            .find_map(|piece| buffer.push(&reading, piece, 0).err());
        assert_eq!(failed.unwrap().kind(), Kind::Unavailable);
        drop(buffer);
        assert_eq!(reading.memory.used(), 0);
    }
}
