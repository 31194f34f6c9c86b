//! Calls of services that the relay does not know, passed on as they come.

use super::{
    counts::Counts,
    upstream::{Refused, Upstream},
};
use crate::{
    net::serve::{
        Answer, Failure, Kind,
        grpc::{Exchange, Head, MessageBody},
    },
    receivers::shared::{Outcome, Requests},
};
use async_trait::async_trait;
use http::{Response, Uri, header};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// Passes on what is nobody's.
#[derive(Debug)]
pub(super) struct Others {
    upstream: Upstream,
    counts: Arc<Counts>,
    requests: Requests,
    /// Calls that wait for an answer to begin.
    places: Semaphore,
    limit: u32,
    stop: CancellationToken,
}

// === impl Others ===

impl Others {
    pub(super) fn new(
        upstream: Upstream,
        counts: Arc<Counts>,
        requests: Requests,
        limit: u32,
        stop: CancellationToken,
    ) -> Self {
        Self {
            upstream,
            counts,
            requests,
            places: Semaphore::new(limit as usize),
            limit,
            stop,
        }
    }

    async fn pass(
        &self,
        path: &str,
        head: &Head,
        body: MessageBody,
    ) -> Result<Response<Body>, Refused> {
        let Ok(_place) = self.places.try_acquire() else {
            let message = format!(
                "{} calls are in flight, and max_concurrent_requests allows no more: try again later",
                self.limit
            );
            return Err(Failure::new(Kind::Busy, message).into());
        };
        let path: Uri = path.parse().map_err(|_| {
            let message = "the path of the call cannot be passed on";
            Refused::Relay(Failure::new(Kind::Unimplemented, message))
        })?;
        let passing = self
            .upstream
            .pass(&path, head, Body::new(body.into_inner()));
        passing.await
    }
}

#[async_trait]
impl Exchange for Others {
    async fn answer(&self, path: &str, head: Head, body: MessageBody) -> Response<Answer> {
        self.counts.called(&head);
        let open = self.requests.open(&head.peer);
        match self.pass(path, &head, body).await {
            Ok(response) => {
                open.end(Outcome::Ok, "");
                let mut response = response.map(|body| Answer::streamed(body, self.stop.clone()));
                for of_one_hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
                    response.headers_mut().remove(of_one_hop);
                }
                response
            }
            Err(refused) => {
                match refused.as_failure() {
                    Some(failure) => open.end(Outcome::Failed(failure.kind()), failure.message()),
                    None => open.end(Outcome::Ok, ""),
                }
                refused.to_grpc()
            }
        }
    }
}
