//! What a certificate says of itself: names, and until when it is good.

use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// The names in a certificate, as it has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// The first common name of the subject.
    pub(crate) common_name: Option<String>,
    /// Alternative names, `spiffe://…` among them.
    pub(crate) uris: Vec<String>,
    /// Alternative names that are hosts.
    pub(crate) dns: Vec<String>,
    /// Alternative names that are mail addresses.
    pub(crate) emails: Vec<String>,
}

// === impl CertificateNames ===

impl CertificateNames {
    /// The names in `der`; none when it cannot be read.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::default();
        };
        let common_name = certificate.subject().iter_common_name().next();
        let mut names = Self {
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            ..Self::default()
        };
        let Ok(Some(alternative)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in &alternative.value.general_names {
            match name {
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(host) => names.dns.push((*host).to_owned()),
                GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
                _ => {}
            }
        }
        names
    }

    /// All of them, the common name first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        let rest = [&self.uris, &self.dns, &self.emails];
        let rest = rest.into_iter().flatten().map(String::as_str);
        self.common_name.as_deref().into_iter().chain(rest)
    }
}

/// When a certificate ends.
pub(super) fn expires(der: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let seconds = u64::try_from(seconds).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
