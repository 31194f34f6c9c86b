//! The bodies of responses.

use super::{
    Failure, Kind,
    activity::Busy,
    grpc::stream::{Next, Outgoing},
};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The body of a response: nothing, one piece, one piece and trailers, what a
/// conversation says, or what another gRPC service streams.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    /// Keeps the connection from counting as idle.
    busy: Option<Busy>,
}

#[derive(Debug)]
enum Content {
    Piece {
        data: Option<Bytes>,
        trailers: Option<Box<HeaderMap>>,
    },
    Talking(Outgoing),
    Streamed {
        body: tonic::body::Body,
        stop: Pin<Box<WaitForCancellationFutureOwned>>,
        ended: bool,
    },
}

// === impl Answer ===

impl Answer {
    /// No body.
    pub fn empty() -> Self {
        Self::of(None, None)
    }

    /// One piece.
    pub fn full(data: impl Into<Bytes>) -> Self {
        Self::of(Some(data.into()), None)
    }

    /// One piece, then trailers.
    pub fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self::of(Some(data), Some(trailers.into()))
    }

    /// What a conversation says.
    pub(super) fn talking(outgoing: Outgoing) -> Self {
        Self {
            content: Content::Talking(outgoing),
            busy: None,
        }
    }

    /// What a tonic service answers, possibly for ever: ended at `stop`.
    pub fn streamed(body: tonic::body::Body, stop: CancellationToken) -> Self {
        Self {
            content: Content::Streamed {
                body,
                stop: Box::pin(stop.cancelled_owned()),
                ended: false,
            },
            busy: None,
        }
    }

    fn of(data: Option<Bytes>, trailers: Option<Box<HeaderMap>>) -> Self {
        Self {
            content: Content::Piece {
                data: data.filter(|data| !data.is_empty()),
                trailers,
            },
            busy: None,
        }
    }

    pub(super) fn keeping(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match &mut self.content {
            Content::Piece { data, trailers } => Poll::Ready(match data.take() {
                Some(data) => Some(Ok(Frame::data(data))),
                None => trailers.take().map(|map| Ok(Frame::trailers(*map))),
            }),
            Content::Talking(outgoing) => outgoing.poll_next(cx).map(|next| match next {
                Next::Data(data) => Some(Ok(Frame::data(data))),
                Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
                Next::Nothing => None,
            }),
            Content::Streamed { ended: true, .. } => Poll::Ready(None),
            Content::Streamed { body, stop, ended } => match Pin::new(body).poll_frame(cx) {
                Poll::Pending if stop.as_mut().poll(cx).is_ready() => {
                    *ended = true;
                    Poll::Ready(Some(Ok(Frame::trailers(ending()))))
                }
                polled => polled,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Piece { data, trailers } => data.is_none() && trailers.is_none(),
            Content::Talking(_) => false,
            Content::Streamed { body, ended, .. } => *ended || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            // gRPC has its lengths within.
            Content::Piece {
                trailers: Some(_), ..
            } => SizeHint::default(),
            Content::Piece { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Talking(_) => SizeHint::default(),
            Content::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// The trailers of a stream that the server ends.
fn ending() -> HeaderMap {
    let failure = Failure::new(Kind::Unavailable, "the server is shutting down");
    failure.to_grpc().into_parts().0.headers
}
