//! TLS of those who listen: the Collector's server keys, and certificates that
//! follow their files.
//!
//! Where the Collector refuses every handshake once a certificate cannot be read
//! again, the last good one stays in use here; and the clients' authorities are
//! followed as the certificates are, for clients that are connected too.

use super::{
    Live, TlsError, TlsSpec, Version,
    clients::{ClientAuth, PeerCertificate, Verifier, verifier},
    expiry::{Certificates, Expiring, Reminder, Watched, certificates},
    identity_trouble, protocols,
    settings::{Pair, Pem, file, pem, secret, text},
    sni::ByName,
};
use crate::settings::{Duration, FilePath, Problem, Secret};
use rustls::{ServerConfig, ServerConnection, crypto::CryptoProvider, sign::CertifiedKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use tracing::warn;

/// TLS of a listener, as the OpenTelemetry Collector writes it (`tls`,
/// configtls). All files are read again when they change, and connections go on;
/// one that cannot be read then leaves the last good ones in use.
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
    /// Further certificates: a client that asks for a name (SNI) is shown the
    /// first that has it, the one above included, and else the one above.
    pub certificates: Vec<ServerCertificate>,
    /// A PEM file with the authorities of clients. With it, clients show
    /// certificates. When it no longer covers the certificate of a client that is
    /// connected, that client's next request is refused and its connection ends.
    pub client_ca_file: Option<FilePath>,
    /// The authorities of clients, as PEM text.
    pub client_ca_pem: Option<String>,
    /// Whether clients must have a certificate, given their authorities.
    pub client_auth: ClientAuth,
    /// As the Collector has it; here `client_ca_file` is always read again when
    /// it changes.
    pub client_ca_file_reload: bool,
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

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ServerCertificate {
    /// A PEM file with the certificate chain.
    pub cert_file: Option<FilePath>,
    /// The certificate chain, as PEM text.
    pub cert_pem: Option<String>,
    /// A PEM file with the private key.
    pub key_file: Option<FilePath>,
    /// The private key, as PEM text.
    pub key_pem: Option<Secret>,
}

/// The current configuration of a server. Cheap to clone.
#[derive(Clone)]
pub struct LiveServerTls(Arc<Inner>);

struct Inner {
    alpn: Vec<Vec<u8>>,
    wants: ClientAuth,
    live: Live<Loaded>,
    reminder: Reminder,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    verifier: Option<Verifier>,
    expiring: Vec<Expiring>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Everything that is wrong. Reads no file.
    pub fn problems(&self) -> Vec<Problem> {
        self.spec().err().unwrap_or_default()
    }

    /// Whether clients are asked for certificates.
    pub(crate) fn asks_clients(&self) -> bool {
        file(&self.client_ca_file).is_some() || text(&self.client_ca_pem).is_some()
    }

    /// Loads the certificates. `alpn`: the protocols to offer, best first.
    pub fn load(&self, alpn: &[&str]) -> Result<LiveServerTls, Vec<Problem>> {
        let spec = self.spec()?;
        if spec.raised {
            warn!("min_version is older than TLS 1.2, which is the oldest supported: 1.2 it is");
        }
        let inner = Inner {
            alpn: protocols(alpn),
            wants: self.client_auth,
            live: Live::new(spec),
            reminder: Reminder::default(),
        };
        inner
            .live
            .load(|spec| inner.build(spec))
            .map_err(|error| vec![error.problem()])?;
        Ok(LiveServerTls(Arc::new(inner)))
    }

    fn spec(&self) -> Result<TlsSpec, Vec<Problem>> {
        let mut problems = Vec::new();
        let default = ServerCertificate {
            cert_file: self.cert_file.clone(),
            cert_pem: self.cert_pem.clone(),
            key_file: self.key_file.clone(),
            key_pem: self.key_pem.clone(),
        };
        let (cert, key) = default.pems(&mut problems);
        let ca = pem(
            ("client_ca_pem", text(&self.client_ca_pem)),
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
        if ca.is_none() && self.client_auth != ClientAuth::default() {
            problems.push(Problem::new(
                "client_auth",
                "no certificate of a client could be verified: set client_ca_file",
            ));
        }
        let mut others = Vec::new();
        for (at, certificate) in self.certificates.iter().enumerate() {
            let mut found = Vec::new();
            match certificate.pems(&mut found) {
                (Some(cert), Some(key)) => others.push(Pair { cert, key }),
                _ => found.push(Problem::new("", "it needs cert_file and key_file")),
            }
            let path = format!("certificates[{at}]");
            problems.extend(found.into_iter().map(|problem| problem.below(&path)));
        }
        let spec = TlsSpec {
            ca,
            system_roots: false,
            cert,
            key,
            others,
            server_name: None,
            server_name_key: "",
            skip_verify: false,
            min: Version::Tls12,
            max: Version::Tls13,
            raised: false,
            cipher_suites: self.cipher_suites.clone(),
            reload_interval: self
                .reload_interval
                .filter(|every| !every.is_zero())
                .map(Duration::get),
        };
        spec.bounded(&self.min_version, &self.max_version, problems)
    }
}

// === impl ServerCertificate ===

impl ServerCertificate {
    fn pems(&self, problems: &mut Vec<Problem>) -> (Option<Pem>, Option<Pem>) {
        let cert = pem(
            ("cert_pem", text(&self.cert_pem)),
            ("cert_file", file(&self.cert_file)),
            problems,
        );
        let key = pem(
            ("key_pem", secret(&self.key_pem)),
            ("key_file", file(&self.key_file)),
            problems,
        );
        (cert, key)
    }
}

// === impl LiveServerTls ===

impl LiveServerTls {
    /// The configuration for a handshake now.
    pub fn current(&self) -> Result<Arc<ServerConfig>, TlsError> {
        Ok(self.loaded()?.config.clone())
    }

    fn loaded(&self) -> Result<Arc<Loaded>, TlsError> {
        self.0.loaded()
    }

    /// Whose ends are to be known.
    pub(crate) fn certificates(&self) -> Watched {
        let inner: Arc<dyn Certificates> = self.0.clone();
        Arc::downgrade(&inner)
    }

    /// Who verifies certificates of clients now.
    pub(super) fn client_verifier(&self) -> Option<Verifier> {
        self.loaded().ok()?.verifier.clone()
    }

    /// The certificate that the client has shown in a handshake that is done.
    pub(crate) fn peer(&self, connection: &ServerConnection) -> Option<PeerCertificate> {
        let chain = connection.peer_certificates();
        PeerCertificate::new(chain, self)
    }
}

impl fmt::Debug for LiveServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveServerTls({})", self.0.live.spec().files())
    }
}

// === impl Inner ===

impl Certificates for Inner {
    fn expiring(&self) -> Vec<Expiring> {
        let loaded = self.loaded();
        loaded.map_or_else(|_| Vec::new(), |loaded| loaded.expiring.clone())
    }
}

impl Inner {
    fn loaded(&self) -> Result<Arc<Loaded>, TlsError> {
        let loaded = self.live.current(|spec| self.build(spec))?;
        self.reminder.remind(&loaded.expiring);
        Ok(loaded)
    }

    fn build(&self, spec: &TlsSpec) -> Result<Loaded, TlsError> {
        let (Some(cert), Some(key)) = (&spec.cert, &spec.key) else {
            return Err(TlsError::new("cert_file", "there is no certificate"));
        };
        let provider = spec.provider()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(spec.versions())
            .map_err(|error| TlsError::new("min_version", error))?;
        let ca = spec.ca.as_ref();
        let verifier = ca.map(|ca| verifier(ca, self.wants, provider.clone()));
        let verifier = verifier.transpose()?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut keys = vec![certified(cert, key, &provider)?];
        for other in &spec.others {
            keys.push(certified(&other.cert, &other.key, &provider)?);
        }
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Loaded {
            config: Arc::new(config),
            verifier,
            expiring: certificates(spec),
        })
    }
}

fn certified(
    cert: &Pem,
    key: &Pem,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = (cert.certificates()?, key.private_key()?);
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| TlsError::new(cert.key, format!("{cert}: {}", identity_trouble(&error))))
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
