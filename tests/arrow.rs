//! parca-agent's Arrow with another implementation at the other end: pyarrow reads
//! what the relay writes, and the relay reads what pyarrow writes.
#![allow(clippy::expect_used, reason = "what cannot be set up has failed")]

mod support;

use bytes::Bytes;
use profile_relay::profile::{
    Labels,
    arrow::{
        Arrow, SyntheticArrow, constant_labels, halves, select_stacks, stacks_request, write_v1,
        write_v2,
    },
};
use serde_json::{Map, Value};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const MAX: u64 = 1 << 26;

/// A folder of messages, and Python with pyarrow.
struct Peer {
    python: PathBuf,
    folder: tempfile::TempDir,
}

// === impl Peer ===

impl Peer {
    /// Nothing and a line that says that `test` was skipped when it is not installed.
    fn find(test: &str) -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        let home = target.expect("a folder").join("peers");
        let installed = fs::read_to_string(home.join("installed.txt")).unwrap_or_default();
        if !installed.contains("pyarrow") {
            support::skipped(test, "the Python peers are not installed");
            return None;
        }
        Some(Self {
            python: home.join("bin/python"),
            folder: tempfile::tempdir().expect("a folder"),
        })
    }

    fn put(&self, name: &str, message: &Bytes) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, message).expect("a file");
        path
    }

    fn run(&self, command: &str, args: &[&Path]) -> Vec<u8> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/arrow.py");
        let output = Command::new(&self.python)
            .arg("-B")
            .arg(script)
            .arg(command)
            .args(args)
            .output()
            .expect("Python");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {told}");
        output.stdout
    }

    /// Schema and rows of a message.
    fn describe(&self, message: &Bytes) -> Value {
        let path = self.put("described", message);
        let told: Value = serde_json::from_slice(&self.run("describe", &[&path])).expect("JSON");
        told[0].clone()
    }

    /// The names of columns that differ, in type or in a value.
    fn differences(&self, one: &Bytes, other: &Bytes) -> Vec<String> {
        let (one, other) = (self.put("one", one), self.put("other", other));
        serde_json::from_slice(&self.run("same", &[&one, &other])).expect("JSON")
    }

    fn rewritten(&self, message: &Bytes) -> Bytes {
        let (path, out) = (
            self.put("before", message),
            self.folder.path().join("after"),
        );
        self.run("rewrite", &[&path, &out]);
        fs::read(out).expect("a file").into()
    }
}

fn synthetic() -> SyntheticArrow {
    SyntheticArrow {
        rows: 200,
        stacks: 30,
        depth: 8,
        ..SyntheticArrow::busy(1)
    }
}

/// The lines of a schema without the labels, which are whatever there are.
fn without_labels<'s>(lines: impl Iterator<Item = &'s str>) -> Vec<&'s str> {
    let mut is_label = false;
    let rest = lines.filter(|line| {
        if !line.starts_with(' ') {
            is_label = line.starts_with("labels");
            return !line.starts_with("labels.");
        }
        !is_label
    });
    rest.collect()
}

fn column<'v>(told: &'v Value, name: &str) -> &'v [Value] {
    let column = told["columns"][name].as_array();
    column.unwrap_or_else(|| panic!("no column {name}"))
}

#[test]
fn what_is_written_has_the_schema_of_the_agent() {
    let Some(peer) = Peer::find("what_is_written_has_the_schema_of_the_agent") else {
        return;
    };
    let table = synthetic().table();
    let (samples, stacks) = write_v1(&table, MAX).unwrap();
    let v2 = write_v2(&table, MAX).unwrap();
    for (message, version, expected) in [
        (&samples, "v1", include_str!("data/arrow/v1_samples.schema")),
        (&stacks, "v1", include_str!("data/arrow/v1_stacks.schema")),
        (&v2, "v2", include_str!("data/arrow/v2.schema")),
    ] {
        let told = peer.describe(message);
        assert_eq!(told["metadata"]["parca_write_schema_version"], version);
        let lines = told["schema"].as_array().expect("lines").iter();
        let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
        let found = without_labels(lines.iter().copied());
        assert_eq!(found, without_labels(expected.lines()));
        let label = lines
            .iter()
            .position(|line| line.ends_with("comm: runs int32"));
        let values = label.map(|at| [lines[at + 1].trim_start(), lines[at + 2].trim_start()]);
        match message == &stacks {
            true => assert_eq!(values, None),
            false => {
                let text = if version == "v1" { "binary" } else { "string" };
                let text = format!("values: {text}");
                assert_eq!(values, Some(["values: dictionary uint32", &text]));
            }
        }
    }
}

#[test]
fn pyarrow_reads_the_same_out_of_both_schemas() {
    let Some(peer) = Peer::find("pyarrow_reads_the_same_out_of_both_schemas") else {
        return;
    };
    let v2 = synthetic().v2().unwrap();
    let told = peer.describe(v2.samples());
    let (samples, stacks) = write_v1(&v2.decode(MAX).unwrap(), MAX).unwrap();
    let (samples, stacks) = (peer.describe(&samples), peer.describe(&stacks));
    for name in [
        "stacktrace_id",
        "value",
        "producer",
        "sample_type",
        "sample_unit",
        "period_type",
        "period_unit",
        "temporality",
        "period",
        "duration",
        "timestamp",
    ] {
        assert_eq!(column(&told, name), column(&samples, name), "{name}");
    }
    let labels = told["columns"]["labels"].as_array().expect("rows");
    for (row, labels) in labels.iter().enumerate() {
        for (name, value) in labels.as_object().expect("labels") {
            let v1 = &column(&samples, &format!("labels.{name}"))[row];
            assert_eq!(v1, value, "{name} of row {row}");
        }
    }
    let ids = column(&stacks, "stacktrace_id").iter();
    let locations = ids.zip(column(&stacks, "locations"));
    let of_id: Map<String, Value> = locations
        .map(|(id, stack)| (id.as_str().expect("an id").to_owned(), stack.clone()))
        .collect();
    for (id, stack) in column(&told, "stacktrace_id")
        .iter()
        .zip(column(&told, "stacktrace"))
    {
        let v1 = of_id[id.as_str().expect("an id")]
            .as_array()
            .expect("a stack");
        let v2 = stack.as_array().expect("a stack");
        assert_eq!(v1.len(), v2.len());
        for (v1, v2) in v1.iter().zip(v2) {
            for name in ["address", "frame_type", "mapping_file", "mapping_build_id"] {
                assert_eq!(v1[name], v2[name], "{name}");
            }
            assert_eq!(v1["lines"].is_null(), v2["lines"].is_null());
            let lines = |location: &Value| location["lines"].as_array().cloned();
            let pairs = lines(v1)
                .into_iter()
                .flatten()
                .zip(lines(v2).into_iter().flatten());
            for (v1, v2) in pairs {
                assert_eq!(v1["line"], v2["line"]);
                assert_eq!(v1["function_name"], v2["function"]["system_name"]);
                assert_eq!(v1["function_filename"], v2["function"]["filename"]);
                assert_eq!(v1["function_system_name"], "");
            }
        }
    }
}

/// A body with the labels that a profile is to have, as an exporter writes it.
fn relabelled(body: &Arrow, wanted: &Labels) -> Arrow {
    let mut table = body.decode(MAX).expect("a table");
    table.overlay(wanted);
    if body.is_v1() {
        let (samples, stacks) = write_v1(&table, MAX).expect("a body");
        Arrow::v1(samples, stacks)
    } else {
        Arrow::v2(write_v2(&table, MAX).expect("a body"))
    }
}

#[test]
fn labels_change_nothing_else() {
    let Some(peer) = Peer::find("labels_change_nothing_else") else {
        return;
    };
    let wanted: Labels = [("cpu", "all"), ("model", "apps"), ("node", "node-1")]
        .into_iter()
        .collect();
    let (v1, v2) = (synthetic().v1().unwrap(), synthetic().v2().unwrap());
    let changed = relabelled(&v1, &wanted);
    assert_eq!(
        peer.differences(v1.samples(), changed.samples()),
        ["labels.cpu", "labels.model"]
    );
    assert_eq!(v1.stacks(), changed.stacks());
    let told = peer.describe(changed.samples());
    assert!(
        column(&told, "labels.model")
            .iter()
            .all(|value| value == "apps")
    );
    let changed = relabelled(&v2, &wanted);
    assert_eq!(
        peer.differences(v2.samples(), changed.samples()),
        ["labels"]
    );
    let (before, after) = (
        peer.describe(v2.samples()),
        peer.describe(changed.samples()),
    );
    let rows = column(&before, "labels")
        .iter()
        .zip(column(&after, "labels"));
    for (before, after) in rows {
        let mut expected = before.clone();
        expected["cpu"] = "all".into();
        expected["model"] = "apps".into();
        assert_eq!(after, &expected);
    }
    // A label that is gone takes its column along.
    let gone = relabelled(&v1, &Labels::default());
    assert_eq!(
        peer.differences(v1.samples(), gone.samples()),
        ["labels.node"]
    );
}

#[test]
fn what_pyarrow_writes_is_read() {
    let Some(peer) = Peer::find("what_pyarrow_writes_is_read") else {
        return;
    };
    let (v1, v2) = (synthetic().v1().unwrap(), synthetic().v2().unwrap());
    let samples = peer.rewritten(v1.samples());
    let stacks = peer.rewritten(v1.stacks().expect("stacks"));
    let buffer = peer.rewritten(v2.samples());
    assert_ne!(&buffer, v2.samples());
    let pairs = [(v1, Arrow::v1(samples, stacks)), (v2, Arrow::v2(buffer))];
    for (written, rewritten) in pairs {
        let labels = constant_labels(&rewritten, MAX).unwrap();
        assert_eq!(labels, constant_labels(&written, MAX).unwrap());
        // Equal tables are written as equal bytes.
        let again = |arrow: &Arrow| write_v1(&arrow.decode(MAX).unwrap(), MAX).unwrap();
        assert_eq!(again(&written), again(&rewritten));
    }
}

#[test]
fn the_conversation_about_stacks_is_understood() {
    let Some(peer) = Peer::find("the_conversation_about_stacks_is_understood") else {
        return;
    };
    let v1 = synthetic().v1().unwrap();
    let request = stacks_request(v1.samples(), MAX).unwrap();
    let told = peer.describe(&request);
    assert_eq!(
        told["schema"],
        serde_json::json!(["stacktrace_id: binary not null"])
    );
    assert_eq!(told["metadata"]["parca_write_schema_version"], "v1");
    let [_, half] = halves(&v1, MAX).unwrap().expect("halves");
    let some = stacks_request(half.samples(), MAX).unwrap();
    let selected = select_stacks(v1.stacks().expect("stacks"), &some, MAX).unwrap();
    assert_eq!(
        column(&peer.describe(&some), "stacktrace_id"),
        column(&peer.describe(&selected), "stacktrace_id")
    );
}
