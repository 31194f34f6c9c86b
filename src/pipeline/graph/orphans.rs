//! The queues on disk that nobody empties: named at start, after a reload, and when
//! an exporter that is no more left something.

use crate::{
    pipeline::Storage,
    runtime::blocking,
    telemetry::{Status, status::OrphanStatus},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tracing::warn;

/// Looks for such queues; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Orphans {
    status: Status,
    /// A storage that goes is not kept from going.
    storages: Arc<Mutex<Vec<Weak<Storage>>>>,
}

// === impl Orphans ===

impl Orphans {
    pub(super) fn new(status: &Status) -> Self {
        Self {
            status: status.clone(),
            storages: Arc::default(),
        }
    }

    /// Looks in these storages from now on.
    pub(super) fn look_in<'s>(&self, storages: impl Iterator<Item = &'s Arc<Storage>>) {
        let storages = storages.map(Arc::downgrade).collect();
        *self.storages.lock().unwrap_or_else(PoisonError::into_inner) = storages;
    }

    /// Shows those that are there now, and names each once in the log.
    pub(super) async fn show(&self) {
        let orphans = self.clone();
        blocking(move || orphans.show_now()).await;
    }

    fn show_now(&self) {
        // Whoever looks later also shows later.
        let storages = self.storages.lock().unwrap_or_else(PoisonError::into_inner);
        let storages = storages.iter().filter_map(Weak::upgrade);
        let orphans: Vec<OrphanStatus> = storages.flat_map(|s| s.orphans()).collect();
        let known = self.status.orphans();
        for orphan in orphans.iter().filter(|orphan| !known.contains(orphan)) {
            warn!(
                exporter = orphan.exporter,
                profiles = orphan.profiles,
                folder = orphan.folder,
                "a queue on disk has no exporter: add the exporter again, or see profile-relay queue --help"
            );
        }
        self.status.publish_orphans(orphans);
    }
}
