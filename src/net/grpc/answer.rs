//! Tells gRPC answers from what a proxy in between answers, and keeps a call's
//! deadline until its last byte.

use super::failure::{self, NotGrpc};
use crate::net::wish::retry_after;
use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

/// The body of an answer, whose errors are [`Status`]es that
/// [`failure::classify_transport`] understands.
struct Answer {
    body: Incoming,
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
}

/// The answer, if it is gRPC's. `deadline`: until when its body must be
/// complete, and the timeout that this comes from.
pub(super) fn checked(
    response: Response<Incoming>,
    deadline: Option<(Instant, Duration)>,
) -> Result<Response<Body>, Status> {
    let headers = response.headers();
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned())
        .unwrap_or_default();
    let is_grpc = kind.starts_with("application/grpc")
        && !kind.starts_with("application/grpc-web")
        && response.status() == StatusCode::OK;
    if is_grpc || headers.contains_key(Status::GRPC_STATUS) {
        return Ok(response.map(|body| {
            Body::new(Answer {
                body,
                deadline: deadline.map(|(at, timeout)| (Box::pin(sleep_until(at)), timeout)),
            })
        }));
    }
    Err(failure::not_grpc(NotGrpc {
        status: response.status(),
        content_type: kind,
        server: headers
            .get(header::SERVER)
            .map(|server| String::from_utf8_lossy(server.as_bytes()).into_owned()),
        retry_after: retry_after(headers),
    }))
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            return Poll::Ready(frame.map(|frame| frame.map_err(failure::broken)));
        }
        if let Some((sleep, timeout)) = &mut self.deadline
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(failure::late(*timeout))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
