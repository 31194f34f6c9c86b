//! The settings: the Collector's otlpreceiver keys, and the bounds that are ours.

use crate::{
    net::serve::{GrpcServerSettings, HttpServerSettings},
    receivers::shared::Pacing,
    settings::{ComponentSettings, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Programs, profilers and Collectors push their profiles here, over gRPC or HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// What is listened to; at least one.
    pub protocols: Protocols,
    /// Requests of each protocol at a time; more are refused with a wait.
    pub max_concurrent_requests: u32,
    /// Senders that are faster than what is behind them.
    pub pacing: Pacing,
}

/// The protocols. One that is not given is not served; one that is given
/// without settings has its defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Protocols {
    /// OTLP over gRPC.
    pub grpc: Option<GrpcProtocol>,
    /// OTLP over HTTP, `POST /v1development/profiles` (also `/v1/profiles`), in
    /// protobuf and JSON.
    pub http: Option<HttpProtocol>,
}

/// OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct GrpcProtocol {
    /// `host:port`, or `unix:/path`.
    pub endpoint: String,
    /// How it is served.
    #[serde(flatten)]
    pub server: GrpcServerSettings,
}

/// OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HttpProtocol {
    /// `host:port`, or `unix:/path`.
    pub endpoint: String,
    /// How it is served.
    #[serde(flatten)]
    pub server: HttpServerSettings,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocols: Protocols::default(),
            max_concurrent_requests: 1_024,
            pacing: Pacing::default(),
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        let (grpc, http) = (&self.protocols.grpc, &self.protocols.http);
        let mut problems = below(
            grpc.as_ref().map(|p| p.server.problems(&p.endpoint)),
            http.as_ref().map(|p| p.server.problems(&p.endpoint)),
        );
        match (grpc, http) {
            (None, None) => problems.push(Problem::new(
                "protocols",
                "nothing is listened to: set grpc, http, or both, as in protocols: {grpc: }",
            )),
            (Some(grpc), Some(http)) if same(&grpc.endpoint, &http.endpoint) => {
                problems.push(Problem::new(
                    "protocols.http.endpoint",
                    "grpc listens there already: they need an address each",
                ));
            }
            _ => {}
        }
        if self.max_concurrent_requests == 0 {
            problems.push(Problem::new(
                "max_concurrent_requests",
                "it must be above 0",
            ));
        }
        problems
    }
}

/// Problems of both protocols, seen from the component.
pub(super) fn below(grpc: Option<Vec<Problem>>, http: Option<Vec<Problem>>) -> Vec<Problem> {
    let grpc = grpc
        .into_iter()
        .flatten()
        .map(|p| p.below("protocols.grpc"));
    let http = http
        .into_iter()
        .flatten()
        .map(|p| p.below("protocols.http"));
    grpc.chain(http).collect()
}

/// Port 0 is another one each time.
fn same(one: &str, other: &str) -> bool {
    one == other && !one.ends_with(":0")
}

// === impl GrpcProtocol ===

impl Default for GrpcProtocol {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            server: GrpcServerSettings::default(),
        }
    }
}

// === impl HttpProtocol ===

impl Default for HttpProtocol {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".to_owned(),
            server: HttpServerSettings::default(),
        }
    }
}
