//! The requests of one connection, as hyper wants them served.

use super::{
    Answer, Answering, Encoding, Failure, Handler, Kind, Peer,
    activity::{Activity, Busy},
    grpc::is_grpc,
    server::Bounds,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, service::Service};
use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The handler as hyper wants it, for one connection.
pub(super) struct OfConnection {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    pub(super) bounds: Bounds,
    pub(super) stop: CancellationToken,
}

/// A response being made, on a connection that is busy with it.
pub(super) struct Making {
    answering: Answering,
    busy: Option<Busy>,
    /// With HTTP/1: whether the answer is the last one.
    last: Option<CancellationToken>,
}

// === impl OfConnection ===

impl Service<Request<Incoming>> for OfConnection {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Making;

    fn call(&self, request: Request<Incoming>) -> Making {
        let is_http2 = request.version() == Version::HTTP_2;
        if is_http2 {
            self.activity.is_http2();
        }
        let busy = Busy::new(&self.activity);
        // HTTP/2 counts them itself.
        let too_much = !is_http2 && head_bytes(request.headers()) > self.bounds.headers;
        let answering = match busy {
            Some(_) if too_much => Box::pin(ready(too_large())),
            Some(_) => self.handler.clone().handle(request, self.peer.clone()),
            None => no_memory(&request, &self.peer),
        };
        Making {
            busy,
            last: (!is_http2).then(|| self.stop.clone()),
            answering,
        }
    }
}

fn head_bytes(headers: &HeaderMap) -> u32 {
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    u32::try_from(bytes.sum::<usize>()).unwrap_or(u32::MAX)
}

fn too_large() -> Response<Answer> {
    let mut response = Response::new(Answer::full("the headers are above max_header_bytes\n"));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The answer when there is no memory for what a connection may send.
fn no_memory(request: &Request<Incoming>, peer: &Peer) -> Answering {
    debug!(%peer, "a request was refused: the memory budget is used up");
    let message = "the memory budget (service.memory.limit) is used up: try again later";
    let failure = Failure::new(Kind::Unavailable, message);
    let answer = if is_grpc(request) {
        failure.to_grpc()
    } else {
        failure.to_http(Encoding::of(request.headers()).unwrap_or_default())
    };
    Box::pin(ready(answer))
}

// === impl Making ===

impl Future for Making {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = task::ready!(self.answering.as_mut().poll(cx));
        if self.last.as_ref().is_some_and(|last| last.is_cancelled()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        let busy = self.busy.take();
        Poll::Ready(Ok(response.map(|answer| match busy {
            Some(busy) => answer.keeping(busy),
            None => answer,
        })))
    }
}
