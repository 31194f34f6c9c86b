//! What became of a call that got no gRPC answer.
//!
//! The verdict of [`crate::net::transport`] travels within a [`Status`], and so
//! does what a proxy answered in plain HTTP: its 413 is about size.

pub use crate::net::transport::TransportFailure;

use crate::net::{
    connect::ConnectError,
    refusal::is_about_certificate,
    transport::{innermost, of_error},
};
use http::StatusCode;
use std::{error::Error, sync::Arc, time::Duration};
use tonic::{Code, Status};

/// Carries the verdict within a [`Status`].
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
struct Broken {
    failure: TransportFailure,
    cause: String,
}

/// An answer that is no gRPC.
#[derive(Debug, thiserror::Error)]
#[error(
    "the answer is no gRPC but HTTP {status} ({who}): {hint}",
    who = .server.as_deref().unwrap_or(.content_type),
    hint = self.hint()
)]
pub(super) struct NotGrpc {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) server: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// The words of its page, as far as they matter.
    pub(super) page: String,
}

/// Tells a broken transport from an answer.
pub fn classify_transport(status: &Status) -> TransportFailure {
    if let Some(broken) = find::<Broken>(status) {
        return broken.failure.clone();
    }
    if let Some(error) = find::<ConnectError>(status) {
        return TransportFailure::NotConnected {
            cause: error.to_string(),
        };
    }
    status
        .source()
        .and_then(of_error)
        .unwrap_or(TransportFailure::NotTransport)
}

/// The HTTP status of an answer that was no gRPC, such as a proxy's 413 or 503. The 400
/// by which nginx refuses a client's certificate counts as what it means, 401.
pub fn http_status(status: &Status) -> Option<u16> {
    find::<NotGrpc>(status).map(NotGrpc::meaning)
}

/// The wait that came with such an answer (`retry-after`).
pub fn http_retry_after(status: &Status) -> Option<Duration> {
    find::<NotGrpc>(status).and_then(|answer| answer.retry_after)
}

/// For a request that found no connection.
pub(super) fn not_connected(error: ConnectError) -> Status {
    let cause = error.to_string();
    status(
        TransportFailure::NotConnected {
            cause: cause.clone(),
        },
        cause,
    )
}

/// For an answer that ends without the trailers that hold its status.
pub(super) fn no_status() -> Status {
    let cause = "the answer ended without a status";
    status(
        TransportFailure::Reset {
            cause: cause.into(),
        },
        cause.into(),
    )
}

/// For a request that came back from one connection after the other.
pub(super) fn unsent() -> Status {
    status(
        TransportFailure::Unsent,
        "every connection was closed before it took the request".into(),
    )
}

/// For a request without an answer after `timeout`.
pub(super) fn late(timeout: Duration) -> Status {
    status(
        TransportFailure::Timeout,
        format!("no answer within {timeout:?}"),
    )
}

/// For a request whose connection or stream ended.
pub(super) fn broken(error: hyper::Error) -> Status {
    let failure = of_error(&error).unwrap_or_else(|| TransportFailure::Died {
        cause: innermost(&error),
    });
    let cause = match &failure {
        TransportFailure::NotConnected { cause }
        | TransportFailure::Died { cause }
        | TransportFailure::Reset { cause } => cause.clone(),
        _ => innermost(&error),
    };
    status(failure, cause)
}

/// For an answer that is no gRPC, with the code that gRPC's mapping gives its
/// HTTP status.
pub(super) fn not_grpc(answer: NotGrpc) -> Status {
    let code = match answer.meaning() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let mut status = Status::new(code, answer.to_string());
    status.set_source(Arc::new(answer));
    status
}

// === impl NotGrpc ===

impl NotGrpc {
    fn is_about_certificate(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST && is_about_certificate(&self.page)
    }

    fn meaning(&self) -> u16 {
        if self.is_about_certificate() {
            return StatusCode::UNAUTHORIZED.as_u16();
        }
        self.status.as_u16()
    }

    fn hint(&self) -> &'static str {
        if self.is_about_certificate() {
            "it does not take the client's certificate: look at tls.cert_file and tls.key_file"
        } else if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            "it takes no request of this size: raise its limit (client_max_body_size of nginx)"
        } else {
            "is it a gRPC port, and does the proxy in front forward gRPC?"
        }
    }
}

fn status(failure: TransportFailure, cause: String) -> Status {
    let code = match &failure {
        TransportFailure::Timeout => Code::DeadlineExceeded,
        TransportFailure::Reset { .. } => Code::Internal,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, cause.clone());
    status.set_source(Arc::new(Broken { failure, cause }));
    status
}

fn find<E: Error + 'static>(status: &Status) -> Option<&E> {
    let mut next = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
