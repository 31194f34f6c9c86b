//! Variables, files, merging, `--set`.

use super::{
    around,
    catalogue::{Send, catalogue},
    files, short, with_environment,
};
use crate::settings::{
    Environment, Loaded, Node, ReadFile, Report, Sources,
    expand::{Expanded, expand},
    load,
};

fn expanded(text: &str, variables: &[(&str, &str)]) -> Node {
    let mut node = Node::from_text("t", text).unwrap();
    let mut out = Expanded::default();
    expand(
        &mut node,
        "",
        &with_environment("", variables).environment,
        &mut out,
    );
    assert!(out.findings.is_empty(), "{:?}", out.findings);
    node
}

fn send(loaded: &Loaded) -> Send {
    loaded.settings.exporters[&"send".parse().unwrap()]
        .typed()
        .unwrap()
}

fn load_with(sources: &Sources) -> Result<Loaded, Report> {
    load(sources, &catalogue())
}

#[test]
fn expansions() {
    let variables = [("X", "12"), ("NAME", "a"), ("EMPTY", "")];
    for (text, expected) in [
        ("${env:X}", "12"),
        ("${X}", "12"),
        ("a${env:NAME}b${NAME}", "aaba"),
        ("${env:NONE:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${env:NONE:-${env:NAME}}", "a"),
        ("${env:NONE:-}", ""),
        ("${env:EMPTY:-d}", ""),
        ("$1", "$1"),
        ("${1}", "${1}"),
        ("$$1", "$1"),
        ("$${1}", "${1}"),
        ("$${NAME}", "${NAME}"),
        ("$$$$", "$$"),
        ("a$", "a$"),
        ("$", "$"),
        ("${}", "${}"),
        ("^.*${1,2}$", "^.*${1,2}$"),
    ] {
        let node = expanded(&format!("k: '{text}'"), &variables);
        assert_eq!(node.get("k").unwrap().text(), Some(expected), "{text}");
    }
}

#[test]
fn a_variable_alone_has_the_type_of_its_value_unless_quoted() {
    use crate::settings::{ScalarKind, Value};
    let kind = |text: &str| match &expanded(text, &[("X", "12")]).get("k").unwrap().value {
        Value::Scalar(scalar) => scalar.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind("k: ${env:X}"), ScalarKind::Integer);
    assert_eq!(kind("k: \"${env:X}\""), ScalarKind::Text);
    assert_eq!(kind("k: ${env:X}0"), ScalarKind::Text);
}

#[test]
fn a_variable_cannot_become_yaml() {
    let evil = "x\nexporters: {}\n# {a: b} [c] &d *e";
    for text in [
        "    endpoint: ${env:EVIL}:1",
        "    endpoint: \"${env:EVIL}:1\"",
    ] {
        let sources = with_environment(&around(text), &[("EVIL", evil)]);
        let loaded = load_with(&sources).unwrap();
        assert_eq!(send(&loaded).endpoint, format!("{evil}:1"));
    }
    let commented = around("    # ${env:NONE}");
    load_with(&with_environment(&commented, &[])).unwrap();
}

#[test]
fn expansions_that_fail() {
    let text = around(
        "    endpoint: ${env:NONE}
    level: ${NONE}
    share: \"${env:1X}\"
    compression: ${http://x}
    client: {bearer_token: \"${file:/does/not/exist}\"}
    queue: {max_bytes: \"a ${env:X\"}",
    );
    let report = load_with(&with_environment(&text, &[])).unwrap_err();
    insta::assert_snapshot!(short(&report).join("\n"), @r###"
    relay.yaml:5:15 exporters.send.endpoint: environment variable NONE is not set; set it, or give a default: ${env:NONE:-value}
    relay.yaml:6:12 exporters.send.level: environment variable NONE is not set; set it, or give a default: ${env:NONE:-value}; a literal ${NONE} is written $${NONE}
    relay.yaml:7:12 exporters.send.share: ${env:1X} cannot be expanded; known are ${env:NAME}, ${env:NAME:-default} and ${file:path}; a literal ${ is written $${
    relay.yaml:8:18 exporters.send.compression: ${http://x} cannot be expanded; known are ${env:NAME}, ${env:NAME:-default} and ${file:path}; a literal ${ is written $${
    relay.yaml:9:28 exporters.send.client.bearer_token: /does/not/exist cannot be read: No such file or directory (os error 2)
    relay.yaml:10:24 exporters.send.queue.max_bytes: a ${ is not closed; add the }, or write $${ for the characters themselves
    "###);
}

#[test]
fn files_are_relative_to_the_file_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let text = around("    client: {bearer_token: \"${file:token}\", tls: {ca_file: ca.pem}}");
    let loaded = load_with(&files(folder.path(), &[("relay.yaml", &text)])).unwrap();
    let client = send(&loaded).client;
    assert_eq!(client.bearer_token.unwrap().expose(), "s3cret");
    assert_eq!(
        client.tls.unwrap().ca_file.unwrap().0,
        folder.path().join("ca.pem")
    );
    let names = ["relay.yaml", "token"].map(|name| folder.path().join(name));
    let paths: Vec<_> = loaded.files.iter().map(|f| f.path.clone()).collect();
    assert_eq!(paths, names);
    let again: Vec<_> = names.iter().map(|path| ReadFile::read(path)).collect();
    assert_eq!(loaded.files, again);
}

#[test]
fn later_files_merge_over_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let base = around(
        "    endpoint: a:1\n    queue: {workers: 2, max_bytes: 1MiB}\n    \
         actions: [{action: delete, key: a}, {action: delete, key: b}]",
    );
    let over =
        "exporters:\n  send:\n    queue: {workers: 3}\n    actions: [{action: delete, key: c}]\n";
    let loaded = load_with(&files(
        folder.path(),
        &[("a.yaml", &base), ("b.yaml", over)],
    ))
    .unwrap();
    let settings = send(&loaded);
    assert_eq!(settings.endpoint, "a:1");
    assert_eq!(
        (settings.queue.workers, settings.queue.max_bytes.get()),
        (3, 1 << 20)
    );
    assert_eq!(settings.actions.len(), 1);
    let wrong = "exporters: {send: {queue: {workers: x}, level: \"${env:NONE}\"}}";
    let unset = files(folder.path(), &[("a.yaml", &base), ("b.yaml", wrong)]);
    let report = load_with(&unset).unwrap_err().to_string();
    assert!(
        report.contains("b.yaml:1:48: exporters.send.level"),
        "{report}"
    );
    let wrong = "exporters: {send: {queue: {workers: x}}}";
    let mut sources = files(folder.path(), &[("a.yaml", &base), ("b.yaml", wrong)]);
    let report = load_with(&sources).unwrap_err().to_string();
    assert!(
        report.contains("b.yaml:1:37: exporters.send.queue.workers"),
        "{report}"
    );
    sources.set = vec!["exporters.send.queue.workers=5".into()];
    assert_eq!(send(&load_with(&sources).unwrap()).queue.workers, 5);
}

#[test]
fn a_value_that_is_replaced_is_not_expanded() {
    let mut sources = with_environment(&around("    endpoint: ${env:NONE}"), &[]);
    sources.set = vec!["exporters.send.endpoint=b:2".into()];
    assert_eq!(send(&load_with(&sources).unwrap()).endpoint, "b:2");
}

#[test]
fn set_reaches_every_place() {
    let text = "receivers: {listen: {jobs: [{job_name: a}]}}
exporters: {send/eu.west: }
service: {pipelines: {profiles: {receivers: [listen], exporters: [send/eu.west]}}}
";
    let mut sources = Sources::text("relay.yaml", text);
    sources.environment = Environment::Fixed([("X".to_owned(), "7s".to_owned())].into());
    sources.set = [
        "exporters.\"send/eu.west\".endpoint=c:3",
        "exporters::send/eu.west::queue::workers=9",
        "exporters::send/eu.west::actions=[{action: delete, key: a=b}]",
        "receivers.listen.jobs[0].interval=${env:X}",
        "service.shutdown_timeout=1s",
    ]
    .map(String::from)
    .into();
    let loaded = load_with(&sources).unwrap_or_else(|report| panic!("{report}"));
    insta::assert_snapshot!(crate::settings::to_yaml(&loaded.effective), @r###"
    receivers:
      listen:
        endpoint: 0.0.0.0:7070
        jobs:
          - job_name: a
            interval: 7s
            labels: {}
            targets: []
            profiles: {}
            follow_redirects: false
            connections: 0
            bearer_token: null
            tls: null
    exporters:
      send/eu.west:
        endpoint: c:3
        queue:
          max_bytes: 64MiB
          on_full: refuse
          workers: 9
        level: low
        share: 1.0
        compression: gzip
        actions:
          - action: delete
            key: a=b
        client:
          follow_redirects: false
          connections: 0
          bearer_token: null
          tls: null
        headers: {}
        claims: {}
    service:
      extensions: []
      admin:
        endpoint: 127.0.0.1:13133
      memory:
        limit: null
      reload:
        watch: true
        interval: 1m
      telemetry:
        logs:
          level: info
          format: logfmt
      shutdown_timeout: 1s
      pipelines:
        profiles:
          receivers:
            - listen
          processors: []
          exporters:
            - send/eu.west
    "###);
}

#[test]
fn sets_that_fail() {
    let mut sources = Sources::text("relay.yaml", around(""));
    sources.set = [
        "exporters.send.endpoint",
        "exporters..send=1",
        "exporters.send.actions[0].key=a",
        "exporters.send.level={a",
    ]
    .map(String::from)
    .into();
    let report = load_with(&sources).unwrap_err();
    insta::assert_snapshot!(short(&report).join("\n"), @r###"
    --set -: a value is missing: write --set key.path=value
    --set -: exporters..send is no key path: write a.b.c, a."b.c".d or a::b.c::d
    --set -: [0] needs a list in the configuration
    --set:2:1 -: this is no YAML: while parsing a flow mapping, did not find expected ',' or '}'
    "###);
    sources.set = vec!["exporters.send.queue.workers=x".into()];
    insta::assert_snapshot!(load_with(&sources).unwrap_err().to_string(), @r###"
    --set:1:30: exporters.send.queue.workers: expected a whole number, found a string
        exporters.send.queue.workers=x
                                     ^

    1 problem in the configuration
    "###);
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "x: &x {endpoint: 'a:1', level: high}\n";
    let whole = format!("{}{text}", around("    queue: &q {workers: 2}"));
    assert!(
        super::faults(&whole)[0].contains("x: unknown key"),
        "x is no section"
    );
    let text = "receivers: {listen: }
exporters:
  send: &base {endpoint: 'a:1', level: high}
  send/b: {<<: *base, endpoint: 'b:1'}
service: {pipelines: {profiles: {receivers: [listen], exporters: [send, send/b]}}}
";
    let loaded = super::loaded(text).unwrap();
    assert_eq!(loaded.effective["exporters"]["send/b"]["endpoint"], "b:1");
    assert_eq!(loaded.effective["exporters"]["send/b"]["level"], "high");
}

/// Ten thousand targets are a configuration too.
#[test]
fn large_configurations_load_fast() {
    let mut text = "receivers:\n  listen:\n    jobs:\n".to_owned();
    for i in 0..10_000 {
        text.push_str(&format!(
            "    - {{job_name: job{i}, targets: ['10.0.0.1:{i}'], labels: {{app: a{i}, unit: \"${{env:U}}\"}}}}\n"
        ));
    }
    text.push_str("exporters: {debug: }\nservice: {pipelines: {profiles: {receivers: [listen], exporters: [debug]}}}\n");
    let start = std::time::Instant::now();
    let loaded = load_with(&with_environment(&text, &[("U", "u/0")])).unwrap();
    let listen: super::catalogue::Listen = loaded.settings.receivers[&"listen".parse().unwrap()]
        .typed()
        .unwrap();
    assert_eq!(listen.jobs.len(), 10_000);
    assert_eq!(listen.jobs[9_999].labels["unit"], "u/0");
    // Debug builds on a busy machine take part of it; quadratic work would take minutes.
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn standard_input_is_read_once() {
    let input = crate::settings::Input::Stdin(around("    level: high").into());
    let sources = Sources {
        inputs: vec![input],
        ..Sources::default()
    };
    for _ in 0..2 {
        let loaded = load_with(&sources).unwrap();
        assert_eq!(loaded.effective["exporters"]["send"]["level"], "high");
    }
    assert!(matches!(
        Sources::new(["-".to_owned(), "a.yaml".to_owned()], Vec::new())
            .inputs
            .as_slice(),
        [
            crate::settings::Input::Stdin(_),
            crate::settings::Input::File(_)
        ]
    ));
}
