//! The chunks of an `Upload`, taken out of their messages as they come: never more
//! than a frame of HTTP/2 is in memory.

use crate::net::serve::Patience;
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep};

/// The body of an upload as it is passed on.
pub(super) struct Passing<B> {
    /// What was read before.
    held: Option<Bytes>,
    body: B,
    idle: Patience,
    silence: Pin<Box<Sleep>>,
    trace: Trace,
}

/// What is known of an upload while somebody else has its body.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Traced>);

#[derive(Debug, Default)]
struct Traced {
    passed: AtomicU64,
    broken: OnceLock<Broken>,
}

/// The file that an upload holds, of a size that was agreed upon.
pub(super) struct Chunks<B> {
    messages: B,
    /// What came and was not looked at yet.
    rest: Bytes,
    state: State,
    /// What is missing of the file, in bytes.
    left: u64,
    ended: bool,
    trace: Trace,
}

/// Where within the messages it is.
#[derive(Debug)]
enum State {
    /// In the prefix of a message and the key and length of its chunk, so many bytes
    /// of which are known.
    Head([u8; HEAD], usize),
    /// In a chunk of which so many bytes are left.
    Chunk(u64),
}

/// Why an upload cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Its sender went away.
    #[error("{0}")]
    Gone(String),
    /// Its sender was silent for too long.
    #[error("{0}")]
    Silent(String),
    /// It is not what was agreed upon.
    #[error("{0}")]
    Invalid(String),
}

/// The prefix of a gRPC message, and the key of a chunk with the longest length.
const HEAD: usize = 5 + 1 + 10;

/// `UploadRequest.chunk_data`.
const CHUNK_KEY: u8 = 0x12;

// === impl Passing ===

impl<B> Passing<B> {
    /// `held`, then `body`, whose sender may be silent for `idle`.
    pub(super) fn new(held: Bytes, body: B, idle: Patience, trace: &Trace) -> Self {
        Self {
            held: Some(held).filter(|held| !held.is_empty()),
            body,
            silence: Box::pin(sleep(idle.limit)),
            idle,
            trace: trace.clone(),
        }
    }
}

impl<B> Body for Passing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if let Some(held) = this.held.take() {
            this.trace.passed(held.len());
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let until = Instant::now() + this.idle.limit;
                    this.silence.as_mut().reset(until);
                    // What a client says behind its messages is nobody's business.
                    if let Ok(data) = frame.into_data() {
                        this.trace.passed(data.len());
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let message = format!("the upload ended before its end: {error}");
                    return Poll::Ready(Some(Err(this.trace.broken(Broken::Gone(message)))));
                }
                Poll::Ready(None) if this.body.is_end_stream() => return Poll::Ready(None),
                // hyper takes it for the end when a client cancels what it began.
                Poll::Ready(None) => {
                    let message = "the upload was cancelled before its end".to_owned();
                    return Poll::Ready(Some(Err(this.trace.broken(Broken::Gone(message)))));
                }
                Poll::Pending => {
                    ready!(this.silence.as_mut().poll(cx));
                    let message = format!(
                        "nothing came from the client within {:?} ({})",
                        this.idle.limit, this.idle.key
                    );
                    return Poll::Ready(Some(Err(this.trace.broken(Broken::Silent(message)))));
                }
            }
        }
    }
}

// === impl Trace ===

impl Trace {
    /// The bytes that were passed on so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.passed.load(Ordering::Relaxed)
    }

    /// Why it cannot go on, if the fault is its sender's.
    pub(super) fn fault(&self) -> Option<&Broken> {
        self.0.broken.get()
    }

    fn passed(&self, bytes: usize) {
        self.0.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn broken(&self, broken: Broken) -> Broken {
        self.0.broken.get_or_init(|| broken).clone()
    }
}

// === impl Chunks ===

impl<B> Chunks<B> {
    /// The file of `size` bytes in `messages`, which hold nothing but chunks.
    pub(super) fn new(messages: B, size: u64, trace: &Trace) -> Self {
        Self {
            messages,
            rest: Bytes::new(),
            state: State::Head([0; HEAD], 0),
            left: size,
            ended: false,
            trace: trace.clone(),
        }
    }

    /// The next piece of the file in what has come.
    fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        while self.rest.has_remaining() {
            match &mut self.state {
                State::Chunk(0) => self.state = State::Head([0; HEAD], 0),
                State::Chunk(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let piece = self.rest.split_to(self.rest.len().min(most));
                    *left -= piece.len() as u64;
                    self.left = self
                        .left
                        .checked_sub(piece.len() as u64)
                        .ok_or_else(|| invalid("the upload is larger than its size"))?;
                    return Ok(Some(piece));
                }
                State::Head(head, known) => {
                    let byte = self.rest.get_u8();
                    let Some(place) = head.get_mut(*known) else {
                        return Err(invalid("the length of a chunk does not end"));
                    };
                    *place = byte;
                    *known += 1;
                    if let Some(length) = chunk(&head[..*known])? {
                        self.state = State::Chunk(length);
                    }
                }
            }
        }
        Ok(None)
    }

    /// At the end of the messages.
    fn end(&self) -> Result<(), Broken> {
        match self.state {
            State::Head(_, 0) | State::Chunk(0) if self.left == 0 => Ok(()),
            _ => Err(invalid(&format!(
                "the upload ended {} bytes before its size",
                self.left
            ))),
        }
    }
}

/// The length of the chunk that is all of a message, once it is known.
fn chunk(head: &[u8]) -> Result<Option<u64>, Broken> {
    let Some((prefix, content)) = head.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *prefix;
    let message = u64::from(u32::from_be_bytes(length));
    if flag != 0 {
        return Err(invalid("uploads must not be compressed by gRPC"));
    }
    let (key, mut varint) = match content {
        [] if message > 0 => return Ok(None),
        // A message of nothing.
        [] => return Ok(Some(0)),
        [key, varint @ ..] => (*key, varint),
    };
    if key != CHUNK_KEY {
        return Err(invalid("a message of the upload holds no chunk"));
    }
    let whole = varint.last().is_some_and(|byte| *byte < 0x80);
    if !whole {
        return Ok(None);
    }
    let size = varint.len() as u64;
    let length =
        prost::encoding::decode_varint(&mut varint).map_err(|error| invalid(&error.to_string()))?;
    if length.checked_add(size + 1) != Some(message) {
        return Err(invalid("a message of the upload holds more than a chunk"));
    }
    Ok(Some(length))
}

fn invalid(message: &str) -> Broken {
    Broken::Invalid(message.to_owned())
}

impl<B> Body for Chunks<B>
where
    B: Body<Data = Bytes, Error = Broken> + Unpin,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        while !this.ended {
            let next = match this.piece() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) => ready!(Pin::new(&mut this.messages).poll_frame(cx)),
                Err(broken) => Some(Err(broken)),
            };
            let broken = match next {
                Some(Ok(frame)) => {
                    this.rest = frame.into_data().unwrap_or_default();
                    continue;
                }
                Some(Err(broken)) => Some(broken),
                None => this.end().err(),
            };
            this.ended = true;
            let broken = broken.map(|broken| Err(this.trace.broken(broken)));
            return Poll::Ready(broken);
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r#gen::debuginfo::{UploadInfo, UploadRequest, upload_request::Data};
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use prost::Message;
    use std::time::Duration;

    fn message(data: Data) -> Vec<u8> {
        let message = UploadRequest { data: Some(data) }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        message(Data::ChunkData(Bytes::copy_from_slice(bytes)))
    }

    /// The file in `wire`, which comes in pieces of `size`.
    async fn file(wire: &[u8], size: usize, expected: u64) -> Result<Vec<u8>, Broken> {
        let pieces = wire.chunks(size).map(Bytes::copy_from_slice);
        let frames: Vec<_> = pieces.map(|piece| Ok(Frame::data(piece))).collect();
        let body = StreamBody::new(stream::iter(frames));
        let chunks = Chunks::new(body, expected, &Trace::default());
        assert_eq!(chunks.size_hint().exact(), Some(expected));
        Ok(chunks.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn chunks_are_found_in_pieces_of_any_size() {
        let (one, two) = (vec![1; 300], vec![2; 20_000]);
        let wire = [chunk(&one), chunk(b""), chunk(&two), vec![0; 5]].concat();
        let whole = [one, two].concat();
        for size in [1, 2, 3, 7, 300, 1_000, wire.len()] {
            let found = file(&wire, size, whole.len() as u64).await.unwrap();
            assert!(found == whole, "{size}");
        }
    }

    #[tokio::test]
    async fn what_was_not_agreed_upon_is_refused() {
        let info = message(Data::Info(UploadInfo {
            build_id: "x".to_owned(),
            ..UploadInfo::default()
        }));
        let mut compressed = chunk(b"abc");
        compressed[0] = 1;
        let mut longer = chunk(b"abc");
        longer[4] += 2;
        longer.extend([0x08, 1]);
        let endless = [&[0, 0, 0, 0, 20, CHUNK_KEY][..], &[0x80; 20]].concat();
        for (wire, size, word) in [
            (chunk(b"abc"), 4, "ended 1 bytes before"),
            (chunk(b"abc")[..7].to_vec(), 3, "before its size"),
            (chunk(b"abc"), 2, "larger than its size"),
            (info, 1, "no chunk"),
            (compressed, 3, "compressed"),
            (longer, 3, "more than a chunk"),
            (endless, 3, "does not end"),
        ] {
            let broken = file(&wire, 4, size).await.unwrap_err();
            assert!(broken.to_string().contains(word), "{word}: {broken}");
            assert!(matches!(broken, Broken::Invalid(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_ends_what_is_passed_on() {
        let pieces = stream::unfold(0_u64, async |number| {
            let pause = if number < 5 { 20 } else { 1_000 };
            sleep(Duration::from_secs(pause)).await;
            let frame = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, std::io::Error>(frame), number + 1))
        });
        let idle = Patience {
            limit: Duration::from_secs(30),
            key: "debuginfo.idle_timeout",
        };
        let body = StreamBody::new(Box::pin(pieces));
        let trace = Trace::default();
        let mut passing = Passing::new(Bytes::from_static(b"held"), body, idle, &trace);
        let broken = loop {
            if let Err(broken) = passing.frame().await.unwrap() {
                break broken;
            }
        };
        assert_eq!(trace.bytes(), 9);
        assert_eq!(trace.fault(), Some(&broken));
        assert!(broken.to_string().contains("debuginfo.idle_timeout"));
    }
}
