//! Tasks with names and owners.
//!
//! Nothing in this crate starts a task in another way, so that whoever owns a
//! [`Tasks`] can wait for all of them, and a panic in one is logged with its
//! name.

use std::future::Future;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error_span};

/// The tasks of one owner.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

// === impl Tasks ===

impl Tasks {
    /// Starts `task` under a name that its log lines carry.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(task.instrument(error_span!("task", name)))
    }

    /// Waits until every task has ended. Tasks may still start while waiting.
    pub async fn wait(&self) {
        self.0.close();
        self.0.wait().await;
    }

    /// The number of running tasks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs CPU-bound work off the async threads. `None` when the runtime is
/// shutting down or the work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    tokio::task::spawn_blocking(work).await.ok()
}
