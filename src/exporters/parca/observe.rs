//! What the exporter says about profiles that it changes, beside what
//! [`RuleObserver`] says: one function an event, which counts and logs.

use crate::{
    exporters::shared::{ExporterLabels, Quiet, RuleObserver},
    profile::Labels,
    settings::Id,
    telemetry::{MetricSet, Metrics},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::sync::Arc;

/// Counts and logs for one exporter.
#[derive(Debug)]
pub(super) struct Observer {
    exporter: Arc<str>,
    counters: Counters,
    rules: RuleObserver,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Counters {
    divided: Family<ExporterLabels, Counter>,
    limited: Family<ExporterLabels, Counter>,
}

// === impl Observer ===

impl Observer {
    pub(super) fn new(exporter: &Id, metrics: &Metrics) -> Self {
        Self {
            exporter: exporter.shared(),
            counters: metrics.set(),
            rules: RuleObserver::new(exporter, metrics),
            quiet: Quiet::default(),
        }
    }

    /// What is said about broken rules.
    pub(super) fn rules(&self) -> &RuleObserver {
        &self.rules
    }

    /// A profile above `max_request_bytes` was divided by its samples.
    pub(super) fn divided(&self, series: &Labels, bytes: u64, parts: usize) {
        self.counters.divided.get_or_create(&self.labels()).inc();
        if self.quiet.may_say(series, "divided") {
            tracing::info!(exporter = %self.exporter, %series, bytes, parts, "large profile divided");
        }
    }

    /// A profile has more combinations of `sample_labels` than allowed.
    pub(super) fn limited(&self, series: &Labels, limit: u64) {
        self.counters.limited.get_or_create(&self.labels()).inc();
        if self.quiet.may_say(series, "limited") {
            tracing::warn!(
                exporter = %self.exporter,
                %series,
                limit,
                "sample_label_series_limit reached: further samples stay without these labels"
            );
        }
    }

    fn labels(&self) -> ExporterLabels {
        ExporterLabels {
            exporter: self.exporter.clone(),
        }
    }
}

// === impl Counters ===

impl MetricSet for Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self {
            divided: Family::default(),
            limited: Family::default(),
        };
        registry.register(
            "profile_relay_exporter_divided_profiles",
            "Profiles above max_request_bytes that were divided by their samples",
            counters.divided.clone(),
        );
        registry.register(
            "profile_relay_exporter_sample_label_limited_profiles",
            "Profiles with more combinations of sample_labels than sample_label_series_limit",
            counters.limited.clone(),
        );
        counters
    }
}
