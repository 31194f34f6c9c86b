//! The settings of the `otlp_http` exporter; those of delivery stand beside them.

use crate::{
    exporters::shared::otlp::settings::BodySettings,
    net::HttpSenderSettings,
    settings::{ByteSize, ComponentSettings, Problem},
};
use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where profiles go below an endpoint, as long as the signal is in development.
const PATH: &str = "/v1development/profiles";

/// What a Collector takes unless it is told otherwise, in bytes.
const COLLECTOR_DEFAULT: u64 = 20 << 20;

/// Sends OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// The backend, `http://host:port` or `https://host:port`, with a path in
    /// front of `/v1development/profiles` if it has one.
    pub endpoint: String,
    /// The whole address, path included, instead of `endpoint`.
    pub profiles_endpoint: Option<String>,
    /// `proto` (default) or `json`. JSON is several times as large and cannot say
    /// fields of newer versions, which are lost.
    pub encoding: Encoding,
    /// How to connect.
    #[serde(flatten)]
    pub client: HttpSenderSettings,
    /// What is done with profiles.
    #[serde(flatten)]
    pub bodies: BodySettings,
    /// The largest request before compression. The default is what Collectors
    /// take unless they are told otherwise (`max_request_body_size`). Larger ones
    /// are divided: between resources, then between profiles, pprofs by samples.
    pub max_request_bytes: ByteSize,
}

/// What requests are encoded as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Binary protobuf.
    #[default]
    Proto,
    /// Protobuf's JSON.
    Json,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            profiles_endpoint: None,
            encoding: Encoding::default(),
            client: HttpSenderSettings::default(),
            bodies: BodySettings::default(),
            max_request_bytes: ByteSize::new(COLLECTOR_DEFAULT),
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.address().err().into_iter().collect();
        problems.extend(self.client.problems());
        problems.extend(self.bodies.problems(self.max_request_bytes));
        problems
    }
}

impl Settings {
    /// Where requests go.
    pub(super) fn address(&self) -> Result<Uri, Problem> {
        match self
            .profiles_endpoint
            .as_deref()
            .filter(|text| !text.is_empty())
        {
            Some(address) => parse("profiles_endpoint", address),
            None if self.endpoint.is_empty() => Err(Problem::new(
                "endpoint",
                "it must be set: write http://host:port or https://host:port",
            )),
            None => {
                let base = self.endpoint.trim_end_matches('/');
                parse("endpoint", &format!("{base}{PATH}"))
            }
        }
    }
}

fn parse(key: &str, address: &str) -> Result<Uri, Problem> {
    let wrong = |message: &str| Problem::new(key, message);
    let uri: Uri = address
        .parse()
        .map_err(|_| wrong("no address: write http://host:port or https://host:port"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(wrong(
            "no address: write http://host:port or https://host:port",
        ));
    }
    if uri
        .authority()
        .is_some_and(|place| place.as_str().contains('@'))
    {
        return Err(wrong("it must hold no credentials: use auth"));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_path_follows_the_endpoint_and_a_whole_address_is_taken_as_it_is() {
        for (given, address) in [
            (
                serde_json::json!({"endpoint": "http://a:4318"}),
                "http://a:4318/v1development/profiles",
            ),
            (
                serde_json::json!({"endpoint": "https://a/otlp/"}),
                "https://a/otlp/v1development/profiles",
            ),
            (
                serde_json::json!({"endpoint": "http://a", "profiles_endpoint": "http://b/x?y=1"}),
                "http://b/x?y=1",
            ),
        ] {
            let settings = settings(given);
            assert!(settings.problems().is_empty());
            assert_eq!(settings.address().unwrap(), address);
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        for endpoint in [
            "",
            "a:4318",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "unix:/x",
        ] {
            let settings = settings(serde_json::json!({
                "endpoint": endpoint,
                "headers": {"content-type": "x", "a b": "x"},
                "auth": {"bearer_token": "a", "basic": {"username": "u", "password": "p"}},
                "tls": {"min_version": "2"},
                "no_proxy": "x",
                "max_request_bytes": "1KiB",
                "max_request_profiles": 0,
            }));
            let paths: Vec<_> = settings.problems().into_iter().map(|p| p.path).collect();
            assert_eq!(
                paths,
                [
                    "endpoint",
                    "tls.min_version",
                    "auth.basic",
                    "headers.a b",
                    "headers.content-type",
                    "no_proxy",
                    "max_request_bytes",
                    "max_request_profiles",
                ],
                "{endpoint}"
            );
        }
    }

    #[test]
    fn every_key_of_the_collector_is_known() {
        let settings = settings(serde_json::json!({
            "endpoint": "https://collector:4318",
            "encoding": "json",
            "compression": "zstd",
            "headers": {"x-scope-orgid": "apps"},
            "tls": {"ca_file": "ca.pem", "server_name_override": "x"},
            "proxy_url": "http://proxy:3128",
            "force_attempt_http2": false,
            "http2_read_idle_timeout": "1s",
            "http2_ping_timeout": "1s",
            "max_idle_conns": 3,
            "idle_conn_timeout": "1s",
        }));
        assert_eq!(settings.encoding, Encoding::Json);
        assert!(settings.problems().is_empty());
    }
}
