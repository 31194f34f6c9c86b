//! Delivery against an exporter that does what a script says, in paused time.

use super::*;
use crate::{
    pipeline::{ExportError, Part},
    profile::{
        Body, Labels, Origin,
        otlp::{Compression, Request},
        pprof::Pprof,
    },
    settings::ByteSize,
};
use async_trait::async_trait;
use bytes::Bytes;

type Answer = dyn Fn(&[String], usize) -> Result<(), ExportError> + Send + Sync;

/// Answers by what a batch holds, and remembers what arrived.
struct Far {
    answer: Box<Answer>,
    requests: Mutex<Vec<Vec<String>>>,
    alive: std::sync::atomic::AtomicBool,
    limits: Limits,
}

impl Far {
    fn new(
        answer: impl Fn(&[String], usize) -> Result<(), ExportError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            requests: Mutex::default(),
            alive: true.into(),
            limits: Limits {
                parts: 8,
                ..Limits::default()
            },
        })
    }

    /// The names that were accepted, in order.
    fn arrived(&self, ok: impl Fn(&[String], usize) -> bool) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let good = requests.iter().enumerate().filter(|(at, r)| ok(r, *at));
        good.flat_map(|(_, request)| request.clone()).collect()
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

#[async_trait]
impl Exporter for Far {
    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        let names: Vec<String> = batch
            .profiles
            .iter()
            .map(|profile| profile.labels.name().unwrap_or_default().to_owned())
            .collect();
        let at = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(names.clone());
            requests.len() - 1
        };
        (self.answer)(&names, at)
    }

    fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        let name = profile.labels.name()?;
        let half = |end: &str| {
            let mut labels = profile.labels.edit();
            labels.set("__name__", &format!("{name}{end}"));
            Part::whole(Profile {
                labels: labels.build(),
                ..profile.clone()
            })
        };
        name.starts_with("big")
            .then(|| vec![half(".1"), half(".2")])
    }

    async fn probe(&self) -> Result<(), ExportError> {
        if self.alive.load(std::sync::atomic::Ordering::Relaxed) {
            Ok(())
        } else {
            Err(retry())
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

fn retry() -> ExportError {
    ExportError::Retry {
        after: None,
        cause: "away".into(),
    }
}

fn died() -> ExportError {
    ExportError::Died {
        cause: "reset".into(),
    }
}

fn bad() -> ExportError {
    ExportError::Split {
        too_large: false,
        reason: Reason::RejectedByBackend,
        cause: "bad".into(),
    }
}

fn profiles(names: &[&str]) -> Batch {
    let profile = |name: &&str| Profile {
        labels: [("__name__", *name)].into_iter().collect::<Labels>(),
        body: Body::Pprof(Pprof::new(Bytes::from_static(b"0123456789"))),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), names.iter().map(profile).collect())
}

fn deliver(far: &Arc<Far>, settings: DeliverySettings) -> Delivery {
    Delivery::start(
        "test".parse().unwrap(),
        far.clone(),
        settings.clone(),
        settings.memory_queue(),
        &Metrics::default(),
        &Status::default(),
        Budget::new(u64::MAX),
    )
}

async fn offer(delivery: &Delivery, names: &[&str]) {
    let batch = profiles(names);
    delivery.offer_for_test(batch).await;
}

/// Waits until nothing is queued, checking the books all the while.
async fn settle(delivery: &Delivery) {
    loop {
        let balance = delivery.ledger().balance();
        assert!(balance.holds(), "{balance:?}");
        if balance.queued == 0 {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn balance(delivery: &Delivery) -> (u64, Vec<(Reason, u64)>) {
    let balance = delivery.ledger().balance();
    (balance.sent, balance.dropped.into_iter().collect())
}

#[tokio::test(start_paused = true)]
async fn profiles_that_come_close_together_share_a_request() {
    let far = Far::new(|_, _| Ok(()));
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "b"]).await;
    offer(&delivery, &["c"]).await;
    settle(&delivery).await;
    assert_eq!(far.requests(), 1);
    assert_eq!(balance(&delivery), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn metadata_is_never_mixed() {
    let far = Far::new(|_, _| Ok(()));
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a"]).await;
    let mut other = profiles(&["b"]);
    other.origin.metadata = [("x-scope-orgid", "other")].into_iter().collect();
    delivery.offer_for_test(other).await;
    settle(&delivery).await;
    assert_eq!(far.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_sat_out() {
    let far = Far::new(|_, at| if at < 20 { Err(retry()) } else { Ok(()) });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "b"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_bad_profile_costs_only_itself() {
    let names = ["a", "b", "c", "evil", "d", "e"];
    let good = |names: &[String], _: usize| !names.iter().any(|n| n == "evil");
    let far = Far::new(move |names, at| if good(names, at) { Ok(()) } else { Err(bad()) });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &names).await;
    settle(&delivery).await;
    assert_eq!(
        balance(&delivery),
        (5, vec![(Reason::RejectedByBackend, 1)])
    );
    assert_eq!(far.arrived(good), ["a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn unknown_answers_are_tried_again_then_bisected() {
    let good = |names: &[String], _: usize| !names.iter().any(|n| n == "odd");
    let far = Far::new(move |names, at| {
        if good(names, at) {
            Ok(())
        } else {
            Err(ExportError::Unknown {
                cause: "no idea".into(),
            })
        }
    });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "odd", "b"]).await;
    settle(&delivery).await;
    assert_eq!(
        balance(&delivery),
        (2, vec![(Reason::RejectedByBackend, 1)])
    );
    let whole = far
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|r| r.len() == 3)
        .count();
    assert_eq!(whole, 3, "the whole request is tried three times first");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_too_large_alone_is_divided() {
    let good = |names: &[String], _: usize| !names.iter().any(|n| n == "big");
    let far = Far::new(move |names, at| {
        if good(names, at) {
            Ok(())
        } else {
            Err(ExportError::Split {
                too_large: true,
                reason: Reason::TooLarge,
                cause: "413".into(),
            })
        }
    });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "big"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (2, vec![]));
    assert_eq!(far.arrived(good), ["a", "big.1", "big.2"]);
}

#[tokio::test(start_paused = true)]
async fn a_killer_is_found_and_set_aside_after_few_deaths() {
    let good = |names: &[String], _: usize| !names.iter().any(|n| n == "killer");
    let far = Far::new(move |names, at| if good(names, at) { Ok(()) } else { Err(died()) });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "b", "c", "killer", "d"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (4, vec![(Reason::SuspectedKiller, 1)]));
    let deaths = far
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|r| r.contains(&"killer".into()))
        .count();
    assert_eq!(deaths, 4);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_convicts_nobody() {
    let far = Far::new(|_, at| if at == 0 { Err(died()) } else { Ok(()) });
    far.alive.store(false, std::sync::atomic::Ordering::Relaxed);
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "b"]).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(far.requests(), 1, "nothing is sent while probes fail");
    far.alive.store(true, std::sync::atomic::Ordering::Relaxed);
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_lose_nothing() {
    let far = Far::new(|_, at| {
        if at < 3 {
            Err(ExportError::Unauthorized {
                cause: "401".into(),
            })
        } else {
            Ok(())
        }
    });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn retries_end_when_they_are_told_to() {
    let far = Far::new(|_, _| Err(retry()));
    let mut settings = DeliverySettings::default();
    settings.retry_on_failure.max_elapsed_time = crate::settings::Duration::from_secs(60);
    let delivery = deliver(&far, settings);
    offer(&delivery, &["a"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (0, vec![(Reason::RetriesExhausted, 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_expires_too() {
    let far = Far::new(|_, _| Err(retry()));
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (0, vec![(Reason::Expired, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_drain_sends_what_is_open_at_once() {
    let far = Far::new(|_, _| Ok(()));
    let mut settings = DeliverySettings::default();
    settings.sending_queue.flush_timeout = crate::settings::Duration::from_secs(500);
    let delivery = deliver(&far, settings);
    offer(&delivery, &["a"]).await;
    assert_eq!(delivery.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(balance(&delivery), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_sit_out_a_long_wait() {
    let far = Far::new(|_, at| {
        if at == 0 {
            Err(ExportError::Retry {
                after: Some(Duration::from_secs(600)),
                cause: "later".into(),
            })
        } else {
            Ok(())
        }
    });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a"]).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(far.requests(), 1);
    assert_eq!(delivery.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(balance(&delivery), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_in_time_and_counts_what_is_left() {
    let far = Far::new(|_, _| Err(retry()));
    let delivery = deliver(&far, DeliverySettings::default());
    for _ in 0..50 {
        offer(&delivery, &["a", "b"]).await;
    }
    let start = Instant::now();
    assert_eq!(delivery.drain(Duration::from_secs(20)).await, 100);
    assert!(start.elapsed() < Duration::from_secs(21));
    assert_eq!(balance(&delivery), (0, vec![(Reason::Shutdown, 100)]));
    assert!(delivery.ledger().balance().holds());
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_never_holds_more_than_the_queue() {
    let far = Far::new(|_, _| Err(retry()));
    let mut settings = DeliverySettings::default();
    settings.sending_queue.max_bytes = Some(ByteSize::new(1_000));
    let delivery = deliver(&far, settings);
    let mut refused = 0;
    for _ in 0..1_000 {
        let batch = profiles(&["a"]);
        match delivery.reserve(&batch) {
            Ok(room) => room.store().await.unwrap().commit(batch),
            Err(_) => refused += 1,
        }
        sleep(Duration::from_millis(10)).await;
        assert!(delivery.ledger().balance().queued_bytes <= 1_000);
    }
    assert!(refused > 900);
}

/// A backend whose profiles take memory to prepare.
struct Hungry {
    far: Arc<Far>,
    needed: u64,
}

#[async_trait]
impl Exporter for Hungry {
    fn prepare(&self, profiles: &[Profile], memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        let needed = self.needed;
        let _taken = memory.try_take(needed).ok_or(NoMemory { needed })?;
        self.far.prepare(profiles, memory)
    }

    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        self.far.export(batch).await
    }
}

fn hungry(far: &Arc<Far>, needed: u64, memory: &Budget) -> Delivery {
    let far = far.clone();
    Delivery::start(
        "test".parse().unwrap(),
        Arc::new(Hungry { far, needed }),
        DeliverySettings::default(),
        DeliverySettings::default().memory_queue(),
        &Metrics::default(),
        &Status::default(),
        memory.clone(),
    )
}

#[tokio::test(start_paused = true)]
async fn preparing_waits_for_memory_and_takes_what_intake_cannot_have() {
    let memory = Budget::new(100);
    let far = Far::new(|_, _| Ok(()));
    let delivery = hungry(&far, 25, &memory);
    let _full = memory.for_intake().try_take(75).unwrap();
    let busy = memory.try_take(10).unwrap();
    offer(&delivery, &["a"]).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(balance(&delivery), (0, vec![]));
    drop(busy);
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_takes_more_memory_than_there_is_does_not_block_the_rest() {
    let memory = Budget::new(100);
    let far = Far::new(|_, _| Ok(()));
    let delivery = hungry(&far, 101, &memory);
    offer(&delivery, &["a"]).await;
    settle(&delivery).await;
    assert_eq!(balance(&delivery), (0, vec![(Reason::MemoryLimit, 1)]));
}

#[tokio::test(start_paused = true)]
async fn otlp_requests_never_share_a_request_and_count_their_profiles() {
    let far = Far::new(|_, _| Ok(()));
    let delivery = deliver(&far, DeliverySettings::default());
    let request = || {
        // Two resources, with two profiles and one.
        let wire = [
            &[0x0a, 6, 0x12, 4, 0x12, 0, 0x12, 0][..],
            &[0x0a, 4, 0x12, 2, 0x12, 0],
        ];
        let request = Request::read(wire.concat().into(), Compression::None, 100).unwrap();
        let bodies = Arc::new(request).bodies();
        let profiles = bodies.into_iter().map(|(labels, otlp)| Profile {
            labels,
            body: Body::Otlp(otlp),
            received: SystemTime::UNIX_EPOCH,
        });
        Batch::new(Origin::default(), profiles.collect())
    };
    for batch in [request(), request()] {
        delivery.offer_for_test(batch).await;
    }
    offer(&delivery, &["pprof"]).await;
    assert_eq!(delivery.ledger().balance().queued, 7);
    settle(&delivery).await;
    let sizes: Vec<usize> = far.requests.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(balance(&delivery), (7, vec![]));
}

#[tokio::test(start_paused = true)]
async fn another_exporter_does_not_send_again_what_was_sent() {
    // Of a profile that was divided the first half was sent, the second was not.
    let first = |names: &[String]| names == ["big.1"];
    let far = Far::new(move |names, _| match names {
        [name] if name == "big" => Err(ExportError::Split {
            too_large: true,
            reason: Reason::TooLarge,
            cause: "413".into(),
        }),
        names if first(names) => Ok(()),
        _ => Err(retry()),
    });
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["big"]).await;
    sleep(Duration::from_secs(30)).await;
    let next = Far::new(|_, _| Ok(()));
    delivery.replace(next.clone(), DeliverySettings::default());
    settle(&delivery).await;
    assert_eq!(far.arrived(|names, _| first(names)), ["big.1"]);
    assert_eq!(next.arrived(|_, _| true), ["big.2"]);
    assert_eq!(balance(&delivery), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn another_exporter_gets_requests_within_its_own_limits() {
    let far = Far::new(|_, _| Err(retry()));
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["a", "b", "c", "d", "e"]).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(far.requests.lock().unwrap()[0].len(), 5);
    let mut next = Far::new(|_, _| Ok(()));
    Arc::get_mut(&mut next).unwrap().limits.parts = 2;
    delivery.replace(next.clone(), DeliverySettings::default());
    settle(&delivery).await;
    let sizes: Vec<usize> = next.requests.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(balance(&delivery), (5, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_killed_stays_on_trial_under_another_exporter() {
    let far = Far::new(|_, _| Err(died()));
    let delivery = deliver(&far, DeliverySettings::default());
    offer(&delivery, &["killer"]).await;
    while far.requests() < 1 {
        sleep(Duration::from_millis(10)).await;
    }
    let next = Far::new(|_, _| Err(died()));
    next.alive
        .store(false, std::sync::atomic::Ordering::Relaxed);
    delivery.replace(next.clone(), DeliverySettings::default());
    sleep(Duration::from_secs(100)).await;
    assert_eq!(next.requests(), 0, "it goes only after a probe");
    next.alive.store(true, std::sync::atomic::Ordering::Relaxed);
    settle(&delivery).await;
    assert_eq!(far.requests() + next.requests(), 3);
    assert_eq!(balance(&delivery), (0, vec![(Reason::SuspectedKiller, 1)]));
}
