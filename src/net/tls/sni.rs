//! Which of several certificates is shown, by the name that a client asks for.

use rustls::{
    client::verify_server_name,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;
use std::sync::Arc;

/// The first certificate that has the name; the first of all when none has, or
/// when no name is asked for.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Arc<CertifiedKey>>);

// === impl ByName ===

impl ByName {
    fn has(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
        let certificate = key.cert.first().map(ParsedCertificate::try_from);
        certificate
            .and_then(Result::ok)
            .is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.filter(|_| self.0.len() > 1);
        let named = named.and_then(|name| self.0.iter().find(|key| Self::has(key, &name)));
        named.or(self.0.first()).cloned()
    }
}
