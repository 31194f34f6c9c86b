//! Certificates of a private authority, made anew for each run: ECDSA on P-256, a
//! chain of one.

use crate::{Result, args::Tls};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use std::{fs, path::Path, sync::Arc};

/// The authority.
pub(crate) const CA: &str = "ca.pem";
/// A certificate for 127.0.0.1, of servers and clients alike, and its key.
pub(crate) const CERTIFICATE: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";

const ALPN: &[u8] = b"h2";

/// Writes them into a folder.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority");
    let key = KeyPair::generate()?;
    fs::write(folder.join(CA), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);

    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "agent");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    fs::write(folder.join(CERTIFICATE), certificate.pem())?;
    Ok(fs::write(folder.join(KEY), key.serialize_pem())?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

// === impl Tls ===

impl Tls {
    /// Of a client: TLS 1.3, and never a resumed session.
    pub(crate) fn client(&self) -> Result<Option<Arc<ClientConfig>>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join(CA))?)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let mut config = match self.mutual {
            true => builder.with_client_auth_cert(vec![certificate(folder)?], key(folder)?)?,
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Some(Arc::new(config)))
    }

    /// Of a server that asks for no certificate.
    pub(crate) fn server(&self) -> Result<Option<Arc<ServerConfig>>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate(folder)?], key(folder)?)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

fn certificate(folder: &Path) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_file(folder.join(CERTIFICATE))?)
}

fn key(folder: &Path) -> Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::from_pem_file(folder.join(KEY))?)
}
