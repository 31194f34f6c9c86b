//! What runs and what takes its place, with made-up components, in paused time.

use super::*;
use crate::{
    pipeline::{Budget, Entry, ExportError, ReceiverError, Refusal, Verdict},
    profile::{Batch, Body, Labels, Origin, Profile, pprof::Pprof},
    settings::{ComponentSettings, ComponentType, Kind, Node, Problem},
    telemetry::{Metrics, Status},
};
use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize, Serialize, JsonSchema)]
struct Any {
    version: u32,
}

impl ComponentSettings for Any {
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// What settings of one kind amount to.
fn settings(version: u32) -> Fingerprint {
    let node = Node::from_text("t", &format!("version: {version}")).unwrap();
    let ty = ComponentType::new::<Any>(Kind::Receiver, "any", "any");
    (ty.fingerprint)(&node).unwrap()
}

/// A receiver that hands out its entry while it runs.
struct Door {
    entry: watch::Sender<Option<Entry>>,
    /// How long it takes to stop.
    last_words: Duration,
}

#[async_trait]
impl Receiver for Door {
    async fn run(
        self: Box<Self>,
        out: Entry,
        stop: CancellationToken,
    ) -> Result<(), ReceiverError> {
        self.entry.send_replace(Some(out.clone()));
        stop.cancelled().await;
        self.entry.send_replace(None);
        sleep(self.last_words).await;
        drop(out);
        Ok(())
    }
}

/// A backend that notes what arrives, takes its time, or is away.
#[derive(Clone, Default)]
struct Far {
    arrived: Arc<Mutex<Vec<String>>>,
    takes: Duration,
    away: bool,
}

#[async_trait]
impl Exporter for Far {
    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        sleep(self.takes).await;
        if self.away {
            return Err(ExportError::Retry {
                after: None,
                cause: "away".into(),
            });
        }
        let names = batch.profiles.iter();
        let names = names.map(|p| p.labels.name().unwrap_or_default().to_owned());
        self.arrived.lock().unwrap().extend(names);
        Ok(())
    }
}

impl Far {
    fn away() -> Self {
        Self {
            away: true,
            ..Self::default()
        }
    }

    fn slow(takes: Duration) -> Self {
        Self {
            takes,
            ..Self::default()
        }
    }

    fn arrived(&self) -> Vec<String> {
        let mut arrived = self.arrived.lock().unwrap().clone();
        arrived.sort();
        arrived
    }
}

/// Adds to a profile's name.
struct Mark(&'static str);

impl Processor for Mark {
    fn process(&self, mut profile: Profile, _: &Origin) -> Verdict {
        let name = format!("{}{}", profile.labels.name().unwrap_or_default(), self.0);
        let mut edit = profile.labels.edit();
        edit.set("__name__", &name);
        profile.labels = edit.build();
        Verdict::Keep(profile)
    }
}

/// Configurations, put together.
#[derive(Default)]
struct Plan(Blueprint);

impl Plan {
    fn receiver(mut self, id: &str, version: u32, last_words: Duration) -> (Self, Doorway) {
        let (entry, doorway) = watch::channel(None);
        let door = Door { entry, last_words };
        self.0.receivers.push(Planned {
            id: id.parse().unwrap(),
            settings: settings(version),
            component: Some(Box::new(door)),
        });
        (self, Doorway(doorway))
    }

    fn same_receiver(mut self, id: &str, version: u32) -> Self {
        self.0.receivers.push(Planned {
            id: id.parse().unwrap(),
            settings: settings(version),
            component: None,
        });
        self
    }

    fn exporter(self, id: &str, version: u32, far: &Far) -> Self {
        self.planned_exporter(id, version, Some(far))
    }

    fn same_exporter(self, id: &str, version: u32) -> Self {
        self.planned_exporter(id, version, None)
    }

    fn planned_exporter(mut self, id: &str, version: u32, far: Option<&Far>) -> Self {
        let mut delivery = DeliverySettings::default();
        delivery.sending_queue.flush_timeout = crate::settings::Duration::from_millis(100);
        delivery.sending_queue.num_consumers = 1;
        let component = far.map(|far| {
            let exporter: Arc<dyn Exporter> = Arc::new(far.clone());
            (exporter, delivery)
        });
        self.0.exporters.push(Planned {
            id: id.parse().unwrap(),
            settings: settings(version),
            component,
        });
        self
    }

    /// One pipeline through everything.
    fn build(mut self, marks: &[(&'static str, Option<u32>)]) -> Blueprint {
        let processors = marks.iter().map(|(mark, version)| Planned {
            id: mark.parse().unwrap(),
            settings: settings(version.unwrap_or(1)),
            component: version.map(|_| Arc::new(Mark(mark)) as Arc<dyn Processor>),
        });
        self.0.pipelines.push(PipelineBlueprint {
            id: "profiles".parse().unwrap(),
            receivers: self.0.receivers.iter().map(|r| r.id.clone()).collect(),
            processors: processors.collect(),
            exporters: self.0.exporters.iter().map(|e| e.id.clone()).collect(),
        });
        self.0
    }
}

/// Where batches are handed in.
struct Doorway(watch::Receiver<Option<Entry>>);

impl Doorway {
    async fn entry(&mut self) -> Entry {
        let open = self.0.wait_for(Option::is_some).await.unwrap();
        open.clone().unwrap()
    }

    async fn offer(&mut self, name: &str) -> Result<(), Refusal> {
        self.entry().await.offer(batch(name)).await
    }
}

fn batch(name: &str) -> Batch {
    let profile = Profile {
        labels: [("__name__", name)].into_iter().collect::<Labels>(),
        body: Body::Pprof(Pprof::new(Bytes::from_static(b"0123456789"))),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), vec![profile])
}

fn running() -> (Running, Metrics, Status) {
    let (metrics, status) = (Metrics::default(), Status::default());
    let running = Running::new(&metrics, &status, &Budget::new(u64::MAX));
    (running, metrics, status)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Enqueued, sent and waiting profiles of an exporter that is shown.
fn books(status: &Status, id: &str) -> Option<(u64, u64, u64)> {
    let exporters = status.exporters();
    let exporter = exporters.iter().find(|e| e.exporter == id)?;
    assert!(exporter.dropped_profiles.is_empty(), "{exporter:?}");
    Some((
        exporter.enqueued_profiles,
        exporter.sent_profiles,
        exporter.queue_profiles,
    ))
}

#[tokio::test(start_paused = true)]
async fn what_is_the_same_stays_and_leads_elsewhere() {
    let (mut running, ..) = running();
    let (one, two) = (Far::default(), Far::default());
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("one", 1, &one);
    let changes = running.apply(plan.build(&[("a", Some(1))]), PATIENCE).await;
    assert_eq!(
        changes.added,
        ["receivers.in", "exporters.one", "processors.a"]
    );
    let entry = door.entry().await;
    entry.offer(batch("x")).await.unwrap();

    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.same_exporter("one", 1).exporter("two", 1, &two);
    let changes = running
        .apply(plan.build(&[("a", None), ("b", Some(1))]), PATIENCE)
        .await;
    assert_eq!(changes.added, ["exporters.two", "processors.b"]);
    assert!(changes.changed.is_empty() && changes.removed.is_empty());
    // The very same entry.
    entry.offer(batch("y")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.arrived(), names(&["xa", "yab"]));
    assert_eq!(two.arrived(), names(&["yab"]));
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn another_exporter_gets_what_the_one_before_could_not_send() {
    let (mut running, _, status) = running();
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("out", 1, &Far::away());
    running.apply(plan.build(&[]), PATIENCE).await;
    let all: Vec<String> = (0..50).map(|at| format!("{at:02}")).collect();
    for name in &all[..49] {
        door.offer(name).await.unwrap();
        sleep(Duration::from_millis(150)).await;
    }
    // Collected, and not sent yet.
    door.offer(&all[49]).await.unwrap();
    assert_eq!(books(&status, "out"), Some((50, 0, 50)));

    let there = Far::default();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.exporter("out", 2, &there);
    let changes = running.apply(plan.build(&[]), PATIENCE).await;
    assert_eq!(changes.changed, ["exporters.out"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(there.arrived(), all);
    assert_eq!(books(&status, "out"), Some((50, 50, 0)));
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_comes_to_its_end_and_is_not_made_twice() {
    let (mut running, _, status) = running();
    let slow = Far::slow(Duration::from_secs(10));
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("out", 1, &slow);
    running.apply(plan.build(&[]), PATIENCE).await;
    for name in ["in flight", "waits for the sender", "waits in the queue"] {
        door.offer(name).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    let next = Far::default();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.exporter("out", 2, &next);
    running.apply(plan.build(&[]), PATIENCE).await;
    sleep(Duration::from_secs(1)).await;
    // The next one does not wait for the one before.
    assert_eq!(
        next.arrived(),
        names(&["waits for the sender", "waits in the queue"])
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(slow.arrived(), names(&["in flight"]));
    assert_eq!(next.arrived().len(), 2);
    assert_eq!(books(&status, "out"), Some((3, 3, 0)));
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_is_removed_delivers_and_is_gone() {
    let (mut running, metrics, status) = running();
    let (gone, stays) = (Far::slow(Duration::from_secs(3)), Far::default());
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("gone", 1, &gone).exporter("stays", 1, &stays);
    running.apply(plan.build(&[]), PATIENCE).await;
    door.offer("x").await.unwrap();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.same_exporter("stays", 1);
    let changes = running.apply(plan.build(&[]), PATIENCE).await;
    assert_eq!(changes.removed, ["exporters.gone"]);
    door.offer("y").await.unwrap();
    assert_eq!(books(&status, "gone"), Some((1, 0, 1)));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(gone.arrived(), names(&["x"]));
    assert_eq!(stays.arrived(), names(&["x", "y"]));
    assert_eq!(books(&status, "gone"), None);
    let text = metrics.encode().unwrap();
    assert!(!text.contains("exporter=\"gone\""), "{text}");
    assert!(text.contains("exporter=\"stays\""), "{text}");
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_is_removed_does_not_try_for_ever() {
    let (mut running, _, status) = running();
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("gone", 1, &Far::away());
    running.apply(plan.build(&[]), PATIENCE).await;
    door.offer("x").await.unwrap();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.exporter("stays", 1, &Far::default());
    running.apply(plan.build(&[]), PATIENCE).await;
    sleep(PATIENCE - Duration::from_secs(1)).await;
    assert!(books(&status, "gone").is_some());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(books(&status, "gone"), None);
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_comes_back_goes_on_where_it_was() {
    let (mut running, _, status) = running();
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("out", 1, &Far::away());
    running.apply(plan.build(&[]), PATIENCE).await;
    door.offer("x").await.unwrap();
    let other = Far::default();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.exporter("other", 1, &other);
    running.apply(plan.build(&[]), PATIENCE).await;
    sleep(Duration::from_secs(5)).await;

    let back = Far::default();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.same_exporter("other", 1).exporter("out", 2, &back);
    let changes = running.apply(plan.build(&[]), PATIENCE).await;
    assert_eq!(changes.added, ["exporters.out"]);
    door.offer("y").await.unwrap();
    sleep(PATIENCE * 2).await;
    assert_eq!(back.arrived(), names(&["x", "y"]));
    assert_eq!(books(&status, "out"), Some((2, 2, 0)));
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_removed_ends_what_it_has_before_its_exporter_does() {
    let (mut running, _, status) = running();
    let far = Far::default();
    let (plan, mut old) = Plan::default().receiver("old", 1, Duration::from_secs(5));
    let plan = plan.exporter("old", 1, &far);
    running.apply(plan.build(&[]), PATIENCE).await;
    let entry = old.entry().await;
    let (plan, mut new) = Plan::default().receiver("new", 1, Duration::ZERO);
    let plan = plan.exporter("new", 1, &Far::default());
    let changes = running.apply(plan.build(&[]), PATIENCE).await;
    assert_eq!(changes.removed, ["receivers.old", "exporters.old"]);
    new.offer("y").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    // A request that was in flight.
    entry.offer(batch("x")).await.unwrap();
    drop(entry);
    sleep(Duration::from_secs(1)).await;
    assert!(books(&status, "old").is_some());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(far.arrived(), names(&["x"]));
    assert_eq!(books(&status, "old"), None);
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_does_not_end_is_refused_after_a_while() {
    let (mut running, _, status) = running();
    let (plan, mut old) = Plan::default().receiver("old", 1, Duration::from_secs(3_600));
    let plan = plan.exporter("old", 1, &Far::default());
    running.apply(plan.build(&[]), PATIENCE).await;
    let entry = old.entry().await;
    let (plan, _new) = Plan::default().receiver("new", 1, Duration::ZERO);
    let plan = plan.exporter("new", 1, &Far::default());
    running.apply(plan.build(&[]), PATIENCE).await;
    sleep(PATIENCE + Duration::from_secs(1)).await;
    assert_eq!(books(&status, "old"), None);
    entry.offer(batch("x")).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn another_receiver_takes_the_place_of_one_that_has_something_in_flight() {
    let (mut running, metrics, _) = running();
    let (one, two) = (Far::default(), Far::default());
    let (plan, mut first) = Plan::default().receiver("in", 1, Duration::from_secs(5));
    running
        .apply(plan.exporter("one", 1, &one).build(&[]), PATIENCE)
        .await;
    let entry = first.entry().await;
    assert_eq!(entry.handed_over(), None);
    let (plan, mut second) = Plan::default().receiver("in", 2, Duration::ZERO);
    let changes = running
        .apply(plan.exporter("two", 1, &two).build(&[]), PATIENCE)
        .await;
    assert_eq!(changes.changed, ["receivers.in"]);
    assert_eq!(entry.handed_over(), Some(Instant::now()));
    second.offer("new").await.unwrap();
    entry.offer(batch("in flight")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.arrived(), names(&[]));
    assert_eq!(two.arrived(), names(&["in flight", "new"]));
    let text = metrics.encode().unwrap();
    let accepted = r#"accepted_profiles_total{receiver="in"} 2"#;
    assert!(text.contains(accepted), "{text}");
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_those_who_leave() {
    let (mut running, ..) = running();
    let slow = Far::slow(Duration::from_secs(10));
    let (plan, mut door) = Plan::default().receiver("in", 1, Duration::ZERO);
    let plan = plan.exporter("gone", 1, &slow);
    running.apply(plan.build(&[]), PATIENCE).await;
    door.offer("x").await.unwrap();
    let plan = Plan::default().same_receiver("in", 1);
    let plan = plan.exporter("stays", 1, &Far::default());
    running.apply(plan.build(&[]), PATIENCE).await;
    assert_eq!(running.shutdown(PATIENCE).await, 0);
    assert_eq!(slow.arrived(), names(&["x"]));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_changes_under_load_lose_and_double_nothing() {
    let (mut running, _, status) = running();
    let far = Far::slow(Duration::from_millis(30));
    let (plan, mut door) = Plan::default().receiver("in", 0, Duration::from_millis(50));
    let plan = plan.exporter("out", 0, &far);
    running.apply(plan.build(&[]), PATIENCE).await;
    let mut all = Vec::new();
    for version in 1..=100 {
        for _ in 0..5 {
            let name = format!("{:04}", all.len());
            door.offer(&name).await.unwrap();
            all.push(name);
            sleep(Duration::from_millis(7)).await;
        }
        let far = Far {
            away: version % 3 == 1 && version < 100,
            ..far.clone()
        };
        let mut plan = Plan::default();
        if version % 2 == 0 {
            (plan, door) = plan.receiver("in", version, Duration::from_millis(50));
        } else {
            plan = plan.same_receiver("in", version - 1);
        }
        // Now and then it is gone for one round.
        let plan = if version % 10 == 5 {
            plan.exporter("other", version, &far)
        } else {
            plan.exporter("out", version, &far)
        };
        running.apply(plan.build(&[]), PATIENCE).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(far.arrived(), all);
    assert_eq!(books(&status, "other"), None);
    assert!(books(&status, "out").is_some_and(|(enqueued, sent, _)| enqueued == sent));
    assert_eq!(running.shutdown(PATIENCE).await, 0);
}
