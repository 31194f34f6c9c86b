//! The books of one exporter.
//!
//! At every moment `recovered + enqueued = sent + dropped + queued`: each entry
//! is made on both sides under one lock, and whoever reads takes the same lock.
//! A [`Ticket`] stands for one body between its two entries; dropping it
//! makes the second one, so no path through the code can forget it. What waits on
//! disk has no ticket: its first entry is made when it is stored or recovered, its
//! ticket when it is read, and one that nobody ended leaves it on disk.

use super::{Reason, queue::Claim};
use crate::{settings::Id, telemetry::MetricSet};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The books of one exporter; cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Books>>);

/// What the books say at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Profiles found in the queue at the start.
    pub recovered: u64,
    /// Profiles accepted into the queue.
    pub enqueued: u64,
    /// Profiles delivered.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Profiles dropped, by reason.
    pub dropped: BTreeMap<Reason, u64>,
    /// Profiles waiting or in flight.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// The most bytes the queue may hold.
    pub capacity: u64,
    /// The age of the oldest profile that waits or flies.
    pub oldest: Option<Duration>,
    /// The files of a queue on disk, in bytes.
    pub disk_bytes: u64,
    /// Records found damaged on disk and set aside.
    pub quarantined: u64,
    /// Attempts, by outcome.
    pub attempts: BTreeMap<&'static str, u64>,
}

struct Books {
    balance: Balance,
    open: BTreeSet<(Instant, u64)>,
    next: u64,
    /// When the oldest that waits on disk was accepted.
    oldest_stored: Option<SystemTime>,
}

/// One body between acceptance and its end; it counts for one profile or, of
/// OTLP, for several.
///
/// A body that is sent in several parts is sent when all of them are, and
/// dropped when one of them is.
pub struct Ticket {
    ledger: Ledger,
    key: (Instant, u64),
    profiles: u64,
    bytes: u64,
    end: Mutex<End>,
    /// What is kept on disk until the ticket has ended.
    claim: Option<Arc<Claim>>,
}

/// How a profile ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Nobody said: the process is going down, and what is on disk stays there.
    Open,
    Sent {
        bytes: u64,
    },
    Dropped(Reason),
}

/// All ledgers of the process, as one collector of metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledgers(Arc<Mutex<BTreeMap<Id, Ledger>>>);

// === impl Ledger ===

impl Ledger {
    /// Empty books for a queue of `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(Books {
            balance: Balance {
                capacity,
                ..Balance::default()
            },
            open: BTreeSet::new(),
            next: 0,
            oldest_stored: None,
        })))
    }

    /// The queue may hold so many bytes from now on.
    pub fn set_capacity(&self, capacity: u64) {
        self.books().balance.capacity = capacity;
    }

    /// Accepts a body of `bytes` that counts for so many profiles.
    pub fn enqueue(&self, profiles: u64, bytes: u64) -> Ticket {
        let mut books = self.books();
        books.accept(profiles, bytes);
        self.ticket(books, Instant::now(), profiles, bytes, None)
    }

    /// Accepts a record that is on disk.
    pub(super) fn stored(&self, profiles: u64, bytes: u64) {
        self.books().accept(profiles, bytes);
    }

    /// Takes over records that an earlier process left on disk.
    pub(super) fn recovered(&self, profiles: u64, bytes: u64) {
        let balance = &mut self.books().balance;
        balance.recovered += profiles;
        balance.queued += profiles;
        balance.queued_bytes += bytes;
    }

    /// The ticket of a body on disk, accepted at `since`, that is about to be sent.
    pub(super) fn hand_out(
        &self,
        profiles: u64,
        bytes: u64,
        since: Instant,
        claim: Arc<Claim>,
    ) -> Ticket {
        self.ticket(self.books(), since, profiles, bytes, Some(claim))
    }

    /// Drops a record on disk that nobody has a ticket of.
    pub(super) fn drop_stored(&self, profiles: u64, bytes: u64, reason: Reason) {
        let mut books = self.books();
        books.leave(profiles, bytes);
        books.lose(profiles, reason);
    }

    /// What the files of the queue take, and since when the oldest of them waits.
    pub(super) fn on_disk(&self, disk_bytes: u64, oldest: Option<SystemTime>) {
        let mut books = self.books();
        books.balance.disk_bytes = disk_bytes;
        books.oldest_stored = oldest;
    }

    /// Counts records that were set aside.
    pub(super) fn quarantined(&self, records: u64) {
        self.books().balance.quarantined += records;
    }

    /// Accepts profiles and drops them in the same moment.
    pub fn discard(&self, profiles: u64, reason: Reason) {
        let mut books = self.books();
        books.balance.enqueued += profiles;
        books.lose(profiles, reason);
    }

    /// Counts an attempt.
    pub fn attempt(&self, outcome: &'static str) {
        *self.books().balance.attempts.entry(outcome).or_default() += 1;
    }

    /// The bytes that wait or fly.
    pub fn queued_bytes(&self) -> u64 {
        self.books().balance.queued_bytes
    }

    /// The books as they stand.
    pub fn balance(&self) -> Balance {
        let books = self.books();
        let flying = books.open.first().map(|(since, _)| since.elapsed());
        let stored = books
            .oldest_stored
            .map(|at| at.elapsed().unwrap_or_default());
        Balance {
            oldest: flying.max(stored),
            ..books.balance.clone()
        }
    }

    fn ticket(
        &self,
        mut books: MutexGuard<'_, Books>,
        since: Instant,
        profiles: u64,
        bytes: u64,
        claim: Option<Arc<Claim>>,
    ) -> Ticket {
        let key = (since, books.next);
        books.next += 1;
        books.open.insert(key);
        Ticket {
            ledger: self.clone(),
            key,
            profiles,
            bytes,
            end: Mutex::new(End::Open),
            claim,
        }
    }

    fn close(&self, ticket: &Ticket) {
        let end = *ticket.end();
        let mut books = self.books();
        books.open.remove(&ticket.key);
        match (end, &ticket.claim) {
            (End::Open, Some(claim)) => return claim.keep(),
            (End::Open, None) => books.lose(ticket.profiles, Reason::Shutdown),
            (End::Dropped(reason), _) => books.lose(ticket.profiles, reason),
            (End::Sent { bytes }, _) => {
                books.balance.sent += ticket.profiles;
                books.balance.sent_bytes += bytes;
            }
        }
        books.leave(ticket.profiles, ticket.bytes);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Books ===

impl Books {
    fn accept(&mut self, profiles: u64, bytes: u64) {
        self.balance.enqueued += profiles;
        self.balance.queued += profiles;
        self.balance.queued_bytes += bytes;
    }

    fn leave(&mut self, profiles: u64, bytes: u64) {
        self.balance.queued -= profiles;
        self.balance.queued_bytes -= bytes;
    }

    fn lose(&mut self, profiles: u64, reason: Reason) {
        *self.balance.dropped.entry(reason).or_default() += profiles;
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.balance().fmt(f)
    }
}

impl Balance {
    /// Whether what came in is what went out and what is left.
    pub fn holds(&self) -> bool {
        self.recovered + self.enqueued
            == self.sent + self.dropped.values().sum::<u64>() + self.queued
    }
}

// === impl Ticket ===

impl Ticket {
    /// When the profile was accepted.
    pub fn since(&self) -> Instant {
        self.key.0
    }

    /// A part of the profile was delivered, as `bytes` of a request.
    pub fn sent(&self, bytes: u64) {
        let mut end = self.end();
        *end = match *end {
            End::Open => End::Sent { bytes },
            End::Sent { bytes: before } => End::Sent {
                bytes: before + bytes,
            },
            dropped @ End::Dropped(_) => dropped,
        };
    }

    /// A part of the profile was dropped; the first reason stays.
    pub fn dropped(&self, reason: Reason) {
        let mut end = self.end();
        if !matches!(*end, End::Dropped(_)) {
            *end = End::Dropped(reason);
        }
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.close(self);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end().fmt(f)
    }
}

// === impl Ledgers ===

impl Ledgers {
    /// Shows a ledger under an exporter's id.
    pub(super) fn insert(&self, exporter: Id, ledger: Ledger) {
        self.all().insert(exporter, ledger);
    }

    /// Shows an exporter's ledger no more.
    pub(super) fn remove(&self, exporter: &Id) {
        self.all().remove(exporter);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Id, Ledger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn balances(&self) -> Vec<(Id, Balance)> {
        self.all()
            .iter()
            .map(|(id, ledger)| (id.clone(), ledger.balance()))
            .collect()
    }
}

impl MetricSet for Ledgers {
    fn register(registry: &mut Registry) -> Self {
        let ledgers = Self::default();
        registry.register_collector(Box::new(ledgers.clone()));
        ledgers
    }
}

impl Collector for Ledgers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let balances = self.balances();
        let mut page = Page {
            encoder: &mut encoder,
            balances: &balances,
        };
        page.counter(
            "enqueued_profiles",
            "Profiles accepted into the queue",
            |b| b.enqueued,
        )?;
        page.counter("sent_profiles", "Profiles delivered", |b| b.sent)?;
        page.counter("sent_bytes", "Bytes of delivered profiles as sent", |b| {
            b.sent_bytes
        })?;
        page.counters("dropped_profiles", "Profiles dropped", "reason", |b| {
            let pairs = b.dropped.iter();
            pairs.map(|(reason, n)| (reason.as_str(), *n)).collect()
        })?;
        page.counters("attempts", "Attempts to send a request", "outcome", |b| {
            b.attempts
                .iter()
                .map(|(outcome, n)| (*outcome, *n))
                .collect()
        })?;
        page.gauge("queue_profiles", "Profiles waiting or in flight", |b| {
            b.queued as f64
        })?;
        page.gauge("queue_bytes", "Their bytes", |b| b.queued_bytes as f64)?;
        page.gauge("queue_capacity_bytes", "The bound of the queue", |b| {
            b.capacity as f64
        })?;
        page.gauge(
            "queue_recovered_profiles",
            "Profiles found in the queue at the start",
            |b| b.recovered as f64,
        )?;
        page.gauge(
            "queue_oldest_seconds",
            "Age of the oldest profile waiting or in flight",
            |b| b.oldest.unwrap_or_default().as_secs_f64(),
        )?;
        page.gauge("queue_disk_bytes", "The files of a queue on disk", |b| {
            b.disk_bytes as f64
        })?;
        page.counter(
            "queue_quarantined_records",
            "Records found damaged on disk and set aside",
            |b| b.quarantined,
        )
    }
}

/// The exporters' balances, written one metric family after the other.
struct Page<'p, 'e> {
    encoder: &'p mut DescriptorEncoder<'e>,
    balances: &'p [(Id, Balance)],
}

// === impl Page ===

impl Page<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&Balance) -> u64) -> fmt::Result {
        let name = format!("profile_relay_exporter_{name}");
        let mut family = self
            .encoder
            .encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (id, balance) in self.balances {
            let labels = [("exporter", id.as_str())];
            ConstCounter::new(value(balance)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Fn(&Balance) -> Vec<(&'static str, u64)>,
    ) -> fmt::Result {
        let name = format!("profile_relay_exporter_{name}");
        let mut family = self
            .encoder
            .encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (id, balance) in self.balances {
            for (value, count) in values(balance) {
                let labels = [("exporter", id.as_str()), (label, value)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&Balance) -> f64) -> fmt::Result {
        let name = format!("profile_relay_exporter_{name}");
        let mut family = self
            .encoder
            .encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for (id, balance) in self.balances {
            let labels = [("exporter", id.as_str())];
            ConstGauge::new(value(balance)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_books_balance_whatever_becomes_of_a_ticket() {
        let ledger = Ledger::new(1_000);
        let sent = ledger.enqueue(3, 10);
        let half = ledger.enqueue(1, 20);
        let lost = ledger.enqueue(2, 30);
        assert!(ledger.balance().holds());
        sent.sent(12);
        half.sent(5);
        half.dropped(Reason::TooLarge);
        half.sent(5);
        drop((sent, half, lost));
        ledger.discard(4, Reason::QueueFull);
        let balance = ledger.balance();
        assert!(balance.holds());
        assert_eq!(
            (balance.sent, balance.sent_bytes, balance.queued),
            (3, 12, 0)
        );
        assert_eq!(
            balance.dropped.into_iter().collect::<Vec<_>>(),
            [
                (Reason::QueueFull, 4),
                (Reason::TooLarge, 1),
                (Reason::Shutdown, 2)
            ]
        );
    }
}
