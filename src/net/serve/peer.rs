//! Who is connected, and who that is known to be.

use super::activity::Activity;
use crate::{
    net::{
        auth::Identity,
        tls::{CertificateNames, PeerCertificate},
    },
    pipeline::Reason,
    profile::{Labels, Profile, otlp::Otlp},
};
use std::{fmt, sync::Arc};

/// Who sends a request: an address, or the socket's path behind `unix:`, and the
/// identity that was told by credentials or a certificate. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    address: Arc<str>,
    identity: Option<Arc<Identity>>,
    session: Option<Arc<Session>>,
}

/// A connection, as its requests know it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) activity: Arc<Activity>,
    pub(super) certificate: Option<PeerCertificate>,
}

// === impl Peer ===

impl Peer {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            identity: None,
            session: None,
        }
    }

    /// The address, shared.
    pub fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    /// The name by which the sender is known; nothing when nobody asked for it, or
    /// it has none.
    pub fn name(&self) -> Option<&Arc<str>> {
        let name = self.identity.as_ref().map(|identity| identity.name());
        name.filter(|name| !name.is_empty())
    }

    /// A profile as it goes on: with the labels of the sender in place of those
    /// that arrived.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAllowed`]: the sender may not send it, now or later. Refuse the
    /// whole request with [`super::Kind::Denied`], and count with
    /// [`crate::pipeline::Entry::refuse`].
    pub fn admit(&self, mut profile: Profile) -> Result<Profile, Reason> {
        if let Some(identity) = &self.identity {
            let body = profile.body.as_otlp();
            if identity.has_rules() && body.is_some_and(Otlp::is_ambiguous) {
                return Err(Reason::NotAllowed);
            }
            profile.labels = identity.admit(profile.labels, self.names())?;
        }
        Ok(profile)
    }

    /// The metadata of a request as it goes on: what the listener lets through of
    /// its headers, and the sender's own in their place.
    pub fn metadata(&self, arrived: Labels) -> Labels {
        match &self.identity {
            Some(identity) => identity.metadata(arrived, self.names()),
            None => arrived,
        }
    }

    /// The names in the sender's certificate, which was verified.
    pub(super) fn names(&self) -> Option<&CertificateNames> {
        let certificate = self.session.as_ref()?.certificate.as_ref()?;
        Some(certificate.names())
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    pub(super) fn on(mut self, session: Arc<Session>) -> Self {
        self.session = Some(session);
        self
    }

    /// The same, known to be somebody.
    pub(crate) fn identified(mut self, identity: Arc<Identity>) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}
