//! What the exporter says about profiles that it changes: one function an
//! event, which counts and logs.
//!
//! A target that breaks a rule breaks it with every profile, so a line about
//! one series and one rule is written once in [`QUIET`].

use crate::{
    profile::Labels,
    settings::Id,
    telemetry::{MetricSet, Metrics},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a series and a rule are not mentioned again.
const QUIET: Duration = Duration::from_secs(600);

/// The most series and rules that are remembered; beyond it only counters tell.
const MOST: usize = 1_000;

/// Counts and logs for one exporter.
#[derive(Debug)]
pub(super) struct Observer {
    exporter: Arc<str>,
    counters: Counters,
    said: Mutex<HashMap<(u64, &'static str), Instant>>,
    hasher: RandomState,
}

#[derive(Clone, Debug)]
struct Counters {
    repaired: Family<RuleLabels, Counter>,
    unrepairable: Family<RuleLabels, Counter>,
    divided: Family<ExporterLabels, Counter>,
    limited: Family<ExporterLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    exporter: Arc<str>,
    rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExporterLabels {
    exporter: Arc<str>,
}

// === impl Observer ===

impl Observer {
    pub(super) fn new(exporter: &Id, metrics: &Metrics) -> Self {
        Self {
            exporter: exporter.shared(),
            counters: metrics.set(),
            said: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// A profile broke a rule and was mended.
    pub(super) fn repaired(&self, series: &Labels, rule: &'static str, what: &str) {
        self.counters.repaired.get_or_create(&self.rule(rule)).inc();
        if self.may_say(series, rule) {
            tracing::warn!(exporter = %self.exporter, %series, rule, what, "profile repaired");
        }
    }

    /// A profile broke a rule that nothing mends.
    pub(super) fn unrepairable(&self, series: &Labels, rule: &'static str, what: &str) {
        let labels = self.rule(rule);
        self.counters.unrepairable.get_or_create(&labels).inc();
        if self.may_say(series, rule) {
            tracing::error!(exporter = %self.exporter, %series, rule, what, "profile dropped");
        }
    }

    /// A profile above `max_request_bytes` was divided by its samples.
    pub(super) fn divided(&self, series: &Labels, bytes: u64, parts: usize) {
        self.counters.divided.get_or_create(&self.labels()).inc();
        if self.may_say(series, "divided") {
            tracing::info!(exporter = %self.exporter, %series, bytes, parts, "large profile divided");
        }
    }

    /// A profile has more combinations of `sample_labels` than allowed.
    pub(super) fn limited(&self, series: &Labels, limit: u64) {
        self.counters.limited.get_or_create(&self.labels()).inc();
        if self.may_say(series, "limited") {
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

    fn rule(&self, rule: &'static str) -> RuleLabels {
        RuleLabels {
            exporter: self.exporter.clone(),
            rule,
        }
    }

    fn may_say(&self, series: &Labels, event: &'static str) -> bool {
        let key = (self.hasher.hash_one(series), event);
        let now = Instant::now();
        let is_fresh = |at: &Instant| now.duration_since(*at) < QUIET;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&key).is_some_and(is_fresh) {
            return false;
        }
        if said.len() >= MOST {
            said.retain(|_, at| is_fresh(at));
        }
        if said.len() >= MOST {
            return false;
        }
        said.insert(key, now);
        true
    }
}

// === impl Counters ===

impl MetricSet for Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self {
            repaired: Family::default(),
            unrepairable: Family::default(),
            divided: Family::default(),
            limited: Family::default(),
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
