//! The running whole: receivers, pipelines and deliveries, and the order in
//! which they start and end.
//!
//! Start: deliveries, then pipelines, then receivers, so that nothing is accepted
//! that cannot be kept. End: receivers stop, then entries refuse, then deliveries
//! drain side by side, so that the slowest backend alone decides how long it takes.

use super::{
    Budget, Delivery, DeliverySettings, Entry, Exporter, Processor, Receiver, ReceiverError,
    entry::Pipeline,
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
    pub fn start(self, metrics: &Metrics, status: &Status, memory: &Budget) -> Running {
        let start = |(id, exporter, settings): (Id, _, _)| {
            let memory = memory.clone();
            let delivery = Delivery::start(id.clone(), exporter, settings, metrics, status, memory);
            (id, Arc::new(delivery))
        };
        let deliveries: BTreeMap<_, _> = self.exporters.into_iter().map(start).collect();
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
        running
    }
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
            if left > 0 {
                warn!(exporter = %delivery.id(), profiles = left, "profiles were left and are dropped");
            } else {
                info!(exporter = %delivery.id(), "all profiles are delivered");
            }
            left
        });
        join_all(drains).await.into_iter().sum()
    }
}
