//! The two shapes in which TLS clients are configured, Prometheus' and the
//! Collector's, and the one [`TlsSpec`] that both become.

use super::{Version, ciphers::restricted, provider};
use crate::settings::{Duration, FilePath, Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// TLS of a client, as Prometheus writes it (`tls_config`, prometheus/common
/// v0.67.5).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct TlsConfig {
    /// The CA's certificates, as PEM text. Replaces the system's authorities.
    pub ca: Option<String>,
    /// A PEM file with the CA's certificates, read again when it changes.
    /// Replaces the system's authorities.
    pub ca_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `ca_file`.
    pub ca_ref: Option<String>,
    /// The client's certificate chain, as PEM text.
    pub cert: Option<String>,
    /// A PEM file with the client's certificate chain, read again when it
    /// changes.
    pub cert_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `cert_file`.
    pub cert_ref: Option<String>,
    /// The client's private key, as PEM text.
    pub key: Option<Secret>,
    /// A PEM file with the client's private key, read again when it changes.
    pub key_file: Option<FilePath>,
    /// Needs a secret manager, which there is none of: use `key_file`.
    pub key_ref: Option<String>,
    /// The name that the server's certificate must carry, if it is not the
    /// address' own.
    pub server_name: Option<String>,
    /// Takes any certificate: whoever sits between can read and change
    /// everything.
    pub insecure_skip_verify: bool,
    /// The oldest TLS version: `TLS12` or `TLS13`; older names are raised to
    /// `TLS12`.
    pub min_version: Option<String>,
    /// The newest TLS version: `TLS12` or `TLS13`.
    pub max_version: Option<String>,
}

/// TLS of a client, as the OpenTelemetry Collector writes it (`tls`,
/// configtls).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ClientTls {
    /// Plaintext instead of TLS.
    pub insecure: bool,
    /// Takes any certificate: whoever sits between can read and change
    /// everything.
    pub insecure_skip_verify: bool,
    /// The name that the server's certificate must carry, if it is not the
    /// endpoint's own.
    pub server_name_override: Option<String>,
    /// A PEM file with the CA's certificates, read again when it changes.
    /// Replaces the system's authorities.
    pub ca_file: Option<FilePath>,
    /// The CA's certificates, as PEM text. Replaces the system's authorities.
    pub ca_pem: Option<String>,
    /// Trusts the system's authorities beside those of `ca_file` or `ca_pem`.
    pub include_system_ca_certs_pool: bool,
    /// A PEM file with the client's certificate chain, read again when it
    /// changes.
    pub cert_file: Option<FilePath>,
    /// The client's certificate chain, as PEM text.
    pub cert_pem: Option<String>,
    /// A PEM file with the client's private key, read again when it changes.
    pub key_file: Option<FilePath>,
    /// The client's private key, as PEM text.
    pub key_pem: Option<Secret>,
    /// The oldest TLS version: `1.2` (default) or `1.3`; older ones are raised
    /// to `1.2`.
    pub min_version: Option<String>,
    /// The newest TLS version: `1.2` or `1.3` (default).
    pub max_version: Option<String>,
    /// The cipher suites of TLS 1.2, by the Collector's names, as in
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`. Default: all that are safe. Those
    /// of TLS 1.3 are always on.
    pub cipher_suites: Vec<String>,
    /// The files are looked at on use, at most this often. Default: 1s.
    pub reload_interval: Option<Duration>,
}

/// Where PEM comes from.
#[derive(Clone, PartialEq)]
pub(super) enum Source {
    /// Text in the configuration.
    Text(String),
    /// A file, read again when it changes.
    File(PathBuf),
}

/// A [`Source`] and the key that it was configured with, for error messages.
#[derive(Clone, PartialEq)]
pub(super) struct Pem {
    pub(super) key: &'static str,
    pub(super) source: Source,
}

/// A certificate and its key.
#[derive(Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) cert: Pem,
    pub(super) key: Pem,
}

/// What both shapes say, checked.
#[derive(Clone, PartialEq)]
pub struct TlsSpec {
    pub(super) ca: Option<Pem>,
    pub(super) system_roots: bool,
    pub(super) cert: Option<Pem>,
    pub(super) key: Option<Pem>,
    /// Further certificates of a server.
    pub(super) others: Vec<Pair>,
    pub(super) server_name: Option<String>,
    /// How the configuration calls `server_name`.
    pub(super) server_name_key: &'static str,
    pub(super) skip_verify: bool,
    pub(super) min: Version,
    pub(super) max: Version,
    /// An older `min_version` was asked for than there is.
    pub(super) raised: bool,
    /// Of TLS 1.2; none named are all.
    pub(super) cipher_suites: Vec<String>,
    pub(super) reload_interval: Option<std::time::Duration>,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// Everything that is wrong, by prometheus/common's rules. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        self.spec().err().unwrap_or_default()
    }

    /// The settings, checked.
    pub fn spec(&self) -> Result<TlsSpec, Vec<Problem>> {
        let mut problems = Vec::new();
        for (key, value, instead) in [
            ("ca_ref", &self.ca_ref, "ca_file"),
            ("cert_ref", &self.cert_ref, "cert_file"),
            ("key_ref", &self.key_ref, "key_file"),
        ] {
            problems.extend(reference(key, value, instead));
        }
        let ca = pem(
            ("ca", text(&self.ca)),
            ("ca_file", file(&self.ca_file)),
            &mut problems,
        );
        let cert = pem(
            ("cert", text(&self.cert)),
            ("cert_file", file(&self.cert_file)),
            &mut problems,
        );
        let key = pem(
            ("key", secret(&self.key)),
            ("key_file", file(&self.key_file)),
            &mut problems,
        );
        let spec = TlsSpec {
            system_roots: ca.is_none(),
            ca,
            cert,
            key,
            others: Vec::new(),
            server_name: text(&self.server_name),
            server_name_key: "server_name",
            skip_verify: self.insecure_skip_verify,
            min: Version::Tls12,
            max: Version::Tls13,
            raised: false,
            cipher_suites: Vec::new(),
            reload_interval: None,
        };
        let refs = self.cert_ref.is_some() || self.key_ref.is_some();
        if !refs {
            problems.extend(spec.half_identity());
        }
        spec.bounded(&self.min_version, &self.max_version, problems)
    }
}

// === impl ClientTls ===

impl ClientTls {
    /// Everything that is wrong. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        self.spec().err().unwrap_or_default()
    }

    /// The settings, checked.
    pub fn spec(&self) -> Result<TlsSpec, Vec<Problem>> {
        let mut problems = Vec::new();
        let ca = pem(
            ("ca_pem", text(&self.ca_pem)),
            ("ca_file", file(&self.ca_file)),
            &mut problems,
        );
        let cert = pem(
            ("cert_pem", text(&self.cert_pem)),
            ("cert_file", file(&self.cert_file)),
            &mut problems,
        );
        let key = pem(
            ("key_pem", secret(&self.key_pem)),
            ("key_file", file(&self.key_file)),
            &mut problems,
        );
        if self.insecure && (ca.is_some() || cert.is_some() || key.is_some()) {
            problems.push(Problem::new(
                "insecure",
                "insecure: true turns TLS off, so the certificates beside it would be ignored: remove it or them",
            ));
        }
        let spec = TlsSpec {
            system_roots: ca.is_none() || self.include_system_ca_certs_pool,
            ca,
            cert,
            key,
            others: Vec::new(),
            server_name: text(&self.server_name_override),
            server_name_key: "server_name_override",
            skip_verify: self.insecure_skip_verify,
            min: Version::Tls12,
            max: Version::Tls13,
            raised: false,
            cipher_suites: self.cipher_suites.clone(),
            reload_interval: self
                .reload_interval
                .filter(|every| !every.is_zero())
                .map(Duration::get),
        };
        problems.extend(spec.half_identity());
        spec.bounded(&self.min_version, &self.max_version, problems)
    }
}

// === impl TlsSpec ===

impl TlsSpec {
    fn half_identity(&self) -> Option<Problem> {
        match (&self.cert, &self.key) {
            (Some(cert), None) => Some(Problem::new(
                cert.key,
                "a client certificate needs its private key: set key_file too",
            )),
            (None, Some(key)) => Some(Problem::new(
                key.key,
                "a private key needs its client certificate: set cert_file too",
            )),
            _ => None,
        }
    }

    pub(super) fn bounded(
        mut self,
        min: &Option<String>,
        max: &Option<String>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        for (key, value, bound) in [
            ("min_version", text(min), &mut self.min),
            ("max_version", text(max), &mut self.max),
        ] {
            match value.as_deref().map(version) {
                None => {}
                Some(Some(Named::Known(known))) => *bound = known,
                Some(Some(Named::Old)) if key == "min_version" => self.raised = true,
                Some(Some(Named::Old)) => problems.push(Problem::new(
                    key,
                    "TLS below 1.2 is not supported: write TLS12 or TLS13 (1.2 or 1.3)",
                )),
                Some(None) => problems.push(Problem::new(
                    key,
                    "no TLS version: write TLS12 or TLS13 (1.2 or 1.3)",
                )),
            }
        }
        if self.min > self.max {
            problems.push(Problem::new("min_version", "it is above max_version"));
        }
        problems.extend(
            restricted(provider(), &self.cipher_suites)
                .err()
                .unwrap_or_default(),
        );
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(problems)
        }
    }
}

impl std::fmt::Debug for TlsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSpec")
            .field("server_name", &self.server_name)
            .field("skip_verify", &self.skip_verify)
            .finish_non_exhaustive()
    }
}

enum Named {
    Known(Version),
    Old,
}

fn version(name: &str) -> Option<Named> {
    match name {
        "TLS10" | "TLS11" | "1.0" | "1.1" => Some(Named::Old),
        "TLS12" | "1.2" => Some(Named::Known(Version::Tls12)),
        "TLS13" | "1.3" => Some(Named::Known(Version::Tls13)),
        _ => None,
    }
}

/// The problem with a key that names a secret of a secret manager.
pub(crate) fn reference(key: &str, value: &Option<String>, instead: &str) -> Option<Problem> {
    value.as_deref().filter(|name| !name.is_empty()).map(|_| {
        Problem::new(
            key,
            format!("it needs a secret manager, which neither Parca nor profile-relay has: use {instead}"),
        )
    })
}

pub(super) fn pem(
    (text_key, text): (&'static str, Option<String>),
    (file_key, file): (&'static str, Option<PathBuf>),
    problems: &mut Vec<Problem>,
) -> Option<Pem> {
    if text.is_some() && file.is_some() {
        problems.push(Problem::new(
            file_key,
            format!("at most one of {text_key} and {file_key} may be set"),
        ));
    }
    match (text, file) {
        (_, Some(path)) => Some(Pem {
            key: file_key,
            source: Source::File(path),
        }),
        (Some(text), None) => Some(Pem {
            key: text_key,
            source: Source::Text(text),
        }),
        (None, None) => None,
    }
}

/// An empty text counts as absent, as in Go's configurations.
pub(crate) fn text(value: &Option<String>) -> Option<String> {
    value.clone().filter(|text| !text.is_empty())
}

/// An empty path counts as absent.
pub(crate) fn file(value: &Option<FilePath>) -> Option<PathBuf> {
    value
        .as_ref()
        .map(|path| path.0.clone())
        .filter(|path| !path.as_os_str().is_empty())
}

/// An empty secret counts as absent.
pub(crate) fn secret(value: &Option<Secret>) -> Option<String> {
    value
        .as_ref()
        .map(|secret| secret.expose().to_owned())
        .filter(|text| !text.is_empty())
}
