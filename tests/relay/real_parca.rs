//! A real Parca gives back what a real program measured.

use crate::{
    config,
    far_end::{
        real::{RealParca, flat},
        rules,
    },
    harness::Relay,
    neighbours::{self, Neighbour},
    real_targets::PROFILES,
    recorder::{Recorded, Recorder},
    support,
};
use bytes::Bytes;
use profile_relay::r#gen::pprof::Profile;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What Parca calls the types of which a profile holds something: it lists no
/// others.
fn types(recorded: &Recorded) -> BTreeSet<String> {
    let (name, _) = PROFILES
        .iter()
        .find(|(_, path)| *path == recorded.path)
        .expect("a default profile");
    let profile = decode(&recorded.body);
    let text = |at: i64| profile.string_table[at as usize].as_str();
    let period = profile.period_type.expect("a period type");
    let delta = if profile.duration_nanos > 0 {
        ":delta"
    } else {
        ""
    };
    let kinds = profile.sample_type.iter().enumerate();
    let held = kinds.filter(|(at, _)| profile.sample.iter().any(|s| s.value[*at] != 0));
    held.map(|(_, kind)| {
        let parts = [kind.r#type, kind.unit, period.r#type, period.unit].map(text);
        format!("{name}:{}{delta}", parts.join(":"))
    })
    .collect()
}

fn decode(body: &Bytes) -> Profile {
    let plain = rules::inflate(body).expect("gzip");
    Profile::decode(plain).expect("a pprof")
}

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

    // The last answers may have come when the relay did not listen any more.
    let recorded = recorder.recorded();
    let early = PROFILES.map(|(_, path)| recorded.iter().filter(move |r| r.path == path).take(2));
    let wanted: BTreeSet<_> = early.into_iter().flatten().flat_map(types).collect();
    assert!(wanted.len() >= 5, "{wanted:?}");
    let listed = parca.profile_types().await.expect("a profile list");
    let listed: BTreeSet<_> = listed.into_iter().collect();
    assert!(wanted.is_subset(&listed), "{wanted:?}\n{listed:?}");
    assert_eq!(parca.values("origin").await.expect("values"), ["real"]);
    let instance = recorder.addr().to_string();
    assert_eq!(parca.values("instance").await.expect("values"), [instance]);

    // Parca adds up all snapshots of a range, so the range is a short one.
    let snapshots = recorded.iter().filter(|r| r.path == "/debug/pprof/allocs");
    let snapshots: Vec<_> = snapshots.map(|r| decode(&r.body)).collect();
    for sent in &snapshots[..2] {
        let range = (sent.time_nanos - 300_000_000, sent.time_nanos + 300_000_000);
        let mut wanted = BTreeMap::new();
        let within = |s: &&Profile| (range.0..=range.1).contains(&s.time_nanos);
        for (leaf, value) in snapshots.iter().filter(within).flat_map(flat) {
            *wanted.entry(leaf).or_default() += value;
        }
        let query = "memory:alloc_objects:count:space:bytes{job=\"prometheus\"}";
        let got = parca.merged(query, range, &[]).await;
        assert_eq!(flat(&got.expect("a report")), wanted, "{}", ended.log);
    }
}
