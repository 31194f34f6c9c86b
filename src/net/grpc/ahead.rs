//! The end of a request, said with its last message.
//!
//! tonic's bodies learn that they are over when they are asked for more, so their end
//! is an empty frame of its own. A Parca may have answered by then, and answers that
//! frame with STREAM_CLOSED; nginx in between takes this for a broken upstream, and
//! what is stored already seems to have killed the backend, and is sent again. So a
//! body is asked for more before its last frame leaves.

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::{Status, body::Body};

/// A body that is a frame ahead of who reads it.
pub(super) struct Ahead {
    body: Body,
    next: Option<Result<Frame<Bytes>, Status>>,
    ended: bool,
}

// === impl Ahead ===

impl Ahead {
    pub(super) fn of(body: Body) -> Self {
        Self {
            body,
            next: None,
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }
}

impl HttpBody for Ahead {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.next.take() {
            Some(frame) => Some(frame),
            None => ready!(self.poll(cx)),
        };
        if let (Some(Ok(_)), Poll::Ready(next)) = (&frame, self.poll(cx)) {
            self.next = next;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.next {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::oneshot;

    fn frame(byte: u8) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(vec![byte].into()))
    }

    async fn next(body: &mut Ahead) -> Option<(Bytes, bool)> {
        let data = body.frame().await?.unwrap().into_data().unwrap();
        Some((data, body.is_end_stream()))
    }

    #[tokio::test]
    async fn the_last_frame_is_known_for_the_last() {
        let frames = stream::iter([frame(1), frame(2)]);
        let mut body = Ahead::of(Body::new(StreamBody::new(frames)));
        assert_eq!(next(&mut body).await, Some((vec![1].into(), false)));
        assert_eq!(next(&mut body).await, Some((vec![2].into(), true)));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn nothing_waits_for_what_is_not_said_yet() {
        let (say, said) = oneshot::channel();
        let second = stream::once(async { frame(said.await.unwrap()) });
        let frames = Box::pin(stream::iter([frame(1)]).chain(second));
        let mut body = Ahead::of(Body::new(StreamBody::new(frames)));
        assert_eq!(next(&mut body).await, Some((vec![1].into(), false)));
        say.send(2).unwrap();
        assert_eq!(next(&mut body).await, Some((vec![2].into(), true)));
    }

    #[tokio::test]
    async fn what_fails_fails_after_what_came_before() {
        let frames = stream::iter([frame(1), Err(Status::cancelled("gone"))]);
        let mut body = Ahead::of(Body::new(StreamBody::new(frames)));
        assert_eq!(next(&mut body).await, Some((vec![1].into(), false)));
        assert!(body.frame().await.unwrap().is_err());
    }
}
