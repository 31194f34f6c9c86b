//! Tasks with names and owners.
//!
//! Nothing in this crate starts a task in another way, so that whoever owns a
//! [`Tasks`] can wait for all of them, and a panic in one is logged with its
//! name.

use std::{future::Future, sync::LazyLock, thread::available_parallelism};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
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

/// Runs what waits for the system off the async threads. `None` when the runtime is
/// shutting down or the work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    tokio::task::spawn_blocking(work).await.ok()
}

/// Runs CPU-bound work off the async threads, as much at a time as there are
/// processors. `None` when the work panicked.
pub async fn computing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match &*PROCESSORS {
        // A paused clock stands still only for work on the runtime's own threads.
        Some(processors) if !cfg!(any(test, fuzzing)) => processors.spawn_blocking(work).await.ok(),
        _ => blocking(work).await,
    }
}

/// The threads of [`computing`]. The allocator keeps for each thread what that has
/// freed, until it allocates again: the many threads of `blocking`, which take turns,
/// would keep several times `service.memory.limit`.
static PROCESSORS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let threads = available_parallelism().map_or(2, usize::from);
    Builder::new_current_thread()
        .thread_name("computing")
        .max_blocking_threads(threads)
        .build()
        .ok()
});
