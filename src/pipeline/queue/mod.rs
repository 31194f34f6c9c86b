//! What one exporter still has to deliver.
//!
//! A queue is bounded in bytes, counting what waits and what is in flight, and
//! in age. Taking a batch has three steps, so that a fan-out commits to all of its
//! queues or to none: [`Queue::reserve`] takes room, [`Room::store`] makes the batch
//! durable if the queue is on disk, [`Stored::commit`] puts it on the books and lets
//! it be delivered. What is dropped before the last step leaves nothing behind.
//! Only a queue whose `on_full` is `refuse` can say no; the others make room when
//! they are filled, or drop what comes.
//!
//! What leaves by [`Queue::take`] stays on the books, and on disk, until its tickets
//! are dropped.

mod disk;
mod front;
mod settings;

pub(super) use self::disk::Claim;
pub use self::{
    disk::{
        Contents, FileStorageSettings, Storage, StorageError, StoredQueue, StoredRecord, log, purge,
    },
    front::Queued,
    settings::{DrainSettings, OnFull, QueueSettings},
};

use self::{
    disk::{Disk, Place, Record},
    front::Front,
};
use super::{Ledger, Reason, Refusal};
use crate::{profile::Batch, settings::Id};
use std::sync::Arc;
use tokio::time::Instant;

/// What one exporter still has to deliver; cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    front: Arc<Front>,
    disk: Option<Disk>,
}

/// Room for one batch; given back when dropped without a commit.
#[derive(Debug)]
pub struct Room<'q> {
    queue: &'q Queue,
    bytes: u64,
    record: Option<Record>,
}

/// A batch that is as durable as its queue is; forgotten when dropped without a
/// commit.
#[derive(Debug)]
pub struct Stored<'q> {
    room: Room<'q>,
    place: Place,
}

// === impl Queue ===

impl Queue {
    /// An empty queue in memory that keeps its books in `ledger`.
    pub fn new(settings: QueueSettings, ledger: Ledger) -> Self {
        Self {
            front: Arc::new(Front::new(settings, ledger)),
            disk: None,
        }
    }

    fn on_disk(front: Arc<Front>, disk: Disk) -> Self {
        Self {
            front,
            disk: Some(disk),
        }
    }

    /// Its books.
    pub fn ledger(&self) -> &Ledger {
        &self.front.ledger
    }

    /// Takes room for a batch, or says why there is none.
    pub fn reserve(&self, batch: &Batch) -> Result<Room<'_>, Refusal> {
        let record = self.disk.is_some().then(|| Record::of(batch));
        let bytes = record
            .as_ref()
            .map_or_else(|| batch.byte_len(), |record| record.bytes);
        let settings = self.front.settings();
        let mut state = self.front.state();
        if settings.on_full == OnFull::Refuse {
            if bytes > settings.max_bytes() {
                return Err(Refusal::permanent(Reason::TooLarge));
            }
            if self.front.is_over(state.reserved + bytes) {
                return Err(Refusal::retryable(Reason::QueueFull));
            }
        }
        state.reserved += bytes;
        Ok(Room {
            queue: self,
            bytes,
            record,
        })
    }

    /// The next batch, as soon as there is one.
    pub async fn take(&self) -> Queued {
        let queued = self.front.take().await;
        if let Some(disk) = &self.disk {
            disk.ask(&self.front);
        }
        queued
    }

    /// Whether nothing waits (some may be in flight).
    pub fn is_empty(&self) -> bool {
        let state = self.front.state();
        state.ready.is_empty() && state.on_disk == 0
    }

    /// The storage that has it; `None` when it is in memory.
    pub fn storage(&self) -> Option<Id> {
        let settings = self.front.settings();
        settings.storage.clone().filter(|_| self.disk.is_some())
    }

    /// Has other bounds from now on. What is above them stays: it leaves by
    /// delivery, by age, or by what `on_full` says when more comes.
    pub fn configure(&self, settings: QueueSettings) {
        self.front.configure(settings);
    }

    /// Drops what has waited too long; to be called every now and then.
    pub fn expire(&self) {
        self.front.expire();
        if let Some(disk) = &self.disk {
            disk.expire();
        }
    }

    /// The end: drops what waits in memory alone, and closes what is on disk.
    pub async fn close(&self, reason: Reason) {
        for queued in self.front.clear() {
            if self.disk.is_none() {
                queued.drop_all(reason);
            }
        }
        if let Some(disk) = &self.disk {
            disk.close().await;
        }
    }

    /// Whether something accepted at `since` has waited too long.
    pub fn is_expired(&self, since: Instant) -> bool {
        self.front.is_expired(since)
    }

    /// Makes room in memory as `on_full` says; `false` when there is none.
    fn make_room(&self, state: &mut front::State, bytes: u64) -> bool {
        let over = |state: &front::State| self.front.is_over(state.reserved + bytes);
        let settings = self.front.settings();
        if settings.on_full == OnFull::DropOldest && bytes <= settings.max_bytes() {
            while over(state) {
                match state.pop() {
                    Some(oldest) => oldest.drop_all(Reason::QueueFull),
                    None => break,
                }
            }
        }
        !over(state)
    }

    fn put_in_memory(&self, batch: Batch, bytes: u64, mut state: front::Guard<'_>) {
        let settings = self.front.settings();
        if settings.on_full == OnFull::Refuse || self.make_room(&mut state, bytes) {
            let queued = self.front.enqueue(batch);
            if settings.drain.newest_first {
                state.push_front(queued);
            } else {
                state.push(queued);
            }
        } else {
            self.front.ledger.discard(batch.count(), Reason::QueueFull);
        }
    }
}

// === impl Room ===

impl<'q> Room<'q> {
    /// Makes the batch as durable as the queue is.
    ///
    /// # Errors
    ///
    /// When it cannot be written and the queue may refuse.
    pub async fn store(mut self) -> Result<Stored<'q>, Refusal> {
        let place = match (&self.queue.disk, self.record.take()) {
            (Some(disk), Some(record)) => disk.append(record).await?,
            _ => Place::Memory,
        };
        Ok(Stored { room: self, place })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.queue.front.state().reserved -= self.bytes;
    }
}

// === impl Stored ===

impl Stored<'_> {
    /// Puts the batch, the same that room was taken for, on the books and lets it be
    /// delivered.
    pub fn commit(mut self, batch: Batch) {
        let queue = self.room.queue;
        let bytes = std::mem::take(&mut self.room.bytes);
        let place = std::mem::replace(&mut self.place, Place::Memory);
        let mut state = queue.front.state();
        state.reserved -= bytes;
        match (place, &queue.disk) {
            (Place::Disk(meta), Some(disk)) => {
                disk.commit(&queue.front, meta, batch, state);
            }
            (Place::Discarded(reason), _) => {
                queue.front.ledger.discard(batch.count(), reason);
                return;
            }
            _ => queue.put_in_memory(batch, bytes, state),
        }
        queue.front.wake();
    }
}

impl Drop for Stored<'_> {
    fn drop(&mut self) {
        if let (Place::Disk(meta), Some(disk)) = (&self.place, &self.room.queue.disk) {
            disk.void(*meta);
        }
    }
}

#[cfg(test)]
mod tests;
