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

/// Nothing of it will pass.
pub fn rejected(cause: String) -> ExportError {
    ExportError::Rejected {
        reason: Reason::RejectedByBackend,
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

/// The content is bad. A request that came as one is refused as one. Of one that
/// was `composed` here, of pprofs from several targets, the bad one is looked
/// for.
pub fn bad_content(composed: bool, cause: String) -> ExportError {
    if !composed {
        return rejected(cause);
    }
    ExportError::Split {
        too_large: false,
        reason: Reason::RejectedByBackend,
        cause,
    }
}
