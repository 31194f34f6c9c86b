//! What delivery must do about a refusal, as OTLP's specification says it for
//! gRPC and HTTP in the same way.

use crate::pipeline::{ExportError, Reason};

/// How servers of OTLP say that a request is larger than they take, where its
/// code does not: grpc-go, C-core and its languages, grpc-java, .NET and tonic;
/// the Collector over HTTP.
const TOO_LARGE: &[&str] = &[
    "larger than max",
    "exceeds maximum size",
    "exceeds the maximum",
    "message length too large",
    "request body too large",
];

/// How Pyroscope says that a profile's time is none that it takes now: `profile with
/// labels '…' is outside of ingestion window (profile timestamp: T, the ingestion
/// window starts at A and ends at B)`, either end only where it has one; and as the
/// reason.
const OUTSIDE_OF_WINDOW: &[&str] = &["outside of ingestion window", "not_in_ingestion_window"];

/// Whether a refusal is about size.
pub fn is_about_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    TOO_LARGE.iter().any(|sign| message.contains(sign))
}

/// Smaller requests may pass.
pub fn too_large(cause: String) -> ExportError {
    ExportError::Split {
        too_large: true,
        reason: Reason::TooLarge,
        cause,
    }
}

/// Nothing of it will pass, for the reason that its `message` gives.
pub fn rejected(message: &str, cause: String) -> ExportError {
    ExportError::Rejected {
        reason: reason(message),
        cause,
    }
}

/// The backend does not know profiles.
pub fn unimplemented(cause: String) -> ExportError {
    ExportError::Rejected {
        reason: Reason::Unimplemented,
        cause,
    }
}

/// The content is bad, for the reason that its `message` gives. A request that came
/// as one is refused as one. Of one that was `composed` here, of pprofs from several
/// targets, the bad one is looked for.
pub fn bad_content(composed: bool, message: &str, cause: String) -> ExportError {
    if !composed {
        return rejected(message, cause);
    }
    ExportError::Split {
        too_large: false,
        reason: reason(message),
        cause,
    }
}

fn reason(message: &str) -> Reason {
    match is_too_old(message) {
        true => Reason::TooOld,
        false => Reason::RejectedByBackend,
    }
}

/// Whether it came too late, which no other attempt can mend. One from the future is
/// another matter: a clock is wrong.
fn is_too_old(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    if !OUTSIDE_OF_WINDOW.iter().any(|sign| message.contains(sign)) {
        return false;
    }
    let after = |sign| message.split_once(sign).map(|(_, time)| time);
    let (time, start) = (after("profile timestamp: "), after("window starts at "));
    match (time, start) {
        // Times in one form, largest unit first: they are in the order of their texts.
        (Some(time), Some(start)) => time < start,
        _ => !message.contains("window ends at "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(time: &str, window: &str) -> String {
        format!(
            "profile with labels '{{service_name=\"api\"}}' is outside of ingestion window \
             (profile timestamp: {time}, the ingestion window {window})"
        )
    }

    #[test]
    fn what_came_too_late_is_told_from_what_comes_from_the_future() {
        let both =
            "starts at 2023-02-17 11:13:14 +0000 UTC and ends at 2023-02-17 12:23:14 +0000 UTC";
        for (time, window, expected) in [
            ("2023-02-17 11:12:14 +0000 UTC", both, Reason::TooOld),
            ("2023-02-17 11:13:13.999 +0000 UTC", both, Reason::TooOld),
            ("2023-02-16 23:59:59 +0000 UTC", both, Reason::TooOld),
            (
                "2023-02-17 13:13:14 +0000 UTC",
                both,
                Reason::RejectedByBackend,
            ),
            (
                "2023-02-17 11:12:14 +0000 UTC",
                "starts at 2023-02-17 11:13:14 +0000 UTC",
                Reason::TooOld,
            ),
            (
                "2023-02-17 13:13:14 +0000 UTC",
                "ends at 2023-02-17 12:23:14 +0000 UTC",
                Reason::RejectedByBackend,
            ),
        ] {
            assert_eq!(reason(&outside(time, window)), expected, "{time}, {window}");
        }
        let short = "push rejected: not_in_ingestion_window";
        assert_eq!(reason(short), Reason::TooOld);
        assert_eq!(reason("no dictionary"), Reason::RejectedByBackend);
    }

    #[test]
    fn of_a_composed_request_only_what_is_too_old_goes() {
        let message = "not_in_ingestion_window";
        let one = bad_content(false, message, message.to_owned());
        let too_old = ExportError::Rejected {
            reason: Reason::TooOld,
            cause: message.to_owned(),
        };
        assert_eq!(format!("{one:?}"), format!("{too_old:?}"));
        let split = bad_content(true, message, message.to_owned());
        assert!(matches!(
            split,
            ExportError::Split {
                too_large: false,
                reason: Reason::TooOld,
                ..
            }
        ));
    }
}
