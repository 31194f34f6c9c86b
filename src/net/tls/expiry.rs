//! When certificates end: on `/metrics`, and in the log when that is soon.

use super::{Pem, TlsSpec, names::expires, settings::Source};
use crate::{settings::Id, telemetry::MetricSet};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use rustls_pki_types::CertificateDer;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

const DAY: Duration = Duration::from_secs(86_400);

/// What ends sooner than this is logged, once a day.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What has certificates.
pub(crate) trait Certificates: Send + Sync {
    /// The certificates as of now.
    fn expiring(&self) -> Vec<Expiring>;
}

/// What has certificates, as long as it is there.
pub(crate) type Watched = Weak<dyn Certificates>;

/// The certificates of one file (or text of the configuration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiring {
    /// The file's path, or the key of the configuration.
    file: String,
    at: SystemTime,
}

/// Says once a day what ends soon.
#[derive(Debug, Default)]
pub(super) struct Reminder(Mutex<Option<Instant>>);

/// When the certificates of all components end.
#[derive(Clone, Default)]
pub struct CertificateMetrics(Arc<Mutex<Vec<(String, Watched)>>>);

/// The certificates of own chains, by the one that ends first, and of authorities,
/// by the one that ends last: bundles hold old ones.
pub(super) fn certificates(spec: &TlsSpec) -> Vec<Expiring> {
    let ends = |pem: &Pem| {
        let certificates = pem.certificates().unwrap_or_default();
        certificates
            .iter()
            .filter_map(|one: &CertificateDer<'_>| expires(one))
            .collect::<Vec<_>>()
    };
    let expiring = |pem: &Pem, at: Option<SystemTime>| {
        let file = match &pem.source {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => pem.key.to_owned(),
        };
        at.map(|at| Expiring { file, at })
    };
    let chains = spec
        .chains()
        .map(|pem| expiring(pem, ends(pem).into_iter().min()));
    let authorities = spec
        .ca
        .iter()
        .map(|pem| expiring(pem, ends(pem).into_iter().max()));
    chains.chain(authorities).flatten().collect()
}

// === impl Reminder ===

impl Reminder {
    pub(super) fn remind(&self, expiring: &[Expiring]) {
        let mut last = match self.0.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if last.is_some_and(|last| last.elapsed() < DAY) {
            return;
        }
        *last = Some(Instant::now());
        let now = SystemTime::now();
        for Expiring { file, at } in expiring.iter().filter(|one| one.at < now + SOON) {
            let at = humantime::format_rfc3339_seconds(*at);
            warn!(file, expires = %at, "a certificate ends soon, or has ended: renew it");
        }
    }
}

// === impl CertificateMetrics ===

impl CertificateMetrics {
    /// Tells of the certificates of a component as long as they are there.
    pub(crate) fn watch(&self, component: &Id, certificates: Watched) {
        let mut all = self.all();
        all.retain(|(_, watched)| watched.strong_count() > 0);
        all.push((component.to_string(), certificates));
    }

    fn all(&self) -> MutexGuard<'_, Vec<(String, Watched)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSet for CertificateMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }
}

impl Collector for CertificateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut found: Vec<_> = (self.all().iter())
            .filter_map(|(component, watched)| Some((component.clone(), watched.upgrade()?)))
            .flat_map(|(component, certificates)| {
                let all = certificates.expiring().into_iter();
                all.map(move |one| {
                    (
                        [("component", component.clone()), ("file", one.file)],
                        one.at,
                    )
                })
            })
            .collect();
        // Two protocols of a receiver may have one certificate.
        found.sort();
        found.dedup_by(|one, other| one.0 == other.0);
        if found.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "profile_relay_tls_certificate_expires_timestamp_seconds",
            "When a certificate ends, in seconds since the epoch",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for (labels, at) in found {
            let seconds = at
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let gauge = ConstGauge::new(seconds.as_secs_f64());
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for CertificateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateMetrics")
    }
}
