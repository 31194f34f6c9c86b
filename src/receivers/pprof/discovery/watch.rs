//! Reads targets files again when their folders change.
//!
//! Folders are watched, not files: editors and Kubernetes (`..data`) replace a
//! file or a link in front of it. What the watch misses, a folder that appears
//! later or is itself replaced, the slow refresh finds; it also watches anew.

use super::{Update, file::FileSource, send};
use crate::runtime::blocking;
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Several changes in a row are one.
const SETTLE: Duration = Duration::from_millis(200);

/// The watch of all folders.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

/// Tells the targets of `sources` until `stop` fires.
pub(super) async fn run(
    mut sources: Vec<FileSource>,
    updates: mpsc::Sender<Update>,
    stop: CancellationToken,
) {
    let changed = Arc::new(Notify::new());
    let mut folders = Folders::new(changed.clone());
    let mut next: Vec<Instant> = vec![Instant::now(); sources.len()];
    let mut all = true;
    folders.watch(&sources);
    loop {
        let now = Instant::now();
        for (at, due) in next.iter_mut().enumerate() {
            if !all && *due > now {
                continue;
            }
            *due = now + sources[at].refresh_interval;
            if !tell(&mut sources, at, &updates).await {
                return;
            }
        }
        let Some(soonest) = next.iter().min() else {
            return;
        };
        all = tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(*soonest) => false,
            () = changed.notified() => true,
        };
        if !all {
            folders.watch(&sources);
        } else if stop.run_until_cancelled(sleep(SETTLE)).await.is_none() {
            return;
        }
    }
}

/// Reads one source and hands on what changed; `false` when it is time to end.
async fn tell(sources: &mut Vec<FileSource>, at: usize, updates: &mpsc::Sender<Update>) -> bool {
    let mut source = sources.swap_remove(at);
    let read = blocking(move || {
        let groups = source.refresh();
        (source, groups)
    })
    .await;
    let Some((source, groups)) = read else {
        return false;
    };
    let (job, job_at, place) = (source.job.clone(), source.at, source.source);
    sources.push(source);
    let last = sources.len() - 1;
    sources.swap(at, last);
    match groups {
        Some(groups) => send(updates, job, job_at, place, groups).await,
        None => true,
    }
}

// === impl Folders ===

impl Folders {
    fn new(changed: Arc<Notify>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is no change.
            if !event.is_ok_and(|event| is_read(event.kind)) {
                changed.notify_one();
            }
        });
        Self {
            watcher: watcher.map_err(|error| cannot_watch(&error)).ok(),
            watched: BTreeSet::new(),
        }
    }

    /// Watches every folder that there is, anew.
    fn watch(&mut self, sources: &[FileSource]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in sources.iter().flat_map(FileSource::folders) {
            if self.watched.remove(&folder) {
                let _ = watcher.unwatch(&folder);
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => debug!(folder = %folder.display(), %error, "cannot watch folder"),
            }
        }
    }
}

fn is_read(kind: EventKind) -> bool {
    let written = AccessKind::Close(AccessMode::Write);
    matches!(kind, EventKind::Access(access) if access != written)
}

fn cannot_watch(error: &notify::Error) {
    warn!(%error, "cannot watch folders: targets files are read at their refresh_interval only");
}
