//! What the receiver counts.

use crate::telemetry::{MetricSet, status::Health};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// The metric families of scraping.
#[derive(Clone, Debug)]
pub(crate) struct ScrapeMetrics {
    scrapes: Family<ScrapeLabels, Counter>,
    durations: Family<JobLabels, Histogram>,
    targets: Family<TargetLabels, Gauge>,
    discovery_errors: Family<JobLabels, Counter>,
}

/// One job's share of them, looked up once.
#[derive(Debug)]
pub(crate) struct JobMeters {
    scrapes: [Counter; Outcome::ALL.len()],
    durations: Histogram,
    targets: [Gauge; HEALTHS.len()],
    /// What this receiver added to `targets`: a gauge may be shared with a job
    /// of the same name in another receiver.
    shown: [i64; HEALTHS.len()],
}

/// How a scrape ended, or why it did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Accepted by the pipelines.
    Ok,
    /// Not answered before the deadline.
    Timeout,
    /// No connection, or it broke.
    ConnectError,
    /// Another status than 200.
    HttpError,
    /// The body is no profile.
    Invalid,
    /// The body is above a limit.
    TooLarge,
    /// The memory budget was used up while the body came in.
    MemoryLimit,
    /// The pipelines refused the profile.
    Refused,
    /// The receiver was stopped under it.
    Cancelled,
    /// A tick passed under a scrape of the same target.
    SkippedOverlap,
    /// A tick passed while the target waited for a place.
    SkippedConcurrency,
    /// The memory budget was used up before the scrape began.
    SkippedMemory,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScrapeLabels {
    job: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    job: String,
    health: &'static str,
}

const HEALTHS: [(Health, &str); 4] = [
    (Health::Unknown, "unknown"),
    (Health::Up, "up"),
    (Health::Down, "down"),
    (Health::Dropped, "dropped"),
];

// === impl Outcome ===

impl Outcome {
    const ALL: [Self; 12] = [
        Self::Ok,
        Self::Timeout,
        Self::ConnectError,
        Self::HttpError,
        Self::Invalid,
        Self::TooLarge,
        Self::MemoryLimit,
        Self::Refused,
        Self::Cancelled,
        Self::SkippedOverlap,
        Self::SkippedConcurrency,
        Self::SkippedMemory,
    ];

    /// The value of the label `outcome`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::ConnectError => "connect_error",
            Self::HttpError => "http_error",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::MemoryLimit => "memory_limit",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::SkippedOverlap => "skipped_overlap",
            Self::SkippedConcurrency => "skipped_concurrency",
            Self::SkippedMemory => "skipped_memory",
        }
    }
}

// === impl ScrapeMetrics ===

impl MetricSet for ScrapeMetrics {
    fn register(registry: &mut Registry) -> Self {
        let set = Self {
            scrapes: Family::default(),
            durations: Family::new_with_constructor(durations),
            targets: Family::default(),
            discovery_errors: Family::default(),
        };
        registry.register(
            "profile_relay_scrapes",
            "Scrapes by how they ended, and those that did not take place by the reason",
            set.scrapes.clone(),
        );
        registry.register(
            "profile_relay_scrape_duration_seconds",
            "How long scrapes took, the seconds that a target collects included",
            set.durations.clone(),
        );
        registry.register(
            "profile_relay_targets",
            "Targets by health; one target is one profile of one address",
            set.targets.clone(),
        );
        registry.register(
            "profile_relay_discovery_errors",
            "Reads of a targets file that failed; the targets it last had are kept",
            set.discovery_errors.clone(),
        );
        set
    }
}

impl ScrapeMetrics {
    /// One job's share.
    pub(crate) fn job(&self, job: &str) -> JobMeters {
        let targets = HEALTHS.map(|(_, health)| {
            let job = job.to_owned();
            self.targets
                .get_or_create(&TargetLabels { job, health })
                .clone()
        });
        let scrapes = Outcome::ALL.map(|outcome| {
            let (job, outcome) = (job.to_owned(), outcome.as_str());
            self.scrapes
                .get_or_create(&ScrapeLabels { job, outcome })
                .clone()
        });
        let job = JobLabels { job: job.into() };
        JobMeters {
            scrapes,
            durations: self.durations.get_or_create(&job).clone(),
            targets,
            shown: [0; HEALTHS.len()],
        }
    }

    /// The counter of one job's discovery errors.
    pub(crate) fn discovery_errors(&self, job: &str) -> Counter {
        let job = JobLabels { job: job.into() };
        self.discovery_errors.get_or_create(&job).clone()
    }
}

fn durations() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0,
    ])
}

// === impl JobMeters ===

impl JobMeters {
    /// Counts `times` of an outcome.
    pub(crate) fn count(&self, outcome: Outcome, times: u64) {
        self.scrapes[outcome as usize].inc_by(times);
    }

    /// Notes how long a scrape took.
    pub(crate) fn took(&self, duration: Duration) {
        self.durations.observe(duration.as_secs_f64());
    }

    /// Sets how many targets have which health.
    pub(crate) fn set_targets(&mut self, counts: impl Fn(Health) -> usize) {
        for (at, (health, _)) in HEALTHS.iter().enumerate() {
            let count = i64::try_from(counts(*health)).unwrap_or(i64::MAX);
            self.targets[at].inc_by(count - self.shown[at]);
            self.shown[at] = count;
        }
    }

    /// One target's health changed.
    pub(crate) fn change(&mut self, from: Health, to: Health) {
        for (at, (health, _)) in HEALTHS.iter().enumerate() {
            let step = i64::from(*health == to) - i64::from(*health == from);
            self.targets[at].inc_by(step);
            self.shown[at] += step;
        }
    }
}

impl Drop for JobMeters {
    fn drop(&mut self) {
        self.set_targets(|_| 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn two_receivers_with_a_job_of_one_name_share_its_gauges() {
        let metrics = Metrics::default();
        let set: ScrapeMetrics = metrics.set();
        let (mut one, mut two) = (set.job("api"), set.job("api"));
        one.set_targets(|health| usize::from(health == Health::Unknown) * 3);
        two.set_targets(|health| usize::from(health == Health::Up));
        one.change(Health::Unknown, Health::Up);
        one.change(Health::Up, Health::Up);
        one.count(Outcome::Ok, 1);
        let text = metrics.encode().unwrap();
        for line in [
            r#"profile_relay_targets{job="api",health="up"} 2"#,
            r#"profile_relay_targets{job="api",health="unknown"} 2"#,
            r#"profile_relay_scrapes_total{job="api",outcome="ok"} 1"#,
            r#"profile_relay_scrapes_total{job="api",outcome="skipped_memory"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        drop(one);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"profile_relay_targets{job="api",health="up"} 1"#));
        assert!(text.contains(r#"profile_relay_targets{job="api",health="unknown"} 0"#));
    }
}
