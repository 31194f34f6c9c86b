//! The fan-out: all exporters that must have a batch take it, or none does.

use super::*;
use crate::{
    pipeline::{
        Delivery, DeliverySettings, ExportError, Exporter, OnFull, RefusalKind, Route, Router,
        router::Fork,
    },
    profile::{Body, Origin, Profile, pprof::Pprof},
    settings::ByteSize,
    telemetry::Status,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::{Duration, SystemTime};

/// A backend that never answers, or always takes everything.
struct Backend {
    answers: bool,
}

#[async_trait]
impl Exporter for Backend {
    async fn export(&self, _: &Batch) -> Result<(), ExportError> {
        if self.answers {
            return Ok(());
        }
        std::future::pending().await
    }
}

/// Drops every profile called `noise`.
struct NoNoise;

impl Processor for NoNoise {
    fn process(&self, profile: Profile, _: &Origin) -> Verdict {
        if profile.labels.name() == Some("noise") {
            Verdict::Drop(Reason::Filtered)
        } else {
            Verdict::Keep(profile)
        }
    }
}

/// A backend that is away.
struct Away;

#[async_trait]
impl Exporter for Away {
    async fn export(&self, _: &Batch) -> Result<(), ExportError> {
        Err(ExportError::Retry {
            after: None,
            cause: "connection refused".into(),
        })
    }
}

fn delivery(answers: bool, on_full: OnFull) -> Arc<Delivery> {
    delivery_to(Arc::new(Backend { answers }), on_full)
}

fn failing() -> Arc<Delivery> {
    delivery_to(Arc::new(Away), OnFull::Refuse)
}

fn delivery_to(exporter: Arc<dyn Exporter>, on_full: OnFull) -> Arc<Delivery> {
    let mut settings = DeliverySettings::default();
    settings.sending_queue.max_bytes = Some(ByteSize::new(60));
    settings.sending_queue.max_age = Some(crate::settings::Duration::from_secs(3_600));
    settings.sending_queue.on_full = on_full;
    Arc::new(Delivery::start(
        "test".parse().unwrap(),
        exporter,
        settings.clone(),
        settings.memory_queue(),
        &Metrics::default(),
        &Status::default(),
        crate::pipeline::Budget::new(u64::MAX),
    ))
}

/// To the first by name; what is called `nobody` goes nowhere; the rest to the
/// first that works and has room.
struct ByName;

impl Router for ByName {
    fn route(&self, profile: &Profile, _: &Origin, healthy: &[bool]) -> Route {
        match profile.labels.name() {
            Some("first") => Route::Each(vec![0]),
            Some("nobody") => Route::Each(Vec::new()),
            _ => {
                let mut outputs: Vec<_> = (0..healthy.len()).collect();
                outputs.sort_by_key(|at| !healthy[*at]);
                Route::First(outputs)
            }
        }
    }
}

fn routed(metrics: &Metrics, exporters: &[Arc<Delivery>]) -> Entry {
    let fork = Fork {
        id: "routing".parse().unwrap(),
        router: Arc::new(ByName),
        outputs: exporters.iter().cloned().map(Output::Exporter).collect(),
    };
    let pipeline = Pipeline {
        processors: Vec::new(),
        outputs: vec![Output::Router(Arc::new(fork))],
    };
    let id = "pprof".parse().unwrap();
    Entry::new(
        id,
        vec![Arc::new(pipeline)],
        metrics,
        CancellationToken::new(),
    )
}

fn enqueued(delivery: &Delivery) -> u64 {
    delivery.ledger().balance().enqueued
}

fn entry(metrics: &Metrics, exporters: &[Arc<Delivery>]) -> (Entry, CancellationToken) {
    let closed = CancellationToken::new();
    let pipeline = Pipeline {
        processors: vec![("filter".parse().unwrap(), Arc::new(NoNoise))],
        outputs: exporters.iter().cloned().map(Output::Exporter).collect(),
    };
    let id = "pprof".parse().unwrap();
    let entry = Entry::new(id, vec![Arc::new(pipeline)], metrics, closed.clone());
    (entry, closed)
}

fn batch(names: &[&str]) -> Batch {
    let profile = |name: &&str| Profile {
        labels: [("__name__", *name)].into_iter().collect(),
        body: Body::Pprof(Pprof::new(Bytes::from_static(b"0123456789"))),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), names.iter().map(profile).collect())
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_what_somebody_must_refuse() {
    let (good, full) = (
        delivery(true, OnFull::Refuse),
        delivery(false, OnFull::Refuse),
    );
    let metrics = Metrics::default();
    let (entry, _) = entry(&metrics, &[good.clone(), full.clone()]);
    entry.offer(batch(&["a", "b"])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refusal = entry.offer(batch(&["c", "d"])).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Retryable { after: None });
    assert_eq!(good.ledger().balance().enqueued, 2);
    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"accepted_profiles_total{receiver="pprof"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"refused_profiles_total{receiver="pprof",reason="queue_full"} 2"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_secondary_backend_holds_up_nobody() {
    let (good, dead) = (
        delivery(true, OnFull::Refuse),
        delivery(false, OnFull::DropOldest),
    );
    let (entry, _) = entry(&Metrics::default(), &[good.clone(), dead.clone()]);
    for _ in 0..50 {
        entry.offer(batch(&["a", "b"])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(good.ledger().balance().sent, 100);
    let balance = dead.ledger().balance();
    assert!(balance.holds() && balance.dropped[&Reason::QueueFull] > 0);
}

#[tokio::test(start_paused = true)]
async fn a_router_divides_a_batch_and_all_of_it_is_accepted_or_nothing() {
    let full = delivery(false, OnFull::Refuse);
    let good = delivery(true, OnFull::Refuse);
    let metrics = Metrics::default();
    let entry = routed(&metrics, &[full.clone(), good.clone()]);
    entry
        .offer(batch(&["first", "nobody", "any"]))
        .await
        .unwrap();
    assert_eq!((enqueued(&full), enqueued(&good)), (2, 0));
    // The first is full now: what may go elsewhere does.
    entry.offer(batch(&["any", "any"])).await.unwrap();
    assert_eq!((enqueued(&full), enqueued(&good)), (2, 2));
    // What may not is refused, and nothing that came with it is taken.
    let refusal = entry.offer(batch(&["any", "first"])).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueFull);
    assert_eq!((enqueued(&full), enqueued(&good)), (2, 2));
    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"dropped_profiles_total{processor="routing",reason="unrouted"} 1"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_fails_is_passed_over_until_nothing_waits_for_it() {
    let (failing, good) = (failing(), delivery(true, OnFull::Refuse));
    let entry = routed(&Metrics::default(), &[failing.clone(), good.clone()]);
    entry.offer(batch(&["any"])).await.unwrap();
    assert_eq!((enqueued(&failing), enqueued(&good)), (1, 0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    entry.offer(batch(&["any"])).await.unwrap();
    assert_eq!((enqueued(&failing), enqueued(&good)), (1, 1));
    // Its profile expires, so somebody must try it again.
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    assert_eq!(failing.ledger().balance().queued, 0);
    entry.offer(batch(&["any"])).await.unwrap();
    assert_eq!((enqueued(&failing), enqueued(&good)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_processor_takes_out_is_counted_once_it_is_accepted() {
    let good = delivery(true, OnFull::Refuse);
    let metrics = Metrics::default();
    let (entry, closed) = entry(&metrics, std::slice::from_ref(&good));
    entry.offer(batch(&["noise", "a"])).await.unwrap();
    assert_eq!(good.ledger().balance().enqueued, 1);
    closed.cancel();
    entry.offer(batch(&["noise"])).await.unwrap_err();
    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"dropped_profiles_total{processor="filter",reason="filtered"} 1"#),
        "{text}"
    );
}
