//! What one exporter still has to deliver.
//!
//! A queue is bounded in bytes, counting what waits and what is in flight, and
//! in age. Taking a batch has two steps, so that a fan-out commits to all of its
//! queues or to none: [`Queue::reserve`] takes room, [`Room::commit`] fills it.
//! Only a queue whose `on_full` is `refuse` can say no; the others make room when
//! they are filled, or drop what comes.
//!
//! What leaves by [`Queue::take`] stays on the books until its tickets are
//! dropped. A durable queue fits behind the same three calls: it writes in
//! `commit`, reads ahead in `take`, and moves its cursor when a ticket ends.

use super::{Ledger, Reason, Refusal, ledger::Ticket};
use crate::{
    profile::{Batch, Charge, Origin, Profile},
    settings::{ByteSize, Duration},
};
use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// The bounds of the queue in front of an exporter.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct QueueSettings {
    /// The most bytes (bodies and labels, as they arrived) that may wait or be
    /// in flight. In memory: it counts against `service.memory.limit` too.
    pub max_bytes: ByteSize,
    /// A profile that waited longer is dropped (reason `expired`). 0 means no
    /// bound.
    pub max_age: Duration,
    /// What a full queue does.
    pub on_full: OnFull,
    /// How many requests may be under way at once.
    pub num_consumers: usize,
    /// How long profiles are collected into one request before it is sent.
    /// 0 sends at once.
    pub flush_timeout: Duration,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The source hears a refusal that it may retry.
    #[default]
    Refuse,
    /// The oldest waiting profiles make room.
    DropOldest,
    /// What comes is dropped.
    DropNewest,
}

/// What one exporter still has to deliver; cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: ArcSwap<QueueSettings>,
    ledger: Ledger,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Queued>,
    reserved: u64,
}

/// Room for one batch; given back when dropped without a commit.
#[derive(Debug)]
pub struct Room<'q> {
    queue: &'q Shared,
    bytes: u64,
}

/// An accepted batch.
#[derive(Debug)]
pub struct Queued {
    /// Its profiles, each with its ticket.
    pub profiles: Vec<(Profile, Arc<Ticket>)>,
    /// Where it came from.
    pub origin: Origin,
    /// Its memory.
    pub charge: Option<Arc<dyn Charge>>,
    since: Instant,
}

// === impl QueueSettings ===

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::new(64 << 20),
            max_age: Duration::from_secs(3_600),
            on_full: OnFull::Refuse,
            num_consumers: 4,
            flush_timeout: Duration::from_secs(1),
        }
    }
}

// === impl Queue ===

impl Queue {
    /// An empty queue that keeps its books in `ledger`.
    pub fn new(settings: QueueSettings, ledger: Ledger) -> Self {
        Self(Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings),
            ledger,
            state: Mutex::default(),
            arrived: Notify::new(),
        }))
    }

    /// Has other bounds from now on. What is above them stays: it leaves by
    /// delivery, by age, or by what `on_full` says when more comes.
    pub fn configure(&self, settings: QueueSettings) {
        self.0.ledger.set_capacity(settings.max_bytes.get());
        self.0.settings.store(Arc::new(settings));
    }

    /// Takes room for a batch, or says why there is none.
    pub fn reserve(&self, batch: &Batch) -> Result<Room<'_>, Refusal> {
        let bytes = batch.byte_len();
        let settings = self.0.settings.load();
        let mut state = self.0.state();
        if settings.on_full == OnFull::Refuse {
            let max = settings.max_bytes.get();
            if bytes > max {
                return Err(Refusal::permanent(Reason::TooLarge));
            }
            if self.0.ledger.queued_bytes() + state.reserved + bytes > max {
                return Err(Refusal::retryable(Reason::QueueFull));
            }
        }
        state.reserved += bytes;
        Ok(Room {
            queue: &self.0,
            bytes,
        })
    }

    /// The oldest batch, as soon as there is one.
    pub async fn take(&self) -> Queued {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(queued) = self.0.state().waiting.pop_front() {
                return queued;
            }
            arrived.await;
        }
    }

    /// Whether nothing waits (some may be in flight).
    pub fn is_empty(&self) -> bool {
        self.0.state().waiting.is_empty()
    }

    /// Drops what has waited too long; to be called every now and then.
    pub fn expire(&self) {
        while let Some(old) = self.pop_expired() {
            old.drop_all(Reason::Expired);
        }
    }

    /// Drops all that waits; for the end of the process.
    pub fn clear(&self, reason: Reason) {
        let waiting = std::mem::take(&mut self.0.state().waiting);
        for queued in waiting {
            queued.drop_all(reason);
        }
    }

    /// Whether something accepted at `since` has waited too long.
    pub fn is_expired(&self, since: Instant) -> bool {
        let max_age = self.0.settings.load().max_age;
        !max_age.is_zero() && since.elapsed() > max_age.get()
    }

    fn pop_expired(&self) -> Option<Queued> {
        let mut state = self.0.state();
        let since = state.waiting.front()?.since;
        if self.is_expired(since) {
            state.waiting.pop_front()
        } else {
            None
        }
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for `bytes` as `on_full` says; `false` when there is none.
    fn make_room(&self, settings: &QueueSettings, state: &mut State, bytes: u64) -> bool {
        let max = settings.max_bytes.get();
        let fits = |state: &State| self.ledger.queued_bytes() + state.reserved + bytes <= max;
        if settings.on_full == OnFull::DropOldest && bytes <= max {
            while !fits(state) {
                match state.waiting.pop_front() {
                    Some(oldest) => oldest.drop_all(Reason::QueueFull),
                    None => break,
                }
            }
        }
        fits(state)
    }
}

// === impl Room ===

impl Room<'_> {
    /// Puts the batch into the room that was taken for it.
    pub fn commit(mut self, batch: Batch) {
        let queue = self.queue;
        let bytes = std::mem::take(&mut self.bytes);
        let settings = queue.settings.load();
        let mut state = queue.state();
        state.reserved -= bytes;
        if settings.on_full == OnFull::Refuse || queue.make_room(&settings, &mut state, bytes) {
            let profiles = batch.profiles.into_iter().map(|profile| {
                let counted = profile.body.profiles();
                let ticket = queue.ledger.enqueue(counted, profile.byte_len());
                (profile, Arc::new(ticket))
            });
            let queued = Queued {
                profiles: profiles.collect(),
                origin: batch.origin,
                charge: batch.charge,
                since: Instant::now(),
            };
            state.waiting.push_back(queued);
        } else {
            queue.ledger.discard(batch.count(), Reason::QueueFull);
        }
        drop(state);
        queue.arrived.notify_one();
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.queue.state().reserved -= self.bytes;
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

#[cfg(test)]
mod tests;
