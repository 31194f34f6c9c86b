//! The running whole: receivers, pipelines and deliveries, and the order in
//! which they start and end.
//!
//! Start: deliveries, then pipelines, then receivers, so that nothing is accepted
//! that cannot be kept. End: receivers stop, then entries refuse, then deliveries
//! drain side by side, so that the slowest backend alone decides how long it takes.

use super::{
    Budget, Delivery, DeliverySettings, Entry, Exporter, FileStorageSettings, Ledger, Processor,
    Queue, Receiver, ReceiverError, Storage, StorageError, entry::Pipeline,
};
use crate::{
    runtime::Tasks,
    settings::Id,
    telemetry::{Metrics, Status},
};
use futures_util::future::join_all;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// All that a configuration describes, built and not started.
#[derive(Default)]
pub struct Blueprint {
    /// Receivers by id.
    pub receivers: Vec<(Id, Box<dyn Receiver>)>,
    /// Exporters by id, with how profiles are delivered to them.
    pub exporters: Vec<(Id, Arc<dyn Exporter>, DeliverySettings)>,
    /// Pipelines; the ids they name exist.
    pub pipelines: Vec<PipelineBlueprint>,
    /// Where queues can be on disk.
    pub storages: Vec<(Id, FileStorageSettings)>,
}

/// One pipeline of a [`Blueprint`].
pub struct PipelineBlueprint {
    /// The receivers that feed it.
    pub receivers: Vec<Id>,
    /// Its own processors, in order.
    pub processors: Vec<(Id, Box<dyn Processor>)>,
    /// The exporters it feeds.
    pub exporters: Vec<Id>,
}

/// A started [`Blueprint`].
pub struct Running {
    deliveries: BTreeMap<Id, Arc<Delivery>>,
    receivers: Tasks,
    stop: CancellationToken,
    closed: CancellationToken,
    failures: mpsc::UnboundedReceiver<Failure>,
}

/// A receiver that ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("receiver {receiver}: {error}")]
pub struct Failure {
    /// Which.
    pub receiver: Id,
    /// Why.
    pub error: ReceiverError,
}

// === impl Blueprint ===

impl Blueprint {
    /// Starts everything.
    ///
    /// # Errors
    ///
    /// When a storage, or a queue in it, cannot be used. Nothing runs then.
    pub fn start(
        self,
        metrics: &Metrics,
        status: &Status,
        memory: &Budget,
    ) -> Result<Running, StorageError> {
        let storages = open_storages(self.storages)?;
        let mut queues = Vec::new();
        for (id, exporter, settings) in self.exporters {
            let queue = open_queue(&id, &settings, &storages, memory)?;
            queues.push((id, exporter, settings, queue));
        }
        let start = |(id, exporter, settings, queue): (Id, _, _, _)| {
            let memory = memory.clone();
            let delivery = Delivery::start(
                id.clone(),
                exporter,
                settings,
                queue,
                metrics,
                status,
                memory,
            );
            (id, Arc::new(delivery))
        };
        let deliveries: BTreeMap<_, _> = queues.into_iter().map(start).collect();
        report_orphans(&storages, status);
        let entrances = entrances(self.pipelines, &deliveries);
        let (failed, failures) = mpsc::unbounded_channel();
        let running = Running {
            deliveries,
            receivers: Tasks::default(),
            stop: CancellationToken::new(),
            closed: CancellationToken::new(),
            failures,
        };
        for (id, receiver) in self.receivers {
            let pipelines = entrances.get(&id).cloned().unwrap_or_default();
            let entry = Entry::new(id.clone(), pipelines, metrics, running.closed.clone());
            let (stop, failed) = (running.stop.clone(), failed.clone());
            running.receivers.spawn("receiver", async move {
                if let Err(error) = receiver.run(entry, stop).await {
                    // Nobody listens only when the process is ending.
                    let _ = failed.send(Failure {
                        receiver: id,
                        error,
                    });
                }
            });
        }
        Ok(running)
    }
}

/// Takes the folders of queues.
fn open_storages(
    storages: Vec<(Id, FileStorageSettings)>,
) -> Result<BTreeMap<Id, Arc<Storage>>, StorageError> {
    let open = |(id, settings): (Id, _)| Ok((id.clone(), Arc::new(Storage::open(id, settings)?)));
    storages.into_iter().map(open).collect()
}

/// The queue of an exporter, where its settings put it.
fn open_queue(
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
    let ledger = Ledger::new(settings.sending_queue.max_bytes());
    let settings = settings.sending_queue.clone();
    found.queue(exporter, settings, ledger, memory.clone())
}

/// Names the queues that nobody empties.
fn report_orphans(storages: &BTreeMap<Id, Arc<Storage>>, status: &Status) {
    let orphans: Vec<_> = storages
        .values()
        .flat_map(|storage| storage.orphans())
        .collect();
    for orphan in &orphans {
        warn!(
            exporter = orphan.exporter,
            profiles = orphan.profiles,
            folder = orphan.folder,
            "a queue on disk has no exporter: add the exporter again, or see profile-relay queue --help"
        );
    }
    status.publish_orphans(orphans);
}

/// The pipelines behind each receiver.
fn entrances(
    pipelines: Vec<PipelineBlueprint>,
    deliveries: &BTreeMap<Id, Arc<Delivery>>,
) -> BTreeMap<Id, Vec<Arc<Pipeline>>> {
    let mut entrances: BTreeMap<Id, Vec<Arc<Pipeline>>> = BTreeMap::new();
    for blueprint in pipelines {
        let exporters = blueprint.exporters.iter();
        let pipeline = Arc::new(Pipeline {
            processors: blueprint.processors,
            exporters: exporters
                .filter_map(|id| deliveries.get(id).cloned())
                .collect(),
        });
        for receiver in blueprint.receivers {
            entrances
                .entry(receiver)
                .or_default()
                .push(pipeline.clone());
        }
    }
    entrances
}

// === impl Running ===

impl Running {
    /// Resolves when a receiver ends by itself.
    pub async fn failure(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops receiving, sends what is queued for at most `patience` in all, and
    /// returns the number of profiles that were left.
    pub async fn shutdown(self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        self.stop.cancel();
        if tokio::time::timeout(patience, self.receivers.wait())
            .await
            .is_err()
        {
            warn!("some receivers did not stop in time");
        }
        self.closed.cancel();
        let rest = deadline.saturating_duration_since(Instant::now());
        let drains = self.deliveries.values().map(|delivery| async move {
            let left = delivery.drain(rest).await;
            if left > 0 && delivery.is_durable() {
                info!(exporter = %delivery.id(), profiles = left, "profiles stay on disk and are sent after the next start");
            } else if left > 0 {
                warn!(exporter = %delivery.id(), profiles = left, "profiles were left and are dropped");
            } else {
                info!(exporter = %delivery.id(), "all profiles are delivered");
            }
            left
        });
        join_all(drains).await.into_iter().sum()
    }
}
