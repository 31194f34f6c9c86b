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
fn values_of_any_type_are_kept() {
    let claims = send("    claims: {a: {b: [1, x, {c: true}]}, d: \"2\", e: }").claims;
    let expected = serde_json::json!({"a": {"b": [1, "x", {"c": true}]}, "d": "2", "e": null});
    assert_eq!(serde_json::to_value(claims).unwrap(), expected);
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
    insta::assert_snapshot!(faults(&text).join("\n"), @r###"
    relay.yaml:5:5 exporters.send.endpont: unknown key; did you mean endpoint?
    relay.yaml:7:18 exporters.send.queue.max_bytes: "lots" is no size: write a number and a unit, as in 4096, 64KiB, 512MiB, 1MB
    relay.yaml:8:16 exporters.send.queue.on_full: "drop_oldst" is not valid here; did you mean drop_oldest?
    relay.yaml:9:16 exporters.send.queue.workers: must be at least 1
    relay.yaml:10:7 exporters.send.queue.size: unknown key; valid are max_bytes, on_full, workers
    relay.yaml:11:12 exporters.send.level: "higher" is not valid here; did you mean high?
    relay.yaml:12:12 exporters.send.share: expected a number, found a string
    relay.yaml:13:18 exporters.send.compression: expected a string or a mapping, found a list
    relay.yaml:15:18 exporters.send.actions[0].action: "inser" is not valid here; did you mean insert?
    relay.yaml:16:34 exporters.send.actions[1].value: unknown key; valid are action, key
    relay.yaml:17:9 exporters.send.actions[2].action: a required key is missing; valid are insert, delete
    relay.yaml:18:9 exporters.send.actions[3]: expected a mapping, found a string
    relay.yaml:19:13 exporters.send.client: expected a mapping, found a number
    relay.yaml:20:14 exporters.send.headers: expected a mapping, found a list
    "###);
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
    insta::assert_snapshot!(faults(text).join("\n"), @r###"
    relay.yaml:5:9 receivers.listen.jobs[0].intervall: unknown key; did you mean interval?
    relay.yaml:6:19 receivers.listen.jobs[0].interval: "10" is no duration: write a number and a unit, as in 500ms, 10s, 1m30s, 24h
    relay.yaml:7:18 receivers.listen.jobs[0].targets: expected a list of strings, found a string
    relay.yaml:8:21 receivers.listen.jobs[0].labels.a: expected a string, found a list
    relay.yaml:9:9 receivers.listen.jobs[1].job_name: a required key is missing
    relay.yaml:9:19 receivers.listen.jobs[1].interval: "10 parsecs" is no duration: write a number and a unit, as in 500ms, 10s, 1m30s, 24h
    relay.yaml:10:26 receivers.listen.jobs[1].profiles.cpu.secnds: unknown key; did you mean seconds?
    relay.yaml:10:50 receivers.listen.jobs[1].profiles.cpu.seconds: must be at most 65535
    relay.yaml:11:22 receivers.listen.jobs[1].connections: expected a whole number, found a string
    relay.yaml:12:27 receivers.listen.jobs[1].follow_redirects: expected true or false, found a string
    relay.yaml:13:8 receivers.listen.jobs[2].job_name: a required key is missing
    "###);
}

#[test]
fn a_components_own_rules_are_reported_with_their_place() {
    let text = "receivers: {listen: {jobs: [{job_name: x}, {job_name: ''}]}}
exporters:
  send: {endpoint: nowhere}
service: {pipelines: {profiles: {receivers: [listen], exporters: [send]}}}
";
    insta::assert_snapshot!(faults(text).join("\n"), @r###"
    relay.yaml:1:55 receivers.listen.jobs[1].job_name: must not be empty
    relay.yaml:3:20 exporters.send.endpoint: a port is missing: write host:port
    "###);
}
