//! One request and its answer on an HTTP/1 connection.
//!
//! A CPU profile is waited for as long as it is recorded, and with ten thousand
//! targets nearly all of them are being waited for at any time. hyper's
//! connection, with its task and its buffers (some 20 KB), would be held all
//! that while. So the request is written here, its answer is waited for with
//! nothing but the stream, and only when the first bytes are there hyper is
//! given the stream, to read the answer. It believes that it sends the request
//! too, into [`Answering`], which swallows it.
//!
//! A server that refuses a body by its size may answer before it has read it, and
//! read no more. So the answer is listened for while the request is written.
//!
//! Who reads the body moves its bytes: no task of hyper's stands between, so no
//! other thread is woken for them.

use super::pool::Home;
use crate::net::stream::Stream;
use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Empty;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once, and so the largest head of an answer. Most profiles fit.
const BUFFER: usize = 64 << 10;

/// What is read at first, most often a head.
const FIRST_READ: usize = 512;

/// A request as it is written.
pub(super) struct Outgoing<'a> {
    pub(super) method: &'a Method,
    /// The request's target: a path, or all of the URI.
    pub(super) target: &'a str,
    pub(super) host: &'a http::HeaderValue,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
}

/// A body up to this size is written together with the request's head.
const SMALL: usize = 16 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The peer closed the connection before the first byte of an answer.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// What came is no answer.
    Http(hyper::Error),
}

/// The body of an answer. Dropping it before its end closes an HTTP/1 stream.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    /// Of HTTP/1: what brings the body.
    under_way: Option<Box<UnderWay>>,
}

/// An HTTP/1 connection whose answer is being read.
#[derive(Debug)]
struct UnderWay {
    connection: Connection,
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Without one when the request was not read to its end, or was refused.
    home: Option<Home>,
}

type Connection = http1::Connection<TokioIo<Answering>, Empty<Bytes>>;

/// The stream as hyper gets it, when the request is out and its answer begins.
#[derive(Debug)]
struct Answering {
    stream: Stream,
    /// The beginning of the answer.
    first: Bytes,
    /// hyper takes bytes that arrive before it has sent a request for an error.
    sent: bool,
    reader: Option<Waker>,
}

// === impl Outgoing ===

impl Outgoing<'_> {
    /// The head, and the body where it is a part of its own.
    fn encode(&self) -> Chain<Bytes, Bytes> {
        let (small, large) = if self.body.len() <= SMALL {
            (self.body.clone(), Bytes::new())
        } else {
            (Bytes::new(), self.body.clone())
        };
        let mut bytes = Vec::with_capacity(512 + small.len());
        for part in [self.method.as_str(), " ", self.target, " HTTP/1.1\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        field("host", self.host.as_bytes());
        for (name, value) in self.headers {
            field(name.as_str(), value.as_bytes());
        }
        if !self.body.is_empty() || self.method == Method::POST {
            field("content-length", self.body.len().to_string().as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&small);
        Bytes::from(bytes).chain(large)
    }
}

/// Sends one request on `stream`. The stream goes `home` once the answer's body
/// has been read to its end.
pub(super) async fn exchange(
    mut stream: Stream,
    request: Outgoing<'_>,
    home: Home,
) -> Result<Response<Answer>, ExchangeError> {
    let method = request.method.clone();
    let (first, complete) = converse(&mut stream, request.encode()).await?;
    // The future of reading is held by few at a time, and larger than all else.
    Box::pin(read(stream, first, method, complete.then_some(home)))
        .await
        .map_err(ExchangeError::Http)
}

/// Writes a request, until it is out or its answer begins. The first bytes of
/// the answer, and whether all of the request is out.
async fn converse(
    stream: &mut Stream,
    mut request: Chain<Bytes, Bytes>,
) -> Result<(Bytes, bool), ExchangeError> {
    let mut broken = None;
    let mut buffer = [0; FIRST_READ];
    let mut answer = ReadBuf::new(&mut buffer);
    poll_fn(|cx| {
        if broken.is_none()
            && let Poll::Ready(Err(error)) = poll_write(stream, &mut request, cx)
        {
            // Its reason may be there to be read.
            broken = Some(error);
        }
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut answer));
        Poll::Ready(read)
    })
    .await
    .map_err(|error| broken.take().unwrap_or(error))?;
    if answer.filled().is_empty() {
        return Err(broken.map_or(ExchangeError::Closed, ExchangeError::from));
    }
    let first = Bytes::copy_from_slice(answer.filled());
    Ok((first, broken.is_none() && !request.has_remaining()))
}

/// Writes what the stream takes now.
fn poll_write(
    stream: &mut Stream,
    request: &mut Chain<Bytes, Bytes>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while request.has_remaining() {
        let mut parts = [io::IoSlice::new(&[]); 2];
        let count = request.chunks_vectored(&mut parts);
        let written = if stream.is_write_vectored() {
            Pin::new(&mut *stream).poll_write_vectored(cx, &parts[..count])
        } else {
            Pin::new(&mut *stream).poll_write(cx, request.chunk())
        };
        match ready!(written)? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            size => request.advance(size),
        }
    }
    Pin::new(stream).poll_flush(cx)
}

async fn read(
    stream: Stream,
    first: Bytes,
    method: Method,
    home: Option<Home>,
) -> hyper::Result<Response<Answer>> {
    let answering = Answering {
        stream,
        first,
        sent: false,
        reader: None,
    };
    let (mut sender, connection) = http1::Builder::new()
        .read_buf_exact_size(Some(BUFFER))
        .handshake::<_, Empty<Bytes>>(TokioIo::new(answering))
        .await?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    let mut response = pin!(sender.send_request(request));
    let mut driven = Some(connection);
    let response = poll_fn(|cx| {
        drive(&mut driven, cx);
        response.as_mut().poll(cx)
    })
    .await?;
    let under_way = driven.map(|connection| {
        Box::new(UnderWay {
            connection,
            sender,
            home,
        })
    });
    Ok(response.map(|body| Answer { body, under_way }))
}

/// Moves bytes; takes a connection away that has ended.
fn drive(connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    if let Some(driven) = connection
        && driven.poll_without_shutdown(cx).is_ready()
    {
        *connection = None;
    }
}

// === impl Answer ===

impl Answer {
    /// Its connection takes no other request.
    pub(super) fn leave(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            under_way.home = None;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        // Now hyper knows that a frame is wanted.
        let Some(under_way) = &mut self.under_way else {
            return frame;
        };
        if under_way.connection.poll_without_shutdown(cx).is_ready() {
            self.under_way = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl From<Incoming> for Answer {
    fn from(body: Incoming) -> Self {
        Self {
            body,
            under_way: None,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = self.poll(cx);
        if matches!(frame, Poll::Ready(None))
            && let Some(under_way) = self.under_way.take()
        {
            under_way.finish(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl UnderWay ===

impl UnderWay {
    /// Sends the stream home, if nothing follows the answer.
    fn finish(mut self, cx: &mut Context<'_>) {
        let ended = self.connection.poll_without_shutdown(cx).is_ready();
        // hyper asks for another request only when it is done with the last.
        if ended || !matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))) {
            return;
        }
        let Some(home) = self.home else { return };
        let parts = self.connection.into_parts();
        let answering = parts.io.into_inner();
        if parts.read_buf.is_empty() && answering.first.is_empty() {
            home.keep(answering.stream);
        }
    }
}

// === impl Answering ===

impl AsyncRead for Answering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.sent {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let size = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..size]);
        self.first.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sent = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// === impl ExchangeError ===

impl ExchangeError {
    /// Whether a connection that had waited may have been closed meanwhile, so
    /// that a new one will do. It may have ended under the request as well, which
    /// matters unless that is `repeatable`.
    pub(super) fn may_be_stale(&self, repeatable: bool) -> bool {
        match self {
            Self::Closed | Self::Io(_) => repeatable,
            Self::Http(error) => error.is_canceled() || error.is_closed(),
        }
    }
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
