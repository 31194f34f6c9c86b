//! A queue on disk keeps what was accepted, says what it has, and mends itself.

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::{LIMIT, Relay, finish, program, until},
    otlp_in::{PROTOBUF, address, post, request},
    outages::settle,
    support::{self, sink::Sink},
    target::Target,
};
use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest, common::v1::any_value::Value,
};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where queues are kept from one process to the next.
pub struct Folder(TempDir);

/// A volume of its own, gone when dropped.
pub struct Volume(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The extension, and that it runs.
    pub fn storage(&self, more: &str) -> String {
        storage(self.path(), more)
    }

    /// A relay that takes OTLP and sends it to `endpoint` by a queue on disk.
    pub fn otlp_to(&self, endpoint: &str, queue: &str) -> String {
        otlp_to(endpoint, &self.storage(""), queue)
    }

    /// The files of an exporter's queue that have this ending.
    fn files(&self, exporter: &str, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join(exporter)).expect("the queue's folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut files: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|e| e == ending))
            .collect();
        files.sort();
        files
    }
}

pub fn storage(directory: &Path, more: &str) -> String {
    format!(
        "extensions: {{file_storage: {{directory: {directory:?}, min_free_bytes: 0, timeout: 100ms{more}}}}}\n"
    )
}

pub fn otlp_to(endpoint: &str, storage: &str, queue: &str) -> String {
    let delivery = config::delivery(&format!("storage: file_storage, {queue}"));
    format!(
        "{storage}receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         exporters: {{otlp: {{endpoint: \"http://{endpoint}\", {delivery}}}}}\n\
         service:\n  extensions: [file_storage]\n  \
         pipelines: {{profiles: {{receivers: [otlp], exporters: [otlp]}}}}\n"
    )
}

/// The services of a request.
pub fn names(request: &ExportProfilesServiceRequest) -> Vec<String> {
    let resources = request.resource_profiles.iter();
    let attributes = resources.flat_map(|r| &r.resource.as_ref().expect("a resource").attributes);
    attributes
        .filter(|attribute| attribute.key == "service.name")
        .map(
            |attribute| match &attribute.value.as_ref().expect("a value").value {
                Some(Value::StringValue(name)) => name.clone(),
                other => panic!("a name: {other:?}"),
            },
        )
        .collect()
}

/// An address that nobody listens on.
pub const NOWHERE: &str = "127.0.0.1:1";

/// Pushes a request a name, each acknowledged.
fn push(relay: &Relay, services: &[&str]) {
    let address = address(relay, "http");
    for service in services {
        let (status, answer) = post(&address, PROTOBUF, &request(&[service]));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }
}

fn arrived(sink: &Sink, count: usize) -> Vec<String> {
    assert!(
        sink.wait(LIMIT, |taken| taken.len() >= count),
        "they arrive"
    );
    sink.taken()
        .iter()
        .flat_map(|t| names(&t.request))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `profile-relay queue …` in the folder.
fn queue(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = program();
    let (action, rest) = arguments.split_first().expect("an action");
    command.args(["queue", action, "--directory"]);
    command.arg(folder.path()).args(rest);
    finish(command).0
}

#[test]
fn what_was_accepted_outlives_a_kill() {
    let folder = Folder::new();
    let target = Target::good();
    let store = FarEnd::start(Behaviour::default());
    store.stop();
    let jobs = [config::replicas("api", target.addr(), 10)];
    let exporter = config::to(store.addr(), "storage: file_storage");
    let yaml =
        folder.storage("") + &config::relay(&jobs, &exporter, "  extensions: [file_storage]");
    let relay = Relay::run(&yaml);
    let before = relay.until("30 profiles wait", |m| m.books("parca").queued >= 30);
    drop(relay);

    let relay = Relay::run(&yaml);
    let recovered = relay.books("parca").recovered;
    assert!(recovered >= before.books("parca").queued, "{recovered}");
    assert!(
        relay.log().contains("profiles were found in the queue"),
        "{}",
        relay.log()
    );
    store.restart();
    settle(&relay, &target);
    let metrics = relay.metrics();
    assert_eq!(metrics.books("parca").sent, recovered + metrics.accepted());
    let stored: HashSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    assert_eq!(stored.len() as u64, recovered + metrics.accepted());
    assert!(
        stored.is_subset(&target.served()),
        "each is what was served"
    );
    assert_eq!(relay.stop().code, Some(0));
    let left = queue(&folder, &["ls", "--json"]);
    let left: serde_json::Value = serde_json::from_slice(&left.stdout).expect("JSON");
    assert_eq!(left[0]["profiles"], 0, "{left}");
}

#[test]
fn a_stopped_process_leaves_the_rest_on_disk_and_says_so() {
    let folder = Folder::new();
    let mut yaml = folder.otlp_to(NOWHERE, "");
    yaml.push_str("  shutdown_timeout: 200ms\n");
    let relay = Relay::run(&yaml);
    push(&relay, &["a", "b"]);
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("profiles stay on disk"), "{}", ended.log);
    let sink = Sink::start();
    let relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), "num_consumers: 1"));
    assert_eq!(arrived(&sink, 2), ["a", "b"], "the oldest first");
    assert_eq!(relay.books("otlp").recovered, 2);
}

#[test]
fn a_second_process_says_who_has_the_folder() {
    let folder = Folder::new();
    let yaml = folder.otlp_to(NOWHERE, "");
    let first = Relay::run(&yaml);
    let other = folder.path().join("relay.yaml");
    fs::write(&other, &yaml).expect("the configuration is written");
    let mut command = program();
    command.args(["run", "-c"]).arg(&other);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let (output, _) = finish(command);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains(&first.pid().to_string()), "{told}");
    assert!(told.contains("file_storage"), "{told}");
    // The first goes on.
    push(&first, &["a"]);
}

#[test]
fn a_process_waits_for_the_one_that_it_replaces() {
    let folder = Folder::new();
    let sink = Sink::start();
    let yaml = folder.otlp_to(&sink.addr().to_string(), "");
    let first = Relay::run(&yaml);
    let patient = yaml.replace("timeout: 100ms", "timeout: 20s");
    let next = std::thread::spawn(move || Relay::run(&patient));
    push(&first, &["a"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!next.is_finished(), "it waits");
    assert_eq!(first.stop().code, Some(0));
    let next = next.join().expect("it runs");
    push(&next, &["b"]);
    let mut all = arrived(&sink, 2);
    all.sort();
    assert_eq!(all, ["a", "b"]);
}

#[test]
fn the_queue_of_an_exporter_that_left_is_named_and_kept() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["a", "b", "c"]);
    drop(relay);
    let sink = Sink::start();
    let yaml = folder.otlp_to(&sink.addr().to_string(), "");
    let renamed = yaml
        .replace("{otlp: {endpoint: \"http", "{otlp/new: {endpoint: \"http")
        .replace("exporters: [otlp]", "exporters: [otlp/new]");
    let relay = Relay::run(&renamed);
    let line = relay.logged("a queue on disk has no exporter");
    assert!(
        line.contains("exporter=otlp ") && line.contains("profiles=3"),
        "{line}"
    );
    let orphans = &relay.json("/api/status")["orphans"];
    assert_eq!(orphans[0]["exporter"], "otlp", "{orphans}");
    assert_eq!(orphans[0]["profiles"], 3);
    drop(relay);
    let relay = Relay::run(&yaml);
    assert_eq!(arrived(&sink, 3).len(), 3);
    drop(relay);
}

#[test]
fn a_damaged_record_is_set_aside_and_the_rest_arrives() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["first", "damaged", "last"]);
    drop(relay);
    let segment = folder.files("otlp", "segment").remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    let at = bytes
        .windows(7)
        .position(|w| w == b"damaged")
        .expect("the record");
    bytes[at] ^= 0x20;
    fs::write(&segment, bytes).expect("the segment is written");

    let told = queue(&folder, &["verify"]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told.stdout));
    let sink = Sink::start();
    let relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), ""));
    let line = relay.logged("a record of the queue is damaged");
    assert!(line.contains("exporter=otlp"), "{line}");
    let mut all = arrived(&sink, 2);
    all.sort();
    assert_eq!(all, ["first", "last"]);
    let metrics = relay.until("all are settled", |m| m.books("otlp").queued == 0);
    let quarantined = metrics.sum("exporter_queue_quarantined_records_total", &[]);
    assert_eq!(quarantined, 1);
    let aside = fs::read_dir(folder.path().join("otlp/quarantine")).expect("quarantine");
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_folder_of_a_newer_version_is_refused_untouched() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["a"]);
    drop(relay);
    let segment = folder.files("otlp", "segment").remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    // The version follows the magic, and a checksum ends the header.
    bytes[8] = 9;
    let checksum = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&checksum);
    fs::write(&segment, &bytes).expect("the segment is written");
    let file = folder.path().join("relay.yaml");
    fs::write(&file, folder.otlp_to(NOWHERE, "")).expect("the configuration is written");
    let mut command = program();
    command.args(["run", "-c"]).arg(&file);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let (output, _) = finish(command);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("format 9"), "{told}");
    assert_eq!(fs::read(&segment).expect("it is there"), bytes);
}

#[test]
fn the_queue_command_reads_beside_a_running_relay() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["alpha", "beta"]);
    let ls = text(&queue(&folder, &["ls"]).stdout);
    assert!(ls.contains("otlp") && ls.contains("PROFILES"), "{ls}");
    let shown = text(&queue(&folder, &["show", "otlp"]).stdout);
    assert!(shown.contains("alpha") && shown.contains("beta"), "{shown}");
    let whole = queue(&folder, &["verify"]);
    assert!(
        text(&whole.stdout).contains("2 records are whole"),
        "{whole:?}"
    );
    let copies = tempfile::tempdir().expect("a folder");
    let to = copies.path().join("copies");
    let exported = queue(
        &folder,
        &["export", "otlp", "--to", to.to_str().expect("text")],
    );
    assert_eq!(
        exported.status.code(),
        Some(0),
        "{}",
        text(&exported.stderr)
    );
    assert!(
        text(&exported.stdout).contains("2 profiles copied"),
        "{exported:?}"
    );
    let purged = queue(&folder, &["purge", "otlp", "--older-than", "0s"]);
    assert_eq!(purged.status.code(), Some(1));
    let told = text(&purged.stderr);
    assert!(
        told.contains(&relay.pid().to_string()),
        "who has it: {told}"
    );
    drop(relay);
    let purged = queue(&folder, &["purge", "otlp", "--older-than", "0s"]);
    assert!(
        text(&purged.stdout).contains("2 profiles removed"),
        "{purged:?}"
    );
    let missing = queue(&folder, &["show", "nonesuch"]);
    assert!(text(&missing.stderr).contains("there is no queue of nonesuch"));
}

#[test]
fn the_present_comes_before_the_past_when_asked_for() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["1", "2", "3"]);
    drop(relay);
    let sink = Sink::start();
    let drain = "num_consumers: 1, drain: {newest_first: true}";
    let _relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), drain));
    assert_eq!(arrived(&sink, 3), ["3", "2", "1"]);
}

#[test]
fn a_backlog_keeps_to_its_rate() {
    let folder = Folder::new();
    let relay = Relay::run(&folder.otlp_to(NOWHERE, ""));
    push(&relay, &["1", "2", "3", "4", "5"]);
    let bytes = relay.metrics().sum("exporter_queue_bytes", &[]);
    drop(relay);
    let sink = Sink::start();
    let drain = format!("drain: {{max_rate: {bytes}B}}");
    let started = Instant::now();
    let _relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), &drain));
    assert_eq!(arrived(&sink, 5).len(), 5);
    // Four pauses of a fifth of a second.
    assert!(
        started.elapsed() > Duration::from_millis(700),
        "{:?}",
        started.elapsed()
    );
}

impl Volume {
    /// A file system in memory of so many megabytes, or nothing where it may not be
    /// mounted.
    pub fn mount(test: &str, megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={megabytes}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]);
        let mounted = command.arg(folder.path()).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            support::skipped(test, "a tmpfs cannot be mounted");
            return None;
        }
        Some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// A request of about 100 KB.
fn large(name: &str) -> Vec<u8> {
    let filler = "x".repeat(100_000);
    request(&[name, &filler])
}

#[test]
fn a_full_volume_refuses_until_there_is_room_and_loses_nothing() {
    let Some(volume) = Volume::mount("a_full_volume_refuses_until_there_is_room", 6) else {
        return;
    };
    let more = ", segment_bytes: 1MiB";
    let nowhere = otlp_to(NOWHERE, &storage(volume.path(), more), "");
    let relay = Relay::run(&nowhere);
    let at = address(&relay, "http");
    let mut accepted = Vec::new();
    let refusal = until("the volume is full", || {
        let name = format!("request-{}", accepted.len());
        match post(&at, PROTOBUF, &large(&name)) {
            (200, _) => accepted.push(name),
            refusal => return Some(refusal),
        }
        None
    });
    assert_eq!(refusal.0, 503, "{}", text(&refusal.1));
    assert!(text(&refusal.1).contains("volume"), "{}", text(&refusal.1));
    let reason = [("reason", "storage_full")];
    assert!(
        relay
            .metrics()
            .sum("receiver_refused_profiles_total", &reason)
            > 0
    );
    assert!(accepted.len() > 20, "{}", accepted.len());
    drop(relay);

    // The backend comes back: room comes with it.
    let sink = Sink::start();
    let relay = Relay::run(&otlp_to(
        &sink.addr().to_string(),
        &storage(volume.path(), more),
        "",
    ));
    let found = arrived(&sink, accepted.len());
    for name in &accepted {
        assert!(found.contains(name), "{name} is lost");
    }
    push(&relay, &["after"]);
}

#[test]
fn a_storage_that_does_not_run_is_found_before_anything_starts() {
    let folder = Folder::new();
    let file = folder.path().join("relay.yaml");
    let yaml = folder.otlp_to(NOWHERE, "");
    for (wrong, hint) in [
        (
            yaml.replace("storage: file_storage", "storage: file_storge"),
            "did you mean file_storage?",
        ),
        (
            yaml.replace("  extensions: [file_storage]\n", ""),
            "list it under service.extensions",
        ),
    ] {
        fs::write(&file, wrong).expect("the configuration is written");
        let mut command = program();
        let (output, _) = finish({
            command.args(["validate", "-c"]).arg(&file);
            command
        });
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("sending_queue.storage") && told.contains(hint),
            "{told}"
        );
    }
}
