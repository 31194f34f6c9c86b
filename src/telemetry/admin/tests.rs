use super::*;
use crate::telemetry::{
    metrics::{BuildInfo, ConfigMetrics, ProcessMetrics},
    reload::{ReloadAnswer, ReloadRequest},
    self_profile::tests::{Burner, ONE_AT_A_TIME, burning},
    status::{Health as TargetHealth, PipelineStatus, RunningConfig, TargetStatus, TargetsView},
};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;

/// An answer of the endpoint.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let of_name = |line: &&str| {
            line.split_once(':')
                .is_some_and(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let line = self.head.lines().find(of_name)?;
        Some(line.split_once(':')?.1.trim())
    }
}

/// A running endpoint.
struct Endpoint {
    address: SocketAddr,
    state: AdminState,
    handle: AdminHandle,
    requests: mpsc::Receiver<ReloadRequest>,
}

impl Endpoint {
    fn start() -> Self {
        let (reloads, requests) = Reloads::channel();
        let state = AdminState {
            metrics: Metrics::default(),
            status: Status::default(),
            health: Health::default(),
            memory: MemoryUse::new(|| 1, || 2),
            reloads,
        };
        let bound = Server::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let handle = bound.start(state.clone()).unwrap();
        Self {
            address,
            state,
            handle,
            requests,
        }
    }

    fn send(&self, method: &str, path: &str, header: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, header: &str) -> Answer {
        read_answer(self.send(method, path, header))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes[end + 4..].to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunked(&body);
    }
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body,
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

/// Waits until `condition`, for at most twenty seconds.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn target(job: &str, number: usize, health: TargetHealth) -> TargetStatus {
    let url = format!("http://10.0.0.1:{number}/debug/pprof/heap");
    let labels = BTreeMap::from([
        ("__name__".to_owned(), "memory".to_owned()),
        ("instance".to_owned(), format!("a\"\\\n{number}")),
    ]);
    let scraped = health != TargetHealth::Unknown;
    TargetStatus {
        receiver: "pprof".to_owned(),
        job: job.to_owned(),
        url,
        labels,
        discovered_labels: BTreeMap::new(),
        health,
        last_error: None,
        last_scrape: scraped.then_some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
        last_duration_seconds: scraped.then_some(0.25),
        last_size_bytes: (health == TargetHealth::Up).then_some(4_096),
        scrapes_ok: 3,
        scrapes_failed: 2,
        scrapes_skipped: 1,
    }
}

struct Targets(Vec<TargetStatus>);

impl TargetsView for Targets {
    fn targets(&self) -> Vec<TargetStatus> {
        self.0.clone()
    }
}

impl Endpoint {
    fn show(&self, targets: Vec<TargetStatus>) {
        let id = "pprof".parse().unwrap();
        self.state
            .status
            .publish_targets(&id, Arc::new(Targets(targets)));
    }
}

#[test]
fn every_listed_page_answers_and_the_rest_is_told_what_there_is() {
    let endpoint = Endpoint::start();
    let index = endpoint.get("/");
    assert_eq!(index.status, 200);
    let pages = PATHS.iter().map(|(path, _)| *path);
    for path in pages.filter(|path| !path.ends_with("/profile") && *path != "/-/reload") {
        assert!(index.text().contains(path), "{path}");
        let get = endpoint.get(path);
        assert_ne!(get.status, 404, "{path}");
        let head = endpoint.ask("HEAD", path, "");
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        let post = endpoint.ask("POST", path, "Content-Length: 0\r\n");
        assert_eq!(post.status, 405, "{path}");
        assert_eq!(post.header("allow"), Some("GET,HEAD"), "{path}");
    }
    let missing = endpoint.get("/metricz");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/metrics/targets"));
    endpoint.handle.shutdown();
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let endpoint = Endpoint::start();
    endpoint.state.metrics.set::<BuildInfo>();
    endpoint.state.metrics.collect(ProcessMetrics::default());
    endpoint
        .state
        .metrics
        .collect(endpoint.state.memory.clone());
    let text = endpoint.get("/metrics");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        text.text()
            .contains("\n# TYPE process_cpu_seconds_total counter\n")
    );
    assert!(text.text().contains("profile_relay_memory_limit_bytes 2\n"));
    assert!(!text.text().contains("# EOF"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = endpoint.ask("GET", "/metrics", accept);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(
        open.text()
            .contains("\n# TYPE process_cpu_seconds counter\n")
    );
    assert!(open.text().ends_with("# EOF\n"));
}

#[test]
fn ready_is_between_ready_and_stopping() {
    let endpoint = Endpoint::start();
    let ready = || {
        let answer = endpoint.get("/readyz");
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(ready(), (503, "not ready: starting\n".to_owned()));
    endpoint.state.health.ready();
    assert_eq!(ready(), (200, "ready\n".to_owned()));
    endpoint.state.health.stopping();
    assert_eq!(ready().0, 503);
    assert!(ready().1.contains("stopping"));
    assert_eq!(endpoint.get("/healthz").text(), "ok\n");
}

#[test]
fn a_wedged_runtime_is_unhealthy_and_metrics_still_answer() {
    let endpoint = Endpoint::start();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tasks = crate::runtime::Tasks::default();
    let beat = endpoint
        .state
        .health
        .watch("runtime", Duration::from_millis(1_500));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    {
        let _entered = runtime.enter();
        let every = Duration::from_millis(50);
        tasks.spawn(
            "heartbeat",
            beat.keep_beating(every, CancellationToken::new()),
        );
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(endpoint.get("/healthz").status, 200);
    for _ in 0..2 {
        let held = held.clone();
        let _entered = runtime.enter();
        tasks.spawn("wedge", async move {
            let _ = held.lock().map(|held| held.recv());
        });
    }
    wait_for("a wedged runtime was not noticed", || {
        endpoint.get("/healthz").status == 503
    });
    let answer = endpoint.get("/healthz");
    assert!(
        answer.text().starts_with("runtime has been silent for "),
        "{}",
        answer.text()
    );
    assert_eq!(endpoint.get("/metrics").status, 200);
    assert_eq!(endpoint.get("/api/status").status, 200);
    drop(release);
    wait_for("a freed runtime was not noticed", || {
        endpoint.get("/healthz").status == 200
    });
    runtime.shutdown_background();
}

#[test]
fn target_metrics_are_grouped_escaped_and_complete() {
    let endpoint = Endpoint::start();
    endpoint.show(vec![
        target("api", 2, TargetHealth::Down),
        target("api", 1, TargetHealth::Up),
        target("api", 1, TargetHealth::Down),
        target("web", 3, TargetHealth::Unknown),
        target("web", 4, TargetHealth::Dropped),
    ]);
    let answer = endpoint.get("/metrics/targets");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let one = r#"{receiver="pprof",job="api",instance="a\"\\\n1",url="http://10.0.0.1:1/debug/pprof/heap",profile="memory"}"#;
    let two = r#"{receiver="pprof",job="api",instance="a\"\\\n2",url="http://10.0.0.1:2/debug/pprof/heap",profile="memory"}"#;
    let outcome = |labels: &str, outcome: &str, count: u64| {
        let labels = labels.trim_end_matches('}');
        format!("profile_relay_target_scrapes_total{labels},outcome=\"{outcome}\"}} {count}\n")
    };
    let three = one
        .replace("api", "web")
        .replace("n1", "n3")
        .replace(":1/", ":3/");
    let mut expected = format!(
        "# HELP profile_relay_target_up Whether the last scrape of the target succeeded.\n\
         # TYPE profile_relay_target_up gauge\n\
         profile_relay_target_up{one} 1\n\
         profile_relay_target_up{two} 0\n\
         # HELP profile_relay_target_last_scrape_timestamp_seconds When the last scrape of the target ended.\n\
         # TYPE profile_relay_target_last_scrape_timestamp_seconds gauge\n\
         profile_relay_target_last_scrape_timestamp_seconds{one} 1.5\n\
         profile_relay_target_last_scrape_timestamp_seconds{two} 1.5\n\
         # HELP profile_relay_target_last_scrape_duration_seconds How long the last scrape of the target took.\n\
         # TYPE profile_relay_target_last_scrape_duration_seconds gauge\n\
         profile_relay_target_last_scrape_duration_seconds{one} 0.25\n\
         profile_relay_target_last_scrape_duration_seconds{two} 0.25\n\
         # HELP profile_relay_target_last_scrape_size_bytes The size of the last good scrape's body, as received.\n\
         # TYPE profile_relay_target_last_scrape_size_bytes gauge\n\
         profile_relay_target_last_scrape_size_bytes{one} 4096\n\
         # HELP profile_relay_target_scrapes_total Scrapes of the target by outcome: ok, failed, or skipped because the one before was still running.\n\
         # TYPE profile_relay_target_scrapes_total counter\n"
    );
    for labels in [one, two, &three] {
        for (name, count) in [("ok", 3), ("failed", 2), ("skipped", 1)] {
            expected.push_str(&outcome(labels, name, count));
        }
    }
    assert_eq!(answer.text(), expected);
}

#[test]
fn many_targets_come_in_pieces_and_none_is_lost() {
    let endpoint = Endpoint::start();
    endpoint.show(
        (0..5_000)
            .map(|n| target("api", n, TargetHealth::Up))
            .collect(),
    );
    let answer = endpoint.get("/metrics/targets");
    let samples = answer.text().lines().filter(|line| !line.starts_with('#'));
    assert_eq!(samples.count(), 5_000 * 7);
    assert_eq!(answer.text().matches("# TYPE ").count(), 5);
}

#[test]
fn the_api_shows_and_filters() {
    let endpoint = Endpoint::start();
    endpoint.show(vec![
        target("api", 1, TargetHealth::Up),
        target("api", 2, TargetHealth::Down),
        target("web", 3, TargetHealth::Down),
    ]);
    let json = |path: &str| -> serde_json::Value {
        let answer = endpoint.get(path);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    };
    let urls = |path: &str| -> Vec<String> {
        let targets = json(path);
        let targets = targets["targets"].as_array().unwrap().iter();
        targets
            .map(|t| t["url"].as_str().unwrap()[16..17].to_owned())
            .collect()
    };
    assert_eq!(urls("/api/targets"), ["1", "2", "3"]);
    assert_eq!(urls("/api/targets?job=api"), ["1", "2"]);
    assert_eq!(urls("/api/targets?health=down"), ["2", "3"]);
    assert_eq!(urls("/api/targets?health=down&job=web"), ["3"]);
    assert_eq!(urls("/api/targets?job=none"), [""; 0]);
    assert_eq!(endpoint.get("/api/targets?health=ill").status, 400);

    let config: ConfigMetrics = endpoint.state.metrics.set();
    config.loaded("abc", SystemTime::UNIX_EPOCH);
    let status = json("/api/status");
    assert_eq!(status["phase"], "starting");
    assert_eq!(status["targets"]["down"], 2);
    assert_eq!(status["memory"]["limit_bytes"], 2);
    assert_eq!(status["config"]["hash"], "abc");
    assert_eq!(
        status["config"]["last_reload_success"],
        "1970-01-01T00:00:00.000Z"
    );

    let pipeline = PipelineStatus {
        pipeline: "profiles".to_owned(),
        receivers: vec!["pprof".to_owned()],
        processors: vec![],
        exporters: vec!["parca".to_owned()],
    };
    endpoint.state.status.publish_pipelines(vec![pipeline]);
    assert_eq!(
        json("/api/pipelines").to_string(),
        r#"{"pipelines":[{"pipeline":"profiles","receivers":["pprof"],"processors":[],"exporters":["parca"]}]}"#
    );
}

#[test]
fn a_reload_is_asked_for_by_post_and_answered() {
    let mut endpoint = Endpoint::start();
    for method in ["GET", "HEAD", "PUT"] {
        let answer = endpoint.ask(method, "/-/reload", "");
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let changes = serde_json::json!({"changed": ["exporters.parca"]});
    for (answer, status, text) in [
        (
            ReloadAnswer::Loaded(changes.clone()),
            200,
            changes.to_string(),
        ),
        (
            ReloadAnswer::Refused("a: wrong\n".into()),
            400,
            "a: wrong\n".into(),
        ),
        (
            ReloadAnswer::Failed("in use".into()),
            500,
            "in use\n".into(),
        ),
    ] {
        let asking = endpoint.send("POST", "/-/reload", "Content-Length: 0\r\n");
        let request = endpoint.requests.blocking_recv().unwrap();
        request.answer(answer);
        let told = read_answer(asking);
        assert_eq!((told.status, told.text()), (status, &*text));
    }
    endpoint.requests.close();
    assert_eq!(endpoint.ask("POST", "/-/reload", "").status, 503);
}

#[test]
fn the_configuration_is_yaml_or_json() {
    let endpoint = Endpoint::start();
    assert_eq!(endpoint.get("/api/config").status, 503);
    endpoint.state.status.publish_config(RunningConfig {
        hash: "abc".to_owned(),
        yaml: "a: [REDACTED]\n".into(),
    });
    let yaml = endpoint.get("/api/config");
    assert_eq!(yaml.header("content-type"), Some("application/yaml"));
    assert_eq!(yaml.text(), "a: [REDACTED]\n");
    let json = endpoint.ask("GET", "/api/config", "Accept: application/json\r\n");
    assert_eq!(json.text(), r#"{"hash":"abc","yaml":"a: [REDACTED]\n"}"#);
}

#[test]
fn a_view_that_hangs_costs_only_its_own_page() {
    struct Hangs;
    impl TargetsView for Hangs {
        fn targets(&self) -> Vec<TargetStatus> {
            std::thread::sleep(Duration::from_secs(8));
            Vec::new()
        }
    }
    let endpoint = Endpoint::start();
    let id = "pprof".parse().unwrap();
    endpoint.state.status.publish_targets(&id, Arc::new(Hangs));
    let hanging = endpoint.send("GET", "/api/targets", "");
    assert_eq!(endpoint.get("/healthz").status, 200);
    assert_eq!(endpoint.get("/metrics").status, 200);
    let answer = read_answer(hanging);
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("did not answer"));
}

#[test]
fn an_address_in_use_is_an_error_of_binding() {
    let endpoint = Endpoint::start();
    let again = Server::bind(&endpoint.address.to_string());
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let address = endpoint.address;
    endpoint.handle.shutdown();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_profile_over_http() {
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let endpoint = Endpoint::start();
    assert_eq!(endpoint.get("/debug/pprof/profile?seconds=x").status, 400);
    assert_eq!(endpoint.ask("HEAD", "/debug/pprof/profile", "").status, 200);

    let abandoned = endpoint.send("GET", "/debug/pprof/profile?seconds=50", "");
    wait_for("the first profile did not start", || {
        let second = endpoint.get("/debug/pprof/profile?seconds=1");
        second.status == 409 && second.text() == "cpu profiling already in use\n"
    });
    drop(abandoned);

    let _burner = Burner::start();
    let mut answer = None;
    wait_for("the abandoned profile went on", || {
        answer = Some(endpoint.get("/debug/pprof/profile?seconds=1"));
        answer.as_ref().is_some_and(|answer| answer.status == 200)
    });
    let answer = answer.unwrap();
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    let (in_function, all) = burning(&answer.body);
    assert!(
        all > 0 && in_function * 10 >= all * 9,
        "{in_function} of {all}"
    );
}
