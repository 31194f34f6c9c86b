//! A queue is bounded, says so, and keeps what it has taken.

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::Relay,
    outages::settle,
    target::{Answer, Target},
};
use profile_relay::profile::pprof::SyntheticProfile;
use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

const QUEUE: u64 = 256 << 10;
const MEMORY: u64 = 64 << 20;

#[test]
fn a_full_queue_refuses_and_loses_nothing() {
    let seed = AtomicU64::new(0);
    let target = Target::start(move |_| {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        Answer::Profile(SyntheticProfile::heap(seed).encode())
    });
    let store = FarEnd::start(Behaviour::default());
    store.stop();
    let jobs = [config::replicas("api", target.addr(), 10)];
    let exporter = config::to(store.addr(), &format!("max_bytes: {QUEUE}B"));
    let service = format!("  memory: {{limit: {MEMORY}B}}");
    let relay = Relay::run(&config::relay(&jobs, &exporter, &service));
    let labels = [("exporter", "parca")];
    let full = relay.until("the queue is full and 20 scrapes were refused", |metrics| {
        let bytes = metrics.sum("exporter_queue_bytes", &labels);
        assert!(bytes <= QUEUE, "{bytes}");
        let reason = [("receiver", "pprof"), ("reason", "queue_full")];
        metrics.sum("receiver_refused_profiles_total", &reason) >= 20
    });
    let capacity = full.sum("exporter_queue_capacity_bytes", &labels);
    assert_eq!(capacity, QUEUE);
    let refused = [("job", "api"), ("outcome", "refused")];
    assert!(full.sum("scrapes_total", &refused) >= 20, "{}", full.text());
    let shown = relay.json("/api/targets?health=down")["targets"][0]["last_error"].to_string();
    assert!(shown.contains("queue_full"), "{shown}");
    assert!(full.accepted() > 0 && full.books("parca").dropped == 0);

    store.restart();
    relay.until("scrapes are accepted again", |metrics| {
        metrics.accepted() > full.accepted() + 10
    });
    settle(&relay, &target);
    let stored: HashSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    let metrics = relay.metrics();
    assert_eq!(stored.len() as u64, metrics.accepted());
    assert_eq!(metrics.books("parca").dropped, 0);
    relay.assert_memory_within(MEMORY);
}
