//! The gRPC channel of exporters: tonic's clients over connections of our own.
//!
//! tonic's `Channel` hides what became of a request when a connection ends. Here
//! the connections are hyper's, so that connecting is a phase of its own, a
//! request that was not taken comes back and goes to the next connection in
//! silence (a backend that closes idle connections, as Parca does after 5 s,
//! costs nothing), and what did happen to it is told apart (see [`failure`]).

mod ahead;
mod answer;
mod backend;
mod balance;
pub mod failure;
mod greeting;
mod settings;
mod target;
mod unary;

pub use self::{
    failure::{TransportFailure, classify_transport, http_retry_after, http_status},
    settings::{BalancerName, GrpcClientSettings, Keepalive},
    unary::Message,
};

use self::{
    ahead::Ahead,
    balance::Balancer,
    target::{Place, Target},
};
use super::{
    connect::{Connector, Shared},
    credentials::sensitive,
    http::{Auth, Token},
    refusal::may_be_about_certificate,
    resolve::{Resolve, SystemResolver},
    tls::LiveTls,
};
use crate::{
    settings::{Id, Problem},
    telemetry::Metrics,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};
use tracing::warn;

/// The status of gRPC, as it is in headers.
const UNAUTHENTICATED: &[u8] = b"16";

/// How often a request that no connection took goes to another one.
const MAX_TRIES: usize = 4;

/// Calls one backend, over all addresses of its name. Cheap to clone; clones
/// share connections. It is the inner service of a generated client:
/// `ProfileStoreServiceClient::new(channel)`.
#[derive(Clone)]
pub struct GrpcChannel(Arc<Inner>);

struct Inner {
    balancer: Arc<Balancer>,
    connector: Connector,
    origin: uri::Parts,
    auth: Auth,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
}

// === impl Auth ===

impl Auth {
    /// The header's value now, and the token that it is of.
    async fn header(&self) -> Result<Option<(HeaderValue, Option<Token>)>, Status> {
        match self {
            Self::None => Ok(None),
            Self::Header(credentials) => {
                let value = credentials.header().map_err(Status::unauthenticated)?;
                Ok(Some((value, None)))
            }
            Self::OAuth2(source) => {
                let token = source.token().await.map_err(Status::unauthenticated)?;
                Ok(Some((token.header.clone(), Some(token))))
            }
        }
    }

    /// The next request has another token than one that was refused.
    async fn heard<B>(&self, response: &Response<B>, token: Option<Token>) {
        let status = response.headers().get(Status::GRPC_STATUS);
        let refused = response.status() == StatusCode::UNAUTHORIZED
            || status.is_some_and(|status| status.as_bytes() == UNAUTHENTICATED);
        if let (Self::OAuth2(source), Some(token), true) = (self, token, refused) {
            source.refused(&token).await;
        }
    }
}

// === impl GrpcChannel ===

impl GrpcChannel {
    /// A channel, with the files that the settings name read for the first time.
    /// It connects when it is first used.
    pub fn new(settings: &GrpcClientSettings) -> Result<Self, Vec<Problem>> {
        Self::resolving(settings, Arc::new(SystemResolver))
    }

    /// As [`GrpcChannel::new`], with names looked up by `resolver`.
    pub fn resolving(
        settings: &GrpcClientSettings,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let target = Target::parse(&settings.endpoint, settings.tls.insecure)
            .map_err(|problem| vec![problem])?;
        let auth = Auth::of_client(&settings.auth, &resolver)
            .map_err(|found| problems.extend(found.into_iter().map(|p| p.below("auth"))))
            .unwrap_or(Auth::None);
        let connector = connector(settings, &target, resolver.clone())
            .map_err(|found| problems.extend(found))
            .ok();
        let Some(connector) = connector.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        if !matches!(auth, Auth::None) && !target.tls && !matches!(target.place, Place::Unix(_)) {
            warn!(
                endpoint = settings.endpoint,
                "credentials are sent without TLS: whoever listens can use them"
            );
        }
        let headers = settings
            .headers
            .iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, sensitive(value.expose())?))
            })
            .collect();
        Ok(Self(Arc::new(Inner {
            origin: target.origin.clone().into_parts(),
            balancer: Arc::new(Balancer::new(settings, target, connector.clone(), resolver)),
            connector,
            auth,
            headers,
            timeout: settings.timeout.get(),
        })))
    }
}

impl GrpcChannel {
    /// Tells when the certificates that it uses for a component end.
    pub fn tell_ends(&self, metrics: &Metrics, component: &Id) {
        self.0.connector.tell_ends(metrics, component);
    }
}

impl tower_service::Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        let request = request.map(|body| Body::new(Ahead::of(body)));
        Box::pin(async move { inner.call(request).await })
    }
}

impl fmt::Debug for GrpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrpcChannel({:?})", self.0.origin.authority)
    }
}

fn connector(
    settings: &GrpcClientSettings,
    target: &Target,
    resolver: Arc<dyn Resolve>,
) -> Result<Connector, Vec<Problem>> {
    let tls = if target.tls {
        let below = |problems: Vec<Problem>| {
            problems
                .into_iter()
                .map(|problem| problem.below("tls"))
                .collect::<Vec<_>>()
        };
        let spec = settings.tls.spec().map_err(below)?;
        Some(LiveTls::new(spec, &["h2"]).map_err(below)?)
    } else {
        None
    };
    Ok(Connector::new(Shared {
        tls,
        proxies: settings.proxy.proxies()?,
        tunnel: true,
        timeout: settings.connect_timeout.get(),
        resolver,
    }))
}

// === impl Inner ===

impl Inner {
    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        self.prepare(&mut request)?;
        let authorized = async {
            let mut token = None;
            if let Some((value, of)) = self.auth.header().await? {
                request.headers_mut().insert(header::AUTHORIZATION, value);
                token = of;
            }
            let response = self.exchange(request).await?;
            self.heard(&response);
            self.auth.heard(&response, token).await;
            Ok::<_, Status>(response)
        };
        if self.timeout.is_zero() {
            return answer::checked(authorized.await?, None).await;
        }
        let deadline = Instant::now() + self.timeout;
        let response = timeout_at(deadline, authorized)
            .await
            .map_err(|_| failure::late(self.timeout))??;
        answer::checked(response, Some((deadline, self.timeout))).await
    }

    /// A certificate is shown while connecting, so after a refusal that may be about
    /// it the next request connects anew.
    fn heard<B>(&self, response: &Response<B>) {
        let refused = may_be_about_certificate(response.status(), response.headers());
        if refused && self.connector.shows_certificate() {
            self.balancer.leave();
        }
    }

    async fn exchange(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, Status> {
        for _ in 0..MAX_TRIES {
            let mut sender = self.balancer.pick().await.map_err(failure::not_connected)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(untouched) => request = untouched,
                    None => return Err(failure::broken(error.into_error())),
                },
            }
        }
        Err(failure::unsent())
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let mut parts = uri::Parts::default();
        parts.scheme.clone_from(&self.origin.scheme);
        parts.authority.clone_from(&self.origin.authority);
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, super::http::USER_AGENT);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if !self.timeout.is_zero() {
            headers
                .entry("grpc-timeout")
                .or_insert_with(|| grpc_timeout(self.timeout));
        }
        Ok(())
    }
}

/// At most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().max(1);
    let text = if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", timeout.as_secs().min(99_999_999))
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("30S"))
}

#[cfg(test)]
mod tests;
