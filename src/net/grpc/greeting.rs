//! Waits for an HTTP/2 server's first word.
//!
//! A server must begin with SETTINGS. Until it has, nothing says that there is a
//! gRPC backend: it may be a port of HTTP/1, or, with TLS 1.3, a server that is
//! about to refuse the client certificate. A request sent into that would look
//! as if the backend had died under it, so no connection counts before.

use crate::net::{connect::late_alert, stream::Stream};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// The length of a frame's head, and the type of SETTINGS in it.
const HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// A stream that reports the first frame which it carries.
pub(super) struct Greeted {
    stream: Stream,
    waiting: Option<Waiting>,
}

struct Waiting {
    head: Vec<u8>,
    verdict: oneshot::Sender<Result<(), String>>,
}

// === impl Greeted ===

impl Greeted {
    /// The stream, and what becomes of its first frame: nothing or the trouble.
    pub(super) fn new(stream: Stream) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (verdict, greeting) = oneshot::channel();
        let waiting = Waiting {
            head: Vec::with_capacity(HEAD),
            verdict,
        };
        let this = Self {
            stream,
            waiting: Some(waiting),
        };
        (this, greeting)
    }

    fn hear(&mut self, read: Result<&[u8], &io::Error>) {
        let Some(mut waiting) = self.waiting.take() else {
            return;
        };
        let verdict = match read {
            Err(error) => Err(late_alert(error).unwrap_or_else(|| error.to_string())),
            Ok([]) => Err("the server closed the connection at once: is it a gRPC port?".into()),
            Ok(bytes) => {
                let wanted = HEAD - waiting.head.len();
                waiting
                    .head
                    .extend_from_slice(&bytes[..wanted.min(bytes.len())]);
                if waiting.head.len() < HEAD {
                    self.waiting = Some(waiting);
                    return;
                }
                check(&waiting.head)
            }
        };
        // Nobody may be waiting any more.
        let _ = waiting.verdict.send(verdict);
    }
}

fn check(head: &[u8]) -> Result<(), String> {
    if head[3] == SETTINGS && head[5..HEAD] == [0; 4] {
        return Ok(());
    }
    let said = String::from_utf8_lossy(head);
    Err(format!(
        "it does not speak HTTP/2 on this port, which gRPC needs (it said {said:?})"
    ))
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match &read {
            Ok(()) => self.hear(Ok(&buf.filled()[before..])),
            Err(error) => self.hear(Err(error)),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
