//! What an answer to `Export` means for delivery.
//!
//! | answer | taken for |
//! |---|---|
//! | no connection | `Retry` |
//! | GOAWAY below the stream, refused stream | `Unsent`: never looked at, again at once |
//! | the connection, or only this stream, broke while the backend had the request | `Died` |
//! | no answer in time | `Retry` |
//! | CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS | `Retry`, after its RetryInfo if there is one |
//! | RESOURCE_EXHAUSTED with RetryInfo | `Retry`, after that |
//! | RESOURCE_EXHAUSTED (and tonic's OUT_OF_RANGE) whose text is about size | `Split`, too large |
//! | UNAUTHENTICATED, PERMISSION_DENIED | `Unauthorized`: by the specification the second is lost at once; here a wrong role costs nothing until `max_age` |
//! | UNIMPLEMENTED | `Rejected` (`unimplemented`) |
//! | INVALID_ARGUMENT, INTERNAL | `Rejected`; of several pprofs `Split`, to find the bad one |
//! | all others | `Rejected` |
//! | those of the last two rows whose text says that the profile's time is before what the backend takes | the same, `too_old` |
//! | HTTP 413 of a proxy | `Split`, too large |
//! | HTTP 407 of a proxy | `Unauthorized` |
//! | other HTTP without gRPC | as gRPC maps it: 401, and 400 by which nginx refuses the client's certificate, UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 UNIMPLEMENTED, 400 INTERNAL, 429, 502, 503 and 504 UNAVAILABLE after its `retry-after`, else UNKNOWN |

use crate::{
    exporters::shared::{
        otlp::{
            shortened,
            verdict::{bad_content, is_about_size, rejected, too_large, unimplemented},
        },
        retry_after, transport,
    },
    net::{
        grpc::{classify_transport, http_retry_after, http_status},
        retry_info,
    },
    pipeline::ExportError,
};
use tonic::{Code, Status};

/// What delivery must do about `status`. `composed`: the request was made of
/// several pprofs.
pub(super) fn classify(status: &Status, composed: bool) -> ExportError {
    if let Some(error) = transport(classify_transport(status), || text(status)) {
        return error;
    }
    match http_status(status) {
        Some(413) => too_large(text(status)),
        Some(407) => unauthorized(status),
        _ => by_code(status, composed),
    }
}

fn by_code(status: &Status, composed: bool) -> ExportError {
    let about_size = is_about_size(status.message());
    let wish = retry_info(status).or_else(|| http_retry_after(status));
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted if about_size && wish.is_none() => {
            too_large(text(status))
        }
        Code::ResourceExhausted if wish.is_none() => rejected(status.message(), text(status)),
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted => retry_after(wish, text(status)),
        Code::Unauthenticated | Code::PermissionDenied => unauthorized(status),
        Code::Unimplemented => unimplemented(text(status)),
        Code::InvalidArgument | Code::Internal => {
            bad_content(composed, status.message(), text(status))
        }
        _ => rejected(status.message(), text(status)),
    }
}

fn unauthorized(status: &Status) -> ExportError {
    ExportError::Unauthorized {
        cause: text(status),
    }
}

/// `InvalidArgument: no dictionary`.
fn text(status: &Status) -> String {
    match shortened(status.message()) {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{r#gen::rpc, pipeline::Reason};
    use prost::Message;
    use std::time::Duration;

    fn with_wish(code: Code, seconds: i64) -> Status {
        let info = rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let details = rpc::Status {
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: info.encode_to_vec(),
            }],
            ..rpc::Status::default()
        };
        Status::with_details(code, "slow down", details.encode_to_vec().into())
    }

    fn name(error: &ExportError) -> &'static str {
        match error {
            ExportError::Retry { after: None, .. } => "retry",
            ExportError::Retry { .. } => "retry after",
            ExportError::Unauthorized { .. } => "unauthorized",
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
            ExportError::Rejected {
                reason: Reason::RejectedByBackend,
                ..
            } => "rejected",
            ExportError::Rejected {
                reason: Reason::Unimplemented,
                ..
            } => "unimplemented",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_code_means_what_the_specification_says() {
        use Code::*;
        for (code, one, composed) in [
            (Cancelled, "retry", "retry"),
            (Unknown, "rejected", "rejected"),
            (InvalidArgument, "rejected", "bad part"),
            (DeadlineExceeded, "retry", "retry"),
            (NotFound, "rejected", "rejected"),
            (AlreadyExists, "rejected", "rejected"),
            (PermissionDenied, "unauthorized", "unauthorized"),
            (ResourceExhausted, "rejected", "rejected"),
            (FailedPrecondition, "rejected", "rejected"),
            (Aborted, "retry", "retry"),
            (OutOfRange, "retry", "retry"),
            (Unimplemented, "unimplemented", "unimplemented"),
            (Internal, "rejected", "bad part"),
            (Unavailable, "retry", "retry"),
            (DataLoss, "retry", "retry"),
            (Unauthenticated, "unauthorized", "unauthorized"),
        ] {
            let status = Status::new(code, "its reason");
            assert_eq!(name(&classify(&status, false)), one, "{code:?}");
            assert_eq!(name(&classify(&status, true)), composed, "{code:?}");
            let text = classify(&status, false).to_string();
            assert_eq!(text, format!("{code:?}: its reason"));
        }
    }

    #[test]
    fn retry_info_is_the_wait_and_makes_exhaustion_pass() {
        for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted] {
            let ExportError::Retry { after, .. } = classify(&with_wish(code, 12), false) else {
                panic!("{code:?}");
            };
            assert_eq!(after, Some(Duration::from_secs(12)), "{code:?}");
            // A wish of nothing still says that trying again may help.
            assert_eq!(name(&classify(&with_wish(code, 0), false)), "retry");
        }
        let permanent = classify(&with_wish(Code::InvalidArgument, 12), false);
        assert_eq!(name(&permanent), "rejected");
    }

    #[test]
    fn servers_of_all_languages_say_what_is_too_large() {
        for (code, message) in [
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (5 vs. 4)",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message after decompression larger than max 4194304",
            ),
            (
                Code::ResourceExhausted,
                "SERVER: Received message larger than max (5 vs. 4)",
            ),
            (
                Code::ResourceExhausted,
                "gRPC message exceeds maximum size 4: 5",
            ),
            (
                Code::ResourceExhausted,
                "Received message exceeds the maximum configured message size.",
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            ),
        ] {
            let status = Status::new(code, message);
            assert_eq!(name(&classify(&status, false)), "too large", "{message}");
        }
    }

    #[test]
    fn what_comes_too_late_has_a_reason_of_its_own() {
        // Its labels come first, so a text that is cut does not say it any more.
        let labels = "pod=api-7c9f, ".repeat(100);
        let message = format!(
            "profile with labels '{labels}' is outside of ingestion window (profile timestamp: \
             2023-02-17 11:12:14 +0000 UTC, the ingestion window starts at 2023-02-17 11:13:14 +0000 UTC)"
        );
        for composed in [false, true] {
            let status = Status::invalid_argument(&message);
            let reason = match classify(&status, composed) {
                ExportError::Rejected { reason, .. } | ExportError::Split { reason, .. } => reason,
                other => panic!("{other:?}"),
            };
            assert_eq!(reason, Reason::TooOld);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let text = classify(&Status::unavailable("ü".repeat(10_000)), false).to_string();
        assert!(text.len() < 600, "{}", text.len());
    }
}
