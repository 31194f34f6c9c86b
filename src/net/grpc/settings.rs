//! The gRPC client keys of the OpenTelemetry Collector (configgrpc), plus the
//! proxy keys of HTTP clients.

use super::target::Target;
use crate::{
    net::{credentials::ClientAuth, proxy::ProxySettings, tls::ClientTls},
    settings::{Duration, Problem, Secret},
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a gRPC backend is reached; flattened into an exporter's settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct GrpcClientSettings {
    /// `host:port`, `https://host:port`, `http://host:port` (plaintext),
    /// `dns:///host:port` or `unix:/path`. Port 443 (80 for `http://`) unless
    /// given.
    pub endpoint: String,
    /// TLS, which is on unless `insecure: true` or the endpoint says `http://`.
    pub tls: ClientTls,
    /// Metadata of every request, beside `auth`.
    pub headers: BTreeMap<String, Secret>,
    /// Credentials.
    pub auth: ClientAuth,
    /// HTTP/2 pings, off unless `time` is set.
    pub keepalive: Option<Keepalive>,
    /// How requests are spread over the addresses of the endpoint's name.
    pub balancer_name: BalancerName,
    /// The longest a request may take, connecting included; `0` for no limit.
    pub timeout: Duration,
    /// The longest that connecting to one address may take.
    pub connect_timeout: Duration,
    /// How old the addresses of the endpoint's name may become before they are
    /// looked up again.
    pub resolve_interval: Duration,
    /// The proxy; gRPC always goes through `CONNECT`.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

/// HTTP/2 pings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Keepalive {
    /// The time between pings; `0` for none.
    pub time: Duration,
    /// How long an answer may take before the connection counts as dead.
    pub timeout: Duration,
    /// Pings although no request is in flight.
    pub permit_without_stream: bool,
}

/// How requests are spread over addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalancerName {
    /// Each request goes to the next address.
    #[default]
    RoundRobin,
    /// All requests go to one address while it can be reached.
    PickFirst,
}

// === impl GrpcClientSettings ===

impl Default for GrpcClientSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: ClientTls::default(),
            headers: BTreeMap::new(),
            auth: ClientAuth::default(),
            keepalive: None,
            balancer_name: BalancerName::default(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            resolve_interval: Duration::from_secs(30),
            proxy: ProxySettings::default(),
        }
    }
}

impl GrpcClientSettings {
    /// Everything that is wrong. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        if let Err(problem) = Target::parse(&self.endpoint, self.tls.insecure) {
            problems.push(problem);
        }
        problems.extend(
            self.tls
                .problems()
                .into_iter()
                .map(|problem| problem.below("tls")),
        );
        problems.extend(
            self.auth
                .problems()
                .into_iter()
                .map(|problem| problem.below("auth")),
        );
        for (name, value) in &self.headers {
            problems.extend(header_problem(name, value));
        }
        if self.connect_timeout.is_zero() {
            problems.push(Problem::new("connect_timeout", "it must be above 0"));
        }
        problems.extend(self.proxy.problems());
        problems
    }
}

fn header_problem(name: &str, value: &Secret) -> Option<Problem> {
    let path = format!("headers.{name}");
    let Ok(parsed) = HeaderName::try_from(name) else {
        return Some(Problem::new(path, "no header name"));
    };
    if parsed.as_str().starts_with("grpc-")
        || matches!(
            parsed.as_str(),
            "content-type" | "te" | "host" | "connection"
        )
    {
        return Some(Problem::new(path, "gRPC sets this header itself"));
    }
    HeaderValue::try_from(value.expose())
        .err()
        .map(|_| Problem::new(path, "no header value"))
}

// === impl Keepalive ===

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::default(),
            timeout: Duration::from_secs(10),
            permit_without_stream: false,
        }
    }
}
