//! From receivers to exporters: the traits of components, the entry that
//! receivers hand their batches to, the fan-out, and delivery with its queue.
//!
//! Knows `profile` and the traits, never a concrete component.

mod component;
mod delivery;
mod entry;
mod graph;
mod ledger;
mod memory;
mod queue;
mod router;
mod spares;

pub use self::{
    component::{
        Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared, Processor, Reason,
        Receiver, ReceiverError, Refusal, RefusalKind, Verdict,
    },
    delivery::{Delivery, DeliverySettings, RetrySettings},
    entry::Entry,
    graph::{
        BindError, Blueprint, Changes, Failure, Inventory, Opened, PipelineBlueprint, Planned,
        Running,
    },
    ledger::{Balance, Ledger},
    memory::{Budget, Permit},
    queue::{
        Contents, DrainSettings, FileStorageSettings, OnFull, Queue, QueueSettings, Queued,
        Storage, StorageError, StoredQueue, StoredRecord, log, purge,
    },
    router::{Route, Router, RouterPlan},
};

use crate::telemetry::Metrics;

/// Makes the metrics of pipelines known before there is a pipeline.
pub fn register_metrics(metrics: &Metrics) {
    metrics.set::<entry::Counters>();
    metrics.set::<ledger::Ledgers>();
}
