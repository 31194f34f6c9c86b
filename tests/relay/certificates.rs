//! Certificates of a private authority, made anew for each test.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{fs, path::Path, sync::Arc};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
pub struct Certified {
    cert: String,
    key: String,
}

// === impl Authority ===

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // To OpenSSL what has its issuer's name has signed itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self {
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for 127.0.0.1, of a server and of a client alike.
    pub fn certify(&self) -> Certified {
        self.certify_as("a relay", &["127.0.0.1", "localhost"])
    }

    /// The same with a common name, and for other hosts.
    pub fn certify_as(&self, name: &str, hosts: &[&str]) -> Certified {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certified {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server that asks its clients for certificates of this authority, or
    /// for none.
    pub fn server(&self, asks_clients: bool, alpn: &[&str]) -> Arc<ServerConfig> {
        let certified = self.certify();
        let chain = vec![CertificateDer::from_pem_slice(certified.cert.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if asks_clients {
            let mut roots = RootCertStore::empty();
            let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
            roots.add(own).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client that trusts this authority alone, and has no certificate.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(own).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Writes the authority's own certificate.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).expect("a file");
    }
}

// === impl Certified ===

impl Certified {
    pub fn write(&self, cert: &Path, key: &Path) {
        fs::write(cert, &self.cert).expect("a file");
        fs::write(key, &self.key).expect("a file");
    }
}
