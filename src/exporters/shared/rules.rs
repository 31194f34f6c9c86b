//! What an exporter says about profiles that break a rule: one function an
//! event, which counts and logs.

use super::Quiet;
use crate::{
    pipeline::Reason,
    profile::{
        Labels,
        pprof::{Rule, Unreadable},
    },
    settings::Id,
    telemetry::{MetricSet, Metrics},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::sync::Arc;

/// The rule of a body that is no pprof at all.
const UNREADABLE: &str = "unreadable";
/// The rule of a body above `max_inflated_bytes`.
const INFLATED_SIZE: &str = "inflated_size";

/// Counts and logs for one exporter.
#[derive(Debug)]
pub struct RuleObserver {
    exporter: Arc<str>,
    counters: Counters,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Counters {
    repaired: Family<RuleLabels, Counter>,
    unrepairable: Family<RuleLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    exporter: Arc<str>,
    rule: &'static str,
}

/// The labels of what is counted by exporter alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExporterLabels {
    /// Its id.
    pub exporter: Arc<str>,
}

// === impl RuleObserver ===

impl RuleObserver {
    /// For one exporter.
    pub fn new(exporter: &Id, metrics: &Metrics) -> Self {
        Self {
            exporter: exporter.shared(),
            counters: metrics.set(),
            quiet: Quiet::default(),
        }
    }

    /// A profile broke a rule and was mended.
    pub fn repaired(&self, series: &Labels, rule: &'static str, what: &str) {
        self.counters.repaired.get_or_create(&self.rule(rule)).inc();
        if self.quiet.may_say(series, rule) {
            tracing::warn!(exporter = %self.exporter, %series, rule, what, "profile repaired");
        }
    }

    /// A profile is no pprof; what it is dropped with.
    pub fn unreadable(&self, series: &Labels, unreadable: &Unreadable) -> Reason {
        let (rule, reason) = match unreadable {
            Unreadable::TooLarge { .. } => (INFLATED_SIZE, Reason::TooLarge),
            _ => (UNREADABLE, Reason::InvalidProfile),
        };
        self.dropped(series, rule, &unreadable.to_string());
        reason
    }

    /// A profile broke a rule that nothing mends; what it is dropped with.
    pub fn unrepairable(&self, series: &Labels, rule: Rule) -> Reason {
        self.dropped(series, rule.as_str(), rule.describe());
        Reason::InvalidProfile
    }

    /// A body of another kind gives no pprof; what it is dropped with is told by
    /// who found out.
    pub fn dropped(&self, series: &Labels, rule: &'static str, what: &str) {
        let labels = self.rule(rule);
        self.counters.unrepairable.get_or_create(&labels).inc();
        if self.quiet.may_say(series, rule) {
            tracing::error!(exporter = %self.exporter, %series, rule, what, "profile dropped");
        }
    }

    fn rule(&self, rule: &'static str) -> RuleLabels {
        RuleLabels {
            exporter: self.exporter.clone(),
            rule,
        }
    }
}

// === impl Counters ===

impl MetricSet for Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self {
            repaired: Family::default(),
            unrepairable: Family::default(),
        };
        registry.register(
            "profile_relay_exporter_repaired_profiles",
            "Profiles that broke a rule of the backend and were mended, by rule",
            counters.repaired.clone(),
        );
        registry.register(
            "profile_relay_exporter_unrepairable_profiles",
            "Profiles that broke a rule of the backend that nothing mends, by rule",
            counters.unrepairable.clone(),
        );
        counters
    }
}
