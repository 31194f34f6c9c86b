//! Another configuration takes the place of the one that runs, and nobody
//! notices whom it does not concern.

mod load;
mod process;

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::{LIMIT, Relay, program, until},
    neighbours::free_port,
    otlp_in::{PROTOBUF, address, post, request},
    support::sink::{Sink, Taken},
    target::Target,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// A relay that takes OTLP over HTTP and sends it on.
pub fn relay(receiver: &str, exporters: &str, service: &str) -> String {
    let ids: Vec<_> = exporters.lines().map(|l| l.split(':').next()).collect();
    let ids: Vec<_> = ids.into_iter().flatten().map(str::trim).collect();
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"{receiver}}}}}}}}}\n\
         exporters:\n{exporters}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [{}]}}}}\n\
         {service}\n",
        ids.join(", ")
    )
}

/// An exporter that sends what comes at once, and again soon.
pub fn to(id: &str, sink: SocketAddr, more: &str) -> String {
    format!("  {id}: {{endpoint: \"http://{sink}\", {}{more}}}", {
        config::delivery("")
    })
}

/// Replaces the configuration in one step.
pub fn write(relay: &Relay, yaml: &str) {
    let new = relay.folder().join(".relay.yaml.new");
    fs::write(&new, yaml).expect("a file");
    fs::rename(new, relay.folder().join("relay.yaml")).expect("a file");
}

/// Replaces the configuration and asks for it; the changes.
pub fn load(relay: &Relay, yaml: &str) -> serde_json::Value {
    write(relay, yaml);
    let (status, told) = relay.post("/-/reload");
    assert_eq!(status, 200, "{told}\n{}", relay.log());
    serde_json::from_str(&told).expect("JSON")
}

pub fn push(address: &str, id: &str) -> u16 {
    post(address, PROTOBUF, &request(&[id])).0
}

/// How often each name arrived.
pub fn arrived<'s>(sinks: impl IntoIterator<Item = &'s Sink>) -> BTreeMap<String, usize> {
    let mut arrived = BTreeMap::new();
    for sink in sinks {
        for name in sink.taken().iter().flat_map(names) {
            *arrived.entry(name).or_default() += 1;
        }
    }
    arrived
}

fn names(taken: &Taken) -> Vec<String> {
    let resources = taken.request.resource_profiles.iter();
    let attributes = resources.filter_map(|r| r.resource.as_ref()?.attributes.first());
    let values = attributes.filter_map(|a| match a.value.as_ref()?.value.as_ref()? {
        opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(s) => Some(s),
        _ => None,
    });
    values.cloned().collect()
}

pub fn gets(sink: &Sink, name: &str) {
    let got = sink.wait(LIMIT, |taken| {
        taken.iter().any(|t| names(t).iter().any(|n| n == name))
    });
    assert!(got, "{name} did not arrive");
}

pub const NO_WATCH: &str = "  reload: {watch: false}";

#[test]
fn a_changed_file_a_hangup_and_a_request_load_it() {
    let sinks = [(); 4].map(|()| Sink::start());
    let yaml = |at: usize, service| relay("", &to("otlp_http", sinks[at].addr(), ""), service);
    let relay = Relay::run(&yaml(0, ""));
    let http = address(&relay, "http");
    assert_eq!(push(&http, "first"), 200);
    gets(&sinks[0], "first");

    write(&relay, &yaml(1, ""));
    relay.logged("because=\"a file changed\"");
    assert_eq!(push(&http, "by file"), 200);
    gets(&sinks[1], "by file");

    // Nobody watches any more.
    let changes = load(&relay, &yaml(1, NO_WATCH));
    assert_eq!(changes["changed"], serde_json::json!(["service.reload"]));
    write(&relay, &yaml(2, NO_WATCH));
    relay.signal("HUP");
    relay.logged("because=SIGHUP");
    assert_eq!(push(&http, "by signal"), 200);
    gets(&sinks[2], "by signal");

    let before = relay.page("/api/config");
    write(&relay, &yaml(3, NO_WATCH));
    thread::sleep(Duration::from_millis(700));
    assert_eq!(relay.page("/api/config"), before, "nobody watches");
    let changes = load(&relay, &yaml(3, NO_WATCH));
    assert_eq!(
        changes["changed"],
        serde_json::json!(["exporters.otlp_http"])
    );
    assert_eq!(push(&http, "by request"), 200);
    gets(&sinks[3], "by request");
    let hash = changes["hash"].as_str().expect("a hash");
    let info = format!("profile_relay_config_info{{hash=\"{hash}\"}} 1");
    assert!(relay.page("/metrics").contains(&info));
    assert!(
        relay
            .page("/")
            .contains(&format!("configuration {hash}, loaded at"))
    );
    // The same again.
    let changes = load(&relay, &yaml(3, NO_WATCH));
    assert_eq!(changes["changed"], serde_json::json!([]));
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn an_error_leaves_everything_as_it_was() {
    let [sink, other] = [(); 2].map(|()| Sink::start());
    let good = relay("", &to("otlp_http", sink.addr(), ""), NO_WATCH);
    let relay_ = Relay::run(&good);
    let http = address(&relay_, "http");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let in_use = taken.local_addr().expect("an address");
    let before = relay_.page("/api/config");
    let mut kept = Kept::open(&http);
    assert!(kept.push("first"));

    let changed = to("otlp_http", other.addr(), "");
    let with = |exporter: &str| relay("", exporter, NO_WATCH);
    let no_authority = to("otlp_http", other.addr(), ", tls: {ca_file: nowhere.pem}");
    let second = format!(
        "receivers: {{otlp/more: {{protocols: {{http: {{endpoint: \"{in_use}\"}}}}}}, otlp: "
    );
    let in_use = with(&changed)
        .replace("receivers: {otlp: ", &second)
        .replace("receivers: [otlp]", "receivers: [otlp, otlp/more]");
    let cases = [
        (400, "this is no YAML", "receivers: [".to_owned()),
        (
            400,
            "did you mean endpoint?",
            with(&changed.replace("endpoint", "endpont")),
        ),
        (
            400,
            "nowhere.pem",
            with(&no_authority.replace("http://", "https://")),
        ),
        (
            400,
            "no exporter of type",
            with(&changed.replace("otlp_http", "nothing")),
        ),
        (
            400,
            "VARIABLE_THAT_IS_NOT_SET",
            with(&changed.replace("100ms", "\"${env:VARIABLE_THAT_IS_NOT_SET}\"")),
        ),
        (500, "another process", in_use),
    ];
    for (status, text, yaml) in cases {
        write(&relay_, &yaml);
        let (got, told) = relay_.post("/-/reload");
        assert_eq!(got, status, "{text}\n{told}");
        assert!(told.contains(text), "{text}\n{told}");
        assert_eq!(relay_.page("/api/config"), before, "{text}");
        let page = relay_.page("/metrics");
        assert!(page.contains("profile_relay_config_last_reload_successful 0"));
        let config = &relay_.json("/api/status")["config"];
        let error = config["last_reload_error"].as_str().expect("an error");
        assert!(error.contains(text), "{text}\n{error}");
        assert!(relay_.page("/").contains(text), "{text}");
        assert!(kept.push(text), "{text}");
        gets(&sink, text);
    }
    relay_.logged("reload failed, the configuration before runs on");
    assert_eq!(arrived([&other]), BTreeMap::new());

    write(&relay_, "receivers: [");
    relay_.signal("HUP");
    until("the hangup's error is logged", || {
        relay_.log().contains("because=SIGHUP").then_some(())
    });
    let changes = load(&relay_, &good);
    assert_eq!(changes["changed"], serde_json::json!([]));
    let page = relay_.page("/metrics");
    assert!(page.contains("profile_relay_config_last_reload_successful 1"));
    assert!(kept.push("last"), "the connection was never closed");
}

/// A connection that is kept.
struct Kept(TcpStream);

impl Kept {
    fn open(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        Self(stream)
    }

    /// Pushes with success; whether the connection goes on.
    fn push(&mut self, id: &str) -> bool {
        let body = request(&[id]);
        let head = format!(
            "POST /v1development/profiles HTTP/1.1\r\nhost: relay\r\n{PROTOBUF}content-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(head.as_bytes()).expect("it reads");
        self.0.write_all(&body).expect("it reads");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        // Success has no body.
        assert!(head.contains("content-length: 0"), "{head}");
        !head.contains("connection: close")
    }
}

#[test]
fn a_swapped_folder_is_loaded_as_kubernetes_mounts_it() {
    let sinks = [(); 2].map(|()| Sink::start());
    let folder = tempfile::tempdir().expect("a folder");
    let swap = |version: usize| {
        let yaml = relay("", &to("otlp_http", sinks[version].addr(), ""), "");
        let data = folder.path().join(format!("..{version}"));
        fs::create_dir(&data).expect("a folder");
        fs::write(data.join("relay.yaml"), yaml).expect("a file");
        symlink(format!("..{version}"), folder.path().join("..new")).expect("a link");
        fs::rename(folder.path().join("..new"), folder.path().join("..data")).expect("a swap");
    };
    swap(0);
    let mounted = folder.path().join("relay.yaml");
    symlink("..data/relay.yaml", &mounted).expect("a link");
    let mut command = program();
    command.args(["run", "--config"]).arg(&mounted);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let relay = Relay::start(tempfile::tempdir().expect("a folder"), command);
    let http = address(&relay, "http");
    assert_eq!(push(&http, "before"), 200);
    gets(&sinks[0], "before");
    swap(1);
    // Kubernetes removes what is behind the old link.
    fs::remove_dir_all(folder.path().join("..0")).expect("a folder");
    relay.logged("because=\"a file changed\"");
    assert_eq!(push(&http, "after"), 200);
    gets(&sinks[1], "after");
    assert!(!relay.log().contains("reload failed"), "{}", relay.log());
}

#[test]
fn what_the_old_far_end_did_not_take_arrives_at_the_new_one() {
    let down = free_port();
    let relay_ = Relay::run(&relay("", &to("otlp_http", down, ""), NO_WATCH));
    let http = address(&relay_, "http");
    let names: Vec<_> = (0..40).map(|at| format!("p{at}")).collect();
    for name in &names {
        assert_eq!(push(&http, name), 200);
    }
    relay_.until("it was tried", |metrics| {
        metrics.sum("exporter_attempts_total", &[("outcome", "retry")]) > 3
    });
    assert_eq!(relay_.books("otlp_http").queued, 40);
    let sink = Sink::start();
    load(
        &relay_,
        &relay("", &to("otlp_http", sink.addr(), ""), NO_WATCH),
    );
    relay_.until("all are sent", |m| m.books("otlp_http").sent == 40);
    let arrived = arrived([&sink]);
    assert_eq!(arrived.len(), 40);
    assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
}

#[test]
fn no_connection_is_refused_while_a_receiver_is_changed() {
    let sink = Sink::start();
    let yaml = |at: usize| {
        let more = format!(", max_connections: {}", 1_000 + at);
        relay(&more, &to("otlp_http", sink.addr(), ""), NO_WATCH)
    };
    let relay_ = Relay::run(&yaml(0));
    let http = address(&relay_, "http");
    let over = AtomicBool::new(false);
    let pushed = thread::scope(|scope| {
        let pushers: Vec<_> = (0..4)
            .map(|pusher| {
                let (http, over) = (&http, &over);
                scope.spawn(move || {
                    let mut pushed = 0;
                    let mut kept = Kept::open(http);
                    while !over.load(Ordering::Relaxed) {
                        // Each connection is new, or kept until it is closed.
                        let id = format!("{pusher}-{pushed}");
                        if pusher % 2 == 0 {
                            assert_eq!(push(http, &id), 200);
                        } else if !kept.push(&id) {
                            kept = Kept::open(http);
                        }
                        pushed += 1;
                    }
                    pushed
                })
            })
            .collect();
        for at in 1..=20 {
            let changes = load(&relay_, &yaml(at));
            assert_eq!(changes["changed"], serde_json::json!(["receivers.otlp"]));
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
        let counts = pushers.into_iter().map(|p| p.join().expect("all is well"));
        counts.sum::<u64>()
    });
    assert!(pushed > 100, "{pushed}");
    relay_.until("all are sent", |m| m.books("otlp_http").sent == pushed);
    let ended = relay_.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
}

#[test]
fn scrapes_keep_their_pace_whether_the_receiver_stays_or_changes() {
    let target = Target::good();
    let stores = [(); 2].map(|()| FarEnd::start(Behaviour::default()));
    let yaml = |at: usize| {
        // Every third configuration changes the receiver too.
        let more = format!("keep_dropped_targets: {}", at / 3);
        let jobs = [config::job("api", &[target.addr()], &more)];
        let exporter = config::to(stores[at % 2].addr(), "");
        config::relay(&jobs, &exporter, NO_WATCH)
    };
    let relay = Relay::run(&yaml(0));
    relay.until("it is scraped", |m| m.accepted() > 0);
    for at in 1..=30 {
        load(&relay, &yaml(at));
        thread::sleep(Duration::from_millis(170));
    }
    let shown = relay.json("/api/targets");
    assert_eq!(shown["targets"].as_array().map(Vec::len), Some(1));
    let times: Vec<_> = target.requests().into_iter().map(|r| r.at).collect();
    let gaps: Vec<_> = times
        .windows(2)
        .map(|w| w[1].duration_since(w[0]).unwrap_or_default().as_millis())
        .collect();
    assert!(gaps.len() >= 4, "{gaps:?}");
    assert!(
        gaps.iter().all(|gap| (500..1_700).contains(gap)),
        "none is doubled, none is missed: {gaps:?}"
    );
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("scrapes_total", &[("outcome", "cancelled")]), 0);
    let targets = metrics.sum("targets", &[("job", "api")]);
    assert_eq!(targets, 1);
    target.set(|_| crate::target::not_found());
    relay.until("all are sent", |m| m.books("parca").queued == 0);
    let stored: usize = stores.iter().map(|s| s.stored().len()).sum();
    assert_eq!(stored as u64, relay.metrics().accepted());
}

#[test]
fn one_bad_job_is_left_out_and_the_others_go_on() {
    let [good, late] = [(); 2].map(|()| Target::good());
    let store = FarEnd::start(Behaviour::default());
    let exporter = config::to(store.addr(), "");
    let one = config::job("good", &[good.addr()], "");
    let yaml = config::relay(std::slice::from_ref(&one), &exporter, NO_WATCH);
    let relay = Relay::run(&yaml);
    let bad = config::job("bad", &[late.addr()], "scheme: ftp");
    let two = config::job("late", &[late.addr()], "");
    let changes = load(
        &relay,
        &config::relay(&[one, bad, two], &exporter, NO_WATCH),
    );
    assert_eq!(changes["changed"], serde_json::json!(["receivers.pprof"]));
    let left_out = changes["left_out"][0].as_str().expect("a reason");
    assert!(
        left_out.contains("scrape_configs[1].scheme") && left_out.contains("relay.yaml:1:"),
        "{left_out}"
    );
    relay.logged("scrape job is disabled");
    let seen = good.requests().len();
    until("both good jobs are scraped", || {
        (!late.requests().is_empty() && good.requests().len() > seen).then_some(())
    });
    let jobs = relay.json("/api/targets");
    let jobs = jobs["targets"].as_array().expect("targets").iter();
    let jobs: Vec<_> = jobs.map(|t| t["job"].clone()).collect();
    assert_eq!(jobs, ["good", "late"]);
}

#[test]
fn components_come_and_go_and_what_is_gone_is_shown_no_more() {
    let sinks = [(); 2].map(|()| Sink::start());
    let [one, two] = [
        to("otlp_http/one", sinks[0].addr(), ""),
        to("otlp_http/two", sinks[1].addr(), ""),
    ];
    let relay_ = Relay::run(&relay("", &format!("{one}\n{two}"), NO_WATCH));
    let http = address(&relay_, "http");
    assert_eq!(push(&http, "to both"), 200);
    let changes = load(&relay_, &relay("", &one, NO_WATCH));
    assert_eq!(
        changes["removed"],
        serde_json::json!(["exporters.otlp_http/two"])
    );
    assert_eq!(push(&http, "to one"), 200);
    gets(&sinks[0], "to one");
    gets(&sinks[1], "to both");
    relay_.until("the other is gone", |m| !m.text().contains("otlp_http/two"));
    let status = relay_.json("/api/status").to_string();
    assert!(!status.contains("otlp_http/two"), "{status}");
    let pipelines = relay_.json("/api/pipelines").to_string();
    assert!(
        pipelines.contains(r#""exporters":["otlp_http/one"]"#),
        "{pipelines}"
    );
    assert_eq!(arrived([&sinks[1]]).len(), 1);
    load(&relay_, &relay("", &format!("{one}\n{two}"), NO_WATCH));
    assert_eq!(push(&http, "to both again"), 200);
    gets(&sinks[1], "to both again");
}
