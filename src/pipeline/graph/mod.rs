//! Building blocks to running tasks, and what runs to what comes.
//!
//! A [`Blueprint`] is all that a configuration describes: built, and, after
//! [`Blueprint::bind`], with its addresses taken. It may be dropped without a
//! trace. [`Running::apply`] puts it in the place of what runs; a start is the
//! same from nothing.
//!
//! - What has the same id and the same settings as before is not in the blueprint
//!   and stays as it is ([`Inventory`]): sockets, connections, queues, phases.
//! - The order of starting is the reverse of the data's: deliveries first, then
//!   pipelines, then receivers, so that nobody hands in what nobody takes.
//! - Stopping goes with the data: receivers end what they have in flight, then
//!   entries refuse, then deliveries drain, side by side.

mod orphans;
mod running;

pub use self::running::{Failure, Running};

use super::{
    Budget, DeliverySettings, Exporter, FileStorageSettings, Processor, Queue, Receiver,
    RouterPlan, Storage, StorageError,
};
use crate::settings::{Fingerprint, Id};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All that a configuration describes, built and not started.
#[derive(Default)]
pub struct Blueprint {
    /// Receivers.
    pub receivers: Vec<Planned<Box<dyn Receiver>>>,
    /// Exporters, with how profiles are delivered to them.
    pub exporters: Vec<Planned<(Arc<dyn Exporter>, DeliverySettings)>>,
    /// Exporters that hand on to others; no way of theirs leads back to them.
    pub routers: Vec<Planned<RouterPlan>>,
    /// Pipelines; the ids they name exist.
    pub pipelines: Vec<PipelineBlueprint>,
    /// Where queues can be on disk.
    pub storages: Vec<Planned<FileStorageSettings>>,
    /// What was opened of them.
    pub opened: Opened,
}

/// Folders and queues that were opened for a [`Blueprint`].
#[derive(Debug, Default)]
pub struct Opened {
    storages: BTreeMap<Id, Arc<Storage>>,
    /// Those of exporters that are new.
    queues: BTreeMap<Id, Queue>,
}

/// Why what was built cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be had.
    #[error(transparent)]
    Receiver(#[from] Failure),
    /// A folder or a queue in it cannot be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A component of a [`Blueprint`].
#[derive(Debug)]
pub struct Planned<C> {
    /// Its id.
    pub id: Id,
    /// What its settings amount to.
    pub settings: Fingerprint,
    /// It, unless it runs already and stays.
    pub component: Option<C>,
}

/// One pipeline of a [`Blueprint`].
pub struct PipelineBlueprint {
    /// Its id.
    pub id: Id,
    /// The receivers that feed it.
    pub receivers: Vec<Id>,
    /// Its own processors, in order.
    pub processors: Vec<Planned<Arc<dyn Processor>>>,
    /// The exporters and routers it feeds.
    pub exporters: Vec<Id>,
}

/// What runs, and with which settings.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Receivers by id.
    pub receivers: BTreeMap<Id, Fingerprint>,
    /// Exporters by id.
    pub exporters: BTreeMap<Id, Fingerprint>,
    /// Routers by id.
    pub routers: BTreeMap<Id, Fingerprint>,
    /// Processors by their pipeline's id and their own.
    pub processors: BTreeMap<(Id, Id), Fingerprint>,
    /// Storages by id.
    pub storages: BTreeMap<Id, (Fingerprint, Arc<Storage>)>,
    /// In which storage, if in any, the queues of exporters are.
    pub places: BTreeMap<Id, Option<Id>>,
}

/// What applying a [`Blueprint`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    /// Components that were not there before, as `exporters.parca`.
    pub added: Vec<String>,
    /// Those with other settings than before.
    pub changed: Vec<String>,
    /// Those that are no more.
    pub removed: Vec<String>,
}

// === impl Blueprint ===

impl Blueprint {
    /// Takes the addresses of all receivers and the folders of all queues, or says
    /// which cannot be had.
    pub async fn bind(&mut self, running: &Inventory, memory: &Budget) -> Result<(), BindError> {
        self.open_storages(running).await?;
        self.open_queues(running, memory).await?;
        for planned in &mut self.receivers {
            if let Some(receiver) = &mut planned.component {
                receiver.bind().await.map_err(|error| Failure {
                    receiver: planned.id.clone(),
                    error,
                })?;
            }
        }
        Ok(())
    }

    async fn open_storages(&mut self, running: &Inventory) -> Result<(), StorageError> {
        for planned in &mut self.storages {
            let id = planned.id.clone();
            let storage = match (planned.component.take(), running.storages.get(&id)) {
                (None, Some((_, storage))) => storage.clone(),
                (Some(settings), _) => Arc::new(Storage::open(id.clone(), settings).await?),
                // It was built from another inventory.
                (None, None) => continue,
            };
            self.opened.storages.insert(id, storage);
        }
        Ok(())
    }

    /// Opens the queues of exporters that are new. One that has not ended yet has
    /// its queue.
    async fn open_queues(
        &mut self,
        running: &Inventory,
        memory: &Budget,
    ) -> Result<(), StorageError> {
        for planned in &self.exporters {
            let id = &planned.id;
            let Some((_, settings)) = &planned.component else {
                continue;
            };
            if running.places.contains_key(id) {
                continue;
            }
            let queue = open_queue(id, settings, &self.opened.storages, memory).await?;
            self.opened.queues.insert(id.clone(), queue);
        }
        Ok(())
    }
}

/// The queue of an exporter, where its settings put it.
async fn open_queue(
    exporter: &Id,
    settings: &DeliverySettings,
    storages: &BTreeMap<Id, Arc<Storage>>,
    memory: &Budget,
) -> Result<Queue, StorageError> {
    let Some(storage) = &settings.sending_queue.storage else {
        return Ok(settings.memory_queue());
    };
    let found = storages.get(storage);
    let found = found.ok_or_else(|| StorageError::Missing {
        storage: storage.clone(),
        exporter: exporter.clone(),
    })?;
    let settings = settings.sending_queue.clone();
    found.queue(exporter, settings, memory.clone()).await
}

// === impl Changes ===

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// Compares the components of one section.
    fn compare<C>(
        &mut self,
        section: &str,
        before: &BTreeMap<Id, Fingerprint>,
        after: &[Planned<C>],
    ) {
        for planned in after {
            let name = format!("{section}.{}", planned.id);
            match (&planned.component, before.get(&planned.id)) {
                (None, _) => {}
                (Some(_), Some(_)) => self.changed.push(name),
                (Some(_), None) => self.added.push(name),
            }
        }
        let gone = before
            .keys()
            .filter(|id| after.iter().all(|planned| planned.id != **id));
        self.removed
            .extend(gone.map(|id| format!("{section}.{id}")));
    }

    /// Compares processors, of which each pipeline has its own.
    fn compare_processors(
        &mut self,
        before: &BTreeMap<(Id, Id), Fingerprint>,
        pipelines: &[PipelineBlueprint],
    ) {
        let after = pipelines.iter().flat_map(|pipeline| &pipeline.processors);
        let after: BTreeMap<&Id, bool> = after
            .map(|planned| (&planned.id, planned.component.is_some()))
            .collect();
        let before: BTreeSet<&Id> = before.keys().map(|(_, id)| id).collect();
        for (id, is_new) in &after {
            let name = format!("processors.{id}");
            match (is_new, before.contains(id)) {
                (_, false) => self.added.push(name),
                (true, true) => self.changed.push(name),
                (false, true) => {}
            }
        }
        let gone = before.iter().filter(|id| !after.contains_key(**id));
        self.removed
            .extend(gone.map(|id| format!("processors.{id}")));
    }
}

#[cfg(test)]
mod tests;
