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
//! Who reads the body moves its bytes: no task of hyper's stands between, so no
//! other thread is woken for them.

use super::pool::Home;
use crate::net::stream::Stream;
use bytes::{Buf, Bytes};
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
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

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
    pub(super) body: &'a [u8],
}

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
    home: Home,
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
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + self.body.len());
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
        if !self.body.is_empty() {
            field("content-length", self.body.len().to_string().as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body);
        bytes
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
    send(&mut stream, request.encode()).await?;
    let first = first_bytes(&mut stream).await?;
    // The future of reading is held by few at a time, and larger than all else.
    Box::pin(read(stream, first, method, home))
        .await
        .map_err(ExchangeError::Http)
}

async fn send(stream: &mut Stream, bytes: Vec<u8>) -> Result<(), ExchangeError> {
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

async fn first_bytes(stream: &mut Stream) -> Result<Bytes, ExchangeError> {
    let mut buffer = [0; FIRST_READ];
    match stream.read(&mut buffer).await? {
        0 => Err(ExchangeError::Closed),
        size => Ok(Bytes::copy_from_slice(&buffer[..size])),
    }
}

async fn read(
    stream: Stream,
    first: Bytes,
    method: Method,
    home: Home,
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
        let parts = self.connection.into_parts();
        let answering = parts.io.into_inner();
        if parts.read_buf.is_empty() && answering.first.is_empty() {
            self.home.keep(answering.stream);
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
    /// that a new one will do.
    pub(super) fn may_be_stale(&self) -> bool {
        match self {
            Self::Closed | Self::Io(_) => true,
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
