//! The requests of one connection, as hyper wants them served.

use super::{
    Answer, Answering, Handler, Peer,
    activity::{Activity, Busy},
};
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::Service};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio_util::sync::CancellationToken;

/// The handler as hyper wants it, for one connection.
pub(super) struct OfConnection {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
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
        Making {
            busy: Some(Busy::new(&self.activity)),
            last: (!is_http2).then(|| self.stop.clone()),
            answering: self.handler.clone().handle(request, self.peer.clone()),
        }
    }
}

// === impl Making ===

impl Future for Making {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.answering.as_mut().poll(cx));
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
