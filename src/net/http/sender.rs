//! The HTTP client keys of the OpenTelemetry Collector (confighttp), plus the
//! proxy keys of HTTP clients.

use super::{
    Auth, HttpClient, Inner, TokenSource, connector, live_tls,
    pool::{Keep, Pool},
};
use crate::{
    net::{
        credentials::{ClientAuth, LiveText},
        proxy::ProxySettings,
        resolve::{Resolve, SystemResolver},
        tls::ClientTls,
    },
    settings::{Duration, Problem, Secret},
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Headers that the client or the exporter sets itself.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// How an HTTP backend is reached; flattened into an exporter's settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HttpSenderSettings {
    /// TLS of `https` endpoints.
    pub tls: ClientTls,
    /// Headers of every request, beside `auth`.
    pub headers: BTreeMap<String, Secret>,
    /// Credentials.
    pub auth: ClientAuth,
    /// Uses HTTP/2 with `https` endpoints that offer it.
    pub force_attempt_http2: bool,
    /// The silence of an HTTP/2 connection with a request under way after which
    /// a ping asks whether it still lives; `0` for none.
    pub http2_read_idle_timeout: Duration,
    /// How long the answer to such a ping may take before the connection counts
    /// as dead.
    pub http2_ping_timeout: Duration,
    /// How many HTTP/1 connections wait for their next request.
    pub max_idle_conns: usize,
    /// How long a connection waits for its next request.
    pub idle_conn_timeout: Duration,
    /// The proxy.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

// === impl HttpSenderSettings ===

impl Default for HttpSenderSettings {
    fn default() -> Self {
        Self {
            tls: ClientTls::default(),
            headers: BTreeMap::new(),
            auth: ClientAuth::default(),
            force_attempt_http2: true,
            http2_read_idle_timeout: Duration::from_secs(10),
            http2_ping_timeout: Duration::from_secs(15),
            max_idle_conns: 100,
            idle_conn_timeout: Duration::from_secs(90),
            proxy: ProxySettings::default(),
        }
    }
}

impl HttpSenderSettings {
    /// Everything that is wrong. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        let below = |key: &'static str, problems: Vec<Problem>| {
            problems
                .into_iter()
                .map(move |problem| problem.below(key))
                .collect::<Vec<_>>()
        };
        let mut problems = below("tls", self.tls.problems());
        problems.extend(below("auth", self.auth.problems()));
        let headers = self.headers.iter();
        problems.extend(headers.filter_map(|(name, value)| header_problem(name, value)));
        problems.extend(self.proxy.problems());
        problems
    }

    fn keep(&self) -> Keep {
        let silence = self.http2_read_idle_timeout;
        Keep {
            streams: self.max_idle_conns,
            per_place: self.max_idle_conns,
            idle: self.idle_conn_timeout.get(),
            pings: (!silence.is_zero()).then(|| (silence.get(), self.http2_ping_timeout.get())),
        }
    }
}

fn header_problem(name: &str, value: &Secret) -> Option<Problem> {
    let path = format!("headers.{name}");
    let Ok(parsed) = HeaderName::try_from(name) else {
        return Some(Problem::new(path, "no header name"));
    };
    if RESERVED.contains(&parsed.as_str()) {
        return Some(Problem::new(path, "the exporter sets this header itself"));
    }
    HeaderValue::try_from(value.expose())
        .err()
        .map(|_| Problem::new(path, "no header value"))
}

// === impl Auth ===

impl Auth {
    pub(in crate::net) fn of_client(
        settings: &ClientAuth,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        if let Some(oauth2) = &settings.oauth2 {
            let source = TokenSource::of_client(oauth2, resolver.clone());
            return source
                .map(|source| Self::OAuth2(Box::new(source)))
                .map_err(|found| {
                    let below = |problem: Problem| problem.below("oauth2");
                    found.into_iter().map(below).collect()
                });
        }
        let header = settings.load().map_err(|problem| vec![problem])?;
        Ok(header.map_or(Self::None, Self::Header))
    }
}

// === impl HttpClient ===

impl HttpClient {
    /// A client for [`HttpClient::post`], with the files that the settings name
    /// read for the first time. It connects when it is first used.
    pub fn sender(settings: &HttpSenderSettings) -> Result<Self, Vec<Problem>> {
        Self::sender_resolving(settings, Arc::new(SystemResolver))
    }

    pub(super) fn sender_resolving(
        settings: &HttpSenderSettings,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let alpn: &[&str] = if settings.force_attempt_http2 {
            &["h2", "http/1.1"]
        } else {
            &["http/1.1"]
        };
        let tls = live_tls("tls", settings.tls.spec(), alpn);
        let connector = connector(tls, &settings.proxy, resolver.clone())
            .map_err(|found| problems.extend(found))
            .ok();
        let auth = Auth::of_client(&settings.auth, &resolver)
            .map_err(|found| problems.extend(found.into_iter().map(|p| p.below("auth"))))
            .ok();
        let (Some(connector), Some(auth)) = (connector, auth) else {
            return Err(problems);
        };
        let headers = settings.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, LiveText::Fixed(value.expose().into())))
        });
        Ok(Self(Arc::new(Inner {
            connector,
            pool: Pool::new(settings.keep()),
            auth,
            headers: headers.collect(),
            follow_redirects: false,
        })))
    }
}
