//! A profile that ends every backend it reaches is found and set aside.

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::Relay,
    outages::settle,
    target::{self, Answer, Target},
};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

#[test]
fn a_killer_is_set_aside_and_all_others_arrive() {
    let count = AtomicU64::new(0);
    let target = Target::start(move |_| {
        let poisoned = count.fetch_add(1, Ordering::Relaxed) == 15;
        let function = if poisoned { "main.poison" } else { "main.main" };
        Answer::Profile(target::profile_with(function))
    });
    let store = FarEnd::start(Behaviour {
        killer: Some("main.poison".into()),
        respawn: Some(Duration::from_millis(200)),
        ..Behaviour::default()
    });
    let jobs = [config::replicas("api", target.addr(), 10)];
    // Requests of several profiles: the killer has company.
    let exporter = config::to(store.addr(), "num_consumers: 2");
    let relay = Relay::run(&config::relay(&jobs, &exporter, ""));
    relay.until("the killer is set aside", |metrics| {
        metrics.dropped("parca", "suspected_killer") == 1
    });
    relay.logged("a profile is set aside");
    settle(&relay, &target);
    let stored: HashSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    let metrics = relay.metrics();
    assert_eq!(
        stored.len() as u64,
        metrics.accepted() - 1,
        "{}",
        relay.log()
    );
    assert_eq!(metrics.books("parca").dropped, 1);
    let log = store.log();
    let deaths = log
        .requests
        .iter()
        .filter(|r| r.outcome == "killed")
        .count();
    assert!((2..=4).contains(&deaths), "it died {deaths} times");
}
