//! Tells when something changed in a folder.
//!
//! Folders are watched, not files: editors and Kubernetes (`..data`) replace a
//! file or a link in front of it. A watch cannot see everything (network file
//! systems, a folder that appears later or is itself replaced), so whoever uses
//! it also looks now and then, and watches anew.

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};
use tokio::sync::Notify;
use tracing::{debug, warn};

/// The watch of some folders.
#[derive(Debug)]
pub struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

// === impl FolderWatch ===

impl FolderWatch {
    /// Watches nothing yet. Where the system has no watch, nothing is ever seen;
    /// `what` is then only looked at now and then, which is logged.
    pub fn new(what: &'static str) -> Self {
        let changed = Arc::new(Notify::new());
        let seen = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is no change.
            if !event.is_ok_and(|event| is_read(event.kind)) {
                seen.notify_one();
            }
        });
        let say = |error: notify::Error| {
            warn!(%error, what, "cannot watch folders: they are looked at in intervals only");
        };
        Self {
            watcher: watcher.map_err(say).ok(),
            watched: BTreeSet::new(),
            changed,
        }
    }

    /// Watches these folders, as far as they are there, and no others; anew those
    /// that are watched already.
    pub fn watch(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in std::mem::take(&mut self.watched) {
            let _ = watcher.unwatch(&folder);
        }
        for folder in folders.into_iter().collect::<BTreeSet<_>>() {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => debug!(folder = %folder.display(), %error, "cannot watch folder"),
            }
        }
    }

    /// Resolves when something changed since it last did.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn is_read(kind: EventKind) -> bool {
    let written = AccessKind::Close(AccessMode::Write);
    matches!(kind, EventKind::Access(access) if access != written)
}
