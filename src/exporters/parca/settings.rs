//! The settings of the `parca` exporter; those of delivery stand beside them.

use crate::{
    net::GrpcClientSettings,
    profile::NAME,
    settings::{ByteSize, ComponentSettings, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The largest message any Parca takes, in bytes.
const PARCA_MAX_BYTES: u64 = 64 << 20;
const MIN_BYTES: u64 = 4 << 10;

/// Sends to a Parca server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Where and how to connect.
    #[serde(flatten)]
    pub client: GrpcClientSettings,
    /// Compression of requests: `none` (default) or `gzip`. Profiles are mostly
    /// compressed already.
    pub compression: Compression,
    /// The largest request, in encoded bytes. The default passes the nginx in
    /// front of Charmed Parca, which refuses bodies above 1 MiB; without a proxy
    /// it may be raised up to 64 MiB, but a request must arrive within 5 s. A
    /// single profile above it is divided by samples.
    pub max_request_bytes: ByteSize,
    /// The most rows of one request: a row is a value that is not zero, and costs
    /// Parca about 13 µs of CPU and 5 kB of memory. A profile with more goes
    /// alone.
    pub max_request_rows: u64,
    /// The most profiles of one request.
    pub max_request_profiles: u64,
    /// What OTLP bodies are sent as.
    pub otlp_as: OtlpAs,
    /// What parca-agent's Arrow is sent as.
    pub arrow_as: ArrowAs,
    /// The largest profile once inflated; larger ones are dropped, for Parca
    /// itself has no such limit.
    pub max_inflated_bytes: ByteSize,
    /// Labels of samples that become labels of series, for Parca stores no
    /// others. Each combination of their values becomes a series of its own. A
    /// name that the series has already becomes `exported_<name>`.
    pub sample_labels: Vec<String>,
    /// The most series that `sample_labels` makes of one profile; the samples of
    /// further combinations stay together, without these labels.
    pub sample_label_series_limit: u64,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// What OTLP bodies are sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpAs {
    /// As pprofs, which every Parca stores under the right names.
    #[default]
    Pprof,
    /// As OTLP, but only what Parca's OTLP intake (0.27 and newer) bears: frames
    /// without lines (that Parca symbolises itself), one value a sample, all types
    /// set. All else still goes as pprof.
    Otlp,
}

/// What parca-agent's Arrow is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArrowAs {
    /// In the schema in which it came, v1 by `Write` and v2 by `WriteArrow`; v2 as v1
    /// for a Parca that does not take it (before 0.28). Either is decoded and written
    /// anew, because damaged Arrow ends a Parca.
    #[default]
    Auto,
    /// As schema v1 by `Write`, which every Parca takes. Parca stores the functions of
    /// schema v2 under their system names alone, so that its TOP report merges them;
    /// those of schema v1 it stores under both.
    V1,
}

// === impl Settings ===

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.client.problems();
        let bytes = self.max_request_bytes.get();
        if !(MIN_BYTES..=PARCA_MAX_BYTES).contains(&bytes) {
            problems.push(Problem::new(
                "max_request_bytes",
                "it must be between 4KiB and 64MiB, the most that Parca takes",
            ));
        }
        if self.max_inflated_bytes.get() < MIN_BYTES {
            problems.push(Problem::new(
                "max_inflated_bytes",
                "it must be at least 4KiB",
            ));
        }
        for (name, value) in [
            ("max_request_rows", self.max_request_rows),
            ("max_request_profiles", self.max_request_profiles),
            ("sample_label_series_limit", self.sample_label_series_limit),
        ] {
            if value == 0 {
                problems.push(Problem::new(name, "it must be at least 1"));
            }
        }
        problems.extend(self.sample_label_problems());
        problems
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client: GrpcClientSettings::default(),
            compression: Compression::default(),
            max_request_bytes: ByteSize::new(1_000_000),
            max_request_rows: 20_000,
            max_request_profiles: 1_000,
            otlp_as: OtlpAs::default(),
            arrow_as: ArrowAs::default(),
            max_inflated_bytes: ByteSize::new(64 << 20),
            sample_labels: Vec::new(),
            sample_label_series_limit: 100,
        }
    }
}

impl Settings {
    fn sample_label_problems(&self) -> Vec<Problem> {
        let mut seen = BTreeSet::new();
        let mut problems = Vec::new();
        for (at, name) in self.sample_labels.iter().enumerate() {
            let message = match name.as_str() {
                "" => "a label needs a name",
                NAME => "it names the profile and is no label of samples",
                _ if !seen.insert(name) => "it is listed twice",
                _ => continue,
            };
            problems.push(Problem::new(format!("sample_labels[{at}]"), message));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_said_at_once() {
        let settings = Settings {
            max_request_bytes: ByteSize::new(65 << 20),
            max_request_rows: 0,
            sample_labels: vec!["a".into(), "a".into(), "__name__".into(), String::new()],
            ..Settings::default()
        };
        let paths: Vec<_> = settings.problems().into_iter().map(|p| p.path).collect();
        assert_eq!(
            paths,
            [
                "endpoint",
                "max_request_bytes",
                "max_request_rows",
                "sample_labels[1]",
                "sample_labels[2]",
                "sample_labels[3]"
            ]
        );
    }

    #[test]
    fn the_client_is_configured_beside_the_limits() {
        let settings: Settings = serde_json::from_str(
            r#"{"endpoint": "parca:7070", "max_request_bytes": "2MiB", "sample_labels": ["pod"]}"#,
        )
        .unwrap();
        assert_eq!(settings.client.endpoint, "parca:7070");
        assert_eq!(settings.max_request_bytes, ByteSize::new(2 << 20));
        assert_eq!(settings.max_request_rows, 20_000);
        assert!(settings.problems().is_empty());
    }
}
