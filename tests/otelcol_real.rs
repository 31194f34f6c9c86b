//! The OTLP exporters, and a whole relay on both sides, against a real
//! OpenTelemetry Collector; each test is skipped where `OTELCOL_BIN` names none.
//!
//! It needs the `otlp` receiver and the exporters `otlp_grpc` and `otlp_http`.
#![allow(clippy::expect_used, reason = "what cannot be set up has failed")]
#![allow(unreachable_pub, dead_code, reason = "a test program is no library")]

#[path = "support/agent.rs"]
mod agent;
#[path = "relay/harness.rs"]
mod harness;
#[path = "relay/metrics.rs"]
mod metrics;
mod support;

use agent::{Agent, Habit};
use bytes::Bytes;
use harness::{LIMIT, Relay};
use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    profiles::v1development::ProfilesDictionary,
};
use profile_relay::{
    exporters::{otlp, otlp_http},
    pipeline::{Budget, Context, ExportError, Exporter},
    profile::{
        Batch, Body, Labels, NAME, Origin, Profile,
        arrow::{Arrow, SyntheticArrow},
        convert::{OtlpOptions, RequestBuilder},
        otlp::{Compression, Request},
        pprof::{Pprof, SyntheticProfile},
    },
    telemetry::{Metrics, Status},
};
use prost::Message;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};
use support::sink::{Fault, Sink, pprof_totals, totals};

/// A running Collector between its receiver and two sinks.
struct Collector {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    folder: tempfile::TempDir,
}

// === impl Collector ===

impl Collector {
    /// Starts `binary`, which sends to `grpc` by gRPC and to `http` by HTTP.
    fn start(binary: &str, grpc: SocketAddr, http: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = [free_port(), free_port()];
        // Without queues and retries the far ends' answers reach the sender.
        let plain = "sending_queue: {enabled: false}, retry_on_failure: {enabled: false}";
        let config = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: \"{}\"}}\n      http: {{endpoint: \"{}\"}}\n\
             exporters:\n  otlp_grpc: {{endpoint: \"{grpc}\", tls: {{insecure: true}}, {plain}}}\n  \
             otlp_http: {{endpoint: \"http://{http}\", {plain}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{profiles: {{receivers: [otlp], exporters: [otlp_grpc, otlp_http]}}}}\n",
            ports[0], ports[1]
        );
        let path = folder.path().join("collector.yaml");
        fs::write(&path, config).expect("a file");
        let log = File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(binary)
            .arg("--config")
            .arg(&path)
            .arg("--feature-gates=service.profilesSupport")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the Collector starts");
        let mut collector = Self {
            child,
            grpc: ports[0],
            http: ports[1],
            folder,
        };
        harness::until("the Collector listens", || {
            let ended = collector.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "it ended: {}", collector.log());
            let listens = ports.iter().all(|port| TcpStream::connect(port).is_ok());
            listens.then_some(())
        });
        collector
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

// === exporters ===

fn context() -> Context {
    Context {
        id: "otlp".parse().expect("an id"),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(1 << 30),
        sockets: Default::default(),
        ending: Default::default(),
    }
}

/// The exporter of a way (`grpc`, `proto`, `json`), with more settings.
fn exporter(way: &str, collector: &Collector, more: Value) -> Box<dyn Exporter> {
    let mut settings = match way {
        "grpc" => json!({"endpoint": format!("http://{}", collector.grpc)}),
        _ => json!({"endpoint": format!("http://{}", collector.http), "encoding": way}),
    };
    let all = settings.as_object_mut().expect("a map");
    all.extend(more.as_object().expect("a map").clone());
    let good = "good settings";
    if way == "grpc" {
        let settings: otlp::Settings = serde_json::from_value(settings).expect(good);
        Box::new(settings.build(&context()).expect(good))
    } else {
        let settings: otlp_http::Settings = serde_json::from_value(settings).expect(good);
        Box::new(settings.build(&context()).expect(good))
    }
}

fn pprofs(seed: u64, count: u64) -> Vec<Bytes> {
    let profile = |seed| SyntheticProfile::heap(seed).encode();
    (seed..seed + count).map(profile).collect()
}

fn pprof_batch(bodies: &[Bytes]) -> Batch {
    let profiles = bodies.iter().enumerate().map(|(at, body)| Profile {
        labels: [(NAME, "memory"), ("job", &format!("job-{at}"))]
            .into_iter()
            .collect(),
        body: Body::Pprof(Pprof::new(body.clone())),
        received: SystemTime::now(),
    });
    Batch::new(Origin::default(), profiles.collect())
}

/// The same as a sender of OTLP would say it.
fn otlp_batch(bodies: &[Bytes], compression: Compression) -> Batch {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    for profile in pprof_batch(bodies).profiles {
        let pprof = profile.body.as_pprof().expect("a pprof");
        let added = pprof.read(64 << 20, |plain| {
            builder.add(&profile.labels, profile.received, pprof, plain)
        });
        added.expect("gzip").expect("it is converted");
    }
    let wire = compression.compress(&builder.finish()).expect("memory");
    batch_of(Request::read(wire, compression, 64 << 20).expect("a request"))
}

fn batch_of(request: Request) -> Batch {
    let bodies = Arc::new(request).bodies().into_iter();
    let profiles = bodies.map(|(labels, otlp)| Profile {
        labels,
        body: Body::Otlp(otlp),
        received: SystemTime::now(),
    });
    Batch::new(Origin::default(), profiles.collect())
}

/// A request with a string of `size` bytes in its dictionary.
fn large_batch(size: usize) -> Batch {
    let small = otlp_batch(&pprofs(0, 1), Compression::None);
    let request = small.profiles[0].body.as_otlp().expect("OTLP").request();
    let tables = ExportProfilesServiceRequest {
        dictionary: Some(ProfilesDictionary {
            string_table: vec!["x".repeat(size)],
            ..ProfilesDictionary::default()
        }),
        ..ExportProfilesServiceRequest::default()
    };
    // Given twice, messages merge.
    let wire = [&request.wire()[..], &tables.encode_to_vec()].concat();
    let request = Request::read(wire.into(), Compression::None, 64 << 20);
    batch_of(request.expect("a request"))
}

const WAYS: [&str; 3] = ["grpc", "proto", "json"];

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_takes_what_is_sent_and_passes_on_the_same_totals() {
    let test = "a_collector_takes_what_is_sent_and_passes_on_the_same_totals";
    let Some(binary) = support::needs_env(test, "OTELCOL_BIN") else {
        return;
    };
    let sinks = [Sink::start(), Sink::start()];
    let collector = Collector::start(&binary, sinks[0].addr(), sinks[1].addr());
    let mut seed = 0;
    for way in WAYS {
        for compression in ["none", "gzip", "zstd"] {
            let exporter = exporter(way, &collector, json!({"compression": compression}));
            exporter.probe().await.expect("a sign of life");
            for came in [None, Some(Compression::None), Some(Compression::Gzip)] {
                seed += 10;
                let bodies = pprofs(seed, 3);
                let batch = match came {
                    None => pprof_batch(&bodies),
                    Some(came) => otlp_batch(&bodies, came),
                };
                let before = sinks.each_ref().map(|sink| sink.taken().len());
                let sent = exporter.export(&batch).await;
                sent.unwrap_or_else(|e| panic!("{way} {compression} {came:?}: {e}"));
                for (sink, before) in sinks.iter().zip(before) {
                    assert!(
                        sink.wait(LIMIT, |t| t.len() > before),
                        "{}",
                        collector.log()
                    );
                    let taken = sink.taken();
                    assert_eq!(taken.len(), before + 1);
                    let arrived = totals([&taken[before].request]);
                    assert_eq!(
                        arrived,
                        pprof_totals(&bodies),
                        "{way} {compression} {came:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collectors_refusals_are_understood() {
    let Some(binary) = support::needs_env("a_collectors_refusals_are_understood", "OTELCOL_BIN")
    else {
        return;
    };
    let sinks = [Sink::start(), Sink::start()];
    let collector = Collector::start(&binary, sinks[0].addr(), sinks[1].addr());
    // Above 4 MiB, and above 20 MiB.
    for (way, size) in [("grpc", 5 << 20), ("proto", 21 << 20)] {
        let exporter = exporter(way, &collector, json!({"max_request_bytes": "64MiB"}));
        let refused = exporter.export(&large_batch(size)).await;
        assert!(
            matches!(
                refused,
                Err(ExportError::Split {
                    too_large: true,
                    ..
                })
            ),
            "{way}: {refused:?}"
        );
    }
    for way in WAYS {
        let exporter = exporter(way, &collector, json!({}));
        let batch = pprof_batch(&pprofs(0, 1));
        sinks[0].faults([Fault::Unavailable]);
        let later = exporter.export(&batch).await;
        assert!(
            matches!(later, Err(ExportError::Retry { .. })),
            "{way}: {later:?}"
        );
        sinks[0].faults([Fault::Broken]);
        let never = exporter.export(&batch).await;
        assert!(
            matches!(never, Err(ExportError::Rejected { .. })),
            "{way}: {never:?}"
        );
    }
    // A Collector knows no such path, and no profiles where the gate is closed.
    let wrong = json!({"profiles_endpoint": format!("http://{}/v1/profiles", collector.http)});
    let refused = exporter("proto", &collector, wrong)
        .export(&pprof_batch(&pprofs(0, 1)))
        .await;
    assert!(
        matches!(refused, Err(ExportError::Rejected { .. })),
        "{refused:?}"
    );
}

/// A relay that takes OTLP and sends it on to `to`.
fn gateway(to: SocketAddr) -> (Relay, [SocketAddr; 2]) {
    let ports = [free_port(), free_port()];
    let relay = Relay::run(&format!(
        "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: \"{}\"}}\n      http: {{endpoint: \"{}\"}}\n\
         exporters: {{otlp: {{endpoint: \"http://{to}\", compression: gzip}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [otlp]}}}}\n",
        ports[0], ports[1]
    ));
    (relay, ports)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_between_two_relays_loses_nothing() {
    let test = "a_collector_between_two_relays_loses_nothing";
    let Some(binary) = support::needs_env(test, "OTELCOL_BIN") else {
        return;
    };
    let sink = Sink::start();
    // The Collector sends each request to the second relay twice, by gRPC and by
    // HTTP, and that relay to the sink.
    let (second, ports) = gateway(sink.addr());
    let collector = Collector::start(&binary, ports[0], ports[1]);
    let (first, ports) = gateway(collector.grpc);
    let mut sent = Vec::new();
    for (at, came) in [Compression::None, Compression::Gzip, Compression::Zstd]
        .into_iter()
        .enumerate()
    {
        let bodies = pprofs(100 * at as u64, 4);
        let settings =
            json!({"endpoint": format!("http://{}", ports[0]), "compression": came_as(came)});
        let settings: otlp::Settings = serde_json::from_value(settings).expect("settings");
        let sender = settings.build(&context()).expect("good settings");
        let answer = sender.export(&otlp_batch(&bodies, came)).await;
        answer.unwrap_or_else(|error| panic!("{came:?}: {error}"));
        sent.extend(bodies);
    }
    let arrived = sink.wait(LIMIT, |taken| taken.len() >= 6);
    assert!(
        arrived,
        "{}\n{}\n{}",
        first.log(),
        collector.log(),
        second.log()
    );
    // Nothing comes a third time.
    thread::sleep(Duration::from_millis(200));
    let taken = sink.taken();
    assert_eq!(taken.len(), 6);
    let mut twice = pprof_totals(&sent);
    twice.values_mut().for_each(|value| *value *= 2);
    assert_eq!(totals(taken.iter().map(|t| &t.request)), twice);
    for (relay, profiles) in [(&first, 3 * 16), (&second, 6 * 16)] {
        let books = relay.until("all is sent", |m| m.books("otlp").queued == 0);
        assert_eq!(books.books("otlp").sent, profiles, "{}", relay.log());
        assert_eq!(books.books("otlp").dropped, 0);
    }
}

/// What both schemas of one profile are as OTLP.
fn both_as_otlp(bodies: [&Arrow; 2]) -> ExportProfilesServiceRequest {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    for body in bodies {
        let table = body.decode(64 << 20).expect("good Arrow");
        let added = builder.add_arrow(&Labels::default(), table);
        added.expect("it is converted");
    }
    ExportProfilesServiceRequest::decode(builder.finish()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_feed_a_collector() {
    let Some(binary) = support::needs_env("agents_feed_a_collector", "OTELCOL_BIN") else {
        return;
    };
    let sinks = [Sink::start(), Sink::start()];
    let collector = Collector::start(&binary, sinks[0].addr(), sinks[1].addr());
    let port = free_port();
    let relay = Relay::run(&format!(
        "receivers: {{parca: {{endpoint: \"{port}\"}}}}\n\
         exporters: {{otlp: {{endpoint: \"http://{}\"}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [parca], exporters: [otlp]}}}}\n",
        collector.grpc
    ));
    let synthetic = SyntheticArrow::busy(7);
    let (v1, v2) = (synthetic.v1().expect("v1"), synthetic.v2().expect("v2"));
    let agent = Agent::dial(port, 60.0).await;
    let stacks = v1.stacks().expect("of schema v1");
    let written = agent.write(v1.samples(), stacks, Habit::ReadsOn).await;
    written.expect("a success");
    let written = agent.write_arrow(v2.samples()).await;
    written.expect("a success");

    let expected = totals([&both_as_otlp([&v1, &v2])]);
    assert!(expected.values().sum::<i64>() > 0);
    for sink in &sinks {
        let all = |taken: &[support::sink::Taken]| {
            totals(taken.iter().map(|taken| &taken.request)) == expected
        };
        assert!(
            sink.wait(LIMIT, all),
            "{}\n{}",
            relay.log(),
            collector.log()
        );
    }
    let books = relay.until("all is sent", |m| m.books("otlp").queued == 0);
    assert_eq!(books.books("otlp").dropped, 0);
}

fn came_as(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        other => other.name(),
    }
}
