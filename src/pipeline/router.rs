//! Exporters that hand on to others: which of several exporters must have a
//! profile.
//!
//! They stand in a pipeline like any exporter and have no queue of their own: the
//! choice is made before room is reserved, so a profile is accepted once those that
//! it is for have it, and the books of each of them balance. What waits in the queue
//! of an exporter whose backend is away stays there.

use super::{Delivery, Reason, Refusal, queue::Room};
use crate::{
    profile::{Batch, Origin, Profile},
    settings::Id,
};
use std::sync::Arc;

/// Chooses among outputs, which are exporters or routers. Pure and synchronous: no
/// I/O, no clock.
pub trait Router: Send + Sync + 'static {
    /// Where a profile of a batch from `origin` goes. `healthy` says of each output,
    /// in the order of [`RouterPlan::outputs`], whether sending to it works as far
    /// as is known.
    fn route(&self, profile: &Profile, origin: &Origin, healthy: &[bool]) -> Route;
}

/// Where a profile goes, as positions of outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To each of them; to nowhere when there is none, which is counted as dropped.
    Each(Vec<usize>),
    /// To the first of them that has room.
    First(Vec<usize>),
}

/// A router, and what it chooses among.
#[derive(Clone)]
pub struct RouterPlan {
    /// It.
    pub router: Arc<dyn Router>,
    /// Exporters and routers by id.
    pub outputs: Vec<Id>,
}

/// What a pipeline feeds.
#[derive(Clone)]
pub(super) enum Output {
    /// An exporter with its queue.
    Exporter(Arc<Delivery>),
    /// One that hands on.
    Router(Arc<Fork>),
}

/// A router with its outputs.
pub(super) struct Fork {
    pub(super) id: Id,
    pub(super) router: Arc<dyn Router>,
    pub(super) outputs: Vec<Output>,
}

/// Room for all of a batch, and what of it goes nowhere.
#[derive(Default)]
pub(super) struct Reserved<'p> {
    pub(super) rooms: Vec<(Room<'p>, Batch)>,
    /// By whom, why, and how many profiles.
    pub(super) drops: Vec<(&'p Id, Reason, u64)>,
}

// === impl Output ===

impl Output {
    /// Whether sending to it works as far as is known.
    fn is_healthy(&self) -> bool {
        match self {
            Self::Exporter(delivery) => delivery.is_healthy(),
            Self::Router(fork) => fork.outputs.iter().any(Self::is_healthy),
        }
    }

    /// Takes room for a batch wherever it must go; on refusal some may be taken.
    pub(super) fn reserve<'p>(
        &'p self,
        batch: Batch,
        reserved: &mut Reserved<'p>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Exporter(delivery) => {
                reserved.rooms.push((delivery.reserve(&batch)?, batch));
                Ok(())
            }
            Self::Router(fork) => fork.reserve(batch, reserved),
        }
    }
}

// === impl Fork ===

impl Fork {
    fn reserve<'p>(&'p self, batch: Batch, reserved: &mut Reserved<'p>) -> Result<(), Refusal> {
        for (route, batch) in self.divide(batch) {
            match route {
                Route::Each(outputs) if outputs.is_empty() => {
                    let profiles = batch.count();
                    reserved.drops.push((&self.id, Reason::Unrouted, profiles));
                }
                Route::Each(outputs) => {
                    for output in self.outputs(&outputs) {
                        output.reserve(batch.clone(), reserved)?;
                    }
                }
                Route::First(outputs) => self.reserve_first(&outputs, &batch, reserved)?,
            }
        }
        Ok(())
    }

    fn reserve_first<'p>(
        &'p self,
        outputs: &[usize],
        batch: &Batch,
        reserved: &mut Reserved<'p>,
    ) -> Result<(), Refusal> {
        let mut refused = Refusal::retryable(Reason::QueueFull);
        for (tried, output) in self.outputs(outputs).enumerate() {
            let (rooms, drops) = (reserved.rooms.len(), reserved.drops.len());
            match output.reserve(batch.clone(), reserved) {
                Ok(()) => return Ok(()),
                Err(refusal) => {
                    reserved.rooms.truncate(rooms);
                    reserved.drops.truncate(drops);
                    if tried == 0 {
                        refused = refusal;
                    }
                }
            }
        }
        Err(refused)
    }

    fn outputs<'a>(&'a self, at: &[usize]) -> impl Iterator<Item = &'a Output> {
        at.iter().filter_map(|at| self.outputs.get(*at))
    }

    /// The profiles of a batch by where they go.
    fn divide(&self, batch: Batch) -> Vec<(Route, Batch)> {
        let healthy: Vec<_> = self.outputs.iter().map(Output::is_healthy).collect();
        let Batch {
            profiles,
            origin,
            charge,
        } = batch;
        let mut parts: Vec<(Route, Vec<Profile>)> = Vec::with_capacity(1);
        for profile in profiles {
            let route = self.router.route(&profile, &origin, &healthy);
            match parts.iter_mut().find(|(known, _)| *known == route) {
                Some((_, part)) => part.push(profile),
                None => parts.push((route, vec![profile])),
            }
        }
        let part = |(route, profiles)| {
            let origin = origin.clone();
            let batch = Batch {
                profiles,
                origin,
                charge: charge.clone(),
            };
            (route, batch)
        };
        parts.into_iter().map(part).collect()
    }
}
