//! What a queue hands out next, wherever it keeps the rest.
//!
//! In memory this is all of the queue. On disk it is what was read ahead, or never
//! had to wait: its size is bounded, and all of it is on disk as well.

use super::{Claim, QueueSettings, disk::Meta};
use crate::{
    pipeline::{Ledger, Reason, ledger::Ticket},
    profile::{Batch, Charge, Origin, Profile},
};
use arc_swap::ArcSwap;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// The part of a queue that its two sides and its disk share.
#[derive(Debug)]
pub(super) struct Front {
    settings: ArcSwap<QueueSettings>,
    pub(super) ledger: Ledger,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// What can be taken, the first first.
    pub(super) ready: VecDeque<Queued>,
    /// The bytes of what is ready.
    pub(super) ready_bytes: u64,
    /// Bytes for which room was taken, and which are not queued yet.
    pub(super) reserved: u64,
    /// Records that wait on disk and are not ready.
    pub(super) on_disk: u64,
    /// Those of them that the disk does not know to be waiting yet.
    pub(super) released: Vec<Meta>,
    /// The disk has been told that there is room for more.
    pub(super) asked: bool,
}

/// The state, locked.
pub(super) type Guard<'f> = MutexGuard<'f, State>;

/// An accepted batch.
#[derive(Debug)]
pub struct Queued {
    /// Its profiles, each with its ticket.
    pub profiles: Vec<(Profile, Arc<Ticket>)>,
    /// Where it came from.
    pub origin: Origin,
    /// Its memory.
    pub charge: Option<Arc<dyn Charge>>,
    pub(super) since: Instant,
    pub(super) bytes: u64,
    /// What it is on disk, if it is.
    pub(super) record: Option<Meta>,
}

// === impl Front ===

impl Front {
    pub(super) fn new(settings: QueueSettings, ledger: Ledger) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            ledger,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    pub(super) fn settings(&self) -> Arc<QueueSettings> {
        self.settings.load_full()
    }

    pub(super) fn configure(&self, settings: QueueSettings) {
        self.ledger.set_capacity(settings.max_bytes());
        self.settings.store(Arc::new(settings));
    }

    pub(super) fn state(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch, as soon as there is one.
    pub(super) async fn take(&self) -> Queued {
        loop {
            let arrived = self.arrived.notified();
            let (queued, is_empty) = {
                let mut state = self.state();
                (state.pop(), state.ready.is_empty())
            };
            // Several may have come with one waking, and several may wait for them.
            if !is_empty {
                self.wake();
            }
            if let Some(queued) = queued {
                return queued;
            }
            arrived.await;
        }
    }

    /// Says that there is something to take.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Whether something accepted at `since` has waited too long.
    pub(super) fn is_expired(&self, since: Instant) -> bool {
        let max_age = self.settings().max_age();
        !max_age.is_zero() && since.elapsed() > max_age
    }

    /// Drops what is ready and has waited too long.
    pub(super) fn expire(&self) {
        let mut old = Vec::new();
        let mut state = self.state();
        let ready = std::mem::take(&mut state.ready);
        for queued in ready {
            if self.is_expired(queued.since) {
                state.ready_bytes -= queued.bytes;
                old.push(queued);
            } else {
                state.ready.push_back(queued);
            }
        }
        drop(state);
        for queued in old {
            queued.drop_all(Reason::Expired);
        }
    }

    /// Takes all that is ready.
    pub(super) fn clear(&self) -> VecDeque<Queued> {
        let mut state = self.state();
        state.ready_bytes = 0;
        std::mem::take(&mut state.ready)
    }

    /// The most that may wait or be in flight is exceeded.
    pub(super) fn is_over(&self, reserved: u64) -> bool {
        self.ledger.queued_bytes() + reserved > self.settings().max_bytes()
    }

    /// Accepts a batch into memory.
    pub(super) fn enqueue(&self, batch: Batch) -> Queued {
        let mut bytes = 0;
        let profiles = batch.profiles.into_iter().map(|profile| {
            let (counted, len) = (profile.body.profiles(), profile.byte_len());
            bytes += len;
            (profile, Arc::new(self.ledger.enqueue(counted, len)))
        });
        Queued {
            profiles: profiles.collect(),
            origin: batch.origin,
            charge: batch.charge,
            since: Instant::now(),
            bytes,
            record: None,
        }
    }

    /// Hands out a batch that is on disk, as long as its tickets are open.
    pub(super) fn hand_out(
        &self,
        batch: Batch,
        meta: &Meta,
        since: Instant,
        claim: Arc<Claim>,
    ) -> Queued {
        let share = meta.stored / (batch.profiles.len() as u64).max(1);
        let mut rest = meta.stored - share * batch.profiles.len() as u64;
        let profiles = batch.profiles.into_iter().map(|profile| {
            let bytes = share + std::mem::take(&mut rest);
            let counted = profile.body.profiles();
            let ticket = self.ledger.hand_out(counted, bytes, since, claim.clone());
            (profile, Arc::new(ticket))
        });
        Queued {
            profiles: profiles.collect(),
            origin: batch.origin,
            charge: batch.charge,
            since,
            bytes: meta.stored,
            record: Some(*meta),
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn push(&mut self, queued: Queued) {
        self.ready_bytes += queued.bytes;
        self.ready.push_back(queued);
    }

    pub(super) fn push_front(&mut self, queued: Queued) {
        self.ready_bytes += queued.bytes;
        self.ready.push_front(queued);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.ready.pop_front()?;
        self.ready_bytes -= queued.bytes;
        Some(queued)
    }
}

// === impl Queued ===

impl Queued {
    /// Ends all profiles with `reason`.
    pub fn drop_all(self, reason: Reason) {
        for (_, ticket) in &self.profiles {
            ticket.dropped(reason);
        }
    }
}
