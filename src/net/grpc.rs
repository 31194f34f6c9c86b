//! The gRPC channel of exporters.

pub mod failure;
mod settings;
mod target;

pub use self::{
    failure::{TransportFailure, classify_transport, http_status},
    settings::{BalancerName, Compression, GrpcAuth, GrpcBasicAuth, GrpcClientSettings, Keepalive},
};

use crate::settings::Problem;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// Calls one backend, over all addresses of its name. Cheap to clone; clones
/// share connections. Use it as the inner service of a generated client.
#[derive(Clone, Debug)]
pub struct GrpcChannel(Arc<Inner>);

#[derive(Debug)]
struct Inner;

// === impl GrpcChannel ===

impl GrpcChannel {
    /// A channel, with the files that the settings name read for the first time.
    /// It connects when it is first used.
    pub fn new(settings: &GrpcClientSettings) -> Result<Self, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self(Arc::new(Inner)))
    }
}

impl tower_service::Service<http::Request<Body>> for GrpcChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Err(Status::unavailable("not connected")) })
    }
}
