//! The loop that owns a receiver's targets.
//!
//! It alone changes the schedule, the board and the meters; discovery and
//! scrapes talk to it through channels. It never waits for either.

use super::{
    discovery::{self, Update},
    job::Job,
    metrics::{Outcome, ScrapeMetrics},
    schedule::{Places, Schedule, SlotId, Start, WallClock},
    scrape::{Failure, Shared},
    status::{Board, Tracked},
    tracker::JobState,
};
use crate::{
    pipeline::{Context, Entry},
    runtime::Tasks,
};
use std::{
    collections::HashMap,
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

/// Sooner than this after another receiver's end targets are thought to be that
/// receiver's.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// What was due at the very end of another receiver was still that receiver's.
const MOMENT: Duration = Duration::from_nanos(1);

/// A receiver that runs.
pub(crate) struct Loop {
    shared: Shared,
    jobs: Vec<JobState>,
    schedule: Schedule,
    slots: HashMap<SlotId, (usize, Arc<Tracked>)>,
    board: Arc<Board>,
    out: Entry,
    stop: CancellationToken,
    ending: CancellationToken,
    /// When it took over from another receiver, or began.
    began: Instant,
    tasks: Tasks,
    updates: mpsc::Receiver<Update>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// At most one message for each running scrape waits here.
    tell_end: mpsc::UnboundedSender<Ended>,
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
        let began = out.handed_over().map_or(now, |at| at + MOMENT);
        let since_epoch = since_epoch.saturating_sub(now.saturating_duration_since(began));
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
            schedule: Schedule::new(WallClock::new(began, since_epoch), places),
            slots: HashMap::new(),
            board,
            out,
            stop,
            ending: context.ending,
            began,
            tasks,
            updates,
            ended,
            tell_end,
        }
    }

    /// Scrapes until `stop` fires and no scrape is under way. Those under way come
    /// to their end, unless the process is ending.
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
        self.hand_over();
        self.updates.close();
        self.tasks.wait().await;
        while let Ok(ended) = self.ended.try_recv() {
            self.end(ended);
        }
    }

    /// Starts what was due before another receiver took this one's place, which
    /// starts what is due later, and shows nothing any more.
    fn hand_over(&mut self) {
        let until = self.out.handed_over().filter(|at| *at >= self.began);
        if let Some(until) = until {
            for start in self.schedule.start_due(until) {
                self.start(start);
            }
        }
        for job in &mut self.jobs {
            job.hide();
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
        let (out, ending) = (self.out.clone(), self.ending.clone());
        let mut end = TellEnd {
            tell: self.tell_end.clone(),
            slot: start.id,
            job: *job,
            started: Instant::now(),
            result: None,
        };
        self.tasks.spawn("scrape", async move {
            let fetch = shared.fetch(&tracked.job, &tracked.target, expected);
            let result = match ending.run_until_cancelled(fetch).await {
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
            None => job.ended_late(&ended.result),
        }
    }

    /// Takes over what a source of a job now says.
    fn update(&mut self, update: Update) {
        let Some(job) = self.jobs.get_mut(update.job) else {
            return;
        };
        // Targets of the receiver before are due from when it was stopped.
        let now = Instant::now();
        let since = if now.saturating_duration_since(self.began) < TAKE_OVER {
            self.began
        } else {
            now
        };
        let change = job.merge(update.source, update.built, &mut self.schedule, since);
        for (slot, tracked) in change.added {
            self.slots.insert(slot, (update.job, tracked));
        }
        for slot in change.removed {
            self.slots.remove(&slot);
        }
        self.board.show(update.job, change.shown);
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
