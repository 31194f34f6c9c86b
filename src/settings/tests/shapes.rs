//! Values against schemas.

use super::{around, catalogue::Send, faults, loaded};
use crate::settings::{Duration, Id, Node};

fn send(settings: &str) -> Send {
    let loaded = loaded(&around(settings)).unwrap_or_else(|report| panic!("{report}"));
    let id: Id = "send".parse().unwrap();
    loaded.settings.exporters[&id].typed().unwrap()
}

#[test]
fn nothing_means_defaults() {
    let send = send("    queue:\n    level:\n    actions:\n    client: {tls: }");
    assert_eq!(send.endpoint, "parca:7070");
    assert_eq!(send.queue.workers, 4);
    assert!(send.client.tls.is_some(), "an empty tls asks for tls");
}

#[test]
fn null_turns_an_optional_mapping_off() {
    assert!(send("    client: {tls: null}").client.tls.is_none());
}

#[test]
fn scalars_are_read_as_the_type_that_is_wanted() {
    let send = send(
        "    queue: {workers: \"12\", max_bytes: 1048576}\n    share: 1\n    \
         client: {follow_redirects: yes, connections: '7'}\n    \
         actions: [{action: insert, key: version, value: 1.10}, {action: delete, key: true}]",
    );
    assert_eq!(send.queue.workers, 12);
    assert_eq!(send.queue.max_bytes.get(), 1 << 20);
    assert!(send.client.follow_redirects);
    assert_eq!(send.client.connections, 7);
    let actions = serde_json::to_value(&send.actions).unwrap();
    assert_eq!(actions[0]["value"], "1.10");
    assert_eq!(actions[1]["key"], "true");
}

#[test]
fn flattened_and_untagged_types_are_read() {
    let text = "jobs:\n- job_name: 12\n  interval: 1m\n  connections: \"3\"\n  labels: {a.b: 1.10, empty: }\n  \
                profiles: {memory: , cpu: {enabled: true}}\n";
    let listen: super::catalogue::Listen = Node::from_text("t", text).unwrap().typed().unwrap();
    let job = &listen.jobs[0];
    assert_eq!(job.job_name, "12");
    assert_eq!(job.interval, Duration::from_secs(60));
    assert_eq!(job.client.connections, 3);
    assert_eq!(job.labels["a.b"], "1.10");
    assert_eq!(job.labels["empty"], "");
    assert_eq!(job.profiles.len(), 2);
    let full = send("    compression: {name: zstd, level: 3}");
    assert!(
        serde_json::to_string(&full.compression)
            .unwrap()
            .contains("3")
    );
}

#[test]
fn every_kind_of_wrong_value_is_reported_at_once() {
    let text = around(
        "    endpont: a:1
    queue:
      max_bytes: lots
      on_full: drop_oldst
      workers: 0
      size: 3
    level: higher
    share: much
    compression: [gzip]
    actions:
      - {action: inser, key: a}
      - {action: delete, key: a, value: b}
      - {key: a}
      - delete
    client: 3
    headers: [a]",
    );
    insta::assert_snapshot!(faults(&text).join("\n"), @"");
}

#[test]
fn jobs_are_reported_with_their_index() {
    let text = "receivers:
  listen:
    jobs:
      - job_name: a
        intervall: 10s
        interval: 10
        targets: 'localhost:6060'
        labels: {a: [b]}
      - interval: 10 parsecs
        profiles: {cpu: {secnds: 70000, seconds: 70000}}
        connections: many
        follow_redirects: maybe
      -
exporters: {send: }
service: {pipelines: {profiles: {receivers: [listen], exporters: [send]}}}
";
    insta::assert_snapshot!(faults(text).join("\n"), @"");
}

#[test]
fn a_components_own_rules_are_reported_with_their_place() {
    let text = "receivers: {listen: {jobs: [{job_name: x}, {job_name: ''}]}}
exporters:
  send: {endpoint: nowhere}
service: {pipelines: {profiles: {receivers: [listen], exporters: [send]}}}
";
    insta::assert_snapshot!(faults(text).join("\n"), @"");
}
