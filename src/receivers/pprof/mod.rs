//! The `pprof` receiver: scrapes pprof endpoints, with Parca's and Prometheus'
//! `scrape_configs`.
//!
//! ```text
//! discovery ──targets──▶ run loop ──starts──▶ scrape ──batch──▶ Entry
//!  static, files          schedule   ◀─ended─  one short task
//! ```
//!
//! - `settings` are checked and become jobs (`job`, `profiles`) once.
//! - `discovery` tells groups of addresses, of which `target` makes targets.
//! - One loop (`run`) owns the `schedule` of all targets and starts a task
//!   for each scrape (`scrape`), so that an idle target costs its labels and
//!   a place in a heap.
//! - What comes of it is kept by job (`tracker`), on the `status` board, in
//!   the `metrics`, and, when it is news (`report`), in the log.

mod discovery;
mod explain;
mod job;
mod metrics;
mod once;
mod profiles;
mod report;
mod run;
mod schedule;
mod scrape;
mod settings;
mod status;
mod target;
#[cfg(test)]
mod testing;
mod tracker;

pub use self::{
    once::{OnceSettings, ScrapeOutcome, scrape_once},
    settings::{
        FileSdConfig, OtherDiscovery, PprofConfig, ProfilingConfig, SampleType, ScrapeConfig,
        Settings, StaticConfig,
    },
};

use self::{job::Job, run::Loop, schedule::Places};
use crate::{
    pipeline::{Context, Entry, Receiver, ReceiverError},
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// A scraper that was built and not started.
#[derive(Debug)]
pub struct PprofReceiver {
    context: Context,
    jobs: Vec<Arc<Job>>,
    places: Places,
}

// === impl Settings ===

impl Settings {
    /// The receiver, if nothing is wrong.
    pub fn build(self, context: &Context) -> Result<PprofReceiver, Vec<Problem>> {
        let (jobs, wrong) = self.compile();
        let problems = [self.own_problems(), wrong].concat();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(self.receiver(jobs, context))
    }

    /// The receiver of the jobs in which nothing is wrong, and what is wrong
    /// with the others, which is logged: for a reload, which one bad job must
    /// not stop.
    pub fn build_good_jobs(
        self,
        context: &Context,
    ) -> Result<(PprofReceiver, Vec<Problem>), Vec<Problem>> {
        let problems = self.own_problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (jobs, wrong) = self.compile();
        for problem in &wrong {
            error!(receiver = %context.id, %problem, "scrape job is disabled");
        }
        Ok((self.receiver(jobs, context), wrong))
    }

    fn receiver(&self, jobs: Vec<Arc<Job>>, context: &Context) -> PprofReceiver {
        for warning in self.warnings() {
            warn!(receiver = %context.id, %warning, "scrape job");
        }
        for job in &jobs {
            job.client.tell_ends(&context.metrics, &context.id);
        }
        PprofReceiver {
            context: context.clone(),
            jobs,
            places: Places {
                quick: self.max_concurrent_scrapes,
                delta: self.max_concurrent_delta_scrapes,
            },
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        [self.own_problems(), self.compile().1].concat()
    }

    /// A bad job is left out of a reload.
    fn fatal_problems(&self) -> Vec<Problem> {
        self.own_problems()
    }
}

// === impl PprofReceiver ===

#[async_trait]
impl Receiver for PprofReceiver {
    async fn run(
        self: Box<Self>,
        out: Entry,
        stop: CancellationToken,
    ) -> Result<(), ReceiverError> {
        Loop::new(self.context, self.jobs, self.places, out, stop)
            .run()
            .await;
        Ok(())
    }
}
