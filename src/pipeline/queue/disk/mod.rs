//! A queue whose batches are on disk before they are accepted.
//!
//! ```text
//!  store ──Append──▶ keeper (one thread) ──▶ log ──▶ segments
//!  commit ─released─▶  │  ▲
//!  take ◀── ready ◀────┘  └──Ack── the last ticket of a record is dropped
//! ```
//!
//! - One thread, the [`keeper`], owns the [`log`] of an exporter. All that came while
//!   it was syncing is written and synced at once, so concurrent sources share syncs.
//! - What was just stored is handed out from memory while nothing older waits on
//!   disk and little is ready; everything else is read back, a bounded number of bytes
//!   ahead of delivery.
//! - A record stays in the log until all of its tickets have ended. A process that is
//!   killed therefore sends again what was in flight, and loses nothing.

mod inspect;
mod keeper;
pub mod log;
mod record;
mod storage;

pub(super) use self::record::Record;
pub use self::{
    inspect::{Contents, StoredQueue, StoredRecord, purge},
    storage::{FileStorageSettings, Storage, StorageError},
};

pub(super) use self::log::Meta;

use super::front::{self, Front};
use crate::{
    pipeline::{Reason, Refusal},
    profile::Batch,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::SystemTime,
};
use tokio::{sync::oneshot, time::Instant};

/// The way to the keeper of a queue; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    commands: mpsc::Sender<Command>,
    /// How many bytes are kept ready.
    read_ahead: u64,
    /// Of the queue itself; the keeper's own way has none.
    _closer: Option<Arc<Closer>>,
}

/// Ends the keeper of a queue that nobody has any more.
#[derive(Debug)]
struct Closer(mpsc::Sender<Command>);

/// Where a batch is once it is stored.
#[derive(Debug)]
pub(super) enum Place {
    /// Only in memory.
    Memory,
    /// In the log.
    Disk(Meta),
    /// Nowhere: it is dropped as soon as it is accepted.
    Discarded(Reason),
}

/// What keeps a record in the log: when the last ticket of it has ended, it is
/// delivered or dropped, and may go.
#[derive(Debug)]
pub(in crate::pipeline) struct Claim {
    commands: mpsc::Sender<Command>,
    record: Meta,
    kept: AtomicBool,
}

/// What the keeper is asked to do.
#[derive(Debug)]
enum Command {
    /// Writes a record, and hands it out to who asked.
    Append {
        record: Record,
        reply: oneshot::Sender<Result<Place, Refusal>>,
    },
    /// A stored record was not accepted.
    Void(Meta),
    /// A record has ended.
    Ack(Meta),
    /// There is room for more.
    Ask,
    /// Drops what has waited too long.
    Expire,
    /// Ends, and says so.
    Close(oneshot::Sender<()>),
}

// === impl Disk ===

impl Disk {
    fn new(commands: mpsc::Sender<Command>, read_ahead: u64) -> Self {
        Self {
            _closer: Some(Arc::new(Closer(commands.clone()))),
            commands,
            read_ahead,
        }
    }

    /// A way that does not keep the keeper at work.
    fn weak(&self) -> Self {
        Self {
            _closer: None,
            ..self.clone()
        }
    }

    /// Writes a record; returns when it is synced.
    pub(super) async fn append(&self, record: Record) -> Result<Place, Refusal> {
        let (reply, answer) = oneshot::channel();
        let closed = Refusal::retryable(Reason::Shutdown);
        self.commands
            .send(Command::Append { record, reply })
            .map_err(|_| closed)?;
        answer.await.map_err(|_| closed)?
    }

    /// Puts a record on the books. It is ready at once while nothing waits on disk.
    pub(super) fn commit(
        &self,
        front: &Front,
        meta: Meta,
        batch: Batch,
        mut state: front::Guard<'_>,
    ) {
        front.ledger.stored(batch.count(), meta.stored);
        let newest_first = front.settings().drain.newest_first;
        let in_turn = state.on_disk == 0 || newest_first;
        if in_turn && state.ready_bytes + meta.stored <= self.read_ahead {
            let claim = Arc::new(self.claim(meta));
            let queued = front.hand_out(batch, &meta, Instant::now(), claim);
            if newest_first {
                state.push_front(queued);
            } else {
                state.push(queued);
            }
        } else {
            batch.charge.iter().for_each(|charge| charge.spilled());
            state.on_disk += 1;
            state.released.push(meta);
            self.wake(state);
        }
    }

    /// A stored record was not accepted.
    pub(super) fn void(&self, meta: Meta) {
        self.tell(Command::Void(meta));
    }

    /// Asks for more, once there is room for half of what is read ahead.
    pub(super) fn ask(&self, front: &Front) {
        self.wake(front.state());
    }

    /// Asks once half of what is read ahead is gone. Until then the keeper is left to
    /// its writes: whoever takes will ask.
    fn wake(&self, mut state: front::Guard<'_>) {
        if state.on_disk > 0 && !state.asked && state.ready_bytes * 2 < self.read_ahead {
            state.asked = true;
            drop(state);
            self.tell(Command::Ask);
        }
    }

    /// Drops what has waited on disk too long.
    pub(super) fn expire(&self) {
        self.tell(Command::Expire);
    }

    /// Makes durable what has ended, and closes the log.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.tell(Command::Close(done));
        // An error says that it is closed already.
        let _ = closed.await;
    }

    fn claim(&self, record: Meta) -> Claim {
        Claim {
            commands: self.commands.clone(),
            record,
            kept: AtomicBool::new(false),
        }
    }

    /// A keeper that is gone has closed its log, which keeps everything.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

// === impl Closer ===

impl Drop for Closer {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        let _ = self.0.send(Command::Close(done));
    }
}

// === impl Claim ===

impl Claim {
    /// Leaves the record on disk, for the next process.
    pub(in crate::pipeline) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            let _ = self.commands.send(Command::Ack(self.record));
        }
    }
}

/// When something stored at `at` was accepted, on the clock that does not jump.
fn instant(at: SystemTime) -> Instant {
    let age = at.elapsed().unwrap_or_default();
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests;
