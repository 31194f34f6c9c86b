//! A model with an app, an agent and a relay, another one with a gateway and a Parca,
//! and one port between them: everything arrives by it, marked with the model that it
//! is of, and the side of the Parca never connects to the other one.

use crate::{
    agent::{Agent, File, Habit, Mark},
    certificates::Authority,
    config,
    far_end::{
        Behaviour, FarEnd,
        generation::Generation,
        real::{RealParca, flat},
    },
    harness::Relay,
    models::{self, BACKEND, Models, publish, test_is_over},
    nginx_limits::{CPU, PERIOD},
    support,
    target::Target,
};
use profile_relay::profile::arrow::{Arrow, SyntheticArrow, write_v1, write_v2};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};
use tokio::runtime::Runtime;

const FAR_END: &str = "two_models::all_profiling_of_a_model_leaves_by_one_port";
const REAL: &str = "two_models::all_profiling_of_a_model_reaches_a_real_parca_by_one_port";

/// The port that is open.
const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(BACKEND), 7443);
/// One that is listened on as well, and closed.
const OTHER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(BACKEND), 7070);

/// Nothing comes in but by the open port, and no connection is begun from inside.
const RULES: &str = "table inet models {
    counter refused {}
    counter begun {}
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        tcp dport 7443 accept
        meta l4proto tcp counter name refused
    }
    chain output {
        type filter hook output priority 0; policy drop;
        oif lo accept
        tcp flags & (syn | ack) == syn counter name begun
        tcp sport 7443 accept
    }
}
";

/// An agent's minute is a second.
const PACE: f64 = 60.0;

const BUILD_ID: &str = "2d6912fd3dd64542f6f6294f4bf9cb6c265b3085";

/// What the side of the Parca is.
#[derive(Clone, Copy, PartialEq)]
enum Store {
    FarEnd,
    Real,
}

#[test]
fn all_profiling_of_a_model_leaves_by_one_port() {
    play(FAR_END, Store::FarEnd);
}

#[test]
fn all_profiling_of_a_model_reaches_a_real_parca_by_one_port() {
    if support::needs_env(REAL, "PARCA_BIN").is_some() {
        play(REAL, Store::Real);
    }
}

fn play(test: &'static str, store: Store) {
    match models::role() {
        Some((role, folder)) if role == "apps" => return apps(&folder, store),
        Some((role, _)) if role == "knock" => return assert_open(OTHER, true),
        Some((_, folder)) => return backend(&folder, store),
        None => {}
    }
    let models = match Models::new(test) {
        Ok(models) => models,
        Err(told) => return support::skipped(test, &format!("no network namespaces: {told}")),
    };
    let folder = models.folder();
    certificates(folder);
    let mut backend = models.begin(&models.backend, "backend");
    backend.until_written(&folder.join("report"));
    models.play(&models.apps, "knock");
    if let Err(told) = filter(&models.backend) {
        return support::skipped(test, &format!("one port cannot be left open: {told}"));
    }
    models.play(&models.apps, "apps");
    assert!(counted(&models.backend, "refused") > 0, "somebody knocked");
    assert_eq!(
        counted(&models.backend, "begun"),
        0,
        "connections to the model"
    );
}

/// A gateway that knows the model's relay by its certificate.
fn certificates(folder: &Path) {
    let path = |name: &str| folder.join(name);
    let (servers, clients) = (Authority::new(), Authority::new());
    servers.write(&path("servers.pem"));
    clients.write(&path("clients.pem"));
    let gateway = servers.certify_as("gateway", &[&BACKEND.to_string()]);
    gateway.write(&path("gateway.pem"), &path("gateway.key"));
    let model = clients.certify_as("model-a", &[]);
    model.write(&path("model-a.pem"), &path("model-a.key"));
}

/// Closes all ports of a namespace but one; what was said when that failed.
fn filter(model: &str) -> Result<(), String> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", model, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let written = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(RULES.as_bytes()));
    let Output { status, stderr, .. } = child.wait_with_output().expect("ip ends");
    match (status.success(), written) {
        (true, Some(Ok(()))) => Ok(()),
        _ => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
    }
}

/// The packets that a counter of the rules has seen.
fn counted(model: &str, counter: &str) -> u64 {
    let list = ["nft", "list", "counter", "inet", "models", counter];
    let output = Command::new("ip")
        .args(["netns", "exec", model])
        .args(list)
        .output();
    let text = output.expect("ip runs").stdout;
    let text = String::from_utf8_lossy(&text);
    let (_, rest) = text.split_once("packets ").expect("a counter");
    let number = rest.split(' ').next().expect("a number");
    number.parse().expect("a number")
}

fn assert_open(port: SocketAddr, expected: bool) {
    let open = TcpStream::connect_timeout(&port, Duration::from_secs(2)).is_ok();
    assert_eq!(open, expected, "{port}");
}

// === the side of the Parca ===

/// The gateway with a Parca behind it. Says what has arrived until the test ends.
fn backend(folder: &Path, store: Store) {
    let is_over = test_is_over();
    let _other = TcpListener::bind(OTHER).expect("the port is free");
    match store {
        Store::FarEnd => {
            let store = FarEnd::start(Behaviour {
                generation: Generation::V0_28,
                ..Behaviour::default()
            });
            // Away until the gateway has what it is there for.
            store.stop();
            let gateway = gateway(folder, store.addr());
            let mut is_away = true;
            while !is_over() {
                if is_away && folder.join("the gateway has it").exists() {
                    store.restart();
                    is_away = false;
                }
                report(folder, &gateway, &of_far_end(&store));
            }
        }
        Store::Real => {
            let runtime = Runtime::new().expect("a runtime");
            let binary = std::env::var("PARCA_BIN").expect("it is set");
            let parca = runtime.block_on(RealParca::start(&binary));
            let gateway = gateway(folder, parca.addr());
            while !is_over() {
                let arrived = runtime.block_on(of_real(&parca));
                report(folder, &gateway, &arrived);
            }
        }
    }
}

fn gateway(folder: &Path, store: SocketAddr) -> Relay {
    let file = |name: &str| folder.join(name).display().to_string();
    let (cert, key, clients) = (
        file("gateway.pem"),
        file("gateway.key"),
        file("clients.pem"),
    );
    Relay::run(&format!(
        "receivers:\n  parca:\n    endpoint: \"{GATEWAY}\"\n    \
         tls: {{cert_file: {cert}, key_file: {key}, client_ca_file: {clients}}}\n    \
         auth: {{only_listed: true, identities: {{model-a: {{labels: {{juju_model: \"{{name}}\"}}, metadata: {{x-scope-orgid: \"{{name}}\"}}}}}}}}\n    \
         upstream: {{endpoint: \"http://{store}\"}}\n\
         exporters: {{parca: {{{}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [parca], exporters: [parca]}}}}\n",
        config::to(store, ""),
    ))
}

fn report(folder: &Path, gateway: &Relay, arrived: &BTreeSet<String>) {
    let mut lines = arrived.clone();
    lines.insert(format!("queued {}", gateway.books("parca").queued));
    let lines: Vec<_> = lines.into_iter().collect();
    publish(&folder.join("report"), &lines.join("\n"));
    std::thread::sleep(Duration::from_millis(100));
}

fn of_far_end(store: &FarEnd) -> BTreeSet<String> {
    let log = store.log();
    let mut arrived = BTreeSet::new();
    for stored in &log.stored {
        let label = |name: &str| stored.labels.get(name).cloned().unwrap_or_default();
        arrived.insert(format!(
            "scraped {} of {}",
            label("job"),
            label("juju_model")
        ));
    }
    for tenant in log
        .requests
        .iter()
        .filter_map(|seen| seen.headers.get("x-scope-orgid"))
    {
        arrived.insert(format!("tenant {tenant}"));
    }
    for arrow in &log.arrow {
        let schema = if arrow.stacks.is_some() { "v1" } else { "v2" };
        let has = |text: &[u8]| arrow.samples.windows(text.len()).any(|found| found == text);
        let model = if has(b"juju_model") && has(b"model-a") {
            "model-a"
        } else {
            ""
        };
        arrived.insert(format!("{schema} of {model}"));
    }
    let finished = log.finished.len();
    for file in &log.files {
        let known = file.crc == crc32fast::hash(&symbols().bytes);
        arrived.insert(format!("symbols of {}, {known}, {finished}", file.build_id));
    }
    assert_eq!((store.crashes().len(), store.harms().len()), (0, 0));
    arrived
}

/// What queries say.
async fn of_real(parca: &RealParca) -> BTreeSet<String> {
    let mut arrived = BTreeSet::new();
    let always = (1, 4_000_000_000_000_000_000);
    for kind in parca.profile_types().await.unwrap_or_default() {
        for (what, selector) in [("scraped api", "job=\"api\""), ("v1", V1), ("v2", V2)] {
            let query = format!("{kind}{{juju_model=\"model-a\", {selector}}}");
            let Ok(merged) = parca.merged(&query, always, &[]).await else {
                continue;
            };
            let sum: i64 = flat(&merged).values().sum();
            let is_all = kind != CPU || sum == ROWS * PERIOD;
            if sum > 0 && is_all {
                arrived.insert(format!("{what} of model-a"));
            }
        }
    }
    let bytes = parca.debuginfo(BUILD_ID);
    if let Some(bytes) = bytes {
        let known = bytes == symbols().bytes;
        arrived.insert(format!("symbols of {BUILD_ID}, {known}, 1"));
    }
    arrived
}

// === the side of the programs ===

const ROWS: i64 = 300;
const V1: &str = "schema=\"v1\"";
const V2: &str = "schema=\"v2\"";

fn pushed(schema: &str) -> Arrow {
    let made = SyntheticArrow {
        rows: ROWS as u32,
        stacks: 40,
        depth: 8,
        processes: 1,
        ..SyntheticArrow::busy(7)
    };
    let mut table = made.table();
    let labels = [
        ("__name__", "parca_agent"),
        ("node", "node-1"),
        ("schema", schema),
    ];
    table.overlay(&labels.into_iter().collect());
    if schema == "v2" {
        return Arrow::v2(write_v2(&table, u64::MAX).expect("a body"));
    }
    let (samples, stacks) = write_v1(&table, u64::MAX).expect("a body");
    Arrow::v1(samples, stacks)
}

fn symbols() -> File {
    File {
        build_id: BUILD_ID.to_owned(),
        bytes: (0..9_u32 << 20).map(|at| (at % 251) as u8).collect(),
    }
}

/// A program, an agent and a relay, which is all that they know.
fn apps(folder: &Path, store: Store) {
    assert_open(GATEWAY, true);
    assert_open(OTHER, false);
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, cert, key) = (
        file("servers.pem"),
        file("model-a.pem"),
        file("model-a.key"),
    );
    let to = format!(
        "endpoint: \"https://{GATEWAY}\", tls: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}"
    );
    let target = Target::good();
    let job = config::job("api", &[target.addr()], "");
    let relay = Relay::run(&format!(
        "receivers:\n  pprof: {{scrape_configs: [{job}]}}\n  \
         parca: {{endpoint: \"127.0.0.1:0\", upstream: {{{to}}}}}\n\
         exporters: {{parca: {{{to}, {}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [pprof, parca], exporters: [parca]}}}}\n",
        config::delivery(""),
    ));
    let listening = crate::otlp_in::address(&relay, "grpc");
    let runtime = Runtime::new().expect("a runtime");
    let agent = Agent::dial(listening.parse().expect("an address"), PACE);
    let agent = runtime.block_on(agent);
    runtime.block_on(async {
        let v2 = pushed("v2");
        agent.write_arrow(v2.samples()).await.expect("a success");
        let v1 = pushed("v1");
        let stacks = v1.stacks().expect("stacks");
        let written = agent.write(v1.samples(), stacks, Habit::Leaves).await;
        written.expect("a success").expect("a question");
    });
    relay.until("the gateway has it all", |metrics| {
        let books = metrics.books("parca");
        books.sent >= 4 && books.dropped == 0
    });
    publish(&folder.join("the gateway has it"), "");
    arrive(
        folder,
        &relay,
        &["scraped api of model-a", "v1 of model-a", "v2 of model-a"],
    );
    if store == Store::FarEnd {
        arrive(folder, &relay, &["tenant model-a"]);
    }
    let mark = runtime.block_on(agent.upload(&symbols()));
    let calls = agent.log.lock().expect("a lock").clone();
    assert_eq!(mark, Mark::ForGood, "{calls:?}\n{}", relay.log());
    let stored = format!("symbols of {BUILD_ID}, true, 1");
    arrive(folder, &relay, &[&stored, "queued 0"]);
    // It is asked about the same file again, and told that it is there.
    let calls = || agent.log.lock().expect("a lock").len();
    let before = calls();
    assert_eq!(runtime.block_on(agent.upload(&symbols())), Mark::ForGood);
    assert_eq!(calls(), before + 1);
    let models: BTreeSet<_> = lines(folder)
        .into_iter()
        .filter(|line| line.contains(" of "))
        .collect();
    assert!(
        models
            .iter()
            .all(|line| line.ends_with("of model-a") || *line == stored),
        "{models:?}"
    );
    assert_eq!(relay.stop().code, Some(0));
}

fn lines(folder: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join("report")).expect("the backend reports");
    text.lines().map(str::to_owned).collect()
}

/// Waits until the other side reports all of these.
fn arrive(folder: &Path, relay: &Relay, expected: &[&str]) {
    let missing = || {
        let lines = lines(folder);
        let missing = expected.iter().filter(|line| !lines.contains(**line));
        missing.copied().collect::<Vec<_>>()
    };
    let deadline = std::time::Instant::now() + crate::harness::LIMIT;
    while !missing().is_empty() {
        let late = std::time::Instant::now() > deadline;
        assert!(
            !late,
            "{:?} of {:?}\n{}",
            missing(),
            lines(folder),
            relay.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
