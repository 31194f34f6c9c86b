//! Who empties a queue, and what one crew leaves to the next.
//!
//! A reload may put another exporter in an exporter's place. The queue and its
//! books stay; the crew changes. The one that leaves takes nothing more from the
//! queue, ends the attempts that are under way, and leaves all else to its
//! follower in the shape in which it has it: parts of a profile that were
//! delivered are not delivered again, and nothing is lost in between.

use super::Shipment;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a crew is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Send at once, for there may be no later.
    pub(super) draining: CancellationToken,
    /// Begin nothing more: another crew goes on.
    pub(super) leaving: CancellationToken,
}

/// Requests that a crew left to the next one; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shipments: Mutex<VecDeque<Shipment>>,
    arrived: Notify,
}

// === impl Leftovers ===

impl Leftovers {
    /// Leaves a request to the crew that comes.
    pub(super) fn leave(&self, shipment: Shipment) {
        if shipment.parts.is_empty() {
            return;
        }
        self.shipments().push_back(shipment);
        self.0.arrived.notify_one();
    }

    /// The next one that was left, as soon as there is one.
    pub(super) async fn take(&self) -> Shipment {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(shipment) = self.shipments().pop_front() {
                return shipment;
            }
            arrived.await;
        }
    }

    /// Drops all; their profiles end as the books say of those that are dropped
    /// with nothing said.
    pub(super) fn clear(&self) {
        let left = std::mem::take(&mut *self.shipments());
        drop(left);
    }

    fn shipments(&self) -> MutexGuard<'_, VecDeque<Shipment>> {
        let shipments = self.0.shipments.lock();
        shipments.unwrap_or_else(PoisonError::into_inner)
    }
}
