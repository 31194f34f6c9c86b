//! What an answer over HTTP means for delivery.
//!
//! | answer | taken for |
//! |---|---|
//! | no connection, no HTTP there | `Retry` |
//! | GOAWAY below the stream, refused stream | `Unsent`: never looked at, again at once |
//! | the connection, or only this stream, broke while the backend had the request | `Died` |
//! | 2xx, HTML | `Rejected`: a page of something else |
//! | other 2xx | taken, whatever it says |
//! | 429, 502, 503, 504 | `Retry`, after its `Retry-After` if there is one, in seconds or as a date |
//! | 413; 400 whose text is about size, as a Collector says it | `Split`, too large |
//! | 401, 403, 407; 400 by which nginx refuses the client's certificate | `Unauthorized`: by the specification they are lost at once; here a wrong token costs nothing until `max_age` |
//! | 404, 405, 501 | `Rejected` (`unimplemented`) |
//! | 400, 422 | `Rejected`; of several pprofs `Split`, to find the bad one |
//! | all others, redirects too | `Rejected` |
//! | those of the last two rows whose text says that the profile's time is before what the backend takes | the same, `too_old` |

use crate::{
    exporters::shared::{
        otlp::{
            shortened,
            verdict::{bad_content, is_about_size, rejected, too_large, unimplemented},
        },
        retry_after,
    },
    net::is_about_certificate,
    pipeline::ExportError,
};
use http::StatusCode;
use std::time::Duration;

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// What it says for a reason, in full.
    pub(super) message: String,
}

/// What delivery must do about it. `composed`: the request was made of several
/// pprofs.
pub(super) fn classify(refusal: &Refusal, composed: bool) -> ExportError {
    let cause = refusal.to_string();
    match refusal.status.as_u16() {
        429 | 502 | 503 | 504 => retry_after(refusal.retry_after, cause),
        413 => too_large(cause),
        400 if is_about_size(&refusal.message) => too_large(cause),
        400 if is_about_certificate(&refusal.message) => ExportError::Unauthorized { cause },
        400 | 422 => bad_content(composed, &refusal.message, cause),
        401 | 403 | 407 => ExportError::Unauthorized { cause },
        404 | 405 | 501 => unimplemented(cause),
        _ => rejected(&refusal.message, cause),
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match shortened(&self.message) {
            "" => write!(f, "HTTP {}", self.status),
            message => write!(f, "HTTP {}: {message}", self.status),
        }
    }
}
