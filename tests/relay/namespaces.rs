//! Two network namespaces as two models: the relay and its programs in one, the
//! backend in the other, and a link between them that is cut and made thin. Only the
//! relay connects to the other side.
//!
//! The test runs itself again inside of each namespace, told by [`ROLE`] what to be.

use crate::{
    config,
    disk_queue::{Folder, names},
    harness::{Relay, until},
    otlp_in::{PROTOBUF, address, post, request},
    outages::settle_of,
    support::{self, sink::Sink},
    target::Target,
};
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const TEST: &str = "only_the_relay_connects_and_everything_arrives";
/// What this process is: `apps`, `backend`, or the test when it is not set.
const ROLE: &str = "NAMESPACE_ROLE";
/// Where the backend says what has arrived.
const ARRIVED: &str = "NAMESPACE_ARRIVED";

const APPS: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 1);
const BACKEND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 213, 7, 2)), 4317);

/// Two namespaces with a link between them, gone when dropped.
struct Models {
    apps: String,
    backend: String,
}

/// The process of the backend, which ends when it is dropped.
struct Backend(Child);

/// Runs `ip` or `tc`; what it said when it failed.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let output = command.args(words).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn must(command: &str) {
    run(command).unwrap_or_else(|told| panic!("{command}: {told}"));
}

// === impl Models ===

impl Models {
    fn new() -> Result<Self, String> {
        let pid = std::process::id();
        let models = Self {
            apps: format!("relay-apps-{pid}"),
            backend: format!("relay-backend-{pid}"),
        };
        let Self { apps, backend } = &models;
        run(&format!("ip netns add {apps}"))?;
        run(&format!("ip netns add {backend}"))?;
        run(&format!(
            "ip -n {apps} link add uplink type veth peer name downlink netns {backend}"
        ))?;
        run(&format!("ip -n {apps} address add {APPS}/30 dev uplink"))?;
        run(&format!(
            "ip -n {backend} address add {}/30 dev downlink",
            BACKEND.ip()
        ))?;
        for (model, link) in [(apps, "uplink"), (backend, "downlink")] {
            run(&format!("ip -n {model} link set lo up"))?;
            run(&format!("ip -n {model} link set {link} up"))?;
        }
        Ok(models)
    }

    /// This test in a namespace.
    fn inside(model: &str, role: &str, arrived: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", model]);
        command.arg(std::env::current_exe().expect("this program"));
        command.args([&format!("namespaces::{TEST}"), "--exact", "--nocapture"]);
        command.env(ROLE, role).env(ARRIVED, arrived);
        command
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        for model in [&self.apps, &self.backend] {
            // The link goes with it.
            let _ = run(&format!("ip netns delete {model}"));
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn only_the_relay_connects_and_everything_arrives() {
    let arrived = std::env::var_os(ARRIVED).map(PathBuf::from);
    match (std::env::var(ROLE).as_deref(), arrived) {
        (Ok("apps"), Some(arrived)) => return apps(&arrived),
        (Ok("backend"), Some(arrived)) => return backend(&arrived),
        _ => {}
    }
    let models = match Models::new() {
        Ok(models) => models,
        Err(told) => return support::skipped(TEST, &format!("no network namespaces: {told}")),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let arrived = folder.path().join("arrived");
    let mut backend = Models::inside(&models.backend, "backend", &arrived);
    let backend = backend.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let backend = Backend(backend.expect("ip runs"));
    until("the backend listens", || arrived.exists().then_some(()));
    let output = Models::inside(&models.apps, "apps", &arrived).output();
    let output = output.expect("ip runs");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
    // What that process skipped is seen as if this one had.
    for line in told.lines().filter(|line| line.starts_with("skipped: ")) {
        eprintln!("{line}");
    }
    // All connections that any process over there began, to anywhere.
    let began = active_opens(backend.0.id());
    assert_eq!(began, 0, "the backend began connections");
}

/// The connections that were begun in the namespace of a process.
fn active_opens(pid: u32) -> u64 {
    let page = fs::read_to_string(format!("/proc/{pid}/net/snmp")).expect("it runs");
    let mut lines = page.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "ActiveOpens");
    found.expect("it is counted").1.parse().expect("a number")
}

/// Takes what comes, and says so, until the test ends.
fn backend(arrived: &Path) {
    let sink = Sink::at(BACKEND);
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        let names: Vec<_> = sink
            .taken()
            .iter()
            .flat_map(|t| names(&t.request))
            .collect();
        let new = arrived.with_extension("new");
        fs::write(&new, names.join("\n")).expect("a file");
        fs::rename(new, arrived).expect("a file");
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
         exporters: {{otlp: {{endpoint: \"http://{BACKEND}\", timeout: 1s, {delivery}}}}}\n\
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
