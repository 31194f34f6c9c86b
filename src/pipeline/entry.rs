//! Where receivers hand their batches in, and the fan-out behind it.
//!
//! A batch is accepted by all exporters that must have it or by none: room is
//! reserved in every queue first, then it is stored in those that are on disk, side
//! by side, and nothing is committed before the last of them has said yes. A refused
//! sender can therefore try again without making duplicates, unless the process is
//! killed between the two.

use super::{
    Processor, Reason, Refusal, Verdict,
    router::{Output, Reserved},
};
use crate::{
    profile::Batch,
    settings::Id,
    telemetry::{MetricSet, Metrics},
};
use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A receiver's way into its pipelines; cheap to clone.
#[derive(Clone)]
pub struct Entry(Arc<Inner>);

struct Inner {
    receiver: Id,
    route: ArcSwap<Route>,
    counters: Counters,
    closed: CancellationToken,
    handed_over: Mutex<Option<Instant>>,
}

/// The pipelines behind an entry, until there are others.
struct Route {
    pipelines: Vec<Arc<Pipeline>>,
    /// Fires when no batch is on its way into them any more.
    unused: CancellationToken,
    _unused: DropGuard,
}

/// Processors in order, and what is behind them.
pub(super) struct Pipeline {
    pub(super) processors: Vec<(Id, Arc<dyn Processor>)>,
    pub(super) outputs: Vec<Output>,
}

/// What receivers and processors count.
#[derive(Clone)]
pub(super) struct Counters {
    accepted_profiles: Family<[(&'static str, String); 1], Counter>,
    accepted_bytes: Family<[(&'static str, String); 1], Counter>,
    refused_profiles: Family<[(&'static str, String); 2], Counter>,
    dropped_profiles: Family<[(&'static str, String); 2], Counter>,
}

/// The profiles that processors took out and routers have no way for.
type Drops<'p> = Vec<(&'p Id, Reason, u64)>;

// === impl Entry ===

impl Entry {
    /// The entry of `receiver` to `pipelines`; it refuses once `closed` fires.
    pub(super) fn new(
        receiver: Id,
        pipelines: Vec<Arc<Pipeline>>,
        metrics: &Metrics,
        closed: CancellationToken,
    ) -> Self {
        let counters: Counters = metrics.set();
        counters.start(&receiver);
        Self(Arc::new(Inner {
            receiver,
            route: ArcSwap::from_pointee(Route::new(pipelines)),
            counters,
            closed,
            handed_over: Mutex::default(),
        }))
    }

    /// Leads to other pipelines from now on; the token fires once no batch is on
    /// its way into those before.
    pub(super) fn reroute(&self, pipelines: Vec<Arc<Pipeline>>) -> CancellationToken {
        let before = self.0.route.swap(Arc::new(Route::new(pipelines)));
        before.unused.clone()
    }

    /// Fires once no batch is on its way into the pipelines of now, and no
    /// receiver has this entry any more.
    pub(super) fn unused(&self) -> CancellationToken {
        self.0.route.load().unused.clone()
    }

    /// Makes it refuse everything when it is fired.
    pub(super) fn closed(&self) -> CancellationToken {
        self.0.closed.clone()
    }

    /// Notes that the receiver that has this entry is told to stop, and that
    /// another one in its place starts.
    pub(crate) fn hand_over(&self) {
        *self.handed_over_mut() = Some(Instant::now());
    }

    /// When another receiver last took this one's place: what was due until then
    /// was the former's, what is due later is the latter's.
    pub fn handed_over(&self) -> Option<Instant> {
        *self.handed_over_mut()
    }

    fn handed_over_mut(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        let handed_over = self.0.handed_over.lock();
        handed_over.unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a batch to every pipeline of this receiver: all of them take it, or
    /// none does.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says whether the same batch may pass later.
    pub async fn offer(&self, batch: Batch) -> Result<(), Refusal> {
        let (profiles, bytes) = (batch.count(), batch.byte_len());
        let route = self.0.route.load_full();
        match self.admit(&route, batch).await {
            Ok(drops) => {
                self.0.counters.accepted(&self.0.receiver, profiles, bytes);
                for (processor, reason, profiles) in drops {
                    self.0.counters.dropped(processor, reason, profiles);
                }
                Ok(())
            }
            Err(refusal) => {
                let reason = refusal.reason;
                self.0.counters.refused(&self.0.receiver, profiles, reason);
                Err(refusal)
            }
        }
    }

    /// Counts profiles that their receiver refuses by itself.
    pub fn refuse(&self, profiles: u64, reason: Reason) {
        self.0.counters.refused(&self.0.receiver, profiles, reason);
    }

    async fn admit<'r>(&self, route: &'r Route, batch: Batch) -> Result<Drops<'r>, Refusal> {
        if self.0.closed.is_cancelled() {
            return Err(Refusal::retryable(Reason::Shutdown));
        }
        let mut reserved = Reserved::default();
        for pipeline in &route.pipelines {
            let batch = pipeline.process(batch.clone(), &mut reserved.drops);
            if batch.profiles.is_empty() {
                continue;
            }
            for output in &pipeline.outputs {
                output.reserve(batch.clone(), &mut reserved)?;
            }
        }
        let Reserved { rooms, drops } = reserved;
        let storing = rooms.into_iter().map(|(room, batch)| async move {
            let stored = room.store().await?;
            Ok::<_, Refusal>((stored, batch))
        });
        for (stored, batch) in try_join_all(storing).await? {
            stored.commit(batch);
        }
        Ok(drops)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.0.receiver)
    }
}

// === impl Route ===

impl Route {
    fn new(pipelines: Vec<Arc<Pipeline>>) -> Self {
        let unused = CancellationToken::new();
        Self {
            pipelines,
            _unused: unused.clone().drop_guard(),
            unused,
        }
    }
}

// === impl Pipeline ===

impl Pipeline {
    fn process<'p>(&'p self, batch: Batch, drops: &mut Drops<'p>) -> Batch {
        if self.processors.is_empty() {
            return batch;
        }
        let Batch {
            profiles,
            origin,
            charge,
        } = batch;
        let mut kept = Vec::with_capacity(profiles.len());
        'profiles: for mut profile in profiles {
            let counted = profile.body.profiles();
            for (id, processor) in &self.processors {
                match processor.process(profile, &origin) {
                    Verdict::Keep(changed) => profile = changed,
                    Verdict::Drop(reason) => {
                        drops.push((id, reason, counted));
                        continue 'profiles;
                    }
                }
            }
            kept.push(profile);
        }
        Batch {
            profiles: kept,
            origin,
            charge,
        }
    }
}

// === impl Counters ===

impl Counters {
    /// Makes the series of a receiver visible before its first profile.
    fn start(&self, receiver: &Id) {
        self.accepted(receiver, 0, 0);
    }

    fn accepted(&self, receiver: &Id, profiles: u64, bytes: u64) {
        let labels = [("receiver", receiver.to_string())];
        self.accepted_profiles
            .get_or_create(&labels)
            .inc_by(profiles);
        self.accepted_bytes.get_or_create(&labels).inc_by(bytes);
    }

    fn refused(&self, receiver: &Id, profiles: u64, reason: Reason) {
        let labels = [
            ("receiver", receiver.to_string()),
            ("reason", reason.to_string()),
        ];
        self.refused_profiles
            .get_or_create(&labels)
            .inc_by(profiles);
    }

    fn dropped(&self, processor: &Id, reason: Reason, profiles: u64) {
        let labels = [
            ("processor", processor.to_string()),
            ("reason", reason.to_string()),
        ];
        self.dropped_profiles
            .get_or_create(&labels)
            .inc_by(profiles);
    }
}

impl MetricSet for Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self {
            accepted_profiles: Family::default(),
            accepted_bytes: Family::default(),
            refused_profiles: Family::default(),
            dropped_profiles: Family::default(),
        };
        registry.register(
            "profile_relay_receiver_accepted_profiles",
            "Profiles accepted from outside",
            counters.accepted_profiles.clone(),
        );
        registry.register(
            "profile_relay_receiver_accepted_bytes",
            "Bytes of accepted profiles and their labels",
            counters.accepted_bytes.clone(),
        );
        registry.register(
            "profile_relay_receiver_refused_profiles",
            "Profiles refused to their sender",
            counters.refused_profiles.clone(),
        );
        registry.register(
            "profile_relay_processor_dropped_profiles",
            "Profiles taken out by a processor",
            counters.dropped_profiles.clone(),
        );
        counters
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod testing {
    use super::*;
    use crate::{
        pipeline::{Budget, Delivery, DeliverySettings, ExportError, Exporter},
        telemetry::Status,
    };
    use async_trait::async_trait;
    use tokio::sync::mpsc;

    /// An exporter that passes batches to a channel.
    struct Channel(mpsc::UnboundedSender<Batch>);

    #[async_trait]
    impl Exporter for Channel {
        async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
            self.0
                .send(batch.clone())
                .map_err(|_| ExportError::Rejected {
                    reason: Reason::RejectedByBackend,
                    cause: "nobody listens".into(),
                })
        }
    }

    /// An exporter that never comes to an end.
    struct Stuck;

    #[async_trait]
    impl Exporter for Stuck {
        async fn export(&self, _: &Batch) -> Result<(), ExportError> {
            std::future::pending().await
        }
    }

    impl Entry {
        /// An entry whose batches come out of a channel, for tests of receivers.
        pub(crate) fn for_test() -> (Self, mpsc::UnboundedReceiver<Batch>) {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut settings = DeliverySettings::default();
            settings.sending_queue.flush_timeout = crate::settings::Duration::default();
            (Self::to(Arc::new(Channel(sender)), settings), receiver)
        }

        /// An entry to a queue of `max_bytes` that is never emptied.
        pub(crate) fn stuck_for_test(max_bytes: u64) -> Self {
            let mut settings = DeliverySettings::default();
            settings.sending_queue.max_bytes = Some(crate::settings::ByteSize::new(max_bytes));
            Self::to(Arc::new(Stuck), settings)
        }

        fn to(exporter: Arc<dyn Exporter>, settings: DeliverySettings) -> Self {
            let metrics = Metrics::default();
            let queue = settings.memory_queue();
            let delivery = Delivery::start(
                "test".parse().unwrap(),
                exporter,
                settings,
                queue,
                &metrics,
                &Status::default(),
                Budget::new(u64::MAX),
            );
            let pipeline = Arc::new(Pipeline {
                processors: Vec::new(),
                outputs: vec![Output::Exporter(Arc::new(delivery))],
            });
            let id = "test".parse().unwrap();
            Self::new(id, vec![pipeline], &metrics, CancellationToken::new())
        }
    }
}
