//! Delivery: from the queue of one exporter to its backend.
//!
//! Written once for every exporter: an exporter makes one attempt, and what it
//! learns comes back as an [`ExportError`] that says what to do here.
//!
//! ```text
//!  queue → prepare → [packer: parts to requests] → [sender × num_consumers] → exporter
//!                                                    │ retry, divide, set aside
//! ```
//!
//! - A profile is prepared once: checked, repaired, split and weighed, in memory
//!   that was taken from the budget first. Its parts are packed with others of the
//!   same origin metadata into requests within the exporter's [`Limits`]. OTLP
//!   bodies share a request only with those they came with, and wait for no others.
//! - A request that may succeed later stays with its sender until it does, or
//!   until its profiles expire. Other requests go past it while there are senders.
//! - A request that is refused for its content or its size is halved until what
//!   is to blame stands alone.
//! - A backend that dies under a request may have been killed by it. From then on
//!   that request is on trial: it goes alone, and only to a backend that answered a
//!   probe right before. When it dies again and again, the parts are tried one by
//!   one, which costs the backend one more death, and the culprit is set aside.
//! - Another exporter may take an exporter's place ([`Delivery::replace`]): the
//!   queue and its books stay, the tasks behind it change ([`crew`]).
//! - Whatever happens, including the end of the process, each profile's ticket is
//!   closed exactly once, so the books of [`super::Ledger`] balance.

mod crew;
mod sender;
mod settings;
mod shipment;

use self::{
    crew::{Leftovers, Orders},
    sender::Sender,
    shipment::{Shipment, Tracked},
};
use super::{
    Budget, Exporter, Ledger, Limits, NoMemory, Prepared, Queue, Reason,
    ledger::Ledgers,
    queue::{Queued, Room},
};
use crate::{
    profile::{Batch, Profile},
    runtime::{self, Tasks},
    settings::Id,
    telemetry::{
        Metrics, Status,
        status::{ExporterStatus, ExporterView},
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{RwLock, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::settings::{DeliverySettings, RetrySettings};

/// A body larger than this is prepared off the async threads, in bytes.
const LARGE: u64 = 128 << 10;
/// How often memory is asked for again.
const MEMORY_POLL: Duration = Duration::from_millis(100);
/// How long memory is asked for that there may never be.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// How often waiting profiles are looked through for expired ones.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// The way to one exporter: its queue and the tasks that empty it.
#[derive(Debug)]
pub struct Delivery {
    id: Id,
    queue: Queue,
    ledger: Ledger,
    health: Arc<Health>,
    memory: Budget,
    workers: Workers,
    leftovers: Leftovers,
    court: Arc<RwLock<()>>,
    /// To the crew of now.
    orders: Mutex<Orders>,
}

/// Tasks that end at once when their owner says so.
#[derive(Clone, Debug, Default)]
struct Workers {
    tasks: Tasks,
    dead: CancellationToken,
}

/// What an exporter's status page shows beside its books.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    name: Option<&'static str>,
    last_error: Option<String>,
    last_success: Option<SystemTime>,
}

struct View {
    id: Id,
    ledger: Ledger,
    health: Arc<Health>,
}

/// Turns queued profiles into requests and hands them to senders.
struct Packer {
    exporter: Arc<dyn Exporter>,
    queue: Queue,
    limits: Limits,
    flush_timeout: Duration,
    sender: Arc<Sender>,
    senders: Arc<Semaphore>,
    workers: Workers,
    orders: Orders,
    leftovers: Leftovers,
    memory: Budget,
    /// Requests being filled, one for each metadata; the oldest first.
    open: VecDeque<(Instant, Shipment)>,
}

// === impl Delivery ===

impl Delivery {
    /// Starts to deliver to `exporter` what is in `queue`.
    pub fn start(
        id: Id,
        exporter: Arc<dyn Exporter>,
        settings: DeliverySettings,
        queue: Queue,
        metrics: &Metrics,
        status: &Status,
        memory: Budget,
    ) -> Self {
        let ledger = queue.ledger().clone();
        metrics.set::<Ledgers>().insert(id.clone(), ledger.clone());
        let health = Arc::new(Health::default());
        status.publish_exporter(
            &id,
            Arc::new(View {
                id: id.clone(),
                ledger: ledger.clone(),
                health: health.clone(),
            }),
        );
        let delivery = Self {
            id,
            queue: queue.clone(),
            ledger,
            health,
            memory,
            workers: Workers::default(),
            leftovers: Leftovers::default(),
            court: Arc::default(),
            orders: Mutex::default(),
        };
        delivery.workers.spawn("expiry", expire(queue));
        delivery.crew(exporter, settings);
        delivery
    }

    /// Delivers to `exporter` from now on, with other settings: what waits in the
    /// queue too, and what was waiting to be tried again. Attempts under way come
    /// to their end. A drain ends without an effect.
    pub fn replace(&self, exporter: Arc<dyn Exporter>, settings: DeliverySettings) {
        self.queue.configure(settings.sending_queue.clone());
        let before = std::mem::take(&mut *self.orders());
        before.leaving.cancel();
        self.health.forget();
        self.crew(exporter, settings);
    }

    /// Starts those who empty the queue into `exporter`.
    fn crew(&self, exporter: Arc<dyn Exporter>, settings: DeliverySettings) {
        let orders = self.orders().clone();
        let queue = &settings.sending_queue;
        let packer = Packer {
            limits: exporter.limits(),
            flush_timeout: queue.flush_timeout.get(),
            senders: Arc::new(Semaphore::new(queue.num_consumers)),
            sender: Arc::new(Sender {
                id: self.id.clone(),
                exporter: exporter.clone(),
                settings,
                queue: self.queue.clone(),
                ledger: self.ledger.clone(),
                health: self.health.clone(),
                orders: orders.clone(),
                leftovers: self.leftovers.clone(),
                court: self.court.clone(),
            }),
            exporter,
            queue: self.queue.clone(),
            workers: self.workers.clone(),
            orders,
            leftovers: self.leftovers.clone(),
            memory: self.memory.clone(),
            open: VecDeque::new(),
        };
        self.workers.spawn("delivery", packer.run());
    }

    /// The exporter's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Shows books and state no more.
    pub(super) fn unpublish(&self, metrics: &Metrics, status: &Status) {
        metrics.set::<Ledgers>().remove(&self.id);
        status.unpublish_exporter(&self.id);
    }

    /// The exporter's books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether sending works as far as is known: nothing waits for a backend that
    /// fails.
    pub(super) fn is_healthy(&self) -> bool {
        self.health.is_good() || self.ledger.balance().queued == 0
    }

    /// Takes room for a batch in the queue.
    pub(super) fn reserve(&self, batch: &Batch) -> Result<Room<'_>, super::Refusal> {
        if self.workers.dead.is_cancelled() {
            return Err(super::Refusal::retryable(Reason::Shutdown));
        }
        self.queue.reserve(batch)
    }

    /// Queues a batch as a pipeline does.
    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "a test says what it expected")]
    pub(crate) async fn offer_for_test(&self, batch: Batch) {
        let room = self.reserve(&batch).unwrap();
        room.store().await.unwrap().commit(batch);
    }

    /// The storage that has its queue; `None` when it is in memory, and what is left
    /// by [`Delivery::drain`] is lost.
    pub fn storage(&self) -> Option<Id> {
        self.queue.storage()
    }

    /// Sends what is queued, for at most `patience`, and ends. Returns the number
    /// of profiles that were left: dropped (reason `shutdown`) if they were in memory
    /// only.
    pub async fn drain(&self, patience: Duration) -> u64 {
        self.drained(patience).await;
        self.end().await
    }

    /// Sends what is queued without waiting for more, for at most `patience`.
    /// May be dropped; [`Self::replace`] then goes on.
    pub async fn drained(&self, patience: Duration) {
        self.orders().draining.cancel();
        let deadline = Instant::now() + patience;
        while self.ledger.balance().queued > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends. Returns the number of profiles that were left and dropped (reason
    /// `shutdown`).
    pub async fn end(&self) -> u64 {
        let left = self.ledger.balance().queued;
        self.workers.end().await;
        self.leftovers.clear();
        self.queue.close(Reason::Shutdown).await;
        left
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Workers ===

impl Workers {
    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let dead = self.dead.clone();
        self.tasks.spawn(name, async move {
            dead.run_until_cancelled(work).await;
        });
    }

    async fn end(&self) {
        self.dead.cancel();
        self.tasks.wait().await;
    }
}

async fn expire(queue: Queue) {
    loop {
        sleep(EXPIRY_INTERVAL).await;
        queue.expire();
    }
}

// === impl Packer ===

impl Packer {
    async fn run(mut self) {
        loop {
            let flush_at = self
                .open
                .front()
                .map(|(since, _)| *since + self.flush_timeout);
            tokio::select! {
                // Once another crew has begun, the queue is theirs.
                biased;
                () = self.orders.leaving.cancelled() => break,
                shipment = self.leftovers.take() => self.resume(shipment).await,
                queued = self.next(flush_at) => match queued {
                    Some(queued) => self.pack(queued).await,
                    None => self.flush().await,
                },
            }
        }
        for (_, shipment) in self.open {
            self.leftovers.leave(shipment);
        }
    }

    /// What comes from the queue; nothing when an open request is due before.
    async fn next(&self, flush_at: Option<Instant>) -> Option<Queued> {
        tokio::select! {
            queued = self.queue.take() => Some(queued),
            () = flush_due(flush_at, &self.orders.draining) => None,
        }
    }

    /// Goes on with a request that another crew began: as it is when it fits.
    async fn resume(&mut self, mut shipment: Shipment) {
        shipment.failures = 0;
        if shipment.first.is_some() && shipment.is_within(&self.limits) {
            return self.dispatch(shipment).await;
        }
        for tracked in shipment.parts {
            self.add(&shipment.origin, tracked).await;
        }
        self.send_complete().await;
    }

    async fn pack(&mut self, queued: Queued) {
        let Queued {
            profiles,
            origin,
            charge,
            ..
        } = queued;
        let (profiles, tickets): (Vec<_>, Vec<_>) = profiles.into_iter().unzip();
        let prepared = self.prepare(profiles).await;
        for (prepared, ticket) in prepared.into_iter().zip(tickets) {
            match prepared {
                Ok(parts) => {
                    if parts.is_empty() {
                        ticket.sent(0);
                    }
                    for part in parts {
                        let tracked = Tracked {
                            part,
                            ticket: ticket.clone(),
                            _charge: charge.clone(),
                        };
                        self.add(&origin, tracked).await;
                    }
                }
                Err(reason) => ticket.dropped(reason),
            }
        }
        self.send_complete().await;
    }

    /// Prepares profiles that came together, as soon as there is memory for it.
    async fn prepare(&self, profiles: Vec<Profile>) -> Vec<Prepared> {
        let size: u64 = profiles.iter().map(Profile::byte_len).sum();
        let profiles: Arc<[Profile]> = profiles.into();
        let begun = Instant::now();
        loop {
            let prepared = if size < LARGE {
                self.exporter.prepare(&profiles, &self.memory)
            } else {
                let (exporter, memory) = (self.exporter.clone(), self.memory.clone());
                let all = profiles.clone();
                runtime::computing(move || exporter.prepare(&all, &memory))
                    .await
                    .unwrap_or_else(|| Ok(vec![Err(Reason::InvalidProfile); profiles.len()]))
            };
            let needed = match prepared {
                Ok(prepared) => return prepared,
                Err(NoMemory { needed }) => needed,
            };
            // What is reserved for this comes free again; more than that may not.
            if needed > self.memory.reserve() && begun.elapsed() > MEMORY_PATIENCE {
                warn!(
                    exporter = %self.sender.id(),
                    needed,
                    "profiles are dropped: preparing them takes more memory than there is, raise service.memory.limit"
                );
                return vec![Err(Reason::MemoryLimit); profiles.len()];
            }
            sleep(MEMORY_POLL).await;
        }
    }

    /// Puts a part into the open request that it may join, sending that request
    /// before when the part does not fit, and after when it is full.
    async fn add(&mut self, origin: &crate::profile::Origin, tracked: Tracked) {
        let same = |(_, s): &(Instant, Shipment)| {
            s.origin.metadata == origin.metadata && s.takes(&tracked.part)
        };
        if let Some(at) = self.open.iter().position(same)
            && !self.open[at].1.fits(&tracked.part, &self.limits)
        {
            self.send(at).await;
        }
        let at = self.open.iter().position(same).unwrap_or_else(|| {
            let shipment = Shipment::new(origin.clone());
            self.open.push_back((Instant::now(), shipment));
            self.open.len() - 1
        });
        self.open[at].1.push(tracked);
        if self.open[at].1.is_full(&self.limits) {
            self.send(at).await;
        }
    }

    /// Sends what nothing that comes later can join, or need be waited for.
    async fn send_complete(&mut self) {
        let at_once = self.flush_timeout.is_zero();
        let complete = |(_, s): &(Instant, Shipment)| at_once || s.is_complete();
        while let Some(at) = self.open.iter().position(complete) {
            self.send(at).await;
        }
    }

    /// Sends the oldest open request.
    async fn flush(&mut self) {
        if !self.open.is_empty() {
            self.send(0).await;
        }
    }

    /// Waits for a free sender and gives it an open request. Meanwhile the queue
    /// fills, which is what pushes back on the sources.
    async fn send(&mut self, at: usize) {
        if let Some((_, shipment)) = self.open.remove(at) {
            self.dispatch(shipment).await;
        }
    }

    async fn dispatch(&self, shipment: Shipment) {
        let turn = self.senders.clone().acquire_owned();
        let Some(Ok(turn)) = self.orders.leaving.run_until_cancelled(turn).await else {
            return self.leftovers.leave(shipment);
        };
        let sender = self.sender.clone();
        self.workers.spawn("send", async move {
            sender.deliver(shipment).await;
            drop(turn);
        });
    }
}

/// Resolves when an open request is due: at once while draining.
async fn flush_due(at: Option<Instant>, draining: &CancellationToken) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            tokio::select! {
                () = sleep_until(at) => {}
                () = draining.cancelled() => {}
            }
        }
    }
}

// === impl Health ===

impl Health {
    /// Nothing is known any more: there is another exporter.
    fn forget(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.name = None;
        state.last_error = None;
    }

    /// Nothing failed since something succeeded.
    fn is_good(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.name.is_none_or(|name| name == "ok")
    }

    /// A request succeeded; logs when that is news.
    pub(super) fn succeeded(&self, exporter: &Id) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.name.replace("ok");
        state.last_error = None;
        state.last_success = Some(SystemTime::now());
        drop(state);
        if before.is_some_and(|name| name != "ok") {
            info!(%exporter, "delivery works again");
        }
    }

    /// A request failed in a way that lasts; logs when that is news.
    pub(super) fn failed(&self, exporter: &Id, name: &'static str, cause: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let news =
            state.name.replace(name) != Some(name) || state.last_error.as_deref() != Some(cause);
        state.last_error = Some(cause.to_owned());
        drop(state);
        if news {
            warn!(%exporter, state = name, cause, "delivery fails, profiles are kept and tried again");
        }
    }
}

// === impl View ===

impl ExporterView for View {
    fn exporter(&self) -> ExporterStatus {
        let balance = self.ledger.balance();
        let health = self
            .health
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let dropped = balance.dropped.iter();
        ExporterStatus {
            exporter: self.id.to_string(),
            state: health.name.unwrap_or("idle"),
            last_error: health.last_error.clone(),
            last_success: health.last_success,
            enqueued_profiles: balance.enqueued,
            sent_profiles: balance.sent,
            dropped_profiles: dropped.map(|(r, n)| (r.as_str(), *n)).collect(),
            queue_profiles: balance.queued,
            queue_bytes: balance.queued_bytes,
            queue_capacity_bytes: balance.capacity,
            queue_oldest_seconds: balance.oldest.unwrap_or_default().as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests;
