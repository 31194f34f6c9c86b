//! TLS of those who listen: the Collector's server keys, and certificates that
//! follow their files.
//!
//! Where the Collector refuses every handshake once a certificate cannot be read
//! again, the last good one stays in use here; and the clients' authorities are
//! followed as the certificates are.

use super::{
    Live, TlsError, TlsSpec, Version, add_roots, identity_trouble, protocols, provider,
    settings::{file, pem, secret, text},
};
use crate::settings::{Duration, FilePath, Problem, Secret};
use rustls::{
    RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use tracing::warn;

/// TLS of a listener, as the OpenTelemetry Collector writes it (`tls`,
/// configtls). All files are read again when they change; one that cannot be
/// read then leaves the last good ones in use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ServerTls {
    /// A PEM file with the server's certificate chain.
    pub cert_file: Option<FilePath>,
    /// The server's certificate chain, as PEM text.
    pub cert_pem: Option<String>,
    /// A PEM file with the server's private key.
    pub key_file: Option<FilePath>,
    /// The server's private key, as PEM text.
    pub key_pem: Option<Secret>,
    /// A PEM file with the authorities of clients. With it, who has no
    /// certificate of one of them is not served.
    pub client_ca_file: Option<FilePath>,
    /// As the Collector has it; here `client_ca_file` is always read again when
    /// it changes.
    pub client_ca_file_reload: bool,
    /// The oldest TLS version: `1.2` (default) or `1.3`; older ones are raised
    /// to `1.2`.
    pub min_version: Option<String>,
    /// The newest TLS version: `1.2` or `1.3` (default).
    pub max_version: Option<String>,
    /// The files are looked at on use, at most this often. Default: 1s.
    pub reload_interval: Option<Duration>,
}

/// The current configuration of a server. Cheap to clone.
#[derive(Clone)]
pub struct LiveServerTls(Arc<Inner>);

struct Inner {
    alpn: Vec<Vec<u8>>,
    live: Live<ServerConfig>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Everything that is wrong. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        self.spec().err().unwrap_or_default()
    }

    /// Loads the certificates. `alpn`: the protocols to offer, best first.
    pub fn load(&self, alpn: &[&str]) -> Result<LiveServerTls, Vec<Problem>> {
        let spec = self.spec()?;
        if spec.raised {
            warn!("min_version is older than TLS 1.2, which is the oldest supported: 1.2 it is");
        }
        let inner = Inner {
            alpn: protocols(alpn),
            live: Live::new(spec),
        };
        inner
            .live
            .load(|spec| inner.build(spec))
            .map_err(|error| vec![error.problem()])?;
        Ok(LiveServerTls(Arc::new(inner)))
    }

    fn spec(&self) -> Result<TlsSpec, Vec<Problem>> {
        let mut problems = Vec::new();
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
        let ca = pem(
            ("client_ca_pem", None),
            ("client_ca_file", file(&self.client_ca_file)),
            &mut problems,
        );
        if cert.is_none() {
            problems.push(Problem::new(
                "cert_file",
                "a listener with TLS needs a certificate: set cert_file and key_file, or remove tls",
            ));
        }
        if key.is_none() {
            problems.push(Problem::new(
                "key_file",
                "a listener with TLS needs a private key: set key_file and cert_file, or remove tls",
            ));
        }
        let spec = TlsSpec {
            ca,
            system_roots: false,
            cert,
            key,
            server_name: None,
            server_name_key: "",
            skip_verify: false,
            min: Version::Tls12,
            max: Version::Tls13,
            raised: false,
            reload_interval: self
                .reload_interval
                .filter(|every| !every.is_zero())
                .map(Duration::get),
        };
        spec.bounded(&self.min_version, &self.max_version, problems)
    }
}

// === impl LiveServerTls ===

impl LiveServerTls {
    /// The configuration for a handshake now.
    pub fn current(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.0.live.current(|spec| self.0.build(spec))
    }
}

impl fmt::Debug for LiveServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveServerTls({})", self.0.live.spec().files())
    }
}

// === impl Inner ===

impl Inner {
    fn build(&self, spec: &TlsSpec) -> Result<ServerConfig, TlsError> {
        let (Some(cert), Some(key)) = (&spec.cert, &spec.key) else {
            return Err(TlsError::new("cert_file", "there is no certificate"));
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(spec.versions())
            .map_err(|error| TlsError::new("min_version", error))?;
        let builder = match clients(spec)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(cert.certificates()?, key.private_key()?)
            .map_err(|error| TlsError::new(cert.key, identity_trouble(&error)))?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}

/// Who may connect, when not everybody may.
fn clients(spec: &TlsSpec) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(ca) = &spec.ca else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, ca, &ca.certificates()?)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map(Some)
        .map_err(|error| TlsError::new(ca.key, format!("{ca}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{Ca, Identity};
    use std::{fs, path::Path};

    fn write(folder: &Path, identity: &Identity) {
        fs::write(folder.join("cert.pem"), &identity.cert).unwrap();
        fs::write(folder.join("key.pem"), &identity.key).unwrap();
    }

    fn settings(folder: &Path) -> ServerTls {
        ServerTls {
            cert_file: Some(FilePath(folder.join("cert.pem"))),
            key_file: Some(FilePath(folder.join("key.pem"))),
            ..ServerTls::default()
        }
    }

    #[test]
    fn a_broken_new_pair_leaves_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        write(folder.path(), &ca.issue(&["localhost"]));
        let tls = settings(folder.path()).load(&["h2"]).unwrap();
        let first = tls.current().unwrap();
        assert!(Arc::ptr_eq(&first, &tls.current().unwrap()));

        // A key that is not this certificate's: somebody is just replacing both.
        let second = ca.issue(&["localhost"]);
        fs::write(folder.path().join("key.pem"), &second.key).unwrap();
        assert!(Arc::ptr_eq(&first, &tls.current().unwrap()));

        write(folder.path(), &second);
        let next = tls.current().unwrap();
        assert!(!Arc::ptr_eq(&first, &next));
        assert_eq!(next.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let problems = ServerTls::default().problems();
        let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["cert_file", "key_file"]);

        let folder = tempfile::tempdir().unwrap();
        let problems = settings(folder.path()).load(&[]).unwrap_err();
        assert_eq!(problems[0].path, "cert_file");

        let ca = Ca::new("ca");
        write(folder.path(), &ca.issue(&["localhost"]));
        fs::write(folder.path().join("ca.pem"), "nothing").unwrap();
        let mut wrong = settings(folder.path());
        wrong.client_ca_file = Some(FilePath(folder.path().join("ca.pem")));
        assert_eq!(wrong.load(&[]).unwrap_err()[0].path, "client_ca_file");
    }
}
