//! OTLP with another implementation at both ends: Google's gRPC and protobuf
//! for Python, with the messages of `opentelemetry-proto` from PyPI.

use crate::{
    harness::{LIMIT, Relay, finish},
    support,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

/// A backend that tells of each request in a line of JSON.
struct Backend {
    child: Child,
    grpc: u64,
    http: u64,
    lines: mpsc::Receiver<Value>,
}

/// Where Python is that has the peers; nothing and a line that says that `test`
/// was skipped when it was not installed.
fn python(test: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let home = target.expect("a folder").join("peers");
    if !home.join("installed.txt").is_file() {
        support::skipped(test, "the Python peers are not installed");
        return None;
    }
    Some(home.join("bin/python"))
}

fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    command.arg("-B").arg(folder.join(name));
    command
}

/// Sends a request and returns the answer.
fn send(python: &Path, args: &[&str]) -> Value {
    let mut command = script(python, "send.py");
    command.args(args);
    let (output, _) = finish(command);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A relay that takes OTLP and sends to `exporters`, in YAML's flow style.
fn relay(exporters: &str, names: &str) -> Relay {
    Relay::run(&format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, \
         http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         exporters: {{{exporters}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [{names}]}}}}\n"
    ))
}

/// Where a relay listens, as it says in its log.
fn address(relay: &Relay, protocol: &str) -> String {
    let line = relay.logged(&format!("protocol={protocol} endpoint="));
    let (_, rest) = line.split_once("endpoint=").expect("an endpoint");
    let end = rest.split_whitespace().next().expect("an endpoint");
    end.trim_matches('"').to_owned()
}

const SOON: &str = "sending_queue: {flush_timeout: 10ms}, \
     retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}";

#[test]
fn what_python_sends_python_receives() {
    let test = "what_python_sends_python_receives";
    let Some(python) = python(test) else {
        return;
    };
    let backend = Backend::start(&python, &[]);
    let (grpc, http) = (backend.grpc, backend.http);
    let to_http = format!("endpoint: \"http://127.0.0.1:{http}\", {SOON}");
    let relay = relay(
        &format!(
            "otlp: {{endpoint: \"http://127.0.0.1:{grpc}\", {SOON}}}, \
             otlp_http: {{{to_http}}}, otlp_http/json: {{encoding: json, compression: none, {to_http}}}"
        ),
        "otlp, otlp_http, otlp_http/json",
    );
    let (grpc, http) = (address(&relay, "grpc"), address(&relay, "http"));
    let url = format!("http://{http}");
    let sent: Vec<Value> = [
        vec![&*grpc, "--service", "grpc"],
        vec![
            &grpc,
            "--gzip",
            "--service",
            "gzip",
            "--service",
            "two",
            "--profiles",
            "2",
        ],
        vec![&grpc, "--indexed", "--service", "indexed"],
        vec![&url, "--protocol", "http", "--gzip", "--service", "http"],
        vec![&url, "--protocol", "json", "--gzip", "--service", "json"],
        vec![
            &url,
            "--protocol",
            "json",
            "--base64-ids",
            "--indexed",
            "--service",
            "ids",
        ],
    ]
    .map(|args| send(&python, &args))
    .into();
    let mut expected = BTreeMap::new();
    for answer in &sent {
        assert_eq!(answer["code"], "OK", "{answer}\n{}", relay.log());
        assert_eq!(answer["rejected"], 0, "{answer}");
        let totals = answer["totals"].as_object().expect("totals by service");
        expected.extend(totals.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    assert_eq!(
        expected["grpc"],
        json!({"cpu/nanoseconds": {"leaf": 701, "mid": 50, "main": 3}})
    );
    assert_eq!(expected.len(), 7);

    // Everything, with its totals, by each of the three ways.
    let mut seen: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    while seen.values().map(BTreeMap::len).sum::<usize>() < 3 * expected.len() {
        let request = backend.next();
        let way = request["protocol"].as_str().expect("a name").to_owned();
        if way == "json" {
            assert_eq!(request["compression"], Value::Null);
        }
        for (service, totals) in request["totals"].as_object().expect("totals by service") {
            let services = seen.entry(way.clone()).or_default();
            let twice = services.insert(service.clone(), totals.clone());
            assert_eq!(twice, None, "{service} came twice by {way}");
        }
    }
    for way in ["grpc", "http", "json"] {
        assert_eq!(seen[way], expected, "{way}");
    }
    relay.until("all is sent", |metrics| {
        ["otlp", "otlp_http", "otlp_http/json"]
            .iter()
            .all(|exporter| metrics.books(exporter).sent == 9)
    });
}

#[test]
fn a_delay_that_python_asks_for_is_kept() {
    let test = "a_delay_that_python_asks_for_is_kept";
    let Some(python) = python(test) else {
        return;
    };
    for (exporter, encoding) in [("otlp", ""), ("otlp_http", "proto"), ("otlp_http", "json")] {
        let refuse = "--refuse 1 --code RESOURCE_EXHAUSTED --retry-delay 1";
        let backend = Backend::start(&python, &refuse.split(' ').collect::<Vec<_>>());
        let port = match exporter {
            "otlp" => backend.grpc,
            _ => backend.http,
        };
        let encoding = match encoding {
            "" => String::new(),
            encoding => format!("encoding: {encoding}, "),
        };
        let relay = relay(
            &format!("{exporter}: {{endpoint: \"http://127.0.0.1:{port}\", {encoding}{SOON}}}"),
            exporter,
        );
        send(&python, &[&address(&relay, "grpc")]);
        assert_eq!(backend.next()["answer"], "RESOURCE_EXHAUSTED");
        let refused = Instant::now();
        assert_eq!(backend.next()["answer"], "OK");
        let waited = refused.elapsed();
        assert!(waited.as_millis() > 900, "{exporter} waited {waited:?}");
        let books = relay.until("it is sent", |m| m.books(exporter).sent == 1);
        assert_eq!(books.books(exporter).dropped, 0);
    }
}

#[test]
fn a_partial_success_is_counted_and_not_sent_again() {
    let test = "a_partial_success_is_counted_and_not_sent_again";
    let Some(python) = python(test) else {
        return;
    };
    let backend = Backend::start(&python, &["--reject", "2", "--message", "too old"]);
    let (grpc, http) = (backend.grpc, backend.http);
    let to_http = format!("endpoint: \"http://127.0.0.1:{http}\", {SOON}");
    let relay = relay(
        &format!(
            "otlp: {{endpoint: \"http://127.0.0.1:{grpc}\", {SOON}}}, \
             otlp_http: {{{to_http}}}, otlp_http/json: {{encoding: json, {to_http}}}"
        ),
        "otlp, otlp_http, otlp_http/json",
    );
    send(&python, &[&address(&relay, "grpc"), "--profiles", "3"]);
    let rejected = "exporter_partial_success_rejected_profiles_total";
    relay.until("it is counted", |metrics| {
        ["otlp", "otlp_http", "otlp_http/json"]
            .iter()
            .all(|exporter| {
                metrics.sum(rejected, &[("exporter", exporter)]) == 2
                    && metrics.books(exporter).queued == 0
            })
    });
    relay.logged("too old");
    let ways: Vec<Value> = (0..3).map(|_| backend.next()["protocol"].clone()).collect();
    for way in ["grpc", "http", "json"] {
        assert!(ways.contains(&way.into()), "{ways:?}");
    }
    relay.stop();
    assert!(
        backend.lines.try_recv().is_err(),
        "something was sent again"
    );
}

#[test]
fn python_is_told_what_it_can_act_on() {
    let test = "python_is_told_what_it_can_act_on";
    let Some(python) = python(test) else {
        return;
    };
    // Nobody listens there, and the queue bears less than one request.
    let full = "sending_queue: {max_bytes: 64, on_full: refuse}";
    let relay = relay(
        &format!("otlp: {{endpoint: \"http://127.0.0.1:9\", {full}}}"),
        "otlp",
    );
    let url = format!("http://{}", address(&relay, "http"));
    for args in [
        vec![&*address(&relay, "grpc")],
        vec![&*url, "--protocol", "http"],
        vec![&*url, "--protocol", "json"],
    ] {
        let answer = send(&python, &args);
        assert_ne!(answer["code"], "OK", "{answer}");
        let message = answer["message"].as_str().expect("a message");
        assert!(!message.is_empty(), "{answer}");
        let retryable = ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
            .contains(&answer["code"].as_str().expect("a code"));
        if retryable {
            assert!(answer["retry_delay"].is_number(), "{answer}");
        }
        if let Some(status) = answer.get("status") {
            assert!(
                status != 200 && retryable == answer["retry_after"].is_string(),
                "{answer}"
            );
        }
    }
}

// === impl Backend ===

impl Backend {
    fn start(python: &Path, args: &[&str]) -> Self {
        let mut child = script(python, "receive.py")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let lines = lines(child.stdout.take().expect("its output"));
        let first = lines.recv_timeout(LIMIT).expect("it says where it listens");
        let port = |name: &str| first[name].as_u64().expect("a port");
        Self {
            grpc: port("grpc"),
            http: port("http"),
            child,
            lines,
        }
    }

    /// The next request.
    fn next(&self) -> Value {
        self.lines.recv_timeout(LIMIT).expect("a request arrives")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: ChildStdout) -> mpsc::Receiver<Value> {
    let (to, lines) = mpsc::channel();
    thread::spawn(move || {
        let read = BufReader::new(output).lines().map_while(Result::ok);
        for line in read {
            let told = serde_json::from_str(&line).expect("a line of JSON");
            if to.send(told).is_err() {
                return;
            }
        }
    });
    lines
}
