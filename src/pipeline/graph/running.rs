//! What runs, and how something else takes its place.

use super::{
    Blueprint, Changes, Inventory, PipelineBlueprint, Planned, open_queue, orphans::Orphans,
};
use crate::{
    pipeline::{
        Budget, Delivery, DeliverySettings, Entry, Exporter, FileStorageSettings, Processor, Queue,
        Receiver, ReceiverError, RouterPlan, Storage,
        entry::Pipeline,
        router::{Fork, Output},
    },
    runtime::Tasks,
    settings::{Fingerprint, Id},
    telemetry::{Metrics, Status},
};
use futures_util::future::join_all;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// All that runs.
pub struct Running {
    metrics: Metrics,
    status: Status,
    memory: Budget,
    receivers: BTreeMap<Id, RunningReceiver>,
    exporters: BTreeMap<Id, (Fingerprint, Arc<Delivery>)>,
    routers: BTreeMap<Id, (Fingerprint, RouterPlan)>,
    processors: BTreeMap<(Id, Id), (Fingerprint, Arc<dyn Processor>)>,
    storages: BTreeMap<Id, (Fingerprint, Arc<Storage>)>,
    orphans: Orphans,
    /// Exporters that are no more, while they still deliver.
    leaving: BTreeMap<Id, Leaving>,
    /// All receivers, those too that were told to stop.
    receiving: Tasks,
    closed: CancellationToken,
    failed: mpsc::UnboundedSender<Failure>,
    failures: mpsc::UnboundedReceiver<Failure>,
}

/// A receiver that ended by itself, or that cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("receiver {receiver}: {error}")]
pub struct Failure {
    /// Which.
    pub receiver: Id,
    /// Why.
    pub error: ReceiverError,
}

/// A receiver that runs.
struct RunningReceiver {
    settings: Fingerprint,
    entry: Entry,
    stop: CancellationToken,
}

/// An exporter that is no more, while it still delivers.
struct Leaving {
    delivery: Arc<Delivery>,
    recall: CancellationToken,
    /// Whether it was recalled before it had ended.
    task: JoinHandle<bool>,
}

/// What must be over before exporters that are no more can end.
#[derive(Clone, Default)]
struct Past {
    /// Fire when no batch is on its way by the old pipelines.
    unused: Vec<CancellationToken>,
    /// Close the entries of receivers that are no more.
    close: Vec<CancellationToken>,
}

// === impl Running ===

impl Running {
    /// Nothing yet.
    pub fn new(metrics: &Metrics, status: &Status, memory: &Budget) -> Self {
        let (failed, failures) = mpsc::unbounded_channel();
        Self {
            metrics: metrics.clone(),
            status: status.clone(),
            memory: memory.clone(),
            receivers: BTreeMap::new(),
            exporters: BTreeMap::new(),
            routers: BTreeMap::new(),
            processors: BTreeMap::new(),
            storages: BTreeMap::new(),
            orphans: Orphans::new(status),
            leaving: BTreeMap::new(),
            receiving: Tasks::default(),
            closed: CancellationToken::new(),
            failed,
            failures,
        }
    }

    /// What runs, for who builds what comes next.
    pub fn inventory(&self) -> Inventory {
        let receivers = self.receivers.iter();
        let exporters = self.exporters.iter();
        let routers = self.routers.iter();
        let processors = self.processors.iter();
        Inventory {
            receivers: receivers.map(|(id, r)| (id.clone(), r.settings)).collect(),
            exporters: exporters.map(|(id, (s, _))| (id.clone(), *s)).collect(),
            routers: routers.map(|(id, (s, _))| (id.clone(), *s)).collect(),
            processors: processors.map(|(id, (s, _))| (id.clone(), *s)).collect(),
            storages: self.storages.clone(),
            places: self.places(),
        }
    }

    fn places(&self) -> BTreeMap<Id, Option<Id>> {
        let running = self.exporters.values().map(|(_, delivery)| delivery);
        let leaving = self.leaving.values();
        let leaving = leaving.filter(|leaving| !leaving.task.is_finished());
        running
            .chain(leaving.map(|leaving| &leaving.delivery))
            .map(|delivery| (delivery.id().clone(), delivery.storage()))
            .collect()
    }

    /// Puts what was built and bound in the place of what runs. What was built
    /// must come from [`Self::inventory`] as it is now. Exporters that are no more
    /// have `patience` to deliver what they have. It cannot fail, and does not
    /// wait for data; a caller must not drop it half-way.
    pub async fn apply(&mut self, blueprint: Blueprint, patience: Duration) -> Changes {
        let before = self.inventory();
        let mut changes = Changes::default();
        changes.compare("receivers", &before.receivers, &blueprint.receivers);
        changes.compare("exporters", &before.exporters, &blueprint.exporters);
        changes.compare("exporters", &before.routers, &blueprint.routers);
        changes.compare_processors(&before.processors, &blueprint.pipelines);
        self.apply_storages(&blueprint.storages, blueprint.opened.storages);
        let queues = blueprint.opened.queues;
        let removed = self.apply_exporters(blueprint.exporters, queues).await;
        self.apply_routers(blueprint.routers);
        let mut entrances = self.apply_pipelines(blueprint.pipelines);
        let past = self.apply_receivers(blueprint.receivers, &mut entrances);
        self.retire(removed, past, patience);
        self.orphans.show().await;
        changes
    }

    /// Resolves when a receiver ends by itself.
    pub async fn failure(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops receiving, sends what is queued for at most `patience` in all, and
    /// returns the number of profiles that were left.
    pub async fn shutdown(mut self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        for receiver in self.receivers.values() {
            receiver.stop.cancel();
        }
        if timeout(patience, self.receiving.wait()).await.is_err() {
            warn!("some receivers did not stop in time");
        }
        self.closed.cancel();
        let mut deliveries: Vec<_> = self.exporters.values().map(|(_, d)| d.clone()).collect();
        for (_, leaving) in std::mem::take(&mut self.leaving) {
            deliveries.extend(leaving.recall().await);
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        let drains = deliveries.iter().map(|delivery| async move {
            let left = delivery.drain(rest).await;
            say_left(delivery, left);
            left
        });
        join_all(drains).await.into_iter().sum()
    }

    /// Storages that stay and come. One that goes is given back once its last queue
    /// is closed.
    fn apply_storages(
        &mut self,
        planned: &[Planned<FileStorageSettings>],
        mut opened: BTreeMap<Id, Arc<Storage>>,
    ) {
        let storage = |planned: &Planned<_>| {
            let storage = opened.remove(&planned.id)?;
            Some((planned.id.clone(), (planned.settings, storage)))
        };
        self.storages = planned.iter().filter_map(storage).collect();
        self.orphans.look_in(self.storages.values().map(|(_, s)| s));
    }

    /// Exporters that stay, change, come, and come back; returns those that go.
    async fn apply_exporters(
        &mut self,
        planned: Vec<Planned<(Arc<dyn Exporter>, DeliverySettings)>>,
        mut queues: BTreeMap<Id, Queue>,
    ) -> Vec<Arc<Delivery>> {
        let mut before = std::mem::take(&mut self.exporters);
        for Planned {
            id,
            settings,
            component,
        } in planned
        {
            let running = before.remove(&id).map(|(_, delivery)| delivery);
            let delivery = match (component, running) {
                (None, Some(delivery)) => delivery,
                (Some((exporter, settings)), Some(delivery)) => {
                    delivery.replace(exporter, settings);
                    delivery
                }
                (Some((exporter, settings)), None) => {
                    self.begin(&id, exporter, settings, queues.remove(&id))
                        .await
                }
                // It was built from another inventory.
                (None, None) => continue,
            };
            self.exporters.insert(id, (settings, delivery));
        }
        before.into_values().map(|(_, delivery)| delivery).collect()
    }

    /// Begins to deliver; goes on where an exporter of that id has not ended yet.
    async fn begin(
        &mut self,
        id: &Id,
        exporter: Arc<dyn Exporter>,
        settings: DeliverySettings,
        queue: Option<Queue>,
    ) -> Arc<Delivery> {
        if let Some(leaving) = self.leaving.remove(id)
            && let Some(delivery) = leaving.recall().await
        {
            delivery.replace(exporter, settings);
            return delivery;
        }
        let queue = match queue {
            Some(queue) => queue,
            None => self.queue(id, &settings).await,
        };
        let (metrics, status, memory) = (&self.metrics, &self.status, self.memory.clone());
        let delivery = Delivery::start(
            id.clone(),
            exporter,
            settings,
            queue,
            metrics,
            status,
            memory,
        );
        Arc::new(delivery)
    }

    /// The queue of an exporter that had not ended when the rest was opened, and has
    /// now.
    async fn queue(&self, id: &Id, settings: &DeliverySettings) -> Queue {
        let storages = self.storages.iter();
        let storages = storages.map(|(id, (_, storage))| (id.clone(), storage.clone()));
        let opened = open_queue(id, settings, &storages.collect(), &self.memory).await;
        opened.unwrap_or_else(|error| {
            error!(exporter = %id, %error, "its queue on disk cannot be opened, until the next start it is in memory");
            settings.memory_queue()
        })
    }

    /// The pipelines behind each receiver.
    fn apply_pipelines(
        &mut self,
        pipelines: Vec<PipelineBlueprint>,
    ) -> BTreeMap<Id, Vec<Arc<Pipeline>>> {
        let mut before = std::mem::take(&mut self.processors);
        let mut entrances: BTreeMap<Id, Vec<Arc<Pipeline>>> = BTreeMap::new();
        for blueprint in pipelines {
            let mut processors = Vec::new();
            for planned in blueprint.processors {
                let key = (blueprint.id.clone(), planned.id.clone());
                let running = before.remove(&key).map(|(_, processor)| processor);
                if let Some(processor) = planned.component.or(running) {
                    processors.push((planned.id, processor.clone()));
                    self.processors.insert(key, (planned.settings, processor));
                }
            }
            let pipeline = Arc::new(Pipeline {
                processors,
                outputs: self.outputs(&blueprint.exporters),
            });
            for receiver in blueprint.receivers {
                let entrance = entrances.entry(receiver).or_default();
                entrance.push(pipeline.clone());
            }
        }
        entrances
    }

    /// Routers that stay, change and come.
    fn apply_routers(&mut self, planned: Vec<Planned<RouterPlan>>) {
        let mut before = std::mem::take(&mut self.routers);
        for planned in planned {
            let running = before.remove(&planned.id).map(|(_, plan)| plan);
            if let Some(plan) = planned.component.or(running) {
                self.routers.insert(planned.id, (planned.settings, plan));
            }
        }
    }

    /// What these ids stand for.
    fn outputs(&self, ids: &[Id]) -> Vec<Output> {
        ids.iter().filter_map(|id| self.output(id)).collect()
    }

    fn output(&self, id: &Id) -> Option<Output> {
        if let Some((_, delivery)) = self.exporters.get(id) {
            return Some(Output::Exporter(delivery.clone()));
        }
        let (_, plan) = self.routers.get(id)?;
        let outputs = self.outputs(&plan.outputs);
        let (id, router) = (id.clone(), plan.router.clone());
        Some(Output::Router(Arc::new(Fork {
            id,
            router,
            outputs,
        })))
    }

    /// Receivers that stay, change, come and go.
    fn apply_receivers(
        &mut self,
        planned: Vec<Planned<Box<dyn Receiver>>>,
        entrances: &mut BTreeMap<Id, Vec<Arc<Pipeline>>>,
    ) -> Past {
        let mut past = Past::default();
        let mut before = std::mem::take(&mut self.receivers);
        for Planned {
            id,
            settings,
            component,
        } in planned
        {
            let pipelines = entrances.remove(&id).unwrap_or_default();
            let running = before.remove(&id);
            let entry = match &running {
                Some(running) => {
                    past.unused.push(running.entry.reroute(pipelines));
                    running.entry.clone()
                }
                None => {
                    let closed = self.closed.child_token();
                    Entry::new(id.clone(), pipelines, &self.metrics, closed)
                }
            };
            let stop = match (component, running) {
                (None, Some(running)) => running.stop,
                (Some(receiver), running) => {
                    if let Some(running) = running {
                        entry.hand_over();
                        running.stop.cancel();
                    }
                    self.receive(&id, receiver, &entry)
                }
                // It was built from another inventory.
                (None, None) => continue,
            };
            let receiver = RunningReceiver {
                settings,
                entry,
                stop,
            };
            self.receivers.insert(id, receiver);
        }
        for (id, gone) in before {
            info!(receiver = %id, "the receiver is no more in the configuration, it stops");
            gone.stop.cancel();
            self.status.unpublish_targets(&id);
            past.unused.push(gone.entry.unused());
            past.close.push(gone.entry.closed());
        }
        past
    }

    /// Starts a receiver; returns what stops it.
    fn receive(&self, id: &Id, receiver: Box<dyn Receiver>, entry: &Entry) -> CancellationToken {
        let stop = CancellationToken::new();
        let (stopped, entry) = (stop.clone(), entry.clone());
        let (failed, id) = (self.failed.clone(), id.clone());
        self.receiving.spawn("receiver", async move {
            let Err(error) = receiver.run(entry, stopped.clone()).await else {
                return;
            };
            if stopped.is_cancelled() {
                warn!(receiver = %id, %error, "a receiver failed while it stopped");
                return;
            }
            // Nobody listens only when the process is ending.
            let _ = failed.send(Failure {
                receiver: id,
                error,
            });
        });
        stop
    }

    /// Ends what is no more, beside all else.
    fn retire(&mut self, removed: Vec<Arc<Delivery>>, past: Past, patience: Duration) {
        self.leaving
            .retain(|_, leaving| !leaving.task.is_finished());
        if !past.close.is_empty() {
            let past = past.clone();
            self.receiving.spawn("leaving receivers", async move {
                past.over(patience).await;
                past.close.iter().for_each(CancellationToken::cancel);
            });
        }
        for delivery in removed {
            let id = delivery.id().clone();
            info!(exporter = %id, "the exporter is no more in the configuration, it sends what is queued");
            let recall = CancellationToken::new();
            let end = end(
                delivery.clone(),
                past.clone(),
                patience,
                recall.clone(),
                self.metrics.clone(),
                self.status.clone(),
                self.orphans.clone(),
            );
            let leaving = Leaving {
                delivery,
                recall,
                task: Tasks::default().spawn("leaving exporter", end),
            };
            self.leaving.insert(id, leaving);
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inventory().fmt(f)
    }
}

/// Ends an exporter that is no more: whether it was recalled before.
async fn end(
    delivery: Arc<Delivery>,
    past: Past,
    patience: Duration,
    recall: CancellationToken,
    metrics: Metrics,
    status: Status,
    orphans: Orphans,
) -> bool {
    let deadline = Instant::now() + patience;
    let drained = async {
        past.over(patience).await;
        let rest = deadline.saturating_duration_since(Instant::now());
        delivery.drained(rest).await;
    };
    if recall.run_until_cancelled(drained).await.is_none() {
        return true;
    }
    let left = delivery.end().await;
    delivery.unpublish(&metrics, &status);
    say_left(&delivery, left);
    if delivery.storage().is_some() {
        orphans.show().await;
    }
    false
}

fn say_left(delivery: &Delivery, left: u64) {
    let exporter = delivery.id();
    if left > 0 && delivery.storage().is_some() {
        info!(%exporter, profiles = left, "profiles stay on disk, and are sent when the exporter is there again");
    } else if left > 0 {
        warn!(%exporter, profiles = left, "profiles were left and are dropped");
    } else {
        info!(%exporter, "all profiles are delivered");
    }
}

// === impl Leaving ===

impl Leaving {
    /// The delivery, unless it has ended.
    async fn recall(self) -> Option<Arc<Delivery>> {
        self.recall.cancel();
        let recalled = self.task.await.unwrap_or(false);
        recalled.then_some(self.delivery)
    }
}

// === impl Past ===

impl Past {
    /// Resolves when nothing goes the old ways any more, or after `patience`.
    async fn over(&self, patience: Duration) {
        let unused = join_all(self.unused.iter().map(CancellationToken::cancelled));
        if timeout(patience, unused).await.is_err() {
            warn!("a receiver that was removed or changed does not stop in time");
        }
    }
}
