//! A far end that is away, refuses, is slow, freezes, resets or starts anew
//! costs nothing that was accepted.

use crate::{
    config,
    far_end::{Behaviour, FarEnd, Fault},
    harness::{Relay, until},
    target::{self, Target},
};
use std::{collections::HashSet, thread, time::Duration};
use tonic::Code;

/// How long each trouble lasts.
const WHILE: Duration = Duration::from_millis(1_500);
const MEMORY: u64 = 64 << 20;

/// Profiles a second.
const REPLICAS: usize = 20;

fn service() -> String {
    format!("  memory: {{limit: {MEMORY}B}}")
}

/// Waits until nothing comes in and nothing is left to send.
pub fn settle(relay: &Relay, target: &Target) {
    settle_of(relay, target, "parca");
}

/// The same of any exporter.
pub fn settle_of(relay: &Relay, target: &Target, exporter: &str) {
    target.set(|_| target::not_found());
    let accepted = until("no scrape is under way", || {
        let before = relay.metrics().accepted();
        thread::sleep(Duration::from_millis(600));
        (relay.metrics().accepted() == before).then_some(before)
    });
    relay.until("the queue is empty", |metrics| {
        assert_eq!(metrics.accepted(), accepted);
        metrics.books(exporter).queued == 0
    });
}

/// Everything that was accepted is stored, and nothing else.
fn assert_all_arrived(relay: &Relay, target: &Target, store: &FarEnd) {
    let stored: HashSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    let metrics = relay.metrics();
    assert_eq!(stored.len() as u64, metrics.accepted(), "{}", relay.log());
    assert_eq!(metrics.books("parca").sent, metrics.accepted());
    assert!(
        stored.is_subset(&target.served()),
        "each is what was served"
    );
    assert_eq!(store.crashes(), [""; 0]);
}

/// Lets time pass while the law is watched.
fn pass(relay: &Relay, time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        relay.metrics();
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_accepted_is_lost_by_an_outage_of_any_kind() {
    let target = Target::good();
    let store = FarEnd::start(Behaviour::default());
    let jobs = [config::replicas("api", target.addr(), REPLICAS)];
    let exporter = format!("timeout: 1s, {}", config::to(store.addr(), ""));
    let relay = Relay::run(&config::relay(&jobs, &exporter, &service()));
    let arrives = || {
        let before = store.stored().len();
        let more = |log: &crate::far_end::Log| log.stored.len() > before;
        assert!(store.wait(crate::harness::LIMIT, more), "{}", relay.log());
    };
    arrives();

    store.stop();
    pass(&relay, WHILE);
    assert!(relay.books("parca").queued > 0, "they wait");
    store.restart();
    arrives();

    let unavailable = Fault::Status(Code::Unavailable, "shutting down".into());
    for trouble in [
        unavailable,
        Fault::Throttle(Duration::from_millis(300)),
        Fault::Http(503),
        Fault::Hang,
        Fault::Slow(Duration::from_millis(700)),
    ] {
        store.set(|behaviour| behaviour.always = Some(trouble));
        pass(&relay, WHILE);
        store.set(|behaviour| behaviour.always = None);
        arrives();
    }

    let resets = [Fault::Reset, Fault::ResetEarly, Fault::StoreThenReset];
    store.set(|behaviour| behaviour.faults = resets.into());
    until("the connection was reset three times", || {
        let mut waiting = true;
        store.set(|behaviour| waiting = !behaviour.faults.is_empty());
        (!waiting).then_some(())
    });
    arrives();

    store.pause();
    pass(&relay, WHILE);
    store.resume();
    arrives();

    store.restart();
    settle(&relay, &target);
    assert_all_arrived(&relay, &target, &store);
    relay.assert_memory_within(MEMORY);
    assert_eq!(relay.stop().code, Some(0));
}

#[test]
fn a_dead_exporter_holds_up_no_other() {
    let target = Target::good();
    let store = FarEnd::start(Behaviour::default());
    let dead = FarEnd::start(Behaviour::default());
    dead.stop();
    let jobs = config::replicas("api", target.addr(), REPLICAS);
    let queue = "max_bytes: 4KiB, on_full: drop_oldest";
    let yaml = format!(
        "receivers: {{pprof: {{scrape_configs: [{jobs}]}}}}\n\
         exporters:\n  parca: {{{}}}\n  parca/second: {{{}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [pprof], \
         exporters: [parca, parca/second]}}}}\n",
        config::to(store.addr(), ""),
        config::to(dead.addr(), queue),
    );
    let relay = Relay::run(&yaml);
    relay.until("the second lost some and the first got them", |metrics| {
        metrics.dropped("parca/second", "queue_full") > 20 && metrics.books("parca").sent > 60
    });
    settle(&relay, &target);
    assert_all_arrived(&relay, &target, &store);
    let metrics = relay.metrics();
    let [first, second] = ["parca", "parca/second"].map(|id| metrics.books(id));
    assert_eq!((first.dropped, first.enqueued), (0, second.enqueued));
    assert!(second.queued > 0, "the newest are kept");
    let name = "receiver_refused_profiles_total";
    assert_eq!(metrics.sum(name, &[]), 0, "the source hears nothing of it");
    dead.restart();
    relay.until("the second gets what it kept", |metrics| {
        metrics.books("parca/second").queued == 0
    });
    assert_eq!(dead.stored().len() as u64, second.queued);
}
