//! The HTTP client keys of prometheus/common v0.67.5, as Parca takes them in a
//! scrape configuration.

use crate::{
    net::{
        proxy::ProxySettings,
        tls::{TlsConfig, settings::reference},
    },
    settings::{FilePath, Problem, Secret},
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) use crate::net::tls::settings::{file as file_of, secret as secret_of, text as text_of};

/// The grant by a signed assertion (RFC 7523).
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How targets are asked; flattened into a scrape configuration.
///
/// `follow_redirects` and `enable_http2` are off unless they are set, as in
/// Parca (in Prometheus they are on).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HttpClientSettings {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// An `Authorization` header, `Bearer` by default.
    pub authorization: Option<Authorization>,
    /// Tokens from an OAuth 2.0 server.
    pub oauth2: Option<OAuth2>,
    /// A bearer token. Older spelling of `authorization.credentials`.
    pub bearer_token: Option<Secret>,
    /// A file with a bearer token, read again when it changes. Older spelling of
    /// `authorization.credentials_file`.
    pub bearer_token_file: Option<FilePath>,
    /// TLS of `https` targets.
    pub tls_config: TlsConfig,
    /// Follows up to 10 redirects. Credentials are not sent to another host.
    pub follow_redirects: bool,
    /// Uses HTTP/2 with `https` targets that offer it.
    pub enable_http2: bool,
    /// Headers of every request.
    pub http_headers: BTreeMap<String, HttpHeader>,
    /// The proxy.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

/// User and password, each given or in a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct BasicAuth {
    /// The user.
    pub username: Option<String>,
    /// A file with the user, read again when it changes.
    pub username_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `username_file`.
    pub username_ref: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password, read again when it changes.
    pub password_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `password_file`.
    pub password_ref: Option<String>,
}

/// An `Authorization` header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Authorization {
    /// The scheme, `Bearer` by default; for `Basic` there is `basic_auth`.
    #[serde(rename = "type")]
    pub scheme: Option<String>,
    /// What follows the scheme.
    pub credentials: Option<Secret>,
    /// A file with what follows the scheme, read again when it changes.
    pub credentials_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `credentials_file`.
    pub credentials_ref: Option<String>,
}

/// Tokens from an OAuth 2.0 server: fetched when first needed, again before
/// they expire, when the secret's file changes, or when a target refuses one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// A file with the client's secret, read again when it changes.
    pub client_secret_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `client_secret_file`.
    pub client_secret_ref: Option<String>,
    /// The key's id, sent in the header of signed assertions.
    pub client_certificate_key_id: Option<String>,
    /// The RSA private key (PEM) that signs assertions.
    pub client_certificate_key: Option<Secret>,
    /// A PEM file with the RSA private key that signs assertions, read again
    /// when it changes.
    pub client_certificate_key_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use
    /// `client_certificate_key_file`.
    pub client_certificate_key_ref: Option<String>,
    /// `client_credentials` (default) or
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`.
    pub grant_type: Option<String>,
    /// How assertions are signed: `RS256` (default), `RS384` or `RS512`.
    pub signature_algorithm: Option<String>,
    /// The issuer of assertions. Default: `client_id`.
    pub iss: Option<String>,
    /// The audience of assertions. Default: `token_url`.
    pub audience: Option<String>,
    /// Further claims of assertions.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// Where tokens are fetched.
    pub token_url: String,
    /// Further parameters of token requests.
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS of `token_url`.
    pub tls_config: TlsConfig,
    /// The proxy to `token_url`.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

/// The values of one header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HttpHeader {
    /// Values that may be printed.
    pub values: Vec<String>,
    /// Values that may not be printed.
    pub secrets: Vec<Secret>,
    /// Files with one value each, read again when they change.
    pub files: Vec<FilePath>,
}

/// Headers that the client or the scrape sets itself (prometheus/common
/// `ReservedHeaders`).
const RESERVED: &[&str] = &[
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

// === impl HttpClientSettings ===

impl HttpClientSettings {
    /// Everything that is wrong, by prometheus/common's rules. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.credential_problems();
        if let Some(basic) = &self.basic_auth {
            problems.extend(below("basic_auth", basic.problems()));
        }
        if let Some(authorization) = &self.authorization {
            problems.extend(below("authorization", authorization.problems()));
        }
        if let Some(oauth2) = &self.oauth2 {
            problems.extend(below("oauth2", oauth2.problems()));
        }
        problems.extend(below("tls_config", self.tls_config.problems()));
        problems.extend(self.proxy.problems());
        for (name, header) in &self.http_headers {
            problems.extend(header.problems(name));
        }
        problems
    }

    fn credential_problems(&self) -> Vec<Problem> {
        let token = is_set(&self.bearer_token);
        let token_file = is_file(&self.bearer_token_file);
        let mut problems = Vec::new();
        if token && token_file {
            problems.push(Problem::new(
                "bearer_token_file",
                "at most one of bearer_token and bearer_token_file may be set",
            ));
        }
        let kinds = [
            ("basic_auth", self.basic_auth.is_some()),
            ("authorization", self.authorization.is_some()),
            ("oauth2", self.oauth2.is_some()),
            (
                if token {
                    "bearer_token"
                } else {
                    "bearer_token_file"
                },
                token || token_file,
            ),
        ];
        let set: Vec<_> = kinds
            .iter()
            .filter_map(|(name, set)| set.then_some(*name))
            .collect();
        if let [first, .., last] = set[..] {
            problems.push(Problem::new(
                last,
                format!("at most one kind of credentials may be set, and {first} is set too"),
            ));
        }
        problems
    }
}

// === impl BasicAuth ===

impl BasicAuth {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(reference(
            "username_ref",
            &self.username_ref,
            "username_file",
        ));
        problems.extend(reference(
            "password_ref",
            &self.password_ref,
            "password_file",
        ));
        if self
            .username
            .as_deref()
            .is_some_and(|name| !name.is_empty())
            && is_file(&self.username_file)
        {
            problems.push(both("username", "username_file"));
        }
        if is_set(&self.password) && is_file(&self.password_file) {
            problems.push(both("password", "password_file"));
        }
        problems
    }
}

// === impl Authorization ===

impl Authorization {
    /// The scheme, `Bearer` unless set.
    pub(super) fn scheme(&self) -> &str {
        match self.scheme.as_deref().map(str::trim) {
            None | Some("") => "Bearer",
            Some(scheme) => scheme,
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(reference(
            "credentials_ref",
            &self.credentials_ref,
            "credentials_file",
        ));
        if is_set(&self.credentials) && is_file(&self.credentials_file) {
            problems.push(both("credentials", "credentials_file"));
        }
        if self.scheme().eq_ignore_ascii_case("basic") {
            problems.push(Problem::new("type", "it cannot be Basic: use basic_auth"));
        }
        problems
    }
}

// === impl OAuth2 ===

impl OAuth2 {
    /// Whether tokens are asked for by signed assertions.
    pub(super) fn signs(&self) -> bool {
        self.grant_type.as_deref() == Some(JWT_BEARER)
    }

    pub(in crate::net) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.client_id.is_empty() {
            problems.push(Problem::new("client_id", "it must be set"));
        }
        match self.token_url.parse::<http::Uri>() {
            _ if self.token_url.is_empty() => {
                problems.push(Problem::new("token_url", "it must be set"));
            }
            Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) => {}
            _ => problems.push(Problem::new(
                "token_url",
                "no address: write https://host/path",
            )),
        }
        problems.extend(reference(
            "client_secret_ref",
            &self.client_secret_ref,
            "client_secret_file",
        ));
        problems.extend(reference(
            "client_certificate_key_ref",
            &self.client_certificate_key_ref,
            "client_certificate_key_file",
        ));
        if is_set(&self.client_secret) && is_file(&self.client_secret_file) {
            problems.push(both("client_secret", "client_secret_file"));
        }
        problems.extend(self.grant_problems());
        problems.extend(below("tls_config", self.tls_config.problems()));
        problems.extend(self.proxy.problems());
        problems
    }

    fn grant_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let key = is_set(&self.client_certificate_key);
        let key_file = is_file(&self.client_certificate_key_file);
        if key && key_file {
            problems.push(both(
                "client_certificate_key",
                "client_certificate_key_file",
            ));
        }
        match self.grant_type.as_deref() {
            None | Some("" | "client_credentials") => {}
            Some(JWT_BEARER) => {
                if !key && !key_file {
                    problems.push(Problem::new(
                        "client_certificate_key",
                        "this grant_type signs with a key: set client_certificate_key_file",
                    ));
                }
            }
            Some(_) => problems.push(Problem::new(
                "grant_type",
                format!("unknown: write client_credentials or {JWT_BEARER}"),
            )),
        }
        if !matches!(
            self.signature_algorithm.as_deref(),
            None | Some("" | "RS256" | "RS384" | "RS512")
        ) {
            problems.push(Problem::new(
                "signature_algorithm",
                "unknown: write RS256, RS384 or RS512",
            ));
        }
        problems
    }
}

// === impl HttpHeader ===

impl HttpHeader {
    fn problems(&self, name: &str) -> Vec<Problem> {
        let path = format!("http_headers.{name}");
        let mut problems = Vec::new();
        match HeaderName::try_from(name) {
            Err(_) => problems.push(Problem::new(&path, "no header name")),
            Ok(parsed) if RESERVED.contains(&parsed.as_str()) => problems.push(Problem::new(
                &path,
                "this header cannot be set here; credentials have keys of their own",
            )),
            Ok(_) => {}
        }
        let values = self.values.iter().map(String::as_str);
        let secrets = self.secrets.iter().map(Secret::expose);
        if values
            .chain(secrets)
            .any(|value| HeaderValue::try_from(value).is_err())
        {
            problems.push(Problem::new(path, "a value is no header value"));
        }
        problems
    }
}

fn below(parent: &str, problems: Vec<Problem>) -> impl Iterator<Item = Problem> {
    problems
        .into_iter()
        .map(move |problem| problem.below(parent))
}

fn both(first: &str, second: &str) -> Problem {
    Problem::new(
        second,
        format!("at most one of {first} and {second} may be set"),
    )
}

fn is_set(secret: &Option<Secret>) -> bool {
    secret
        .as_ref()
        .is_some_and(|text| !text.expose().is_empty())
}

fn is_file(path: &Option<FilePath>) -> bool {
    path.as_ref()
        .is_some_and(|path| !path.0.as_os_str().is_empty())
}

#[cfg(test)]
mod tests;
