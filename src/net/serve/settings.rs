//! The server keys of the OpenTelemetry Collector (configgrpc, confighttp). The
//! endpoint itself is each receiver's own key, because its default is.

use super::{
    Cors, IncludeMetadata, LimitsSettings, Plan, Transport, body::Reading, doors::Doors,
    listener::Endpoint, server::Bounds,
};
use crate::{
    net::{
        auth::{Authenticator, Certificates, ServerAuth},
        tls::{ClientAuth, ServerTls},
    },
    pipeline::Budget,
    settings::{ByteSize, Duration, Problem, Secret},
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The largest length of a gRPC message, in MiB: it has four bytes.
const MAX_MESSAGE_MIB: u64 = 4_095;

/// Requests of one HTTP/2 connection at a time on a listener for HTTP.
const HTTP_STREAMS: u32 = 256;

/// How gRPC is served.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct GrpcServerSettings {
    /// What the endpoint is: `tcp` (also `unix:/path`), or `unix` for a path.
    pub transport: Transport,
    /// TLS, off unless given.
    pub tls: Option<ServerTls>,
    /// Who may send, and as whom; everybody unless given.
    pub auth: Option<ServerAuth>,
    /// What clients may do before anybody knows them.
    pub limits: LimitsSettings,
    /// The largest message in MiB, as it travels and when inflated. 64 is what
    /// OTLP recommends; the Collector's 4 refuses ordinary profiles.
    pub max_recv_msg_size_mib: u64,
    /// Requests of one connection at a time.
    pub max_concurrent_streams: u32,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: u32,
    /// The longest that the body of a request may take; `0` for no limit.
    pub read_timeout: Duration,
    /// When connections end.
    pub keepalive: ServerKeepalive,
    /// The names of metadata that goes on with the profiles to exporters, as in
    /// `[x-scope-orgid]`. Default: none.
    pub include_metadata: IncludeMetadata,
}

/// When connections end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ServerKeepalive {
    /// The bounds.
    pub server_parameters: KeepaliveParameters,
}

/// When connections end, and how dead ones are found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct KeepaliveParameters {
    /// How long a connection may have no request in flight; `0` for no limit.
    pub max_connection_idle: Duration,
    /// How long a connection is kept, give or take a tenth; `0` for no limit.
    /// With a limit, clients spread anew over several relays.
    pub max_connection_age: Duration,
    /// How long requests may still take on a connection that is too old; `0`
    /// for no limit.
    pub max_connection_age_grace: Duration,
    /// The time between HTTP/2 pings; `0` for none.
    pub time: Duration,
    /// How long the answer to a ping may take before the connection counts as
    /// dead.
    pub timeout: Duration,
}

/// How HTTP is served.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HttpServerSettings {
    /// What the endpoint is: `tcp` (also `unix:/path`), or `unix` for a path.
    pub transport: Transport,
    /// TLS, off unless given.
    pub tls: Option<ServerTls>,
    /// Who may send, and as whom; everybody unless given.
    pub auth: Option<ServerAuth>,
    /// What clients may do before anybody knows them.
    pub limits: LimitsSettings,
    /// The largest body, as it travels and when inflated. 64MiB is what OTLP
    /// recommends.
    pub max_request_body_size: ByteSize,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: u32,
    /// The longest that the body of a request may take; `0` for no limit.
    pub read_timeout: Duration,
    /// The longest that the head of a request may take, and that an HTTP/1
    /// connection waits for its next request; `0` for no limit.
    pub read_header_timeout: Duration,
    /// How long a connection may have no request in flight; `0` for no limit.
    pub idle_timeout: Duration,
    /// Which web pages may send; none unless given.
    pub cors: Option<Cors>,
    /// Headers of every response.
    pub response_headers: BTreeMap<String, Secret>,
    /// The names of headers that go on with the profiles to exporters, as in
    /// `[x-scope-orgid]`. Default: none.
    pub include_metadata: IncludeMetadata,
}

// === impl GrpcServerSettings ===

impl Default for GrpcServerSettings {
    fn default() -> Self {
        Self {
            transport: Transport::default(),
            tls: None,
            auth: None,
            limits: LimitsSettings::default(),
            max_recv_msg_size_mib: 64,
            max_concurrent_streams: 256,
            max_connections: 1_024,
            read_timeout: Duration::from_secs(60),
            keepalive: ServerKeepalive::default(),
            include_metadata: IncludeMetadata::default(),
        }
    }
}

impl GrpcServerSettings {
    /// Everything that is wrong with them and `endpoint`. Reads no file.
    pub fn problems(&self, endpoint: &str) -> Vec<Problem> {
        let mut problems = self.common().problems(endpoint);
        if self.max_recv_msg_size_mib == 0 || self.max_recv_msg_size_mib > MAX_MESSAGE_MIB {
            problems.push(Problem::new(
                "max_recv_msg_size_mib",
                format!("write 1 to {MAX_MESSAGE_MIB}"),
            ));
        }
        if self.max_concurrent_streams == 0 {
            problems.push(Problem::new("max_concurrent_streams", "it must be above 0"));
        }
        let parameters = &self.keepalive.server_parameters;
        if !parameters.time.is_zero() && parameters.timeout.is_zero() {
            problems.push(Problem::new(
                "keepalive.server_parameters.timeout",
                "it must be above 0: no ping is answered at once",
            ));
        }
        problems
    }

    /// The listener, not bound yet. Reads certificates.
    pub fn plan(&self, endpoint: &str) -> Result<Plan, Vec<Problem>> {
        let parameters = &self.keepalive.server_parameters;
        let common = self.common();
        let bounds = Bounds {
            idle: bound(parameters.max_connection_idle),
            age: bound(parameters.max_connection_age),
            age_grace: bound(parameters.max_connection_age_grace),
            ping: bound(parameters.time).map(|time| (time, parameters.timeout.get())),
            head: bound(self.read_timeout),
            ..common.bounds(self.max_concurrent_streams)
        };
        common.plan(endpoint, &["h2"], bounds, self.problems(endpoint))
    }

    fn common(&self) -> Common<'_> {
        Common {
            transport: self.transport,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            limits: &self.limits,
            max_connections: self.max_connections,
            include_metadata: &self.include_metadata,
        }
    }

    /// How messages are read.
    pub fn reading(&self, memory: &Budget) -> Reading {
        Reading {
            max: self.max_recv_msg_size_mib << 20,
            max_key: "max_recv_msg_size_mib",
            patience: self.read_timeout.get(),
            memory: memory.clone(),
        }
    }
}

// === impl KeepaliveParameters ===

impl Default for KeepaliveParameters {
    fn default() -> Self {
        Self {
            max_connection_idle: Duration::default(),
            max_connection_age: Duration::default(),
            max_connection_age_grace: Duration::default(),
            time: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
        }
    }
}

// === impl HttpServerSettings ===

impl Default for HttpServerSettings {
    fn default() -> Self {
        Self {
            transport: Transport::default(),
            tls: None,
            auth: None,
            limits: LimitsSettings::default(),
            max_request_body_size: ByteSize::new(64 << 20),
            max_connections: 1_024,
            read_timeout: Duration::from_secs(60),
            read_header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            cors: None,
            response_headers: BTreeMap::new(),
            include_metadata: IncludeMetadata::default(),
        }
    }
}

impl HttpServerSettings {
    /// Everything that is wrong with them and `endpoint`. Reads no file.
    pub fn problems(&self, endpoint: &str) -> Vec<Problem> {
        let mut problems = self.common().problems(endpoint);
        if self.max_request_body_size.get() == 0 {
            problems.push(Problem::new("max_request_body_size", "it must be above 0"));
        }
        for (name, value) in &self.response_headers {
            let good =
                HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value.expose()).is_ok();
            if !good {
                let path = format!("response_headers.{name}");
                problems.push(Problem::new(path, "no header"));
            }
        }
        let cors = self.cors.iter().flat_map(Cors::problems);
        problems.extend(cors.map(|problem| problem.below("cors")));
        problems
    }

    /// The listener, not bound yet. Reads certificates.
    pub fn plan(&self, endpoint: &str) -> Result<Plan, Vec<Problem>> {
        let common = self.common();
        let bounds = Bounds {
            idle: bound(self.idle_timeout),
            head: bound(self.read_header_timeout),
            ..common.bounds(HTTP_STREAMS)
        };
        let alpn = &["h2", "http/1.1"];
        let plan = common.plan(endpoint, alpn, bounds, self.problems(endpoint))?;
        Ok(Plan {
            cors: self.cors.clone(),
            response_headers: self.response_headers.clone(),
            ..plan
        })
    }

    fn common(&self) -> Common<'_> {
        Common {
            transport: self.transport,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            limits: &self.limits,
            max_connections: self.max_connections,
            include_metadata: &self.include_metadata,
        }
    }

    /// How bodies are read.
    pub fn reading(&self, memory: &Budget) -> Reading {
        Reading {
            max: self.max_request_body_size.get(),
            max_key: "max_request_body_size",
            patience: self.read_timeout.get(),
            memory: memory.clone(),
        }
    }
}

/// What both protocols have.
struct Common<'a> {
    transport: Transport,
    tls: Option<&'a ServerTls>,
    auth: Option<&'a ServerAuth>,
    limits: &'a LimitsSettings,
    max_connections: u32,
    include_metadata: &'a IncludeMetadata,
}

// === impl Common ===

impl Common<'_> {
    fn problems(&self, endpoint: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(message) = Endpoint::parse(endpoint, self.transport) {
            problems.push(Problem::new("endpoint", message));
        }
        let mut below = |key: &str, found: Vec<Problem>| {
            problems.extend(found.into_iter().map(|problem| problem.below(key)));
        };
        below("tls", self.tls.map(ServerTls::problems).unwrap_or_default());
        let auth = self.auth.map(|auth| auth.problems(self.certificates()));
        below("auth", auth.unwrap_or_default());
        below("limits", self.limits.problems());
        below("include_metadata", self.include_metadata.problems());
        if self.max_connections == 0 {
            problems.push(Problem::new("max_connections", "it must be above 0"));
        }
        problems
    }

    fn certificates(&self) -> Certificates {
        match self.tls.filter(|tls| tls.asks_clients()) {
            None => Certificates::None,
            Some(tls) if tls.client_auth == ClientAuth::Optional => Certificates::Optional,
            Some(_) => Certificates::Required,
        }
    }

    /// Bounds that `limits` say, and none of other kinds.
    fn bounds(&self, streams: u32) -> Bounds {
        let limits = self.limits;
        Bounds {
            connections: self.max_connections as usize,
            streams,
            idle: None,
            age: None,
            age_grace: None,
            ping: None,
            head: None,
            hello: limits.handshake_timeout.get(),
            stranger: bound(limits.stranger_timeout),
            headers: u32::try_from(limits.max_header_bytes.get()).unwrap_or(u32::MAX),
            cancelled: limits.max_cancelled_requests,
            pending_resets: limits.max_pending_resets as usize,
        }
    }

    /// The listener, if nothing is wrong. Reads files.
    fn plan(
        &self,
        endpoint: &str,
        alpn: &[&str],
        bounds: Bounds,
        mut problems: Vec<Problem>,
    ) -> Result<Plan, Vec<Problem>> {
        let endpoint = Endpoint::parse(endpoint, self.transport);
        let (Ok(endpoint), true) = (endpoint, problems.is_empty()) else {
            return Err(problems);
        };
        let mut keep = |key: &str, found: Vec<Problem>| {
            problems.extend(found.into_iter().map(|problem| problem.below(key)));
        };
        let tls = self.tls.map(|tls| tls.load(alpn)).transpose();
        let tls = tls.map_err(|found| keep("tls", found));
        let auth = self
            .auth
            .map(|auth| Authenticator::load(auth, self.certificates()));
        let auth = auth.transpose().map_err(|found| keep("auth", found));
        match (tls, auth) {
            (Ok(tls), Ok(auth)) => Ok(Plan {
                endpoint,
                tls,
                bounds,
                authenticator: auth.map(Arc::new),
                cors: None,
                response_headers: BTreeMap::new(),
                doors: Doors::default(),
            }),
            _ => Err(problems),
        }
    }
}

/// Zero is no bound.
fn bound(duration: Duration) -> Option<std::time::Duration> {
    (!duration.is_zero()).then(|| duration.get())
}
