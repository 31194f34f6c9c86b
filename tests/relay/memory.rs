//! Memory has a bound, whatever comes: ten times the load that the link carries is
//! refused or skipped with a reason, and what was accepted arrives.

use crate::{
    config,
    disk_queue::{Folder, names},
    harness::Relay,
    link::Link,
    metrics::Metrics,
    otlp_in::{PROTOBUF, address, client, insecure, request, try_post},
    outages::settle_of,
    support::sink::Sink,
    target::{Answer, Target},
};
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest as Ours,
    profile::pprof::{SyntheticProfile, compress},
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tonic::{Code, codec::CompressionEncoding};

const MEMORY: u64 = 64 << 20;
/// What the link carries, in bytes a second.
const LINK: u64 = 1 << 20;
/// Calls under way at once, by each of the two ways.
const CLIENTS: usize = 24;
/// The bodies of requests, in bytes before compression.
const SIZES: [usize; 4] = [32 << 10, 64 << 10, 128 << 10, 256 << 10];

/// What the clients did.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    /// The bytes that were offered, as they travelled.
    offered: AtomicU64,
    acknowledged: Mutex<BTreeSet<String>>,
    /// How often each answer other than success was heard.
    refusals: Mutex<BTreeMap<String, u64>>,
    over: AtomicBool,
}

/// Ends the clients, also when a test fails.
struct Over<'t>(&'t Tally);

/// Strings of a program, so many bytes of them.
fn strings(size: usize) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(size as u64);
    let mut word = || format!("{:064x}", random.random::<u128>());
    (0..size / 66).map(|_| word()).collect()
}

/// A request with one profile, under a name, with so many strings.
fn body(name: &str, strings: &[String]) -> ExportProfilesServiceRequest {
    let mut body = ExportProfilesServiceRequest::decode(&*request(&[name])).expect("a request");
    let tables = body.dictionary.as_mut().expect("tables");
    tables.string_table.extend_from_slice(strings);
    body
}

// === impl Over ===

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

// === impl Tally ===

impl Tally {
    fn name(&self) -> String {
        format!("request-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn offered(&self, bytes: usize) {
        self.offered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn acknowledged(&self, name: String) {
        self.acknowledged.lock().expect("no panic").insert(name);
    }

    fn refused(&self, answer: &str) {
        let mut refusals = self.refusals.lock().expect("no panic");
        *refusals.entry(answer.to_owned()).or_default() += 1;
    }

    /// Whether both ways were refused often enough.
    fn all_refused(&self) -> bool {
        let refusals = self.refusals.lock().expect("no panic");
        let of = |way: &str| {
            let fitting = refusals.iter().filter(|(told, _)| told.starts_with(way));
            fitting.map(|(_, times)| times).sum::<u64>()
        };
        of("http") >= 20 && of("grpc") >= 20
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Pushes over HTTP, plain and gzip, a connection each.
    fn push_http(&self, address: &str, at: usize) {
        let strings = strings(SIZES[at % SIZES.len()]);
        while !self.is_over() {
            let name = self.name();
            let mut bytes = body(&name, &strings).encode_to_vec();
            let mut headers = PROTOBUF.to_owned();
            if at.is_multiple_of(3) {
                bytes = compress(&bytes).to_vec();
                headers += "content-encoding: gzip\r\n";
            }
            self.offered(bytes.len());
            let (status, answer) = try_post(address, &headers, &bytes).expect("it answers");
            if status == 200 {
                self.acknowledged(name);
                continue;
            }
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains("retry-after"), "{answer}");
            let (_, told) = answer.split_once("\r\n\r\n").expect("a head");
            // The text is a string within a message.
            let told: String = told.chars().filter(|c| !c.is_control()).take(90).collect();
            assert_eq!(status, 503, "{told}");
            self.refused(&format!("http: {told}"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Pushes over gRPC, on one connection for several calls.
    fn push_grpc(&self, address: &str) {
        let plain = client(address, insecure());
        let gzip = plain.clone().send_compressed(CompressionEncoding::Gzip);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let calls = (0..CLIENTS).map(|at| {
            let mut client = if at.is_multiple_of(3) {
                gzip.clone()
            } else {
                plain.clone()
            };
            let strings = strings(SIZES[at % SIZES.len()]);
            async move {
                while !self.is_over() {
                    let name = self.name();
                    let bytes = body(&name, &strings).encode_to_vec();
                    self.offered(bytes.len());
                    let message = Ours::decode(&*bytes).expect("the same messages");
                    match client.export(message).await {
                        Ok(_) => self.acknowledged(name),
                        Err(status) => {
                            assert_eq!(status.code(), Code::Unavailable, "{status}");
                            // h2 closes a connection on which a thousand bodies went on
                            // behind their refusal, which may be tried again as well.
                            if !status.message().contains("too_many_internal_resets") {
                                self.refused(&format!("grpc: {}", status.message()));
                            }
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            }
        });
        runtime.block_on(futures_util::future::join_all(calls));
    }
}

/// Programs with profiles of 0.3 MB inflated, each like no other.
fn target() -> Target {
    let seed = AtomicU64::new(0);
    Target::start(move |_| {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        Answer::Profile(SyntheticProfile::heap(seed).encode())
    })
}

/// Scrapes and takes OTLP, and sends all of it by `link`.
fn yaml(storage: &str, queue: &str, link: &Link, target: &Target, service: &str) -> String {
    let jobs = config::replicas("api", target.addr(), 30);
    format!(
        "{storage}receivers:\n  \
           pprof: {{scrape_configs: [{jobs}]}}\n  \
           otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}\n\
         exporters: {{otlp: {{endpoint: \"http://{}\", {}}}}}\n\
         service:\n{service}  memory: {{limit: {MEMORY}B}}\n  \
           pipelines: {{profiles: {{receivers: [pprof, otlp], exporters: [otlp]}}}}\n",
        link.addr(),
        config::delivery(queue),
    )
}

/// What became of scrapes that the relay had no room for.
fn scrapes(metrics: &Metrics, outcomes: &[&str]) -> u64 {
    let of = |outcome: &&str| metrics.sum("scrapes_total", &[("outcome", outcome)]);
    outcomes.iter().map(of).sum()
}

/// Ten times what the link carries, until both ways of pushing and the scrapes have
/// heard `reason`; then all that was accepted arrives.
fn overload(storage: &str, queue: &str, service: &str, reason: &str, outcomes: &[&str]) -> Relay {
    let (sink, target, tally) = (Sink::start(), target(), Tally::default());
    let link = Link::to(sink.addr());
    link.set_rate(LINK);
    let relay = Relay::run(&yaml(storage, queue, &link, &target, service));
    let (http, grpc) = (address(&relay, "http"), address(&relay, "grpc"));
    thread::scope(|scope| {
        let _over = Over(&tally);
        for at in 0..CLIENTS {
            let (tally, http) = (&tally, &http);
            scope.spawn(move || tally.push_http(http, at));
        }
        scope.spawn(|| tally.push_grpc(&grpc));
        relay.until("all kinds of sources were refused", |metrics| {
            let used = metrics.sum("memory_used_bytes", &[]);
            assert!(used <= MEMORY, "{used}");
            let ten_times = tally.offered.load(Ordering::Relaxed) > 10 * link.carried();
            ten_times && tally.all_refused() && scrapes(metrics, outcomes) > 0
        });
    });
    relay.assert_memory_within(MEMORY);
    let refusals = tally.refusals.lock().expect("no panic").clone();
    assert!(
        refusals.keys().all(|told| told.contains(reason)),
        "{refusals:?}"
    );

    link.set_rate(0);
    settle_of(&relay, &target, "otlp");
    relay.assert_memory_within(MEMORY);
    let books = relay.books("otlp");
    assert_eq!(
        (books.dropped, books.sent),
        (0, books.enqueued),
        "{}",
        relay.log()
    );
    let taken = sink.taken();
    let arrived: BTreeSet<_> = taken.iter().flat_map(|t| names(&t.request)).collect();
    let acknowledged = tally.acknowledged.into_inner().expect("no panic");
    let lost: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert_eq!(
        relay.metrics().sum("memory_used_bytes", &[]),
        0,
        "all came back"
    );
    relay
}

#[test]
fn a_queue_in_memory_stays_within_the_limit_under_ten_times_the_load() {
    let reason = "the memory budget (service.memory.limit";
    overload("", "", "", reason, &["skipped_memory", "memory_limit"]);
}

#[test]
fn a_queue_on_disk_stays_within_the_limit_under_ten_times_the_load() {
    let folder = Folder::new();
    let queue = "storage: file_storage, max_bytes: 32MiB";
    let service = "  extensions: [file_storage]\n";
    let reason = "the queue is at its max_bytes";
    let relay = overload(&folder.storage(""), queue, service, reason, &["refused"]);
    // What waits on disk takes no memory but for what is read ahead.
    relay.assert_memory_within(MEMORY * 3 / 4);
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The largest frame that the server takes, from its SETTINGS.
fn largest_frame(stream: &mut TcpStream) -> u32 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut settings = vec![0; length];
    stream.read_exact(&mut settings).expect("settings");
    let largest = settings.chunks(6).find(|setting| setting[1] == 5);
    largest.map_or(16 << 10, |setting| {
        u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]])
    })
}

/// A connection with a call whose message begins with a frame that lacks its end.
fn unfinished(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(4, 0, 0, &[]));
    stream.write_all(&hello).expect("it reads");
    let largest = largest_frame(&mut stream);
    // POST, http, and two literals without names in the table.
    let mut headers = vec![0x83, 0x86];
    let path =
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export".as_bytes();
    for (name, value) in [
        (&b":path"[..], path),
        (b":authority", b"relay"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ] {
        headers.extend([0, name.len() as u8]);
        headers.extend(name);
        headers.push(value.len() as u8);
        headers.extend(value);
    }
    let mut call = frame(1, 4, 1, &headers);
    let data = frame(0, 0, 1, &vec![0; largest as usize]);
    call.extend(&data[..data.len() - 1]);
    stream.write_all(&call).expect("it reads");
    stream
}

/// What HTTP/2 keeps before anybody asks for it is counted, and bounded.
#[test]
fn frames_without_an_end_are_bounded() {
    let sink = Sink::start();
    let relay = Relay::run(&config_of(&sink, MEMORY));
    let address = address(&relay, "grpc");
    let open: Vec<_> = (0..400).map(|_| unfinished(&address)).collect();
    // All of it has been heard once somebody behind them is served.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let message = Ours::decode(&*request(&["other"])).expect("the same messages");
    let answer = runtime.block_on(client(&address, insecure()).export(message));
    answer.expect("others are served");
    relay.assert_memory_within(MEMORY);
    drop(open);
    relay.until("the memory is free again", |metrics| {
        metrics.sum("memory_used_bytes", &[]) < MEMORY / 16
    });
}

fn config_of(sink: &Sink, memory: u64) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         exporters: {{otlp: {{endpoint: \"http://{}\", {}}}}}\n\
         service:\n  memory: {{limit: {memory}B}}\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [otlp]}}}}\n",
        sink.addr(),
        config::delivery("")
    )
}
