//! What is said about answers: one function an event, which counts and logs.
//!
//! A backend that finds something wrong finds it in every request, so the same
//! words are written once in ten minutes.

use crate::{
    exporters::shared::{ExporterLabels, Quiet},
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceResponse,
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
pub struct Observer {
    exporter: Arc<str>,
    counters: Counters,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Counters {
    rejected: Family<ExporterLabels, Counter>,
}

// === impl Observer ===

impl Observer {
    /// For one exporter.
    pub fn new(exporter: &Id, metrics: &Metrics) -> Self {
        Self {
            exporter: exporter.shared(),
            counters: metrics.set(),
            quiet: Quiet::default(),
        }
    }

    /// A request was taken. Collectors always say `partial_success`, so only what
    /// is in it means anything: profiles that were not taken, or a warning.
    pub fn taken(&self, response: &ExportProfilesServiceResponse) {
        let Some(partial) = &response.partial_success else {
            return;
        };
        let message = super::shortened(&partial.error_message);
        match u64::try_from(partial.rejected_profiles) {
            Ok(rejected @ 1..) => self.rejected(rejected, message),
            _ if !message.is_empty() => self.warned(message),
            _ => {}
        }
    }

    /// The answer to a request that was taken says nothing that can be read.
    pub fn unreadable(&self, cause: &str) {
        if self.quiet.may_say(&cause, "unreadable") {
            tracing::warn!(
                exporter = %self.exporter,
                cause,
                "the backend takes requests, but its answers are no OTLP: whether it rejects profiles is unknown"
            );
        }
    }

    fn rejected(&self, rejected: u64, message: &str) {
        let labels = ExporterLabels {
            exporter: self.exporter.clone(),
        };
        self.counters
            .rejected
            .get_or_create(&labels)
            .inc_by(rejected);
        if self.quiet.may_say(&message, "rejected") {
            tracing::warn!(
                exporter = %self.exporter,
                rejected,
                reason = message,
                "the backend rejected some profiles of a request: they are lost"
            );
        }
    }

    fn warned(&self, message: &str) {
        if self.quiet.may_say(&message, "warned") {
            tracing::warn!(exporter = %self.exporter, warning = message, "the backend warns");
        }
    }
}

// === impl Counters ===

impl MetricSet for Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self {
            rejected: Family::default(),
        };
        registry.register(
            "profile_relay_exporter_partial_success_rejected_profiles",
            "Profiles that an OTLP backend rejected out of requests that it took; they count as sent",
            counters.rejected.clone(),
        );
        counters
    }
}
