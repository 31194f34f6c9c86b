//! Who is let in: in front of every handler.
//!
//! A request is judged by its head. Who is refused hears so in the words of the
//! protocol, and nothing of the body is kept. The handler behind finds out who
//! sends by its [`Peer`], and never sees how that was proved.
//!
//! | | gRPC | HTTP |
//! |---|---|---|
//! | no or wrong credentials, a certificate that is no longer good | UNAUTHENTICATED | 401, WWW-Authenticate |
//! | known, and not allowed anything | PERMISSION_DENIED | 403 |
//! | cannot be told now | UNAVAILABLE, RetryInfo | 503, Retry-After |
//! | too many requests or bytes | RESOURCE_EXHAUSTED, RetryInfo | 429, Retry-After |
//!
//! As in the Collector this holds for all that a gRPC port serves, health and
//! reflection included; preflight requests of browsers are answered before
//! ([`super::WithHeaders`]).

use super::{
    Answer, Answering, Encoding, Failure, Handler, InFlight, Kind, Peer,
    body::{announced, drain},
    doors::Doors,
    grpc::is_grpc,
    in_flight,
};
use crate::net::auth::{Authenticator, Identity, Refused};
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};

/// A handler behind a gate.
pub(super) struct Gate {
    inner: Arc<dyn Handler>,
    authenticator: Option<Arc<Authenticator>>,
    doors: Doors,
}

/// Why a request does not pass, and how that is counted.
struct Stop {
    reason: &'static str,
    failure: Failure,
}

// === impl Gate ===

impl Gate {
    /// With nobody to ask, everybody is let in.
    pub(super) fn before(
        inner: Arc<dyn Handler>,
        authenticator: Option<Arc<Authenticator>>,
        doors: Doors,
    ) -> Arc<dyn Handler> {
        Arc::new(Self {
            inner,
            authenticator,
            doors,
        })
    }

    /// Who sends, and the share of what it may have in flight.
    async fn admit(
        &self,
        authenticator: &Authenticator,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<(Arc<Identity>, Option<InFlight>), Stop> {
        let identity = authenticator.identify(headers, peer.names()).await?;
        identity.request().map_err(Stop::too_fast)?;
        let share = match (identity.bytes(), identity.max_bytes()) {
            (Some(permit), Some(limit)) => {
                let blame = (&peer.clone().identified(identity.clone()), &self.doors);
                let share = InFlight::new(permit, limit, announced(headers), blame);
                Some(share.map_err(|failure| Stop {
                    reason: in_flight::REASON,
                    failure,
                })?)
            }
            _ => None,
        };
        Ok((identity, share))
    }

    /// The answer to who is not let in.
    async fn refuse(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        stop: Stop,
    ) -> Response<Answer> {
        let Stop { reason, failure } = stop;
        self.doors.turned_away(peer, reason, failure.message());
        if is_grpc(&request) {
            return failure.to_grpc();
        }
        let (parts, body) = request.into_parts();
        // Who still sends would not hear why.
        drain(&parts, body).await;
        let mut response = failure.to_http(Encoding::of(&parts.headers).unwrap_or_default());
        if failure.kind() == Kind::Unauthenticated {
            let challenges = self.authenticator.iter().flat_map(|a| a.challenges());
            for challenge in challenges {
                response
                    .headers_mut()
                    .append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let Some(authenticator) = &self.authenticator else {
            return self.inner.clone().handle(request, peer).await;
        };
        let (mut parts, body) = request.into_parts();
        let admitted = self.admit(authenticator, &parts.headers, &peer).await;
        let (identity, share) = match admitted {
            Ok(admitted) => admitted,
            Err(stop) => {
                let request = Request::from_parts(parts, body);
                return self.refuse(request, &peer, stop).await;
            }
        };
        if let Some(session) = peer.session() {
            session.activity.admitted();
        }
        parts.headers.remove(header::AUTHORIZATION);
        if let Some(share) = &share {
            parts.extensions.insert(share.clone());
        }
        let request = Request::from_parts(parts, body);
        let peer = peer.identified(identity);
        let response = self.inner.clone().handle(request, peer).await;
        // Until now it counted as under way.
        drop(share);
        response
    }
}

impl Handler for Gate {
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering {
        if let Some(session) = peer.session() {
            let certificate = session.certificate.as_ref();
            if certificate.is_some_and(|certificate| !certificate.is_good()) {
                session.activity.dismiss("certificate_revoked");
                return Box::pin(async move { self.refuse(request, &peer, Stop::revoked()).await });
            }
            if self.authenticator.is_none() {
                session.activity.admitted();
            }
        }
        if self.authenticator.is_none() {
            return self.inner.clone().handle(request, peer);
        }
        Box::pin(self.serve(request, peer))
    }
}

// === impl Stop ===

impl Stop {
    fn revoked() -> Self {
        let message = "the certificate of this connection is no longer taken: connect anew with \
                       another one";
        Self {
            reason: "certificate_revoked",
            failure: Failure::new(Kind::Unauthenticated, message),
        }
    }

    fn too_fast(wait: Duration) -> Self {
        let message = "this sender has more requests in a second than max_requests_per_second \
                       allows: try again later";
        Self {
            reason: "request_rate",
            failure: Failure::new(Kind::Busy, message).after(Some(wait)),
        }
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        let kind = match &refused {
            Refused::Missing | Refused::Wrong(_) => Kind::Unauthenticated,
            Refused::NotListed => Kind::Denied,
            Refused::Unavailable { .. } => Kind::Unavailable,
        };
        let failure = Failure::new(kind, refused.to_string());
        let reason = refused.reason();
        let failure = match refused {
            Refused::Unavailable { after, .. } => failure.after(after),
            _ => failure,
        };
        Self { reason, failure }
    }
}
