//! Tells gRPC answers from what a proxy in between answers, and keeps a call's
//! deadline until its last byte.

use super::failure::{self, NotGrpc};
use crate::net::{refusal::words, wish::retry_after};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Status, body::Body};

/// The largest page of a proxy that is looked at, in bytes.
const MAX_PAGE: usize = 4 << 10;

/// How long such a page may take.
const PAGE_TIME: Duration = Duration::from_secs(1);

/// The body of an answer, whose errors are [`Status`]es that
/// [`failure::classify_transport`] understands.
struct Answer {
    body: Incoming,
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
}

/// The answer, if it is gRPC's. `deadline`: until when its body must be
/// complete, and the timeout that this comes from.
pub(super) async fn checked(
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
    let mut refused = NotGrpc {
        status: response.status(),
        content_type: kind,
        server: headers
            .get(header::SERVER)
            .map(|server| String::from_utf8_lossy(server.as_bytes()).into_owned()),
        retry_after: retry_after(headers),
        page: String::new(),
    };
    // The others say enough by their status.
    if refused.status == StatusCode::BAD_REQUEST {
        refused.page = page(response.into_body(), deadline).await;
    }
    Err(failure::not_grpc(refused))
}

/// The words of a proxy's page, if it is soon there.
async fn page(body: Incoming, deadline: Option<(Instant, Duration)>) -> String {
    let soon = Instant::now() + PAGE_TIME;
    let until = deadline.map_or(soon, |(at, _)| soon.min(at));
    match timeout_at(until, Limited::new(body, MAX_PAGE).collect()).await {
        Ok(Ok(page)) => words(&page.to_bytes()),
        _ => String::new(),
    }
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
