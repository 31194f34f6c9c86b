//! Somebody who sends: what is stamped on it, what is refused, how much it may be.

use super::{meter::Meter, template::Template};
use crate::{
    net::tls::CertificateNames,
    pipeline::{Permit, Reason},
    profile::{Labels, relabel::Pattern},
};
use std::{sync::Arc, time::Duration};

/// Somebody who sends, on one listener.
#[derive(Debug)]
pub struct Identity {
    name: Arc<str>,
    rules: Rules,
    meter: Meter,
}

/// What holds for an identity, read from the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) labels: Vec<(Box<str>, Template)>,
    pub(super) allow: Vec<(Box<str>, Vec<Pattern>)>,
    pub(super) metadata: Vec<(Box<str>, Template)>,
    pub(super) max_requests_per_second: Option<u32>,
    pub(super) max_bytes_in_flight: Option<u64>,
}

// === impl Identity ===

impl Identity {
    pub(super) fn new(name: &str, rules: Rules) -> Self {
        Self {
            name: name.into(),
            meter: Meter::new(rules.max_requests_per_second, rules.max_bytes_in_flight),
            rules,
        }
    }

    /// The name; empty for who has none.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it matters what labels say.
    pub(in crate::net) fn has_rules(&self) -> bool {
        !self.rules.labels.is_empty() || !self.rules.allow.is_empty()
    }

    /// The labels of a profile as they go on, or why it does not.
    pub(in crate::net) fn admit(
        &self,
        labels: Labels,
        certificate: Option<&CertificateNames>,
    ) -> Result<Labels, Reason> {
        let labels = self.put(&self.rules.labels, labels, certificate);
        let is_allowed = |(name, patterns): &(Box<str>, Vec<Pattern>)| {
            labels
                .get(name)
                .is_some_and(|value| patterns.iter().any(|pattern| pattern.is_match(value)))
        };
        if self.rules.allow.iter().all(is_allowed) {
            Ok(labels)
        } else {
            Err(Reason::NotAllowed)
        }
    }

    /// The metadata of a request as it goes on.
    pub(in crate::net) fn metadata(
        &self,
        arrived: Labels,
        certificate: Option<&CertificateNames>,
    ) -> Labels {
        self.put(&self.rules.metadata, arrived, certificate)
    }

    fn put(
        &self,
        values: &[(Box<str>, Template)],
        labels: Labels,
        certificate: Option<&CertificateNames>,
    ) -> Labels {
        if values.is_empty() {
            return labels;
        }
        let mut edit = labels.edit();
        for (name, value) in values {
            edit.set(name, &value.render(&self.name, certificate));
        }
        edit.build()
    }

    /// Counts a request; one that is too many may come after the time that is
    /// returned.
    pub(in crate::net) fn request(&self) -> Result<(), Duration> {
        self.meter.request()
    }

    /// A share of its bytes in flight, of none yet; nothing when they are not
    /// limited.
    pub(in crate::net) fn bytes(&self) -> Option<Permit> {
        self.meter.bytes()
    }

    /// The most bytes in flight, if they are limited.
    pub(in crate::net) fn max_bytes(&self) -> Option<u64> {
        self.meter.max_bytes()
    }

    /// Bytes in flight now.
    pub fn bytes_in_flight(&self) -> u64 {
        self.meter.bytes_used()
    }
}
