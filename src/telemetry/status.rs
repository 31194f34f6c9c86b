//! What components show of themselves on the admin endpoint's `/api/*`.
//!
//! A component publishes a view once, when it is built; the admin endpoint asks
//! the views when somebody asks it. A view must answer at once: it reads what is
//! in memory and waits for nothing.

use crate::settings::Id;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// The views of a running process.
#[derive(Clone, Default)]
pub struct Status(Arc<Mutex<Views>>);

#[derive(Default)]
struct Views {
    targets: BTreeMap<Id, Arc<dyn TargetsView>>,
    exporters: BTreeMap<Id, Arc<dyn ExporterView>>,
    pipelines: Vec<PipelineStatus>,
    orphans: Vec<OrphanStatus>,
    config: Option<RunningConfig>,
}

/// The targets of one receiver.
pub trait TargetsView: Send + Sync {
    /// All targets, in a stable order.
    fn targets(&self) -> Vec<TargetStatus>;

    /// Shows all targets one by one, in the same order. A view with thousands of
    /// targets makes each when it is shown, so that they are never in memory
    /// all at once. `show` does not wait for anything.
    fn each(&self, show: &mut dyn FnMut(TargetStatus)) {
        self.targets().into_iter().for_each(show);
    }
}

/// The state of one exporter's delivery.
pub trait ExporterView: Send + Sync {
    /// The state now.
    fn exporter(&self) -> ExporterStatus;
}

/// One target of a receiver, as on `/api/targets`.
#[derive(Clone, Debug, Serialize)]
pub struct TargetStatus {
    /// The receiver's id.
    pub receiver: String,
    /// The job's name.
    pub job: String,
    /// What is scraped, credentials removed.
    pub url: String,
    /// The labels its profiles get.
    pub labels: BTreeMap<String, String>,
    /// The labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// `up`, `down`, `unknown` before the first scrape, `dropped` by relabelling.
    pub health: Health,
    /// Why the last scrape failed; absent when it did not.
    pub last_error: Option<String>,
    /// When the last scrape ended, RFC 3339 on the wire.
    #[serde(serialize_with = "rfc3339")]
    pub last_scrape: Option<SystemTime>,
    /// How long the last scrape took, in seconds.
    pub last_duration_seconds: Option<f64>,
    /// The body of the last good scrape, in bytes as received.
    pub last_size_bytes: Option<u64>,
    /// Scrapes that succeeded.
    pub scrapes_ok: u64,
    /// Scrapes that failed.
    pub scrapes_failed: u64,
    /// Scrapes that did not take place.
    pub scrapes_skipped: u64,
}

/// A target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not scraped yet.
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
    /// Taken out by relabelling.
    Dropped,
}

/// One exporter, as on `/api/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ExporterStatus {
    /// Where it sends to.
    pub exporter: String,
    /// `ok`, `retrying`, `unauthorized`, `idle`.
    pub state: &'static str,
    /// The last error since the last success.
    pub last_error: Option<String>,
    /// When a request last succeeded, RFC 3339 on the wire.
    #[serde(serialize_with = "rfc3339")]
    pub last_success: Option<SystemTime>,
    /// Profiles accepted into the queue.
    pub enqueued_profiles: u64,
    /// Profiles delivered.
    pub sent_profiles: u64,
    /// Profiles dropped, by reason.
    pub dropped_profiles: BTreeMap<&'static str, u64>,
    /// Profiles waiting or in flight.
    pub queue_profiles: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// The bound of the queue, in bytes.
    pub queue_capacity_bytes: u64,
    /// The age of the oldest profile waiting, in seconds.
    pub queue_oldest_seconds: f64,
}

/// One pipeline, as on `/api/pipelines`: ids in the order data flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelineStatus {
    /// `profiles` or `profiles/agents`.
    pub pipeline: String,
    /// Its sources.
    pub receivers: Vec<String>,
    /// What each profile passes.
    pub processors: Vec<String>,
    /// Where each profile goes, all of them.
    pub exporters: Vec<String>,
}

/// A queue on disk that no exporter empties, as on `/api/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrphanStatus {
    /// The exporter that it was of.
    pub exporter: String,
    /// Its folder.
    pub folder: String,
    /// The profiles in it.
    pub profiles: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The configuration that runs, as on `/api/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningConfig {
    /// What `profile_relay_config_info` shows.
    pub hash: String,
    /// The whole of it, as `print-config` prints it: secrets redacted.
    pub yaml: Arc<str>,
}

// === impl Status ===

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Status")
    }
}

impl Status {
    /// Shows a receiver's targets.
    pub fn publish_targets(&self, id: &Id, view: Arc<dyn TargetsView>) {
        self.views().targets.insert(id.clone(), view);
    }

    /// Shows an exporter.
    pub fn publish_exporter(&self, id: &Id, view: Arc<dyn ExporterView>) {
        self.views().exporters.insert(id.clone(), view);
    }

    /// Shows a receiver's targets no more.
    pub fn unpublish_targets(&self, id: &Id) {
        self.views().targets.remove(id);
    }

    /// Shows an exporter no more.
    pub fn unpublish_exporter(&self, id: &Id) {
        self.views().exporters.remove(id);
    }

    /// Shows the pipelines, in place of those shown before.
    pub fn publish_pipelines(&self, pipelines: Vec<PipelineStatus>) {
        self.views().pipelines = pipelines;
    }

    /// Shows the queues without an exporter, in place of those shown before.
    pub fn publish_orphans(&self, orphans: Vec<OrphanStatus>) {
        self.views().orphans = orphans;
    }

    /// Shows the configuration, in place of the one shown before.
    pub fn publish_config(&self, config: RunningConfig) {
        self.views().config = Some(config);
    }

    /// The targets of all receivers.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let mut targets = Vec::new();
        self.each_target(&mut |target| targets.push(target));
        targets
    }

    /// Shows the targets of all receivers one by one.
    pub fn each_target(&self, show: &mut dyn FnMut(TargetStatus)) {
        let views: Vec<_> = self.views().targets.values().cloned().collect();
        views.iter().for_each(|view| view.each(show));
    }

    /// All pipelines.
    pub fn pipelines(&self) -> Vec<PipelineStatus> {
        self.views().pipelines.clone()
    }

    /// The queues on disk that no exporter empties.
    pub fn orphans(&self) -> Vec<OrphanStatus> {
        self.views().orphans.clone()
    }

    /// The configuration; `None` before there is one.
    pub fn config(&self) -> Option<RunningConfig> {
        self.views().config.clone()
    }

    /// All exporters.
    pub fn exporters(&self) -> Vec<ExporterStatus> {
        let views: Vec<_> = self.views().exporters.values().cloned().collect();
        views.iter().map(|view| view.exporter()).collect()
    }

    fn views(&self) -> std::sync::MutexGuard<'_, Views> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a time as RFC 3339 with milliseconds, UTC.
pub fn rfc3339<S: serde::Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&humantime::format_rfc3339_millis(*time)),
        None => serializer.serialize_none(),
    }
}
