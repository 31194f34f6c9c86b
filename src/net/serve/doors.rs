//! Who was not let in, counted and logged.

use super::Peer;
use crate::{
    settings::Id,
    telemetry::{MetricSet, Metrics},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::{debug, warn};

/// The most that one reason fills the log: a line each so often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts who is not let in by one listener. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<Inner>);

#[derive(Default)]
struct Inner {
    receiver: String,
    protocol: &'static str,
    /// None in tests, and before somebody wants to know.
    metrics: Option<DoorMetrics>,
    logged: Mutex<HashMap<&'static str, Instant>>,
}

/// The metrics of all listeners.
#[derive(Clone)]
struct DoorMetrics {
    requests: Family<DoorLabels, Counter>,
    connections: Family<DoorLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    receiver: String,
    protocol: &'static str,
    reason: &'static str,
}

// === impl Doors ===

impl Doors {
    /// Counts for `receiver`.
    pub(super) fn new(metrics: &Metrics, receiver: &Id, protocol: &'static str) -> Self {
        Self(Arc::new(Inner {
            receiver: receiver.to_string(),
            protocol,
            metrics: Some(metrics.set()),
            logged: Mutex::default(),
        }))
    }

    /// A request was refused for who sends it.
    pub(super) fn turned_away(&self, peer: &Peer, reason: &'static str, message: &str) {
        if let Some(metrics) = &self.0.metrics {
            metrics.requests.get_or_create(&self.labels(reason)).inc();
        }
        let (receiver, protocol) = (&self.0.receiver, self.0.protocol);
        let name = peer.name().map(tracing::field::display);
        if self.may_log(reason) {
            warn!(receiver, protocol, %peer, name, reason, message, "a request was turned away");
        } else {
            debug!(receiver, protocol, %peer, name, reason, message, "a request was turned away");
        }
    }

    /// A connection was ended for what its client does.
    pub(super) fn closed(&self, peer: &Peer, reason: &'static str, message: &str) {
        if let Some(metrics) = &self.0.metrics {
            let counter = metrics.connections.get_or_create(&self.labels(reason));
            counter.inc();
        }
        let (receiver, protocol) = (&self.0.receiver, self.0.protocol);
        if self.may_log(reason) {
            warn!(receiver, protocol, %peer, reason, message, "a connection was ended");
        } else {
            debug!(receiver, protocol, %peer, reason, message, "a connection was ended");
        }
    }

    fn labels(&self, reason: &'static str) -> DoorLabels {
        DoorLabels {
            receiver: self.0.receiver.clone(),
            protocol: self.0.protocol,
            reason,
        }
    }

    fn may_log(&self, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut logged = self.0.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = logged.get(reason).is_some_and(|at| now - *at < LOG_EVERY);
        if !recent {
            logged.insert(reason, now);
        }
        !recent
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doors({} {})", self.0.receiver, self.0.protocol)
    }
}

impl MetricSet for DoorMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            connections: Family::default(),
        };
        registry.register(
            "profile_relay_receiver_turned_away_requests",
            "Requests refused for who sends them, before their bodies were read",
            metrics.requests.clone(),
        );
        registry.register(
            "profile_relay_receiver_closed_connections",
            "Connections ended for what their clients did or did not do",
            metrics.connections.clone(),
        );
        metrics
    }
}
