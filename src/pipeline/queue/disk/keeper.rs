//! The thread that owns the log of one exporter.
//!
//! It takes all commands that are there, then does them in this order: what has ended
//! leaves, what is new is written and synced at once, what delivery has room for is
//! read. A failure to write refuses what was to be written and nothing else, and the
//! next attempt is the next write: when the cause is gone, it works again.

use super::{
    Command, Disk, Place, instant,
    log::{AppendError, Log, Meta, NewRecord, Order, ReadError, Reader},
    record::{NoBatch, batch},
    storage::Space,
};
use crate::{
    pipeline::{
        Budget, Permit, Reason, Refusal,
        queue::{OnFull, Queued, front::Front},
    },
    settings::Id,
};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How long what has ended may be known to the page cache only.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How soon something that did not work is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The most bytes that are written before anything else is done.
const MOST_AT_ONCE: u64 = 8 << 20;
/// So many bytes are read before delivery is woken for them.
const HANDFUL: u64 = 256 << 10;

/// The owner of a log.
pub(super) struct Keeper {
    exporter: Id,
    log: Log,
    reader: Reader,
    front: Arc<Front>,
    disk: Disk,
    memory: Budget,
    space: Space,
    trouble: Trouble,
    /// What was read and is not ready yet.
    read: Vec<Queued>,
    /// When what has ended is made durable.
    sync_at: Option<Instant>,
    /// Nothing is read back before.
    read_at: Option<Instant>,
}

/// Commands of one round, by kind.
#[derive(Default)]
struct Round {
    ended: Vec<Meta>,
    appends: Vec<Append>,
    bytes: u64,
    expire: bool,
    close: Option<oneshot::Sender<()>>,
}

/// A record to write, and who waits for it.
struct Append {
    record: super::Record,
    reply: oneshot::Sender<Result<Place, Refusal>>,
}

/// What does not work at present, so that it is said once.
#[derive(Default)]
struct Trouble {
    writing: bool,
    marking: bool,
    reading: bool,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        exporter: Id,
        log: Log,
        front: Arc<Front>,
        disk: Disk,
        memory: Budget,
        space: Space,
    ) -> Self {
        Self {
            exporter,
            reader: log.reader(),
            log,
            front,
            disk,
            memory,
            space,
            trouble: Trouble::default(),
            read: Vec::new(),
            sync_at: None,
            read_at: None,
        }
    }

    /// Works until it is told to close; returns who asked for it.
    pub(super) fn run(mut self, commands: &Receiver<Command>) -> Option<oneshot::Sender<()>> {
        self.read_ahead();
        self.show();
        loop {
            let Some(mut round) = self.next(commands) else {
                break;
            };
            self.end(&round.ended);
            self.release();
            self.append(std::mem::take(&mut round.appends));
            if round.expire {
                self.expire();
            }
            self.read_ahead();
            self.sync();
            self.show();
            if round.close.is_some() {
                self.close();
                return round.close;
            }
        }
        self.close();
        None
    }

    fn close(self) {
        if let Err(error) = self.log.close() {
            warn!(exporter = %self.exporter, %error, "the queue on disk could not be closed: what was delivered last may be sent again");
        }
    }

    /// What is to be done next; `None` when nobody is left to ask for anything.
    fn next(&self, commands: &Receiver<Command>) -> Option<Round> {
        let mut round = Round::default();
        let first = match [self.sync_at, self.read_at].into_iter().flatten().min() {
            None => commands.recv().ok()?,
            Some(at) => match commands.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => return Some(round),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        round.add(first);
        while round.bytes < MOST_AT_ONCE
            && round.close.is_none()
            && let Ok(command) = commands.try_recv()
        {
            round.add(command);
        }
        Some(round)
    }

    // === writing ===

    fn append(&mut self, appends: Vec<Append>) {
        let (mut taken, mut records) = (Vec::new(), Vec::new());
        let now = SystemTime::now();
        for append in appends {
            if self.has_room(append.record.bytes) {
                records.push(NewRecord {
                    at_ms: millis(now),
                    profiles: append.record.profiles,
                    payload: append.record.pieces,
                });
                taken.push(append.reply);
            } else {
                let _ = append.reply.send(Ok(Place::Discarded(Reason::QueueFull)));
            }
        }
        if records.is_empty() {
            return;
        }
        match self.write(&records) {
            Ok(metas) => {
                self.wrote();
                self.hand_over(&metas);
                for (reply, meta) in taken.into_iter().zip(metas) {
                    // Who asked is gone: it was never accepted.
                    if reply.send(Ok(Place::Disk(meta))).is_err() {
                        self.end(&[meta]);
                    }
                }
            }
            Err(failed) => {
                let reason = self.failed(&failed);
                for reply in taken {
                    let answer = match self.front.settings().on_full {
                        OnFull::Refuse => Err(Refusal::retryable(reason)),
                        _ => Ok(Place::Discarded(reason)),
                    };
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Takes the records that were just written, which are the newest, out of what
    /// can be read back: until they are released they are theirs who wrote them.
    fn hand_over(&mut self, written: &[Meta]) {
        let Some(first) = written.first() else {
            return;
        };
        for _ in written {
            let newest = self.log.next(Order::NewestFirst);
            if let Some(older) = newest.filter(|newest| newest.id < first.id) {
                return self.log.release(&older);
            }
        }
    }

    /// One write and one sync; on a full volume another one once the oldest are gone,
    /// if they may go.
    fn write(&mut self, records: &[NewRecord]) -> Result<Vec<Meta>, AppendError> {
        let result = self.try_write(records);
        let drops = self.front.settings().on_full == OnFull::DropOldest;
        if drops && matches!(result, Err(AppendError::Full { .. })) && self.drop_a_segment() {
            return self.try_write(records);
        }
        result
    }

    fn try_write(&mut self, records: &[NewRecord]) -> Result<Vec<Meta>, AppendError> {
        self.space.check(records)?;
        self.log.append(records)
    }

    /// Whether a record may be written, once older ones have made room if they may.
    /// A queue that refuses has been asked before.
    fn has_room(&mut self, bytes: u64) -> bool {
        let settings = self.front.settings();
        match settings.on_full {
            OnFull::Refuse => true,
            OnFull::DropNewest => !self.is_over(),
            OnFull::DropOldest => {
                while bytes <= self.front.settings().max_bytes() && self.is_over() {
                    if !self.drop_oldest(Reason::QueueFull) {
                        break;
                    }
                }
                !self.is_over()
            }
        }
    }

    fn is_over(&self) -> bool {
        let reserved = self.front.state().reserved;
        self.front.is_over(reserved)
    }

    /// Drops the oldest record that waits; `false` when none does.
    fn drop_oldest(&mut self, reason: Reason) -> bool {
        let newest_first = self.front.settings().drain.newest_first;
        if !newest_first {
            let oldest = self.front.state().pop();
            if let Some(oldest) = oldest {
                let record = oldest.record;
                oldest.drop_all(reason);
                // It will be told to end by its claim too, but room is wanted now.
                self.end(record.as_slice());
                return true;
            }
        }
        match self.log.next(Order::OldestFirst) {
            Some(meta) => {
                self.front.state().on_disk -= 1;
                self.drop_record(&meta, reason);
                true
            }
            None => false,
        }
    }

    /// Drops the oldest until a file of the log is gone, and with it its room: the
    /// log has it open until what is in it need not be synced any more.
    fn drop_a_segment(&mut self) -> bool {
        let before = self.log.stats().segments;
        while self.log.stats().segments >= before {
            if !self.drop_oldest(Reason::StorageFull) {
                return false;
            }
        }
        let synced = self.log.sync_acks();
        self.marked(synced);
        true
    }

    fn failed(&mut self, error: &AppendError) -> Reason {
        let reason = match error {
            AppendError::Full { .. } => Reason::StorageFull,
            AppendError::ReadOnly { .. } | AppendError::Io { .. } => Reason::StorageFailed,
        };
        if !std::mem::replace(&mut self.trouble.writing, true) {
            warn!(
                exporter = %self.exporter,
                %error,
                "the queue on disk cannot be written, profiles are refused until it can: make room on the volume, or mend it"
            );
        }
        reason
    }

    fn wrote(&mut self) {
        if std::mem::take(&mut self.trouble.writing) {
            info!(exporter = %self.exporter, "the queue on disk can be written again");
        }
    }

    // === what ends ===

    fn end(&mut self, ended: &[Meta]) {
        if ended.is_empty() {
            return;
        }
        let written = self.log.ack(ended);
        self.marked(written);
        self.sync_at
            .get_or_insert_with(|| Instant::now() + SYNC_INTERVAL);
    }

    /// What could not be written is known in memory; a later process would send it
    /// again.
    fn marked(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.trouble.marking = false,
            Err(error) => {
                if !std::mem::replace(&mut self.trouble.marking, true) {
                    warn!(exporter = %self.exporter, %error, "what was delivered cannot be marked so on disk: it would be sent again after a restart");
                }
            }
        }
    }

    fn drop_record(&mut self, meta: &Meta, reason: Reason) {
        self.front
            .ledger
            .drop_stored(meta.profiles, meta.stored, reason);
        self.end(&[*meta]);
    }

    fn expire(&mut self) {
        while let Some(meta) = self.log.next(Order::OldestFirst) {
            if !self.is_expired(&meta) {
                self.log.release(&meta);
                break;
            }
            self.front.state().on_disk -= 1;
            self.drop_record(&meta, Reason::Expired);
        }
    }

    fn is_expired(&self, meta: &Meta) -> bool {
        self.front.is_expired(instant(time(meta.at_ms)))
    }

    fn sync(&mut self) {
        if self.sync_at.is_some_and(|at| at <= Instant::now()) {
            self.sync_at = None;
            let synced = self.log.sync_acks();
            self.marked(synced);
        }
    }

    // === reading ===

    /// Learns what waits on disk since it was committed.
    fn release(&mut self) {
        let released = {
            let mut state = self.front.state();
            // Whoever commits from here on asks again.
            state.asked = false;
            std::mem::take(&mut state.released)
        };
        released.iter().for_each(|meta| self.log.release(meta));
    }

    /// Fills what is ready.
    fn read_ahead(&mut self) {
        self.release();
        if self.read_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.read_at = None;
        let order = match self.front.settings().drain.newest_first {
            true => Order::NewestFirst,
            false => Order::OldestFirst,
        };
        while self.read_at.is_none() && self.has_place() {
            let Some(meta) = self.log.next(order) else {
                break;
            };
            if self.is_expired(&meta) {
                self.front.state().on_disk -= 1;
                self.drop_record(&meta, Reason::Expired);
            } else {
                self.read(&meta);
            }
            if self.read_bytes() >= HANDFUL {
                self.make_ready();
            }
        }
        self.make_ready();
    }

    fn has_place(&self) -> bool {
        let state = self.front.state();
        state.on_disk > self.read.len() as u64
            && state.ready_bytes + self.read_bytes() < self.disk.read_ahead
    }

    fn read_bytes(&self) -> u64 {
        self.read.iter().map(|queued| queued.bytes).sum()
    }

    /// Lets what was read be taken, several records for one waking.
    fn make_ready(&mut self) {
        if self.read.is_empty() {
            return;
        }
        let mut state = self.front.state();
        state.on_disk -= self.read.len() as u64;
        self.read.drain(..).for_each(|queued| state.push(queued));
        drop(state);
        self.front.wake();
    }

    fn read(&mut self, meta: &Meta) {
        let Some(permit) = self.permit(meta.stored) else {
            return self.postpone(meta);
        };
        let payload = match self.reader.read(meta) {
            Ok(payload) => payload,
            Err(error @ (ReadError::Damaged { .. } | ReadError::Gone { .. })) => {
                return self.set_aside(meta, &error.to_string());
            }
            Err(error @ ReadError::Io { .. }) => {
                if !std::mem::replace(&mut self.trouble.reading, true) {
                    error!(exporter = %self.exporter, %error, "the queue on disk cannot be read, it is tried again");
                }
                return self.postpone(meta);
            }
        };
        self.trouble.reading = false;
        match batch(payload, permit) {
            Ok(batch) => self.hand_out(meta, batch),
            Err(NoBatch::NoMemory) => self.postpone(meta),
            Err(NoBatch::Damaged(damage)) => {
                self.reader.quarantine(meta);
                self.set_aside(meta, &damage);
            }
        }
    }

    /// The memory of a record that is read back. As long as others leave none, one
    /// record at a time is read in what is reserved for delivery.
    fn permit(&self, bytes: u64) -> Option<Permit> {
        let intake = self.memory.for_intake().try_take(bytes);
        let is_first = self.read.is_empty() && self.front.state().ready_bytes == 0;
        if intake.is_some() || !is_first {
            return intake;
        }
        self.memory.try_take(bytes)
    }

    fn hand_out(&mut self, meta: &Meta, batch: crate::profile::Batch) {
        let claim = Arc::new(self.disk.claim(*meta));
        let since = instant(time(meta.at_ms));
        self.read
            .push(self.front.hand_out(batch, meta, since, claim));
        let rate = self.front.settings().drain.max_rate.get();
        if rate > 0 {
            let pause = Duration::from_secs_f64(meta.stored as f64 / rate as f64);
            self.read_at = Some(Instant::now() + pause);
        }
    }

    fn postpone(&mut self, meta: &Meta) {
        self.log.release(meta);
        self.read_at = Some(Instant::now() + RETRY_INTERVAL);
    }

    fn set_aside(&mut self, meta: &Meta, damage: &str) {
        error!(
            exporter = %self.exporter,
            record = %meta.id,
            profiles = meta.profiles,
            damage,
            "a record of the queue is damaged, its bytes are in quarantine/ and the rest is delivered"
        );
        self.front.state().on_disk -= 1;
        self.front.ledger.quarantined(1);
        self.drop_record(meta, Reason::Corrupt);
    }

    /// Keeps the metrics true.
    fn show(&self) {
        let stats = self.log.stats();
        let oldest = stats.oldest_ms.map(time);
        self.front.ledger.on_disk(stats.disk_bytes, oldest);
    }
}

// === impl Round ===

impl Round {
    fn add(&mut self, command: Command) {
        match command {
            Command::Append { record, reply } => {
                self.bytes += record.bytes;
                self.appends.push(Append { record, reply });
            }
            Command::Void(meta) | Command::Ack(meta) => self.ended.push(meta),
            Command::Ask => {}
            Command::Expire => self.expire = true,
            Command::Close(done) => self.close = Some(done),
        }
    }
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}
