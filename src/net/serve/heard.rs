//! What a client says: noted, and read ahead.
//!
//! h2 asks for a frame at a time, which is 16 KiB at most from nearly all senders.
//! Here as much is read at once as there is, up to [`AHEAD`]. A connection that has
//! nothing to say keeps no buffer for it, as there may be thousands: the next one that
//! is heard on the same thread has it, while the processor's cache still does.

use super::{activity::Activity, frames::Frames, server::Io};
use std::{
    cell::Cell,
    future::Future,
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// So much is read at a time, in bytes.
const AHEAD: usize = 64 << 10;

thread_local! {
    /// The buffer of whoever was heard last.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream that notes whether anything was heard.
pub(super) struct Heard {
    io: Box<dyn Io>,
    /// What was read.
    ahead: Vec<u8>,
    /// How much of that was asked for.
    given: usize,
    frames: Frames,
    activity: Arc<Activity>,
}

// === impl Heard ===

impl Heard {
    /// Reads from `io` and tells `activity`.
    pub(super) fn new(io: Box<dyn Io>, activity: &Arc<Activity>) -> Self {
        Self {
            io,
            ahead: Vec::new(),
            given: 0,
            frames: Frames::default(),
            activity: activity.clone(),
        }
    }

    /// Reads anew, when all was given.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ahead.capacity() == 0 {
            self.ahead = SPARE.take();
        }
        self.given = 0;
        self.ahead.clear();
        self.ahead.reserve_exact(AHEAD);
        let polled = pin!(self.io.read_buf(&mut self.ahead)).poll(cx);
        if polled.is_pending() {
            SPARE.set(mem::take(&mut self.ahead));
        }
        polled
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.ahead.len() {
            if buf.remaining() >= AHEAD {
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
                let counted = self.frames.count(&buf.filled()[before..]);
                self.activity.heard(buf.filled().len() - before, counted);
                return Poll::Ready(Ok(()));
            }
            let read = ready!(self.poll_ahead(cx))?;
            let this = &mut *self;
            let counted = this.frames.count(&this.ahead);
            this.activity.heard(read, counted);
        }
        let rest = &self.ahead[self.given..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::serve::windows::Windows, pipeline::Budget};
    use futures_util::FutureExt;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn all_comes_in_order_whatever_is_asked_for_and_no_buffer_stays() {
        let (near, mut far) = duplex(1 << 20);
        let window = Windows::new(&Budget::new(u64::MAX)).open();
        let mut heard = Heard::new(Box::new(near), &Arc::new(Activity::new(window, 0)));
        let all: Vec<u8> = (0..5 * AHEAD).map(|n| (n % 251) as u8).collect();
        far.write_all(&all).await.unwrap();
        let mut read = Vec::new();
        for size in [9, 16 << 10, 1, AHEAD, 100, 2 * AHEAD].into_iter().cycle() {
            let mut piece = vec![0; size.min(all.len() - read.len())];
            heard.read_exact(&mut piece).await.unwrap();
            read.extend(piece);
            if read.len() == all.len() {
                break;
            }
        }
        assert!(read == all);
        assert!(heard.read_u8().now_or_never().is_none());
        assert_eq!(heard.ahead.capacity(), 0);
        drop(far);
        assert_eq!(heard.read(&mut [0; 9]).await.unwrap(), 0);
    }
}
