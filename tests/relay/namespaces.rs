//! Two network namespaces as two models: the relay and its programs in one, the
//! backend in the other, and a link between them that is cut and made thin. Only the
//! relay connects to the other side.

use crate::{
    config,
    disk_queue::{Folder, names},
    harness::{Relay, until},
    models::{self, BACKEND, Models, must, publish, run, test_is_over},
    otlp_in::{PROTOBUF, address, post, request},
    outages::settle_of,
    support::{self, sink::Sink},
    target::Target,
};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

const TEST: &str = "namespaces::only_the_relay_connects_and_everything_arrives";

const SINK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(BACKEND), 4317);

/// Where the backend says what has arrived.
fn arrived_in(folder: &Path) -> PathBuf {
    folder.join("arrived")
}

#[test]
fn only_the_relay_connects_and_everything_arrives() {
    match models::role() {
        Some((role, folder)) if role == "apps" => return apps(&arrived_in(&folder)),
        Some((_, folder)) => return backend(&arrived_in(&folder)),
        None => {}
    }
    let models = match Models::new(TEST) {
        Ok(models) => models,
        Err(told) => return support::skipped(TEST, &format!("no network namespaces: {told}")),
    };
    let mut backend = models.begin(&models.backend, "backend");
    backend.until_written(&arrived_in(models.folder()));
    models.play(&models.apps, "apps");
    assert_eq!(backend.active_opens(), 0, "the backend began connections");
}

/// Takes what comes, and says so, until the test ends.
fn backend(arrived: &Path) {
    let sink = Sink::at(SINK);
    let is_over = test_is_over();
    while !is_over() {
        let names: Vec<_> = sink
            .taken()
            .iter()
            .flat_map(|t| names(&t.request))
            .collect();
        publish(arrived, &names.join("\n"));
        thread::sleep(Duration::from_millis(50));
    }
}

/// The relay, a program that it scrapes and one that pushes, and what happens to
/// their link.
fn apps(arrived: &Path) {
    let (folder, target) = (Folder::new(), Target::good());
    let jobs = config::replicas("api", target.addr(), 5);
    let delivery = config::delivery("storage: file_storage");
    let relay = Relay::run(&format!(
        "{}receivers:\n  pprof: {{scrape_configs: [{jobs}]}}\n  \
         otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}\n\
         exporters: {{otlp: {{endpoint: \"http://{SINK}\", timeout: 1s, {delivery}}}}}\n\
         service:\n  extensions: [file_storage]\n  \
         pipelines: {{profiles: {{receivers: [pprof, otlp], exporters: [otlp]}}}}\n",
        folder.storage(""),
    ));
    let http = address(&relay, "http");
    let mut pushed = Vec::new();
    let mut push = |count: usize| {
        for _ in 0..count {
            let name = format!("p{}", pushed.len());
            let (status, _) = post(&http, PROTOBUF, &request(&[&name]));
            assert_eq!(status, 200);
            pushed.push(name);
            relay.metrics();
            thread::sleep(Duration::from_millis(20));
        }
        pushed.len()
    };
    let sent = |what: &str, count: usize| {
        until(what, || (has_arrived(arrived).len() >= count).then_some(()));
    };

    let count = push(20);
    sent("all arrive by a good link", count);

    must("ip link set uplink down");
    let before = relay.books("otlp").sent;
    push(50);
    let books = relay.until("the attempts fail", |m| {
        m.sum("exporter_attempts_total", &[("outcome", "ok")]) > 0
            && m.sum("exporter_attempts_total", &[("outcome", "retry")]) > 0
    });
    assert!(
        books.books("otlp").queued >= 50,
        "{:?}",
        books.books("otlp")
    );
    assert!(books.books("otlp").sent <= before + 10, "nothing passes");
    must("ip link set uplink up");
    let count = push(1);
    sent("all arrive once the link is back", count);

    match run("tc qdisc add dev uplink root tbf rate 256kbit burst 4kb latency 100ms") {
        Ok(()) => {
            let count = push(30);
            sent("all arrive by a thin link", count);
            must("tc qdisc delete dev uplink root");
        }
        Err(told) => support::skipped(TEST, &format!("a thin link: {told}")),
    }

    settle_of(&relay, &target, "otlp");
    let metrics = relay.metrics();
    let books = metrics.books("otlp");
    assert_eq!(
        (books.dropped, books.sent),
        (0, books.enqueued),
        "{}",
        relay.log()
    );
    let scraped = metrics.sum("receiver_accepted_profiles_total", &[("receiver", "pprof")]);
    assert!(scraped > 0, "it was scraped");
    let names = has_arrived(arrived);
    let lost: Vec<_> = pushed
        .iter()
        .filter(|name| !names.contains(*name))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_nobody_is_let_in();
    assert_eq!(relay.stop().code, Some(0));
}

fn has_arrived(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).expect("the backend writes");
    let names = text.lines().filter(|name| name.starts_with('p'));
    names.map(str::to_owned).collect()
}

/// Nothing listens where the other side could reach it.
fn assert_nobody_is_let_in() {
    let listening = Command::new("ss")
        .args(["-Hltn"])
        .output()
        .expect("ss runs");
    let listening = String::from_utf8_lossy(&listening.stdout).into_owned();
    let local: Vec<_> = listening
        .lines()
        .filter_map(|l| l.split_whitespace().nth(3))
        .collect();
    assert!(local.len() >= 3, "admin, otlp and the target: {listening}");
    for address in local {
        assert!(address.starts_with("127.0.0.1:"), "{listening}");
    }
}
