//! What became of a request that got no answer.
//!
//! A relay must know more than "unavailable": a request that was never looked at
//! goes out again in silence, and one under which the backend's connection died
//! may be what killed it (`DESIGN.md`, law 5). Nothing is read from texts but
//! what HTTP/2 keeps only as text.

use super::connect::late_alert;
use std::{error::Error, io};

/// How the transport failed, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// The backend itself, or a proxy in between, answered.
    NotTransport,
    /// No connection was made, or what is there speaks another protocol; nothing
    /// was taken.
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

/// What an error of hyper or h2, or what is behind it, says about the transport;
/// `None` when it says nothing.
pub(super) fn of_error(error: &(dyn Error + 'static)) -> Option<TransportFailure> {
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

pub(super) fn of_io(error: &io::Error) -> TransportFailure {
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

/// The text of what is behind all others.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
