use super::*;
use crate::processors::testing::{context, labels_after};
use serde_json::{Value as Json, json};
use std::fs;

fn settings(actions: Json) -> LabelsSettings {
    serde_json::from_value(json!({ "actions": actions })).unwrap()
}

fn after(actions: Json, labels: &[(&str, &str)]) -> String {
    let processor = settings(actions).build(&context("labels")).unwrap();
    labels_after(&*processor, labels).unwrap()
}

#[test]
fn each_action_does_what_the_collectors_does() {
    let before: &[(&str, &str)] = &[("job", "api"), ("zone", "eu")];
    for (action, expected) in [
        (
            json!({"key": "job", "action": "insert", "value": "x"}),
            r#"{job="api", zone="eu"}"#,
        ),
        (
            json!({"key": "new", "action": "insert", "value": "x"}),
            r#"{job="api", new="x", zone="eu"}"#,
        ),
        (
            json!({"key": "job", "action": "update", "value": "x"}),
            r#"{job="x", zone="eu"}"#,
        ),
        (
            json!({"key": "new", "action": "update", "value": "x"}),
            r#"{job="api", zone="eu"}"#,
        ),
        (
            json!({"key": "job", "action": "upsert", "value": "x"}),
            r#"{job="x", zone="eu"}"#,
        ),
        (
            json!({"key": "new", "value": "x"}),
            r#"{job="api", new="x", zone="eu"}"#,
        ),
        (
            json!({"key": "new", "from_label": "job"}),
            r#"{job="api", new="api", zone="eu"}"#,
        ),
        // What yields nothing does nothing.
        (
            json!({"key": "job", "from_label": "gone"}),
            r#"{job="api", zone="eu"}"#,
        ),
        (
            json!({"key": "job", "value": ""}),
            r#"{job="api", zone="eu"}"#,
        ),
        (json!({"key": "job", "action": "delete"}), r#"{zone="eu"}"#),
        (
            json!({"action": "delete", "pattern": "z.*"}),
            r#"{job="api"}"#,
        ),
        (
            json!({"action": "delete", "pattern": "o"}),
            r#"{job="api", zone="eu"}"#,
        ),
        (
            json!({"key": "job", "action": "delete", "pattern": "zone|x"}),
            "{}",
        ),
    ] {
        assert_eq!(after(json!([action.clone()]), before), expected, "{action}");
    }
    // In order, each on the result of the one before.
    let swap = json!([
        {"key": "old", "from_label": "job"},
        {"key": "job", "from_label": "zone"},
        {"key": "zone", "action": "delete"},
    ]);
    assert_eq!(after(swap, before), r#"{job="eu", old="api"}"#);
}

#[test]
fn a_file_is_read_again_and_its_last_content_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zone");
    fs::write(&path, "  eu\n").unwrap();
    let content = Content::read(path.clone()).unwrap();
    assert_eq!(*content.get(), "eu");

    let actions = json!([{"key": "zone", "value_file": path}]);
    assert_eq!(after(actions.clone(), &[]), r#"{zone="eu"}"#);

    fs::write(&path, "us").unwrap();
    assert!(content.refresh().unwrap());
    assert!(!content.refresh().unwrap());
    assert_eq!(*content.clone().get(), "us");

    for broken in [&b"\xff\xfe"[..], &[b'x'; 70_000], b" \n"] {
        fs::write(&path, broken).unwrap();
        assert!(content.refresh().is_err());
        assert_eq!(*content.get(), "us");
    }
    fs::remove_file(&path).unwrap();
    assert!(content.refresh().is_err());
    assert_eq!(*content.get(), "us");

    let problems = settings(actions).build(&context("labels")).err().unwrap();
    assert_eq!(problems[0].path, "actions[0].value_file");
    assert!(
        problems[0].message.starts_with("cannot read"),
        "{}",
        problems[0]
    );
}

/// Waits for another thread; the test hangs if it never gets there.
fn until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

#[test]
fn the_thread_reads_on_through_errors_and_ends_with_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zone");
    fs::write(&path, "eu").unwrap();
    let content = Content::read(path.clone()).unwrap();
    let start = |files| {
        let id = "labels".parse().unwrap();
        Watch::start(id, files, std::time::Duration::from_millis(1)).unwrap()
    };
    assert!(start(Vec::new()).is_none());

    let watch = start(vec![content.clone()]);
    fs::write(&path, "us").unwrap();
    until(|| *content.get() == "us");
    fs::remove_file(&path).unwrap();
    std::thread::yield_now();
    fs::write(&path, "apac").unwrap();
    until(|| *content.get() == "apac");

    // Only the thread holds another clone.
    drop(watch);
    until(|| std::sync::Arc::strong_count(&content.text) == 1);
}

#[test]
fn all_problems_are_found() {
    let faulty = settings(json!([
        {"action": "insert", "pattern": "a"},
        {"key": "a", "value": "b", "from_label": "c"},
        {"action": "delete"},
        {"action": "delete", "pattern": "(", "value": "x"},
    ]));
    let places: Vec<_> = faulty.problems().into_iter().map(|p| p.path).collect();
    assert_eq!(
        places,
        [
            "actions[0].key",
            "actions[0]",
            "actions[0].pattern",
            "actions[1]",
            "actions[2]",
            "actions[3].value",
            "actions[3].pattern",
        ]
    );
    assert!(faulty.build(&context("labels")).is_err());
    assert_eq!(settings(json!([])).problems().len(), 1);
}
