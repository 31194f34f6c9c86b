//! One job's targets: merged from its sources, and what comes of their scrapes.

use super::{
    job::Job,
    metrics::{JobMeters, Outcome, ScrapeMetrics},
    report::Reporter,
    schedule::{Schedule, SlotId},
    scrape::Failure,
    status::{Shown, Tracked},
    target::{Built, Target, Unscraped},
};
use crate::telemetry::status::Health;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tracing::{info, warn};

/// One job's targets.
#[derive(Debug)]
pub(crate) struct JobState {
    job: Arc<Job>,
    meters: JobMeters,
    reporter: Reporter,
    /// What each source of the job last said.
    sources: Vec<Built>,
    /// By identity.
    current: HashMap<u64, (SlotId, Arc<Tracked>)>,
    /// Bad and dropped ones, which no scrape changes.
    bad: usize,
    dropped: usize,
    duplicates: usize,
    bad_logged: usize,
    /// Whether another receiver has its targets.
    hidden: bool,
}

/// What a change of a job's targets means for the receiver.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// New ones.
    pub(crate) added: Vec<(SlotId, Arc<Tracked>)>,
    /// Those that are gone.
    pub(crate) removed: Vec<SlotId>,
    /// All there are now.
    pub(crate) shown: Shown,
}

/// Bad targets listed for the status page, by job.
const MAX_BAD: usize = 1_000;
/// Bad targets logged at a change of targets, by job.
const BAD_LOGGED: usize = 5;

// === impl JobState ===

impl JobState {
    /// A job without targets.
    pub(crate) fn new(job: Arc<Job>, metrics: &ScrapeMetrics, now: Instant) -> Self {
        Self {
            meters: metrics.job(&job.plan.job),
            reporter: Reporter::new(now),
            sources: vec![Built::default(); job.file_sd.len() + 1],
            current: HashMap::new(),
            bad: 0,
            dropped: 0,
            duplicates: 0,
            bad_logged: 0,
            hidden: false,
            job,
        }
    }

    /// Takes over what a source of the job now says. Targets that are the same
    /// as before keep their slot, their phase and what is known of them.
    /// New ones are due at their first tick from `since` on.
    pub(crate) fn merge(
        &mut self,
        source: usize,
        built: Built,
        schedule: &mut Schedule,
        since: Instant,
    ) -> Change {
        if let Some(slot) = self.sources.get_mut(source) {
            *slot = built;
        }
        let limit = self.job.target_limit;
        let mut change = Change::default();
        let shown = &mut change.shown;
        let mut kept = HashMap::new();
        let mut duplicates = 0;
        let mut over_limit = 0;
        for target in self.sources.iter_mut().flat_map(|built| &mut built.targets) {
            if kept.contains_key(&target.hash) {
                duplicates += 1;
                continue;
            }
            if limit != 0 && kept.len() >= limit {
                over_limit += 1;
                if shown.bad.len() < MAX_BAD {
                    shown.bad.push(over(target, limit));
                }
                continue;
            }
            let known = self.current.remove(&target.hash);
            let (slot, tracked) = known.unwrap_or_else(|| {
                let delta = target.wait.is_some();
                let slot = schedule.add(target.hash, self.job.interval, delta, since);
                let tracked = Arc::new(Tracked::new(self.job.clone(), target.clone()));
                change.added.push((slot, tracked.clone()));
                (slot, tracked)
            });
            // The same target again: one copy of it is enough.
            *target = tracked.target.clone();
            shown.tracked.push(tracked.clone());
            kept.insert(target.hash, (slot, tracked));
        }
        for (_, (slot, _)) in std::mem::replace(&mut self.current, kept) {
            schedule.remove(slot);
            change.removed.push(slot);
        }
        self.list_unscraped(shown);
        self.bad += over_limit;
        self.changed(shown, duplicates, over_limit);
        change
    }

    /// Counts none of its targets any more: another receiver does.
    pub(crate) fn hide(&mut self) {
        self.meters.set_targets(|_| 0);
        self.hidden = true;
    }

    fn list_unscraped(&mut self, shown: &mut Shown) {
        let keep_dropped = match self.job.keep_dropped {
            0 => usize::MAX,
            keep => keep,
        };
        self.bad = 0;
        self.dropped = 0;
        for built in &self.sources {
            self.bad += built.bad.len();
            self.dropped += built.dropped_total;
            let room = MAX_BAD.saturating_sub(shown.bad.len());
            shown.bad.extend(built.bad.iter().take(room).cloned());
            let room = keep_dropped.saturating_sub(shown.dropped.len());
            shown
                .dropped
                .extend(built.dropped.iter().take(room).cloned());
        }
    }

    /// Counts the last scrape of a target that is gone.
    pub(crate) fn ended_late(&mut self, result: &Result<u64, Failure>) {
        self.meters.count(outcome(result), 1);
    }

    /// Counts ticks of a target that passed without a scrape.
    pub(crate) fn skipped(&mut self, tracked: &Tracked, why: Outcome, times: u64) {
        if times > 0 {
            self.meters.count(why, times);
            tracked.observed().skipped += times;
        }
    }

    /// Counts a scrape, shows it on the board, and logs it if it is news.
    pub(crate) fn ended(
        &mut self,
        tracked: &Tracked,
        took: Duration,
        result: Result<u64, Failure>,
        now: Instant,
    ) {
        let outcome = outcome(&result);
        self.meters.count(outcome, 1);
        let job = &*self.job.plan.job;
        let url = &*tracked.target.url;
        let mut observed = tracked.observed();
        if result.as_ref().is_err_and(Failure::is_skip) {
            observed.skipped += 1;
        } else {
            self.meters.took(took);
            observed.last = Some((SystemTime::now(), took));
        }
        let before = observed.health;
        match result {
            Ok(size) => {
                observed.health = Health::Up;
                observed.last_error = None;
                observed.size = Some(size);
                observed.ok += 1;
                if self.reporter.succeeded(&mut observed.told) {
                    info!(job, url, "target is scraped again");
                }
            }
            Err(Failure::Cancelled) => {}
            Err(failure) => {
                let error = failure.to_string();
                if !failure.is_skip() {
                    observed.health = Health::Down;
                    observed.failed += 1;
                }
                if let Some(repeats) = self.reporter.failed(&mut observed.told, now) {
                    let outcome = outcome.as_str();
                    warn!(job, url, outcome, repeats, error, "scrape failed");
                }
                if let Some(others) = self.reporter.summary(now) {
                    warn!(
                        job,
                        failures = others,
                        example = error,
                        "more scrapes failed"
                    );
                }
                observed.last_error = Some(error.into());
            }
        }
        if !self.hidden {
            self.meters.change(before, observed.health);
        }
    }

    /// Counts targets after a change, and logs what is newly wrong with them.
    fn changed(&mut self, shown: &Shown, duplicates: usize, over_limit: usize) {
        let job = &*self.job.plan.job;
        let mut counts = HashMap::new();
        for tracked in &shown.tracked {
            *counts.entry(tracked.observed().health).or_insert(0) += 1;
        }
        *counts.entry(Health::Down).or_insert(0) += self.bad;
        counts.insert(Health::Dropped, self.dropped);
        self.meters
            .set_targets(|health| counts.get(&health).copied().unwrap_or(0));
        if duplicates != self.duplicates {
            self.duplicates = duplicates;
            info!(
                job,
                duplicates, "targets with the same labels and URL are scraped once"
            );
        }
        if over_limit > 0 {
            let limit = self.job.target_limit;
            warn!(
                job,
                limit,
                not_scraped = over_limit,
                "more targets than target_limit"
            );
        }
        let bad_logged = if self.bad == self.bad_logged {
            0
        } else {
            BAD_LOGGED
        };
        self.bad_logged = self.bad;
        for bad in shown
            .bad
            .iter()
            .filter(|bad| bad.error.is_some())
            .take(bad_logged)
        {
            let address = bad.source.get("__address__").unwrap_or_default();
            let error = bad.error.as_deref().unwrap_or_default();
            warn!(job, address, error, "bad target");
        }
        info!(
            job,
            scraped = shown.tracked.len(),
            bad = self.bad,
            dropped = self.dropped,
            "targets changed"
        );
    }
}

fn outcome(result: &Result<u64, Failure>) -> Outcome {
    result
        .as_ref()
        .map_or_else(Failure::outcome, |_| Outcome::Ok)
}

fn over(target: &Target, limit: usize) -> Unscraped {
    Unscraped {
        source: target.source.clone(),
        spec: target.spec,
        error: Some(format!("not scraped: the job has more than target_limit, {limit}").into()),
    }
}

#[cfg(test)]
mod tests;
