//! What is known of each target, and the view of it for the admin endpoint.

use super::{
    job::Job,
    report::Told,
    target::{Target, Unscraped},
};
use crate::{
    profile::{Label, Labels},
    telemetry::status::{Health, TargetStatus, TargetsView},
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// A target that is scraped, and what came of it.
#[derive(Debug)]
pub(crate) struct Tracked {
    /// Its job.
    pub(crate) job: Arc<Job>,
    /// The target.
    pub(crate) target: Arc<Target>,
    observed: Mutex<Observed>,
}

/// What the scrapes of a target showed.
#[derive(Debug)]
pub(crate) struct Observed {
    /// After the last scrape.
    pub(crate) health: Health,
    /// Why the last scrape failed, if it did.
    pub(crate) last_error: Option<Box<str>>,
    /// When it ended, and how long it took.
    pub(crate) last: Option<(SystemTime, Duration)>,
    /// The body of the last good one, in bytes.
    pub(crate) size: Option<u64>,
    /// Good scrapes.
    pub(crate) ok: u64,
    /// Failed scrapes.
    pub(crate) failed: u64,
    /// Scrapes that did not take place.
    pub(crate) skipped: u64,
    /// What was logged of its failures.
    pub(crate) told: Told,
}

/// The targets of one job, replaced as a whole when discovery changes them.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Those that are scraped.
    pub(crate) tracked: Vec<Arc<Tracked>>,
    /// Those that cannot be, with the reason.
    pub(crate) bad: Vec<Unscraped>,
    /// Those that relabelling dropped, as many as are kept.
    pub(crate) dropped: Vec<Unscraped>,
}

/// The targets of a receiver.
#[derive(Debug)]
pub(crate) struct Board {
    receiver: String,
    jobs: Vec<(Arc<Job>, ArcSwap<Shown>)>,
}

// === impl Tracked ===

impl Tracked {
    /// A target that was not scraped yet.
    pub(crate) fn new(job: Arc<Job>, target: Arc<Target>) -> Self {
        Self {
            job,
            target,
            observed: Mutex::new(Observed {
                health: Health::Unknown,
                last_error: None,
                last: None,
                size: None,
                ok: 0,
                failed: 0,
                skipped: 0,
                told: Told::default(),
            }),
        }
    }

    /// What its scrapes showed. Not to be held over an await.
    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, receiver: &str) -> TargetStatus {
        let observed = self.observed();
        let mut status = blank(receiver, &self.job);
        status.url = self.target.url.as_ref().into();
        status.labels = map(self.target.labels.as_slice());
        status.discovered_labels = discovered(&self.job, &self.target.source, self.target.spec);
        status.health = observed.health;
        status.last_error = observed.last_error.as_deref().map(Into::into);
        status.last_scrape = observed.last.map(|(at, _)| at);
        status.last_duration_seconds = observed.last.map(|(_, took)| took.as_secs_f64());
        status.last_size_bytes = observed.size;
        status.scrapes_ok = observed.ok;
        status.scrapes_failed = observed.failed;
        status.scrapes_skipped = observed.skipped;
        status
    }
}

// === impl Unscraped ===

impl Unscraped {
    fn status(&self, receiver: &str, job: &Job) -> TargetStatus {
        let mut status = blank(receiver, job);
        status.discovered_labels = discovered(job, &self.source, self.spec);
        status.health = match &self.error {
            Some(_) => Health::Down,
            None => Health::Dropped,
        };
        status.last_error = self.error.as_deref().map(Into::into);
        status
    }
}

// === impl Board ===

impl Board {
    /// A board without targets.
    pub(crate) fn new(receiver: &str, jobs: &[Arc<Job>]) -> Self {
        Self {
            receiver: receiver.into(),
            jobs: jobs
                .iter()
                .map(|job| (job.clone(), ArcSwap::default()))
                .collect(),
        }
    }

    /// Shows a job's targets from now on.
    pub(crate) fn show(&self, job: usize, shown: Shown) {
        if let Some((_, slot)) = self.jobs.get(job) {
            slot.store(Arc::new(shown));
        }
    }
}

impl TargetsView for Board {
    fn targets(&self) -> Vec<TargetStatus> {
        let mut all = Vec::new();
        self.each(&mut |target| all.push(target));
        all
    }

    fn each(&self, show: &mut dyn FnMut(TargetStatus)) {
        for (job, shown) in &self.jobs {
            let shown = shown.load();
            for tracked in shown.tracked.iter() {
                show(tracked.status(&self.receiver));
            }
            for unscraped in shown.bad.iter().chain(&shown.dropped) {
                show(unscraped.status(&self.receiver, job));
            }
        }
    }
}

fn blank(receiver: &str, job: &Job) -> TargetStatus {
    TargetStatus {
        receiver: receiver.into(),
        job: job.plan.job.as_ref().into(),
        url: String::new(),
        labels: BTreeMap::new(),
        discovered_labels: BTreeMap::new(),
        health: Health::Unknown,
        last_error: None,
        last_scrape: None,
        last_duration_seconds: None,
        last_size_bytes: None,
        scrapes_ok: 0,
        scrapes_failed: 0,
        scrapes_skipped: 0,
    }
}

fn discovered(job: &Job, source: &Labels, spec: usize) -> BTreeMap<String, String> {
    map(job.plan.discovered(source, spec).as_slice())
}

fn map(labels: &[Label]) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|label| (label.name.as_ref().into(), label.value.as_ref().into()))
        .collect()
}
