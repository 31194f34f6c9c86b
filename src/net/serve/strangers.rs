//! The connections of which nothing was let in yet, oldest first.
//!
//! Whoever can reach the port can take connections without end. So when all are
//! taken, those go first that have nothing to show for it.

use super::activity::Activity;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The strangers of one server.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    oldest_first: BTreeMap<u64, Arc<Activity>>,
}

/// A connection's place among them.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Arc<Strangers>,
    number: u64,
}

// === impl Strangers ===

impl Strangers {
    /// A new connection, until what is returned is dropped.
    pub(super) fn add(self: &Arc<Self>, activity: &Arc<Activity>) -> Stranger {
        let mut known = self.known();
        let number = known.next;
        known.next += 1;
        known.oldest_first.insert(number, activity.clone());
        Stranger {
            all: self.clone(),
            number,
        }
    }

    /// Ends the oldest of them, if there is any.
    pub(super) fn dismiss_oldest(&self) {
        let mut known = self.known();
        while let Some((_, activity)) = known.oldest_first.pop_first() {
            if !activity.is_admitted() {
                activity.dismiss("made_room");
                return;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stranger ===

impl Drop for Stranger {
    fn drop(&mut self) {
        self.all.known().oldest_first.remove(&self.number);
    }
}
