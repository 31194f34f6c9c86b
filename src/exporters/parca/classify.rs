//! What an answer to `WriteRaw` means for delivery. Those of other calls mean the same,
//! but for a `Write` that is broken off (`ParcaExporter::broken_off`).
//!
//! Parca's codes do not tell whether to try again, its messages do; and a Parca
//! that ends under a request looks like any connection that breaks.
//!
//! | answer | taken for |
//! |---|---|
//! | no connection | `Retry` |
//! | GOAWAY below the stream, refused stream | `Unsent`: never looked at, again at once |
//! | the connection, or only this stream, broke while Parca had the request | `Died` |
//! | HTTP 502; Unavailable that tells of a broken upstream | `Died`: so a death looks from behind a proxy. It may also be a store that is down, but then the probe fails as well and nothing is held against the request |
//! | other Unavailable, Aborted, Cancelled, Internal; HTTP 404, 405, 408, 415, 421, 425, 426, 429, 503, 504, 505 | `Retry`, after its `retry-after` if there is one: a server that stops, a proxy without a backend, a route that is not there yet |
//! | DeadlineExceeded, or no answer in time | `Retry`: Parca **may have stored it**, so it may be there twice |
//! | ResourceExhausted, `grpc: received message …`; OutOfRange; HTTP 413 | `Split`, too large |
//! | other ResourceExhausted | `Retry`, after its RetryInfo if there is one |
//! | Unknown, `decompressing profile …`, `invalid profile type …`; InvalidArgument; Internal, `grpc: error unmarshalling …` | `Split`: one part is bad |
//! | Unknown that ends in `i/o timeout` | `Split`, too large: the body took longer than 5 s. A single part below 64 KiB is tried again instead, for then the link is the trouble |
//! | other Unknown, other codes, HTTP 400 and 500 | `Unknown`: a storage failure, or something new |
//! | Unimplemented | `Rejected`: whoever is there is no Parca |
//! | Unauthenticated, PermissionDenied; HTTP 401, 403, 407; HTTP 400 by which nginx refuses the client's certificate | `Unauthorized` |

use crate::{
    exporters::shared::{retry_after, transport},
    net::{
        grpc::{classify_transport, http_retry_after, http_status},
        retry_info,
    },
    pipeline::{ExportError, Reason},
};
use tonic::{Code, Status};

/// Below this a part cannot be what made a body slow, in bytes.
const SLOW_LINK: u64 = 64 << 10;

/// How grpc-go, Envoy and their kin say that the connection behind them broke
/// while it was used.
const BROKEN_UPSTREAM: &[&str] = &[
    "connection termination",
    "connection reset",
    "error reading from server",
    "transport is closing",
    "broken pipe",
];

/// What delivery must do about `status`, the answer to a request of `bytes`
/// bytes and `parts` profiles.
pub fn classify(status: &Status, bytes: u64, parts: usize) -> ExportError {
    if let Some(error) = transport(classify_transport(status), || text(status)) {
        return error;
    }
    match http_status(status) {
        Some(http) => by_http(http, status),
        None => by_code(status, bytes, parts),
    }
}

fn by_http(http: u16, status: &Status) -> ExportError {
    match http {
        401 | 403 | 407 => unauthorized(status),
        413 => split(true, status),
        502 => died(status),
        404 | 405 | 408 | 415 | 421 | 425 | 426 | 429 | 503..=505 => {
            retry_after(http_retry_after(status), text(status))
        }
        _ => unknown(status),
    }
}

fn by_code(status: &Status, bytes: u64, parts: usize) -> ExportError {
    let message = status.message();
    match status.code() {
        Code::Unavailable if BROKEN_UPSTREAM.iter().any(|sign| message.contains(sign)) => {
            died(status)
        }
        Code::Internal if message.starts_with("grpc: error unmarshalling") => split(false, status),
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted
        | Code::Cancelled => retry(status),
        Code::ResourceExhausted if message.starts_with("grpc: received message") => {
            split(true, status)
        }
        Code::OutOfRange => split(true, status),
        Code::ResourceExhausted => retry_after(retry_info(status), text(status)),
        Code::InvalidArgument => split(false, status),
        Code::Unknown => by_message(status, bytes, parts),
        Code::Unimplemented => ExportError::Rejected {
            reason: Reason::Unimplemented,
            cause: text(status),
        },
        Code::Unauthenticated | Code::PermissionDenied => unauthorized(status),
        _ => unknown(status),
    }
}

fn by_message(status: &Status, bytes: u64, parts: usize) -> ExportError {
    let message = status.message();
    if message.starts_with("decompressing profile") || message.starts_with("invalid profile type") {
        split(false, status)
    } else if !message.trim_end_matches('"').ends_with("i/o timeout") {
        unknown(status)
    } else if parts > 1 || bytes >= SLOW_LINK {
        split(true, status)
    } else {
        retry(status)
    }
}

fn retry(status: &Status) -> ExportError {
    ExportError::Retry {
        after: None,
        cause: text(status),
    }
}

fn died(status: &Status) -> ExportError {
    ExportError::Died {
        cause: text(status),
    }
}

fn unknown(status: &Status) -> ExportError {
    ExportError::Unknown {
        cause: text(status),
    }
}

fn unauthorized(status: &Status) -> ExportError {
    ExportError::Unauthorized {
        cause: text(status),
    }
}

fn split(too_large: bool, status: &Status) -> ExportError {
    let reason = if too_large {
        Reason::TooLarge
    } else {
        Reason::RejectedByBackend
    };
    ExportError::Split {
        too_large,
        reason,
        cause: text(status),
    }
}

/// `InvalidArgument: missing __name__ label`.
fn text(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r#gen::rpc;
    use prost::Message;
    use std::time::Duration;

    fn name(error: &ExportError) -> &'static str {
        match error {
            ExportError::Retry { after: None, .. } => "retry",
            ExportError::Retry { .. } => "retry after",
            ExportError::Unsent => "unsent",
            ExportError::Died { .. } => "died",
            ExportError::Split {
                too_large: true,
                reason: Reason::TooLarge,
                ..
            } => "too large",
            ExportError::Split {
                too_large: false,
                reason: Reason::RejectedByBackend,
                ..
            } => "bad part",
            ExportError::Split { .. } => "a split of the wrong reason",
            ExportError::Unknown { .. } => "unknown",
            ExportError::Rejected { .. } => "rejected",
            ExportError::Unauthorized { .. } => "unauthorized",
        }
    }

    #[test]
    fn each_answer_of_the_store_has_a_meaning() {
        use Code::*;
        for (code, message, meaning) in [
            (InvalidArgument, "missing __name__ label", "bad part"),
            (InvalidArgument, "duplicate label name: a", "bad part"),
            (InvalidArgument, "invalid label name: ", "bad part"),
            (InvalidArgument, "failed to parse profile: x", "bad part"),
            (InvalidArgument, "invalid profile: x", "bad part"),
            (
                Unknown,
                "decompressing profile: gzip: invalid header",
                "bad part",
            ),
            (Unknown, "invalid profile type at row 3 (a b)", "bad part"),
            (Unknown, "insert: no space left on device", "unknown"),
            (Unknown, "unexpected EOF", "unknown"),
            (
                Unknown,
                "connection error: desc = \"i/o timeout\"",
                "too large",
            ),
            (Internal, "grpc: error unmarshalling request: x", "bad part"),
            (Internal, "stream terminated", "retry"),
            (
                ResourceExhausted,
                "grpc: received message larger than max (2 vs. 1)",
                "too large",
            ),
            (ResourceExhausted, "slow down", "retry"),
            (OutOfRange, "decoded message length too large", "too large"),
            (DeadlineExceeded, "context deadline exceeded", "retry"),
            (Aborted, "", "retry"),
            (Cancelled, "", "retry"),
            (Unavailable, "the server is shutting down", "retry"),
            (Unavailable, "error reading from server: EOF", "died"),
            (
                Unavailable,
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                "died",
            ),
            (
                Unavailable,
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
                "retry",
            ),
            (Unimplemented, "unknown service", "rejected"),
            (Unauthenticated, "no token", "unauthorized"),
            (PermissionDenied, "", "unauthorized"),
            (DataLoss, "", "unknown"),
            (FailedPrecondition, "", "unknown"),
        ] {
            let error = classify(&Status::new(code, message), 1_000_000, 10);
            assert_eq!(name(&error), meaning, "{code:?} {message}");
            if !matches!(error, ExportError::Unsent) {
                assert!(error.to_string().contains(message), "{error}");
            }
        }
    }

    #[test]
    fn a_slow_body_is_divided_only_while_that_can_help() {
        let slow = Status::unknown("connection error: desc = \"i/o timeout\"");
        for (bytes, parts, meaning) in [
            (1_000, 1, "retry"),
            (1_000, 2, "too large"),
            (SLOW_LINK, 1, "too large"),
        ] {
            assert_eq!(name(&classify(&slow, bytes, parts)), meaning);
        }
    }

    #[test]
    fn http_answers_of_proxies_have_a_meaning() {
        for (http, meaning) in [
            (400, "unknown"),
            (401, "unauthorized"),
            (403, "unauthorized"),
            (404, "retry"),
            (407, "unauthorized"),
            (413, "too large"),
            (429, "retry"),
            (500, "unknown"),
            (502, "died"),
            (503, "retry"),
            (504, "retry"),
            (505, "retry"),
        ] {
            assert_eq!(
                name(&by_http(http, &Status::unknown(""))),
                meaning,
                "{http}"
            );
        }
    }

    #[test]
    fn the_servers_own_wish_is_the_wait() {
        let info = rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration {
                seconds: 7,
                nanos: 500_000_000,
            }),
        };
        let status = rpc::Status {
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: info.encode_to_vec(),
            }],
            ..rpc::Status::default()
        };
        let details = status.encode_to_vec().into();
        let status = Status::with_details(Code::ResourceExhausted, "slow down", details);
        let ExportError::Retry { after, .. } = classify(&status, 0, 0) else {
            panic!("no retry");
        };
        assert_eq!(after, Some(Duration::from_millis(7_500)));
    }
}
