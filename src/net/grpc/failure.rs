//! What became of a call that got no gRPC answer.
//!
//! A relay must know more than "unavailable": a request that was never looked at
//! goes out again in silence, one under which the backend's connection died may
//! be what killed it (`DESIGN.md`, law 5), and a proxy's 413 is about size.
//! Nothing is read from texts but what HTTP/2 keeps only as text.

use crate::net::connect::{ConnectError, late_alert};
use http::StatusCode;
use std::{error::Error, io, sync::Arc, time::Duration};
use tonic::{Code, Status};

/// How the transport failed, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// The backend itself, or a proxy in between, answered.
    NotTransport,
    /// No connection was made, or what is there speaks no HTTP/2; nothing was
    /// taken.
    NotConnected {
        /// The reason and the way out.
        cause: String,
    },
    /// The backend never looked at the request: it was closing the connection
    /// (GOAWAY), or refused the stream. Send it again at once and in silence.
    Unsent,
    /// The connection ended while the backend had the request.
    Died {
        /// How.
        cause: String,
    },
    /// The backend broke off this one call (RST_STREAM); its connection, and so
    /// its process, lives on.
    Reset {
        /// How.
        cause: String,
    },
    /// No answer in time, or none to a keepalive ping.
    Timeout,
}

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
    "the answer is no gRPC but HTTP {status} ({who}): is it a gRPC port, and does the proxy in front forward gRPC?",
    who = .server.as_deref().unwrap_or(.content_type)
)]
pub(super) struct NotGrpc {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) server: Option<String>,
    pub(super) retry_after: Option<Duration>,
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
        .and_then(classify)
        .unwrap_or(TransportFailure::NotTransport)
}

/// The HTTP status of an answer that was no gRPC, such as a proxy's 413 or 503.
pub fn http_status(status: &Status) -> Option<u16> {
    find::<NotGrpc>(status).map(|answer| answer.status.as_u16())
}

/// The wait that came with such an answer (`retry-after`, in seconds).
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
    let failure = classify(&error).unwrap_or_else(|| TransportFailure::Died {
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
    let code = match answer.status.as_u16() {
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

fn classify(error: &(dyn Error + 'static)) -> Option<TransportFailure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_timeout()
        {
            return Some(TransportFailure::Timeout);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(of_h2(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(of_io(error));
        }
        next = error.source();
    }
    None
}

fn of_h2(error: &h2::Error) -> TransportFailure {
    if let Some(error) = error.get_io() {
        return of_io(error);
    }
    let cause = error.to_string();
    if error.is_go_away() {
        // A stream ends with the peer's GOAWAY only when its id is above the
        // last one that the peer looked at.
        return if error.is_remote() {
            TransportFailure::Unsent
        } else {
            TransportFailure::NotConnected {
                cause: format!("it does not speak HTTP/2 on this port, which gRPC needs ({cause})"),
            }
        };
    }
    if error.is_reset() {
        return if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            TransportFailure::Unsent
        } else {
            TransportFailure::Reset { cause }
        };
    }
    TransportFailure::Died { cause }
}

fn of_io(error: &io::Error) -> TransportFailure {
    if let Some(cause) = late_alert(error) {
        return TransportFailure::NotConnected { cause };
    }
    let cause = error.to_string();
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return TransportFailure::NotConnected { cause };
    }
    // HTTP/2 keeps nothing of an I/O error but its text.
    if cause.contains("received fatal alert") {
        let cause = format!("{cause}: look at cert_file and key_file");
        return TransportFailure::NotConnected { cause };
    }
    TransportFailure::Died {
        cause: format!("the connection ended under the request: {cause}"),
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
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
