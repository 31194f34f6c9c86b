//! What is counted beside requests and profiles.

use crate::{net::serve::grpc::Head, profile::arrow::Schema, settings::Id, telemetry::MetricSet};
use http::{HeaderValue, header};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::sync::{Mutex, PoisonError};
use tracing::info;

/// So many kinds of clients are told apart: their names are their own choice.
const MAX_CLIENTS: usize = 16;

/// The longest name of a client.
const MAX_NAME: usize = 64;

/// The name of all clients beyond.
const OTHER: &str = "other";

/// The metrics of all `parca` receivers.
#[derive(Clone)]
pub(super) struct ParcaMetrics {
    duplicates: Family<Receiver, Counter>,
    schemas: Family<BySchema, Counter>,
    clients: Family<ByClient, Counter>,
    cached: Family<Receiver, Counter>,
    uploaded: Family<ByStrategy, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Receiver {
    receiver: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySchema {
    receiver: String,
    schema: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClient {
    receiver: String,
    user_agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStrategy {
    receiver: String,
    strategy: &'static str,
}

/// The share of one receiver.
pub(super) struct Counts {
    receiver: Id,
    metrics: ParcaMetrics,
    duplicates: Counter,
    cached: Counter,
    schemas: [Counter; 2],
    uploaded: [Counter; 2],
    clients: Mutex<Vec<(HeaderValue, Counter)>>,
}

/// How symbols travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// By `Upload`.
    Grpc,
    /// By a PUT to a signed URL.
    SignedUrl,
}

// === impl ParcaMetrics ===

impl MetricSet for ParcaMetrics {
    fn register(registry: &mut Registry) -> Self {
        let set = Self {
            duplicates: Family::default(),
            schemas: Family::default(),
            clients: Family::default(),
            cached: Family::default(),
            uploaded: Family::default(),
        };
        registry.register(
            "profile_relay_receiver_duplicate_profiles",
            "Profiles of agents' retries that had been taken already",
            set.duplicates.clone(),
        );
        registry.register(
            "profile_relay_receiver_arrow_profiles",
            "Arrow profiles that were taken, by the version of their schema",
            set.schemas.clone(),
        );
        registry.register(
            "profile_relay_receiver_client_requests",
            "Calls of agents, by what they call themselves",
            set.clients.clone(),
        );
        registry.register(
            "profile_relay_receiver_debuginfo_cached_answers",
            "Questions about debug symbols that were answered without asking the upstream",
            set.cached.clone(),
        );
        registry.register(
            "profile_relay_receiver_debuginfo_uploaded_bytes",
            "Bytes of debug symbols that were passed on, by how",
            set.uploaded.clone(),
        );
        set
    }
}

impl ParcaMetrics {
    /// One receiver's share, its series visible from the beginning.
    pub(super) fn counts(&self, id: &Id) -> Counts {
        let receiver = || id.to_string();
        let of_receiver = Receiver {
            receiver: receiver(),
        };
        let schemas = ["v1", "v2"].map(|schema| {
            let labels = BySchema {
                receiver: receiver(),
                schema,
            };
            self.schemas.get_or_create(&labels).clone()
        });
        let uploaded = ["grpc", "signed_url"].map(|strategy| {
            let labels = ByStrategy {
                receiver: receiver(),
                strategy,
            };
            self.uploaded.get_or_create(&labels).clone()
        });
        Counts {
            receiver: id.clone(),
            duplicates: self.duplicates.get_or_create(&of_receiver).clone(),
            cached: self.cached.get_or_create(&of_receiver).clone(),
            metrics: self.clone(),
            schemas,
            uploaded,
            clients: Mutex::default(),
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Somebody has called.
    pub(super) fn called(&self, head: &Head) {
        let unknown = HeaderValue::from_static("unknown");
        let name = head.headers.get(header::USER_AGENT).unwrap_or(&unknown);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = clients.iter().find(|(known, _)| known == name) {
            counter.inc();
            return;
        }
        let shown = if clients.len() < MAX_CLIENTS {
            let text = String::from_utf8_lossy(name.as_bytes());
            let shown: String = text.chars().take(MAX_NAME).collect();
            info!(receiver = %self.receiver, user_agent = shown, peer = %head.peer, "a client of another kind");
            shown
        } else {
            OTHER.to_owned()
        };
        let counter = self.client(shown);
        counter.inc();
        if clients.len() < MAX_CLIENTS {
            clients.push((name.clone(), counter));
        }
    }

    fn client(&self, user_agent: String) -> Counter {
        let labels = ByClient {
            receiver: self.receiver.to_string(),
            user_agent,
        };
        self.metrics.clients.get_or_create(&labels).clone()
    }

    /// So many profiles had been taken already.
    pub(super) fn duplicates(&self, profiles: u64) {
        self.duplicates.inc_by(profiles);
    }

    /// An Arrow profile was taken.
    pub(super) fn arrow(&self, schema: Schema) {
        let at = match schema {
            Schema::V1 => 0,
            Schema::V2 => 1,
        };
        self.schemas[at].inc();
    }

    /// A question was answered by what is remembered.
    pub(super) fn cached(&self) {
        self.cached.inc();
    }

    /// Symbols were passed on.
    pub(super) fn uploaded(&self, strategy: Strategy, bytes: u64) {
        let at = match strategy {
            Strategy::Grpc => 0,
            Strategy::SignedUrl => 1,
        };
        self.uploaded[at].inc_by(bytes);
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counts({})", self.receiver)
    }
}
