//! The loop that owns a receiver's targets.
//!
//! It alone changes the schedule, the board and the meters; discovery and
//! scrapes talk to it through channels. It never waits for either.

use super::{
    discovery::{self, Update},
    job::Job,
    metrics::{JobMeters, Outcome, ScrapeMetrics},
    report::Reporter,
    schedule::{Places, Schedule, SlotId, Start, WallClock},
    scrape::{Failure, Shared},
    status::{Board, Shown, Tracked},
    target::{Built, Target, Unscraped},
};
use crate::{
    pipeline::{Context, Entry},
    runtime::Tasks,
    telemetry::status::Health,
};
use std::{
    collections::{HashMap, hash_map},
    future,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A receiver that runs.
pub(crate) struct Loop {
    shared: Shared,
    jobs: Vec<JobState>,
    schedule: Schedule,
    slots: HashMap<SlotId, (usize, Arc<Tracked>)>,
    board: Arc<Board>,
    out: Entry,
    stop: CancellationToken,
    tasks: Tasks,
    updates: mpsc::Receiver<Update>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// At most one message for each running scrape waits here.
    tell_end: mpsc::UnboundedSender<Ended>,
}

/// One job's targets.
struct JobState {
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
}

/// A scrape that ended.
struct Ended {
    slot: SlotId,
    job: usize,
    took: Duration,
    result: Result<u64, Failure>,
}

/// Tells the end of a scrape, even of one whose task was torn down.
struct TellEnd {
    tell: mpsc::UnboundedSender<Ended>,
    slot: SlotId,
    job: usize,
    started: Instant,
    result: Option<Result<u64, Failure>>,
}

/// Bad targets listed for the status page, by job.
const MAX_BAD: usize = 1_000;
/// Bad targets logged at a change of targets, by job.
const BAD_LOGGED: usize = 5;

// === impl Loop ===

impl Loop {
    /// Publishes the board and starts discovery.
    pub(crate) fn new(
        context: Context,
        jobs: Vec<Arc<Job>>,
        places: Places,
        out: Entry,
        stop: CancellationToken,
    ) -> Self {
        let metrics: ScrapeMetrics = context.metrics.set();
        let board = Arc::new(Board::new(context.id.as_str(), &jobs));
        context.status.publish_targets(&context.id, board.clone());
        let tasks = Tasks::default();
        let (send, updates) = mpsc::channel(4);
        discovery::start(&jobs, &metrics, &tasks, send, stop.clone());
        let (tell_end, ended) = mpsc::unbounded_channel();
        let now = Instant::now();
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            shared: Shared {
                receiver: context.id.shared(),
                memory: context.memory,
                cores: Arc::new(Semaphore::new(
                    thread::available_parallelism().map_or(2, usize::from),
                )),
            },
            jobs: jobs
                .into_iter()
                .map(|job| JobState::new(job, &metrics, now))
                .collect(),
            schedule: Schedule::new(WallClock::new(now, since_epoch), places),
            slots: HashMap::new(),
            board,
            out,
            stop,
            tasks,
            updates,
            ended,
            tell_end,
        }
    }

    /// Scrapes until `stop` fires and no scrape is under way.
    pub(crate) async fn run(mut self) {
        let mut discovering = true;
        loop {
            let next_due = self.schedule.next_due();
            let due = async {
                match next_due {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                // Once stopped, nothing is started any more.
                biased;
                () = self.stop.cancelled() => break,
                update = self.updates.recv(), if discovering => match update {
                    Some(update) => self.update(update),
                    None => discovering = false,
                },
                Some(ended) = self.ended.recv() => {
                    self.end(ended);
                    while let Ok(ended) = self.ended.try_recv() {
                        self.end(ended);
                    }
                }
                () = due => {}
            }
            for start in self.schedule.start_due(Instant::now()) {
                self.start(start);
            }
        }
        self.updates.close();
        self.tasks.wait().await;
        while let Ok(ended) = self.ended.try_recv() {
            self.end(ended);
        }
    }

    /// Starts one scrape as a task of its own.
    fn start(&mut self, start: Start) {
        let Some((job, tracked)) = self.slots.get(&start.id) else {
            self.schedule.finished(start.id, Instant::now());
            return;
        };
        self.jobs[*job].skipped(tracked, Outcome::SkippedConcurrency, start.skipped);
        let expected = tracked.observed().size.unwrap_or(0);
        let (tracked, shared) = (tracked.clone(), self.shared.clone());
        let (out, stop) = (self.out.clone(), self.stop.clone());
        let mut end = TellEnd {
            tell: self.tell_end.clone(),
            slot: start.id,
            job: *job,
            started: Instant::now(),
            result: None,
        };
        self.tasks.spawn("scrape", async move {
            let fetch = shared.fetch(&tracked.job, &tracked.target, expected);
            let result = match stop.run_until_cancelled(fetch).await {
                None => Err(Failure::Cancelled),
                Some(Err(failure)) => Err(failure),
                Some(Ok(batch)) => {
                    let size = batch.byte_len() - tracked.target.labels.byte_len() as u64;
                    out.offer(batch)
                        .await
                        .map(|()| size)
                        .map_err(Failure::Refused)
                }
            };
            end.set(result);
        });
    }

    /// Notes what came of a scrape and makes the target due again.
    fn end(&mut self, ended: Ended) {
        let now = Instant::now();
        let overlapped = self.schedule.finished(ended.slot, now);
        let job = &mut self.jobs[ended.job];
        match self.slots.get(&ended.slot) {
            Some((_, tracked)) => {
                job.skipped(tracked, Outcome::SkippedOverlap, overlapped);
                job.ended(tracked, ended.took, ended.result, now);
            }
            // The target is gone; its last scrape still counts.
            None => job.meters.count(outcome(&ended.result), 1),
        }
    }

    /// Takes over what a source of a job now says.
    fn update(&mut self, update: Update) {
        let Some(job) = self.jobs.get_mut(update.job) else {
            return;
        };
        if let Some(source) = job.sources.get_mut(update.source) {
            *source = update.built;
        }
        let now = Instant::now();
        let mut kept = HashMap::new();
        let mut shown = Shown::default();
        let mut duplicates = 0;
        let mut over_limit = 0;
        for target in job.sources.iter_mut().flat_map(|built| &mut built.targets) {
            let entry = match kept.entry(target.hash) {
                hash_map::Entry::Occupied(_) => {
                    duplicates += 1;
                    continue;
                }
                hash_map::Entry::Vacant(entry) => entry,
            };
            if job.job.target_limit != 0 && shown.tracked.len() >= job.job.target_limit {
                over_limit += 1;
                if shown.bad.len() < MAX_BAD {
                    shown.bad.push(over(target, job.job.target_limit));
                }
                continue;
            }
            let (slot, tracked) = job.current.remove(&target.hash).unwrap_or_else(|| {
                let delta = target.wait.is_some();
                let slot = self.schedule.add(target.hash, job.job.interval, delta, now);
                let tracked = Arc::new(Tracked::new(job.job.clone(), target.clone()));
                self.slots.insert(slot, (update.job, tracked.clone()));
                (slot, tracked)
            });
            // The same target again: one copy of it is enough.
            *target = tracked.target.clone();
            shown.tracked.push(tracked.clone());
            entry.insert((slot, tracked));
        }
        for (slot, _) in job.current.drain().map(|(_, gone)| gone) {
            self.schedule.remove(slot);
            self.slots.remove(&slot);
        }
        job.current = kept;
        job.bad = over_limit
            + job
                .sources
                .iter()
                .map(|built| built.bad.len())
                .sum::<usize>();
        job.dropped = job.sources.iter().map(|built| built.dropped_total).sum();
        for built in &job.sources {
            let room = MAX_BAD.saturating_sub(shown.bad.len());
            shown.bad.extend(built.bad.iter().take(room).cloned());
            shown.dropped.extend(built.dropped.iter().cloned());
        }
        job.changed(&shown, duplicates, over_limit);
        self.board.show(update.job, shown);
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

// === impl JobState ===

impl JobState {
    fn new(job: Arc<Job>, metrics: &ScrapeMetrics, now: Instant) -> Self {
        Self {
            meters: metrics.job(&job.plan.job),
            reporter: Reporter::new(now),
            sources: vec![Built::default(); job.file_sd.len() + 1],
            current: HashMap::new(),
            bad: 0,
            dropped: 0,
            duplicates: 0,
            bad_logged: 0,
            job,
        }
    }

    /// Counts ticks of a target that passed without a scrape.
    fn skipped(&mut self, tracked: &Tracked, why: Outcome, times: u64) {
        if times > 0 {
            self.meters.count(why, times);
            tracked.observed().skipped += times;
        }
    }

    /// Counts a scrape, shows it on the board, and logs it if it is news.
    fn ended(
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
        self.meters.change(before, observed.health);
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

// === impl TellEnd ===

impl TellEnd {
    fn set(&mut self, result: Result<u64, Failure>) {
        self.result = Some(result);
    }
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or(Err(Failure::Cancelled));
        // Nobody listens once the receiver has ended.
        let _ = self.tell.send(Ended {
            slot: self.slot,
            job: self.job,
            took: self.started.elapsed(),
            result,
        });
    }
}

#[cfg(test)]
mod tests;
