//! What a broken connection means for delivery, and how long a server's wish is.

use crate::{net::TransportFailure, pipeline::ExportError};
use std::time::Duration;

/// What delivery must do when a request got no answer; `None` when it got one.
/// `late` is what is said when time ran out.
///
/// A stream that was broken off while its connection lives may be a worker that
/// died, and counts as a death too: a probe tells.
pub fn transport(failure: TransportFailure, late: impl FnOnce() -> String) -> Option<ExportError> {
    Some(match failure {
        TransportFailure::NotConnected { cause } => retry_after(None, cause),
        TransportFailure::Unsent => ExportError::Unsent,
        TransportFailure::Died { cause } | TransportFailure::Reset { cause } => {
            ExportError::Died { cause }
        }
        TransportFailure::Timeout => retry_after(None, late()),
        TransportFailure::NotTransport => return None,
    })
}

/// A retry after the server's wish. A wish of 0 leaves the wait to delivery, for
/// a server that is in trouble must not be asked in a loop.
pub fn retry_after(wish: Option<Duration>, cause: String) -> ExportError {
    ExportError::Retry {
        after: wish.filter(|wish| !wish.is_zero()),
        cause,
    }
}
