//! The keys that both OTLP exporters have beside those of their client.

use crate::{
    profile::{convert::OriginalPayload, otlp},
    settings::{ByteSize, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The least that a limit on bytes may be.
const MIN_BYTES: u64 = 4 << 10;

/// How requests are compressed.
///
/// A request that nobody edited leaves in the bytes in which it came, as long as
/// the setting covers their compression: `gzip` and `zstd` pass on what is gzip,
/// which every receiver of OTLP must take, and `zstd` what is zstd. All else is
/// compressed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Plain: what came compressed is inflated.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// zstd, which OTLP does not ask receivers to take; Collectors do.
    Zstd,
}

/// What both OTLP exporters do with profiles.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct BodySettings {
    /// Compression of requests: `gzip` (default), `zstd` or `none`. A request
    /// that came compressed and that nobody edited is not compressed again: what
    /// is gzip passes `gzip` and `zstd`, what is zstd passes `zstd`. Plain ones
    /// are compressed, which is most of what sending costs; `none` saves that
    /// where the network is no matter.
    pub compression: Compression,
    /// The most pprofs that are converted into one request. Requests that came as
    /// OTLP are not joined with others.
    pub max_request_profiles: u64,
    /// The largest pprof once inflated; larger ones are dropped.
    pub max_inflated_bytes: ByteSize,
    /// Whether a pprof goes along with the OTLP that was made of it (`keep`), as
    /// `original_payload`, or not (`none`, default). It about doubles the size,
    /// and nothing is lost then where the other side knows to use it.
    pub original_payload: OriginalPayload,
}

// === impl Compression ===

impl Compression {
    /// Whether a body of compression `has` leaves as it is.
    pub fn covers(self, has: otlp::Compression) -> bool {
        match self {
            Self::None => has == otlp::Compression::None,
            Self::Gzip => has == otlp::Compression::Gzip,
            Self::Zstd => has != otlp::Compression::None,
        }
    }

    /// What plain bodies are compressed with.
    pub fn method(self) -> otlp::Compression {
        match self {
            Self::None => otlp::Compression::None,
            Self::Gzip => otlp::Compression::Gzip,
            Self::Zstd => otlp::Compression::Zstd,
        }
    }
}

// === impl BodySettings ===

impl Default for BodySettings {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            max_request_profiles: 1_000,
            max_inflated_bytes: ByteSize::new(64 << 20),
            original_payload: OriginalPayload::default(),
        }
    }
}

impl BodySettings {
    /// Everything that is wrong, also with `max_request_bytes` beside it.
    pub fn problems(&self, max_request_bytes: ByteSize) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (path, bytes) in [
            ("max_request_bytes", max_request_bytes),
            ("max_inflated_bytes", self.max_inflated_bytes),
        ] {
            if bytes.get() < MIN_BYTES {
                problems.push(Problem::new(path, "it must be at least 4KiB"));
            }
        }
        if self.max_request_profiles == 0 {
            problems.push(Problem::new(
                "max_request_profiles",
                "it must be at least 1",
            ));
        }
        problems
    }
}
