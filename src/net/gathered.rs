//! Writes that are gathered until all is said.
//!
//! h2 writes and flushes each frame by itself. A request of 32 KiB is three system
//! calls then, of which each wakes the peer, and so is each of several answers that
//! are ready at once. Here flushing does nothing: what was written is kept until
//! whoever polls the connection has polled it and all its streams ([`send`]), or
//! until it is enough for one system call anyway.
//!
//! Who writes and who sends may be woken apart: hyper polls the connection of a client
//! as one of its streams. A socket knows one of those who wait for it, the last, which
//! is who sends. So whoever finds no room is noted here, and woken when there is some.
//!
//! [`send`]: Gathered::send

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered at most, in bytes: less than what a socket takes at once as
/// a rule, and what a processor's cache keeps.
const MOST: usize = 128 << 10;

/// A stream of bytes; clones are the same.
#[derive(Debug)]
pub(super) struct Gathered<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    out: Vec<u8>,
    /// How much of `out` was written.
    sent: usize,
    /// What sending failed with, until somebody hears it.
    failed: Option<io::Error>,
    /// Who waits for room, or until all is sent.
    waiting: Option<Waker>,
}

// === impl Gathered ===

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// What is written to it is sent by [`Gathered::send`].
    pub(super) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            out: Vec::new(),
            sent: 0,
            failed: None,
            waiting: None,
        })))
    }

    /// Sends what was written, as much of it as the peer takes; wakes when it takes
    /// more. Says whether that went well: why not is told to who writes next.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = self.inner();
        let (went_well, waiting) = match inner.poll_send(cx) {
            Poll::Pending => (true, None),
            Poll::Ready(Ok(())) => (true, inner.waiting.take()),
            Poll::Ready(Err(error)) => {
                inner.failed = Some(error);
                (false, inner.waiting.take())
            }
        };
        drop(inner);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        went_well
    }
}

impl<T> Gathered<T> {
    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

// === impl Inner ===

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.out.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.sent += more,
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room if nothing more can be gathered.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.out.len() < MOST {
            return Poll::Ready(Ok(()));
        }
        self.poll_all(cx)
    }

    /// Sends all for somebody who waits for it.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(cx);
        self.waiting = sent.is_pending().then(|| cx.waker().clone());
        sent
    }

    /// Takes as much as there is room for.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let most = MOST.saturating_sub(self.out.len()).min(bytes.len());
        self.out.extend_from_slice(&bytes[..most]);
        most
    }

    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

// === reading and writing ===

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.poll_room(cx))?;
        Poll::Ready(Ok(inner.gather(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.poll_room(cx))?;
        let pieces = pieces.iter();
        Poll::Ready(Ok(pieces.map(|piece| inner.gather(piece)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.inner().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        inner.check()?;
        ready!(inner.poll_all(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Tasks;
    use futures_util::future::poll_fn;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_is_written_leaves_together_when_it_is_sent() {
        let (near, mut far) = duplex(1 << 10);
        let mut gathered = Gathered::new(near);
        for piece in ["some ", "thing ", "more"] {
            gathered.write_all(piece.as_bytes()).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let mut buffer = [0; 64];
        let reading = far.read(&mut buffer);
        let early = tokio::time::timeout(Duration::ZERO, reading).await;
        assert!(early.is_err());
        assert!(poll_fn(|cx| Poll::Ready(gathered.send(cx))).await);
        let count = far.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"some thing more");
    }

    #[tokio::test]
    async fn more_than_is_gathered_goes_as_the_peer_takes_it() {
        let (near, mut far) = duplex(1 << 10);
        let mut gathered = Gathered::new(near);
        let all: Vec<u8> = (0..3 * MOST).map(|n| (n % 251) as u8).collect();
        let writing = async {
            let pieces = [IoSlice::new(&all[..1_000]), IoSlice::new(&all[1_000..])];
            let first = gathered.write_vectored(&pieces).await.unwrap();
            assert!(gathered.inner().out.len() <= MOST);
            gathered.write_all(&all[first..]).await.unwrap();
            gathered.shutdown().await.unwrap();
            drop(gathered);
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(writing, far.read_to_end(&mut received));
        read.unwrap();
        assert!(received == all);
    }

    #[tokio::test]
    async fn who_writes_is_woken_when_another_one_has_sent() {
        let (near, mut far) = duplex(1 << 10);
        let mut gathered = Gathered::new(near);
        let all = vec![7; 3 * MOST];
        let mut sender = gathered.clone();
        let writing = Tasks::default().spawn("writes", async move {
            gathered.write_all(&all).await.unwrap();
            gathered.shutdown().await.unwrap();
        });
        let sending = Tasks::default().spawn("sends", async move {
            loop {
                poll_fn(|cx| Poll::Ready(sender.send(cx))).await;
                sender.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut received = Vec::new();
        let reading = far.read_to_end(&mut received);
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        sending.abort();
        assert_eq!(read.unwrap().unwrap(), 3 * MOST);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_hears_that_sending_failed() {
        let (near, far) = duplex(1 << 10);
        let mut gathered = Gathered::new(near);
        drop(far);
        gathered.write_all(b"lost").await.unwrap();
        assert!(!poll_fn(|cx| Poll::Ready(gathered.send(cx))).await);
        let error = gathered.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
