//! Where targets come from.
//!
//! Every source of a job tells all its groups whenever they change; targets are
//! built of them here, off the async threads, and the receiver merges what the
//! sources of a job say.

pub(super) mod file;
mod watch;

use self::file::FileSource;
use super::{
    job::Job,
    metrics::ScrapeMetrics,
    target::{Built, Group},
};
use crate::runtime::{Tasks, blocking};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// All that one source of a job knows.
#[derive(Debug)]
pub(super) struct Update {
    /// The job's place in the receiver.
    pub(super) job: usize,
    /// The source's place in the job; 0 is `static_configs`.
    pub(super) source: usize,
    /// Its targets.
    pub(super) built: Built,
}

/// Starts the sources of all jobs. They end when `stop` fires or nobody listens.
pub(super) fn start(
    jobs: &[Arc<Job>],
    metrics: &ScrapeMetrics,
    tasks: &Tasks,
    updates: mpsc::Sender<Update>,
    stop: CancellationToken,
) {
    let mut files = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        for (index, config) in job.file_sd.iter().enumerate() {
            let errors = metrics.discovery_errors(&job.plan.job);
            files.push(FileSource::new(at, index + 1, job, config, errors));
        }
    }
    let known: Vec<_> = jobs.to_vec();
    let first = updates.clone();
    tasks.spawn("static targets", async move {
        for (at, job) in known.into_iter().enumerate() {
            if !send(&first, job.clone(), at, 0, job.static_groups.clone()).await {
                return;
            }
        }
    });
    if !files.is_empty() {
        tasks.spawn("file discovery", watch::run(files, updates, stop));
    }
}

/// Builds the targets of `groups` and hands them on; `false` when nobody
/// listens.
async fn send(
    updates: &mpsc::Sender<Update>,
    job: Arc<Job>,
    at: usize,
    source: usize,
    groups: Arc<[Group]>,
) -> bool {
    let built = blocking(move || job.plan.build(&groups, job.keep_dropped)).await;
    let Some(built) = built else {
        return false;
    };
    let update = Update {
        job: at,
        source,
        built,
    };
    updates.send(update).await.is_ok()
}
