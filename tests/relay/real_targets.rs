//! The profiles of real Go programs arrive as they were served.

use crate::{
    config,
    far_end::{Behaviour, FarEnd, Log, StoredProfile},
    harness::{LIMIT, Relay},
    neighbours::{self, Neighbour},
    recorder::Recorder,
};
use std::collections::{BTreeMap, BTreeSet};

/// The default profiles and where Go serves them.
pub const PROFILES: [(&str, &str); 5] = [
    ("memory", "/debug/pprof/allocs"),
    ("block", "/debug/pprof/block"),
    ("goroutine", "/debug/pprof/goroutine"),
    ("mutex", "/debug/pprof/mutex"),
    ("process_cpu", "/debug/pprof/profile"),
];

#[test]
fn prometheus_and_etcd_arrive_byte_for_byte() {
    let test = "prometheus_and_etcd_arrive_byte_for_byte";
    let binaries = (
        neighbours::find(test, "prometheus"),
        neighbours::find(test, "etcd"),
    );
    let (Some(prometheus), Some(etcd)) = binaries else {
        return;
    };
    let programs = [
        ("prometheus", Neighbour::prometheus(&prometheus)),
        ("etcd", Neighbour::etcd(&etcd)),
    ];
    let recorders = programs.map(|(name, program)| {
        let recorder = Recorder::start(program.addr());
        (name, program, recorder)
    });
    let store = FarEnd::start(Behaviour::default());
    let jobs = recorders.each_ref().map(|(name, _, recorder)| {
        let (addr, label) = (recorder.addr(), format!("labels: {{origin: real-{name}}}"));
        format!(
            "{{job_name: {name}, scrape_interval: 1s, \
             static_configs: [{{targets: [\"{addr}\"], {label}}}]}}"
        )
    });
    let relay = Relay::run(&config::relay(&jobs, &config::to(store.addr(), ""), ""));
    let twice_each = |log: &Log| {
        let mut counts = BTreeMap::new();
        for stored in &log.stored {
            *counts.entry(&stored.labels).or_insert(0) += 1;
        }
        counts.len() == 10 && counts.values().all(|count| *count >= 2)
    };
    assert!(store.wait(LIMIT, twice_each), "{}", relay.log());

    for (name, _, recorder) in &recorders {
        let expect = |profile: &str| -> BTreeMap<String, String> {
            [
                ("__name__", profile),
                ("instance", &recorder.addr().to_string()),
                ("job", name),
                ("origin", &format!("real-{name}")),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
        };
        let recorded = recorder.recorded();
        let of_job = |stored: &StoredProfile| stored.labels["job"] == *name;
        let stored = store.stored();
        let stored = || stored.iter().filter(|stored| of_job(stored));
        let labels: BTreeSet<_> = stored().map(|stored| stored.labels.clone()).collect();
        assert_eq!(labels, PROFILES.map(|(profile, _)| expect(profile)).into());
        for stored in stored() {
            let profile = stored.labels["__name__"].as_str();
            let (_, path) = PROFILES.iter().find(|(p, _)| *p == profile).expect("known");
            let served = |recorded: &crate::recorder::Recorded| {
                recorded.path == *path && recorded.body == stored.body
            };
            assert!(recorded.iter().any(served), "{name} {profile} was changed");
        }
    }
    assert_eq!(store.crashes(), [""; 0]);
    assert_eq!(store.harms(), [""; 0]);
    assert_eq!(relay.books("parca").dropped, 0);
    assert_eq!(relay.stop().code, Some(0));
}
