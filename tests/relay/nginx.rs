//! nginx as the neighbour that speaks TLS: before the relay, for agents and clients of
//! OTLP, and behind it, where it wants certificates.

use crate::{
    agent::{Agent, File, Habit, Mark},
    certificates::Authority,
    config,
    disk_queue::names,
    far_end::{Behaviour, FarEnd, Log, generation::Generation},
    front::Nginx,
    harness::{LIMIT, Relay, finish},
    neighbours::find,
    otlp_in::{PROTOBUF, client, post, request},
    outages::settle_of,
    requests,
    support::sink::{Sink, Taken},
    target::Target,
};
use bytes::Bytes;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    net::ClientTls, settings::FilePath,
};
use prost::Message;
use std::{
    collections::BTreeSet, fs, net::SocketAddr, path::Path, process::Command, thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An agent's minute is a second.
pub const PACE: f64 = 60.0;

const SAMPLES: &[u8] = include_bytes!("../data/arrow/v1_samples.arrows");
const STACKS: &[u8] = include_bytes!("../data/arrow/v1_stacks.arrows");
const V2: &[u8] = include_bytes!("../data/arrow/v2.arrows");

/// How often an agent writes in two steps.
const WRITES: usize = 40;

/// The exporters of [`outgoing`].
const EXPORTERS: [&str; 3] = ["parca", "otlp", "otlp_http"];

/// The certificate of a server, or of a client, and what it trusts.
pub fn folder(own: &Authority, trusted: &Authority) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    certify(own, folder.path());
    trusted.write(&folder.path().join("ca.pem"));
    folder
}

fn certify(authority: &Authority, folder: &Path) {
    let certified = authority.certify();
    certified.write(&folder.join("cert.pem"), &folder.join("key.pem"));
}

/// Where a receiver listens.
pub fn listening(relay: &Relay, receiver: &str, protocol: &str) -> SocketAddr {
    let text = format!("receiver={receiver} protocol={protocol} endpoint=");
    let line = relay.logged(&text);
    let (_, rest) = line.split_once("endpoint=").expect("an endpoint");
    let end = rest.split_whitespace().next().expect("an endpoint");
    end.trim_matches('"').parse().expect("an address")
}

pub fn store() -> FarEnd {
    FarEnd::start(Behaviour {
        generation: Generation::V0_28,
        ..Behaviour::default()
    })
}

pub fn file(size: usize) -> File {
    File {
        build_id: format!("abcd{size:04x}"),
        bytes: (0..size).map(|at| (at % 251) as u8).collect(),
    }
}

/// The services whose profiles arrived.
fn services(taken: &[Taken]) -> BTreeSet<String> {
    taken.iter().flat_map(|t| names(&t.request)).collect()
}

pub fn attempts(relay: &Relay, exporter: &str, outcome: &str) -> u64 {
    let labels = [("exporter", exporter), ("outcome", outcome)];
    relay.metrics().sum("exporter_attempts_total", &labels)
}

#[test]
fn what_is_pushed_through_nginx_is_taken_and_answered() {
    let test = "what_is_pushed_through_nginx_is_taken_and_answered";
    let (Some(nginx), Some(curl)) = (find(test, "nginx"), find(test, "curl")) else {
        return;
    };
    let authority = Authority::new();
    let (store, sink) = (store(), Sink::start());
    let relay = Relay::run(&format!(
        "receivers:\n  \
         parca: {{endpoint: \"127.0.0.1:0\", upstream: {{endpoint: \"http://{}\"}}}}\n  \
         otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}, http: {{endpoint: \"127.0.0.1:0\"}}}}}}\n\
         exporters:\n  parca: {{{}}}\n  otlp: {{endpoint: \"http://{}\", {}}}\n\
         service:\n  pipelines:\n    profiles/agents: {{receivers: [parca], exporters: [parca]}}\n    \
         profiles: {{receivers: [otlp], exporters: [otlp]}}\n",
        store.addr(),
        config::to(store.addr(), ""),
        sink.addr(),
        config::delivery(""),
    ));
    let directives = format!(
        "client_max_body_size 0;\n    \
         location /parca. {{ grpc_pass grpc://{}; }}\n    \
         location /opentelemetry. {{ grpc_pass grpc://{}; }}\n    \
         location /v1development/ {{ proxy_pass http://{}; }}",
        listening(&relay, "parca", "grpc"),
        listening(&relay, "otlp", "grpc"),
        listening(&relay, "otlp", "http"),
    );
    let nginx = Nginx::start(&nginx, folder(&authority, &authority), &directives);

    let symbols = file(9 << 20);
    let _agent = Runtime::new().expect("a runtime").block_on(async {
        let tls = authority.client(&["h2"]);
        let agent = Agent::dial_tls(nginx.addr(), PACE, tls).await;
        let [samples, stacks, v2] = [SAMPLES, STACKS, V2].map(Bytes::from_static);
        agent.write_arrow(&v2).await.expect("a success");
        // Answers that come before an agent has said that this was all are whole.
        for at in 0..WRITES {
            let habit = if at % 2 == 0 {
                Habit::ReadsOn
            } else {
                Habit::Leaves
            };
            let asked = agent.write(&samples, &stacks, habit).await;
            asked.expect("a success").expect("a question");
        }
        agent.report_panic().await.expect("a success");
        assert_eq!(agent.upload(&symbols).await, Mark::ForGood);
        // The second time it hears that the file is there.
        assert_eq!(agent.upload(&symbols).await, Mark::ForGood);
        let tls = ClientTls {
            ca_file: Some(FilePath(nginx.folder().join("ca.pem"))),
            ..ClientTls::default()
        };
        let mut client = client(&format!("https://{}", nginx.addr()), tls);
        let message = ExportProfilesServiceRequest::decode(&*request(&["by-grpc"]));
        let sent = client.export(message.expect("the same messages")).await;
        sent.expect("a success");
        agent
    });
    let body = nginx.folder().join("request");
    fs::write(&body, request(&["by-http"])).expect("a file");
    let mut command = Command::new(curl);
    command
        .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
        .arg("--cacert")
        .arg(nginx.folder().join("ca.pem"))
        .args(["--header", "content-type: application/x-protobuf"])
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("https://{}/v1development/profiles", nginx.addr()));
    let (output, _) = finish(command);
    assert!(output.status.success(), "{output:?}\n{}", nginx.log());

    let all = |log: &Log| log.arrow.len() == 1 + WRITES && log.finished.len() == 1;
    assert!(store.wait(LIMIT, all), "{}\n{}", relay.log(), nginx.log());
    let log = store.log();
    let by_write = log.arrow.iter().filter(|arrow| arrow.stacks.is_some());
    assert_eq!(by_write.count(), WRITES);
    let crcs: Vec<_> = log.files.iter().map(|file| file.crc).collect();
    assert_eq!(crcs, [crc32fast::hash(&symbols.bytes)]);
    let both = ["by-grpc", "by-http"].map(str::to_owned).into();
    let arrived = |taken: &[Taken]| services(taken) == both;
    assert!(sink.wait(LIMIT, arrived), "{:?}", services(&sink.taken()));
}

/// A relay that sends by three exporters through one nginx: what it scrapes and what
/// agents push to `/parca.`, OTLP by gRPC and by HTTP.
fn outgoing(target: &Target, nginx: &Nginx, files: TempDir) -> Relay {
    let jobs = config::replicas("api", target.addr(), 5);
    let to = format!(
        "endpoint: \"https://{}\", timeout: 5s, \
         tls: {{ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}, {}",
        nginx.addr(),
        config::delivery(""),
    );
    Relay::run_in(
        files,
        &format!(
            "receivers:\n  pprof: {{scrape_configs: [{jobs}]}}\n  \
             parca: {{endpoint: \"127.0.0.1:0\"}}\n  \
             otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}\n\
             exporters:\n  parca: {{{to}}}\n  otlp: {{{to}}}\n  otlp_http: {{{to}}}\n\
             service:\n  pipelines:\n    \
             profiles/parca: {{receivers: [pprof, parca], exporters: [parca]}}\n    \
             profiles: {{receivers: [otlp], exporters: [otlp, otlp_http]}}\n"
        ),
    )
}

/// Where nginx passes on what [`outgoing`] sends.
fn inwards(store: SocketAddr, grpc: SocketAddr, http: SocketAddr) -> String {
    format!(
        "client_max_body_size 0;\n    \
         location /parca. {{ grpc_pass grpc://{store}; }}\n    \
         location /opentelemetry. {{ grpc_pass grpc://{grpc}; }}\n    \
         location /v1development/ {{ proxy_pass http://{http}; }}\n"
    )
}

const CERTIFIED: &str = "ssl_verify_client on;\n    ssl_client_certificate clients.pem;\n    ";

/// Waits until a file that was replaced may be looked at again.
fn replaced() {
    thread::sleep(Duration::from_secs(2));
}

#[test]
fn nothing_is_lost_while_certificates_on_both_sides_of_nginx_are_replaced() {
    let test = "nothing_is_lost_while_certificates_on_both_sides_of_nginx_are_replaced";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (servers, clients) = (Authority::new(), Authority::new());
    let (store, grpc, http) = (store(), Sink::start(), Sink::start());
    let files = folder(&servers, &clients);
    clients.write(&files.path().join("clients.pem"));
    let directives = inwards(store.addr(), grpc.addr(), http.addr());
    // Connections end all the time.
    let directives = format!("keepalive_requests 20;\n    {CERTIFIED}{directives}");
    let nginx = Nginx::start(&binary, files, &directives);
    let target = Target::good();
    let relay = outgoing(&target, &nginx, folder(&clients, &servers));
    let receiver = listening(&relay, "otlp", "http").to_string();
    let runtime = Runtime::new().expect("a runtime");
    let agent = Agent::dial(listening(&relay, "parca", "grpc"), PACE);
    let agent = runtime.block_on(agent);
    let mut pushed = BTreeSet::new();
    let mut push = |count: usize| {
        for _ in 0..count {
            let name = format!("p{}", pushed.len());
            assert_eq!(post(&receiver, PROTOBUF, &request(&[&name])).0, 200);
            pushed.insert(name);
            runtime.block_on(async {
                let v2 = Bytes::from_static(V2);
                agent.write_arrow(&v2).await.expect("a success");
                let [samples, stacks] = [SAMPLES, STACKS].map(Bytes::from_static);
                let written = agent.write(&samples, &stacks, Habit::ReadsOn).await;
                written.expect("a success");
            });
            thread::sleep(Duration::from_millis(20));
        }
        pushed.len()
    };
    let arrive = |what: &str, count: usize| {
        let all = |taken: &[Taken]| services(taken).len() == count;
        let stored = |log: &Log| log.arrow.len() == 2 * count;
        let arrived = grpc.wait(LIMIT, all) && http.wait(LIMIT, all) && store.wait(LIMIT, stored);
        assert!(arrived, "{what}\n{}\n{}", relay.log(), nginx.log());
    };
    let count = push(50);
    arrive("all arrive, connection by connection", count);
    for exporter in EXPORTERS {
        for outcome in ["retry", "died", "unauthorized", "unknown"] {
            assert_eq!(
                attempts(&relay, exporter, outcome),
                0,
                "{exporter} {outcome}"
            );
        }
    }

    // Another authority vouches for the server.
    let servers = Authority::new();
    certify(&servers, nginx.folder());
    nginx.reload();
    push(10);
    servers.write(&relay.folder().join("ca.pem"));
    let count = push(10);
    arrive("all arrive at the new certificate", count);

    // Another authority vouches for clients.
    let clients = Authority::new();
    clients.write(&nginx.folder().join("clients.pem"));
    nginx.reload();
    push(10);
    for exporter in EXPORTERS {
        relay.until("the old certificate is refused", |metrics| {
            let labels = [("exporter", exporter), ("outcome", "unauthorized")];
            metrics.sum("exporter_attempts_total", &labels) > 0
        });
    }
    replaced();
    certify(&clients, relay.folder());
    let count = push(10);
    arrive("all arrive with the new certificate", count);

    settle_of(&relay, &target, "parca");
    for exporter in EXPORTERS {
        let books = relay.books(exporter);
        assert_eq!(
            (books.dropped, books.sent),
            (0, books.enqueued),
            "{exporter}"
        );
    }
    let stored: BTreeSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    let served: BTreeSet<_> = target.served().into_iter().collect();
    let scraped = [("receiver", "pprof")];
    let scraped = relay
        .metrics()
        .sum("receiver_accepted_profiles_total", &scraped);
    assert_eq!(stored.len() as u64, scraped, "{}", relay.log());
    assert!(stored.is_subset(&served), "each is what was served");
    assert_eq!(relay.stop().code, Some(0));
}

#[test]
fn who_is_not_trusted_or_has_no_certificate_is_told_and_keeps_what_it_has() {
    let test = "who_is_not_trusted_or_has_no_certificate_is_told_and_keeps_what_it_has";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (servers, clients) = (Authority::new(), Authority::new());
    let (store, grpc, http) = (store(), Sink::start(), Sink::start());
    let files = folder(&servers, &clients);
    clients.write(&files.path().join("clients.pem"));
    let directives = inwards(store.addr(), grpc.addr(), http.addr());
    let nginx = Nginx::start(&binary, files, &format!("{CERTIFIED}{directives}"));
    let own = folder(&clients, &servers);
    Authority::new().write(&own.path().join("other.pem"));
    let to = |tls: &str| {
        let delivery = config::delivery("");
        format!(
            "endpoint: \"https://{}\", tls: {{{tls}}}, {delivery}",
            nginx.addr()
        )
    };
    let strangers = to("ca_file: ca.pem");
    let wary = to("ca_file: other.pem, cert_file: cert.pem, key_file: key.pem");
    let mut exporters = String::new();
    for id in EXPORTERS {
        exporters += &format!("  {id}: {{{strangers}}}\n  {id}/wary: {{{wary}}}\n");
    }
    let relay = Relay::run_in(
        own,
        &format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
             exporters:\n{exporters}\
             service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [parca, \
             parca/wary, otlp, otlp/wary, otlp_http, otlp_http/wary]}}}}\n"
        ),
    );
    let receiver = listening(&relay, "otlp", "http").to_string();
    let body = requests::sound("kept").encode_to_vec();
    assert_eq!(post(&receiver, PROTOBUF, &body).0, 200);
    let last_error = |id: &str| {
        let status = relay.json("/api/status");
        let exporters = status["exporters"].as_array().expect("a list").clone();
        let found = exporters
            .into_iter()
            .find(|exporter| exporter["exporter"] == id);
        found.expect("an exporter")["last_error"].to_string()
    };
    for id in EXPORTERS {
        let wary = format!("{id}/wary");
        relay.until("both have tried", |metrics| {
            let tried = |exporter: &str, outcome: &str| {
                let labels = [("exporter", exporter), ("outcome", outcome)];
                metrics.sum("exporter_attempts_total", &labels) > 1
            };
            tried(id, "unauthorized") && tried(&wary, "retry")
        });
        let told = last_error(id);
        assert!(told.contains("certificate"), "{id}: {told}");
        let told = last_error(&wary);
        assert!(
            told.contains("certificate") && told.contains("ca_file"),
            "{id}: {told}"
        );
    }
    // Whoever is in charge mends it.
    nginx.direct(&directives);
    nginx.reload();
    servers.write(&relay.folder().join("other.pem"));
    for id in EXPORTERS
        .map(str::to_owned)
        .into_iter()
        .chain(EXPORTERS.map(|id| format!("{id}/wary")))
    {
        let metrics = relay.until("it is sent", |metrics| {
            let books = metrics.books(&id);
            books.enqueued > 0 && books.queued == 0
        });
        assert_eq!(metrics.books(&id).dropped, 0, "{id}\n{}", relay.log());
    }
}
