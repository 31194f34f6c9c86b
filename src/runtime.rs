//! Tasks with names and owners.
//!
//! Nothing in this crate starts a task in another way, so that whoever owns a
//! [`Tasks`] can wait for all of them, and a panic in one is logged with its
//! name.

use std::future::Future;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The tasks of one owner.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

/// Says which task it was when one panics. A span would say so in every line, at
/// a cost for each of the thousands of short tasks a second.
struct Named(&'static str);

// === impl Tasks ===

impl Tasks {
    /// Starts `task` under a name.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(async move {
            let _named = Named(name);
            task.await
        })
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

// === impl Named ===

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(task = self.0, "a task has panicked");
        }
    }
}

/// Runs CPU-bound work off the async threads. `None` when the runtime is
/// shutting down or the work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    tokio::task::spawn_blocking(work).await.ok()
}
