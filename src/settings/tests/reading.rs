//! Variables, files, merging, `--set`.

use super::{
    around,
    catalogue::{Send, catalogue},
    files, short, with_environment,
};
use crate::settings::{
    Environment, Loaded, Node, Report, Sources,
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
        ("a${env:NAME}b${NAME}", "aabab".strip_suffix('b').unwrap()),
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
    insta::assert_snapshot!(short(&report).join("\n"), @"");
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
    assert_eq!(loaded.files, names);
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
    let wrong = "exporters: {send: {queue: {workers: x}, level: ${env:NONE}}}";
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
    insta::assert_snapshot!(crate::settings::to_yaml(&loaded.effective), @"");
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
    insta::assert_snapshot!(short(&report).join("\n"), @"");
    sources.set = vec!["exporters.send.queue.workers=x".into()];
    insta::assert_snapshot!(load_with(&sources).unwrap_err().to_string(), @"");
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
