//! Certificates of clients: who may connect, and whether who has connected still
//! may.

use super::{LiveServerTls, TlsError, add_roots, names::CertificateNames, settings::Pem};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Whether clients must have certificates where some are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Who has none is not connected.
    #[default]
    Required,
    /// Who has none is connected; one that is wrong is refused.
    Optional,
}

/// Who verifies certificates of clients.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

/// The certificate of a client that is connected.
pub(crate) struct PeerCertificate {
    names: Arc<CertificateNames>,
    chain: Vec<CertificateDer<'static>>,
    tls: LiveServerTls,
    verdict: Mutex<Verdict>,
}

/// What was last found out.
struct Verdict {
    by: Option<Verifier>,
    is_good: bool,
}

/// A verifier that trusts the authorities in `ca`.
pub(super) fn verifier(
    ca: &Pem,
    wants: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, TlsError> {
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, ca, &ca.certificates()?)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wants {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|error| TlsError::new(ca.key, format!("{ca}: {error}")))
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// What a client has shown in a handshake, in which it was verified; nothing
    /// when it has shown none.
    pub(super) fn new(chain: Option<&[CertificateDer<'_>]>, tls: &LiveServerTls) -> Option<Self> {
        let chain: Vec<_> = chain?.iter().map(|c| c.clone().into_owned()).collect();
        Some(Self {
            names: Arc::new(CertificateNames::of(chain.first()?)),
            chain,
            tls: tls.clone(),
            // The authorities may have changed while hands were shaken.
            verdict: Mutex::new(Verdict {
                by: None,
                is_good: false,
            }),
        })
    }

    /// Its names.
    pub(crate) fn names(&self) -> &Arc<CertificateNames> {
        &self.names
    }

    /// Whether a handshake now would still take it: the clients' authorities may
    /// have changed. It is verified anew only when they have.
    pub(crate) fn is_good(&self) -> bool {
        let now = self.tls.client_verifier();
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let known = verdict.by.as_ref().zip(now.as_ref());
        if !known.is_some_and(|(before, now)| Arc::ptr_eq(before, now)) {
            verdict.is_good = now.as_ref().is_some_and(|verifier| self.passes(verifier));
            verdict.by = now;
        }
        verdict.is_good
    }

    fn passes(&self, verifier: &Verifier) -> bool {
        let Some((leaf, others)) = self.chain.split_first() else {
            return false;
        };
        let now = UnixTime::now();
        verifier.verify_client_cert(leaf, others, now).is_ok()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({:?})", self.names)
    }
}
