//! A real Parca gives back what a real program measured.

use crate::{
    config,
    far_end::{
        real::{RealParca, flat},
        rules,
    },
    harness::Relay,
    neighbours::{self, Neighbour},
    recorder::Recorder,
    support,
};
use profile_relay::r#gen::pprof::Profile;
use prost::Message;

/// The types of Go's five default profiles.
const TYPES: [&str; 11] = [
    "block:contentions:count:contentions:count",
    "block:delay:nanoseconds:contentions:count",
    "goroutine:goroutine:count:goroutine:count",
    "memory:alloc_objects:count:space:bytes",
    "memory:alloc_space:bytes:space:bytes",
    "memory:inuse_objects:count:space:bytes",
    "memory:inuse_space:bytes:space:bytes",
    "mutex:contentions:count:contentions:count",
    "mutex:delay:nanoseconds:contentions:count",
    "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta",
    "process_cpu:samples:count:cpu:nanoseconds:delta",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_real_parca_shows_what_prometheus_measured() {
    let test = "a_real_parca_shows_what_prometheus_measured";
    let Some(binary) = support::needs_env(test, "PARCA_BIN") else {
        return;
    };
    let Some(prometheus) = neighbours::find(test, "prometheus") else {
        return;
    };
    let parca = RealParca::start(&binary).await;
    let program = Neighbour::prometheus(&prometheus);
    let recorder = Recorder::start(program.addr());
    let job = format!(
        "{{job_name: prometheus, scrape_interval: 1s, \
         static_configs: [{{targets: [\"{}\"], labels: {{origin: real}}}}]}}",
        recorder.addr()
    );
    let relay = Relay::run(&config::relay(&[job], &config::to(parca.addr(), ""), ""));
    relay.until("all kinds are sent three times", |metrics| {
        metrics.books("parca").sent >= 20
    });
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);

    let types = parca.profile_types().await.expect("a profile list");
    for wanted in TYPES {
        assert!(types.iter().any(|t| t == wanted), "{wanted}: {types:?}");
    }
    assert_eq!(parca.values("origin").await.expect("values"), ["real"]);
    let instance = recorder.addr().to_string();
    assert_eq!(parca.values("instance").await.expect("values"), [instance]);

    // One snapshot, at its own millisecond.
    let recorded = recorder.recorded();
    let of_memory = recorded.iter().filter(|r| r.path == "/debug/pprof/allocs");
    for recorded in of_memory.take(2) {
        let plain = rules::inflate(&recorded.body).expect("gzip");
        let sent = Profile::decode(plain).expect("a pprof");
        let millisecond = sent.time_nanos / 1_000_000 * 1_000_000;
        let query = "memory:alloc_objects:count:space:bytes{job=\"prometheus\"}";
        let got = parca.merged(query, (millisecond, millisecond), &[]).await;
        assert_eq!(flat(&got.expect("a report")), flat(&sent));
    }
}
