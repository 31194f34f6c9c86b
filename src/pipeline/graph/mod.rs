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

mod running;

pub use self::running::{Failure, Running};

use super::{DeliverySettings, Exporter, Processor, Receiver};
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
    /// Pipelines; the ids they name exist.
    pub pipelines: Vec<PipelineBlueprint>,
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
    /// The exporters it feeds.
    pub exporters: Vec<Id>,
}

/// What runs, and with which settings.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Receivers by id.
    pub receivers: BTreeMap<Id, Fingerprint>,
    /// Exporters by id.
    pub exporters: BTreeMap<Id, Fingerprint>,
    /// Processors by their pipeline's id and their own.
    pub processors: BTreeMap<(Id, Id), Fingerprint>,
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
    /// Takes the addresses of all receivers, or says which cannot be had.
    pub async fn bind(&mut self) -> Result<(), Failure> {
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
