//! TLS for clients and servers, with certificates that follow their files.
//!
//! A [`LiveTls`] is asked for its configuration at each handshake and looks at
//! its files then, at most once a second. What has changed is loaded anew; what
//! cannot be loaded (a half-written file, a key that does not fit its
//! certificate yet) leaves the last good configuration in use and is logged once
//! per change. Connections that are open stay as they are.
//!
//! The system's authorities are loaded once per process, at the first handshake
//! that needs them: a relay that speaks no TLS does not pay for them.
//!
//! [`LiveServerTls`] is the same for those who listen. When certificates end is
//! on `/metrics` ([`CertificateMetrics`]).

mod ciphers;
mod clients;
mod expiry;
mod live;
mod names;
mod server;
pub(crate) mod settings;
mod sni;
mod verify;

pub use self::{
    clients::ClientAuth,
    expiry::CertificateMetrics,
    server::{LiveServerTls, ServerCertificate, ServerTls},
    settings::{ClientTls, TlsConfig, TlsSpec},
};

pub(crate) use self::{clients::PeerCertificate, names::CertificateNames};

use self::{
    ciphers::restricted,
    expiry::{Certificates, Expiring, Reminder, Watched, certificates},
    live::Live,
    settings::{Pem, Source},
};
use super::live_file::FileStamp;
use crate::settings::Problem;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};
use tracing::{info, warn};

/// A TLS version that rustls knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// The current configuration of a client. Cheap to clone.
#[derive(Clone)]
pub struct LiveTls(Arc<Inner>);

struct Inner {
    alpn: Vec<Vec<u8>>,
    live: Live<Loaded>,
    reminder: Reminder,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ClientConfig>,
    expiring: Vec<Expiring>,
}

/// What configuration a client cannot be built from.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TlsError {
    /// The key that is to blame.
    key: &'static str,
    message: String,
}

// === impl LiveTls ===

impl LiveTls {
    /// Loads what `spec` names. `alpn`: the protocols to offer, best first.
    ///
    /// With nothing but the system's authorities, they are loaded later.
    pub fn new(spec: TlsSpec, alpn: &[&str]) -> Result<Self, Vec<Problem>> {
        if spec.skip_verify {
            warn!(
                "insecure_skip_verify is set: whoever sits between can read and change everything"
            );
        }
        if spec.raised {
            warn!("min_version is older than TLS 1.2, which is the oldest supported: 1.2 it is");
        }
        let own = spec.ca.is_some() || spec.cert.is_some();
        let inner = Inner {
            alpn: protocols(alpn),
            live: Live::new(spec),
            reminder: Reminder::default(),
        };
        if own {
            inner
                .live
                .load(|spec| inner.build(spec))
                .map_err(|error| vec![error.problem()])?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The configuration for a handshake now.
    pub fn current(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.0.loaded()?.config.clone())
    }

    /// Whose ends are to be known.
    pub(crate) fn certificates(&self) -> Watched {
        let inner: Arc<dyn Certificates> = self.0.clone();
        Arc::downgrade(&inner)
    }

    /// Whether there is a certificate of the client's.
    pub(super) fn shows_certificate(&self) -> bool {
        self.0.live.spec().cert.is_some()
    }

    /// The name to ask `host` for and to find in its certificate.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let spec = self.0.live.spec();
        let name = spec.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError {
            key: spec.server_name_key,
            message: format!("{name:?} is no server name: set {}", spec.server_name_key),
        })
    }

    /// What the configuration calls the server's name.
    pub(super) fn server_name_key(&self) -> &'static str {
        self.0.live.spec().server_name_key
    }
}

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.live.spec().fmt(f)
    }
}

// === impl Inner ===

impl Certificates for Inner {
    fn expiring(&self) -> Vec<Expiring> {
        // The system's authorities, alone, wait for a handshake.
        let own = self.live.spec().paths().next().is_some() || self.live.is_loaded();
        let loaded = own.then(|| self.loaded().ok()).flatten();
        loaded.map_or_else(Vec::new, |loaded| loaded.expiring.clone())
    }
}

impl Inner {
    fn loaded(&self) -> Result<Arc<Loaded>, TlsError> {
        let loaded = self.live.current(|spec| self.build(spec))?;
        self.reminder.remind(&loaded.expiring);
        Ok(loaded)
    }

    fn build(&self, spec: &TlsSpec) -> Result<Loaded, TlsError> {
        let provider = spec.provider()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(spec.versions())
            .map_err(|error| TlsError::new("min_version", error))?;
        let verifier = if spec.skip_verify {
            verify::anything(provider)
        } else {
            verifier(spec, provider)?
        };
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&spec.cert, &spec.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(cert.certificates()?, key.private_key()?)
                .map_err(|error| TlsError::new(cert.key, identity_trouble(&error)))?,
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        Ok(Loaded {
            config: Arc::new(config),
            expiring: certificates(spec),
        })
    }
}

fn verifier(
    spec: &TlsSpec,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::client::danger::ServerCertVerifier>, TlsError> {
    let Some(ca) = &spec.ca else {
        return verify::by_roots(system_roots()?, Vec::new(), provider)
            .map_err(|error| TlsError::new("ca_file", error));
    };
    let certificates = ca.certificates()?;
    let mut roots = if spec.system_roots {
        RootCertStore::clone(&*system_roots()?)
    } else {
        RootCertStore::empty()
    };
    add_roots(&mut roots, ca, &certificates)?;
    verify::by_roots(Arc::new(roots), certificates, provider)
        .map_err(|error| TlsError::new(ca.key, error))
}

fn add_roots(
    roots: &mut RootCertStore,
    ca: &Pem,
    certificates: &[CertificateDer<'static>],
) -> Result<(), TlsError> {
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| TlsError::new(ca.key, format!("{ca}: {error}")))?;
    }
    Ok(())
}

/// What is wrong with our own certificate, in words.
fn identity_trouble(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key does not belong to the certificate".to_owned()
        }
        other => format!("the certificate cannot be used: {other}"),
    }
}

/// Names of protocols as ALPN has them.
fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// ring, one instance for all.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

/// The authorities of the operating system, loaded at the first call.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(%error, "cannot load an authority of the system");
        }
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        info!(added, ignored, "authorities of the system loaded");
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(TlsError::new(
            "ca_file",
            "the system has no certificate authorities: install ca-certificates or set ca_file",
        ));
    }
    Ok(roots.clone())
}

// === impl TlsSpec ===

impl TlsSpec {
    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match (self.min, self.max) {
            (Version::Tls13, _) => &BOTH[..1],
            (_, Version::Tls12) => &BOTH[1..],
            _ => &BOTH,
        }
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        restricted(provider(), &self.cipher_suites)
            .map_err(|_| TlsError::new("cipher_suites", "one is not known"))
    }

    /// Own certificates with their keys left out.
    fn chains(&self) -> impl Iterator<Item = &Pem> {
        let others = self.others.iter().map(|pair| &pair.cert);
        self.cert.iter().chain(others)
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let keys = self.others.iter().map(|pair| &pair.key);
        let rest = self.key.iter().chain(keys);
        self.ca
            .iter()
            .chain(self.chains())
            .chain(rest)
            .filter_map(|pem| match &pem.source {
                Source::File(path) => Some(path.as_path()),
                Source::Text(_) => None,
            })
    }

    fn stamps(&self) -> Vec<Option<FileStamp>> {
        self.paths().map(FileStamp::of).collect()
    }

    fn files(&self) -> String {
        let names: Vec<_> = self
            .paths()
            .map(|path| path.display().to_string())
            .collect();
        names.join(", ")
    }
}

// === impl Pem ===

impl Pem {
    fn bytes(&self) -> Result<Vec<u8>, TlsError> {
        match &self.source {
            Source::Text(text) => Ok(text.clone().into_bytes()),
            Source::File(path) => std::fs::read(path)
                .map_err(|error| TlsError::new(self.key, format!("cannot read {self}: {error}"))),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.bytes()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match certificates {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(TlsError::new(
                self.key,
                format!("{self} holds no certificate: PEM is wanted, -----BEGIN CERTIFICATE-----"),
            )),
            Err(error) => Err(TlsError::new(
                self.key,
                format!("{self} is no PEM: {error}"),
            )),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes()?).map_err(|_| {
            TlsError::new(
                self.key,
                format!("{self} holds no private key: unencrypted PEM is wanted, -----BEGIN PRIVATE KEY-----"),
            )
        })
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Text(_) => f.write_str("the text"),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

// === impl TlsError ===

impl TlsError {
    fn new(key: &'static str, message: impl fmt::Display) -> Self {
        Self {
            key,
            message: message.to_string(),
        }
    }

    fn problem(self) -> Problem {
        Problem::new(self.key, self.message)
    }
}

#[cfg(test)]
mod tests;
