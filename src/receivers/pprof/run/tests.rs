use super::*;
use crate::{
    pipeline::Receiver,
    profile::{Batch, pprof::synthetic::SyntheticProfile},
    receivers::pprof::{
        PprofReceiver, Settings,
        testing::{Answer, Server, context},
    },
    telemetry::status::{Health, TargetStatus},
};
use serde_json::json;
use std::{fs, os::unix::fs::symlink};
use tokio::{task::JoinHandle, time::sleep};

const MEMORY: u64 = 256 << 20;

/// A receiver that runs.
struct Running {
    context: Context,
    batches: mpsc::UnboundedReceiver<Batch>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Running ===

impl Running {
    fn start(settings: serde_json::Value) -> Self {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let stop = CancellationToken::new();
        let context = Context {
            ending: stop.clone(),
            ..context(MEMORY)
        };
        let receiver: PprofReceiver = settings.build(&context).unwrap();
        let (out, batches) = Entry::for_test();
        let (token, receiver) = (stop.clone(), Box::new(receiver));
        let task = Tasks::default().spawn("receiver", async move {
            receiver.run(out, token).await.unwrap();
        });
        Self {
            context,
            batches,
            stop,
            task,
        }
    }

    async fn batch(&mut self) -> Batch {
        let wait = tokio::time::timeout(Duration::from_secs(10), self.batches.recv());
        wait.await.expect("a batch within 10s").unwrap()
    }

    /// The targets once `good` accepts them.
    async fn targets(&self, good: impl Fn(&[TargetStatus]) -> bool) -> Vec<TargetStatus> {
        for _ in 0..500 {
            let targets = self.context.status.targets();
            if good(&targets) {
                return targets;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("never: {:#?}", self.context.status.targets());
    }

    async fn end(self) -> Context {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task);
        ended.await.expect("ends within 5s").unwrap();
        self.context
    }
}

fn heap() -> Vec<u8> {
    SyntheticProfile::heap(1).encode().to_vec()
}

/// A job that scrapes one profile ten times a second.
fn memory_only(name: &str, address: &str) -> serde_json::Value {
    json!({
        "job_name": name,
        "scrape_interval": "100ms",
        "static_configs": [{"targets": [address]}],
        "profiling_config": {"pprof_config": {
            "block": {"enabled": false}, "goroutine": {"enabled": false},
            "mutex": {"enabled": false}, "process_cpu": {"enabled": false}}},
    })
}

fn down(targets: &[TargetStatus]) -> usize {
    targets.iter().filter(|t| t.health == Health::Down).count()
}

#[tokio::test]
async fn the_default_set_of_a_target_arrives_labelled() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let mut running = Running::start(json!({"scrape_configs": [{
        "job_name": "api",
        "scrape_interval": "500ms",
        "static_configs": [{"targets": [server.address()], "labels": {"env": "dev"}}],
    }]}));
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 5 {
        let batch = running.batch().await;
        let labels = &batch.profiles[0].labels;
        assert_eq!(labels.get("env"), Some("dev"));
        assert_eq!(labels.get("job"), Some("api"));
        assert_eq!(labels.get("instance"), Some(server.address()));
        names.insert(labels.name().unwrap().to_owned());
    }
    let targets = running
        .targets(|all| all.iter().all(|t| t.health == Health::Up))
        .await;
    assert_eq!(targets.len(), 5);
    assert!(
        targets
            .iter()
            .all(|t| t.last_size_bytes == Some(heap().len() as u64))
    );
    assert!(targets[0].discovered_labels.contains_key("__address__"));
    let context = running.end().await;
    let text = context.metrics.encode().unwrap();
    assert!(
        text.contains(r#"profile_relay_targets{job="api",health="up"} 0"#),
        "{text}"
    );
    for path in server.requests() {
        assert_eq!(
            path.contains("seconds=1"),
            path.contains("/profile"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_error_is_shown_and_cleared_by_the_next_success() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = healthy.clone();
    let server = Server::start(move |_| {
        if switch.load(std::sync::atomic::Ordering::SeqCst) {
            Answer::ok(heap())
        } else {
            Answer::status(500, "", "broken")
        }
    })
    .await;
    let running = Running::start(json!({"scrape_configs": [memory_only("api", server.address())]}));
    let bad = running.targets(|all| down(all) == 1).await;
    assert!(bad[0].last_error.as_ref().unwrap().contains("500"));
    let text = running.context.metrics.encode().unwrap();
    assert!(
        text.contains(r#"profile_relay_targets{job="api",health="down"} 1"#),
        "{text}"
    );
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    let good = running.targets(|all| all[0].health == Health::Up).await;
    assert_eq!(good[0].last_error, None);
    assert!(good[0].scrapes_failed > 0);
    running.end().await;
}

#[tokio::test]
async fn duplicates_are_scraped_once_and_bad_targets_leave_the_rest_alone() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let mut job = memory_only("api", server.address());
    let again = json!({"targets": [server.address(), "bad:port", server.address()]});
    job["static_configs"].as_array_mut().unwrap().push(again);
    let mut running = Running::start(json!({ "scrape_configs": [job] }));
    running.batch().await;
    let targets = running.context.status.targets();
    assert_eq!(targets.len(), 2);
    assert_eq!(down(&targets), 1);
    assert!(
        targets[1]
            .last_error
            .as_ref()
            .unwrap()
            .contains("host:port")
    );
    running.end().await;
}

#[tokio::test]
async fn more_targets_than_the_limit_are_shown_and_not_scraped() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let mut job = memory_only("api", server.address());
    job["target_limit"] = 1.into();
    job["static_configs"] = json!([{"targets": [server.address(), "127.0.0.1:1", "127.0.0.1:2"]}]);
    let mut running = Running::start(json!({ "scrape_configs": [job] }));
    running.batch().await;
    let targets = running.context.status.targets();
    assert_eq!(targets.len(), 3);
    assert!(
        targets[2]
            .last_error
            .as_ref()
            .unwrap()
            .contains("target_limit")
    );
    running.end().await;
}

#[tokio::test]
async fn a_slow_target_never_overlaps_itself_and_delays_nobody() {
    let slow = Server::start(|_| Answer::late(heap(), Duration::from_millis(450))).await;
    let hung = Server::start(|_| Answer::Never).await;
    let quick = Server::start(|_| Answer::ok(heap())).await;
    let running = Running::start(json!({"scrape_configs": [
        memory_only("slow", slow.address()),
        memory_only("hung", hung.address()),
        memory_only("quick", quick.address()),
    ]}));
    let skipped = |all: &[TargetStatus], job: &str| {
        all.iter()
            .find(|t| t.job == job)
            .map_or(0, |t| t.scrapes_skipped)
    };
    let all = running.targets(|all| skipped(all, "slow") >= 6).await;
    assert_eq!(slow.most_open(), 1);
    let quick = all.iter().find(|t| t.job == "quick").unwrap();
    let slow = all.iter().find(|t| t.job == "slow").unwrap();
    assert!(quick.scrapes_ok > 3 * slow.scrapes_ok, "{quick:?} {slow:?}");
    let text = running.end().await.metrics.encode().unwrap();
    assert!(
        !text.contains(r#"{job="slow",outcome="skipped_overlap"} 0"#),
        "{text}"
    );
    assert!(
        text.contains(r#"{job="hung",outcome="cancelled"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_adds_and_removes_targets_while_others_go_on() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, targets) in [
        ("v1", json!(["127.0.0.1:1"])),
        ("v2", json!([server.address()])),
    ] {
        fs::create_dir(at(version)).unwrap();
        let text = json!([{"targets": targets, "labels": {"v": version}}]).to_string();
        fs::write(at(version).join("t.json"), text).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/t.json", at("t.json")).unwrap();
    let mut job = memory_only("api", server.address());
    job["file_sd_configs"] = json!([{"files": [at("*.json")]}]);
    let running = Running::start(json!({ "scrape_configs": [job] }));
    let version = |all: &[TargetStatus], v: &str| {
        all.len() == 2
            && all
                .iter()
                .any(|t| t.labels.get("v").is_some_and(|at| at == v))
    };
    running
        .targets(|all| version(all, "v1") && down(all) == 1)
        .await;
    symlink("v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let all = running
        .targets(|all| version(all, "v2") && all.iter().all(|t| t.health == Health::Up))
        .await;
    assert!(
        all[0].scrapes_ok > all[1].scrapes_ok,
        "the static target was never stopped"
    );
    running.end().await;
}

#[tokio::test]
async fn a_receiver_without_jobs_runs_and_stops() {
    Running::start(json!({})).end().await;
}

#[tokio::test]
async fn another_receiver_goes_on_with_the_next_tick() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let settings = json!({"scrape_configs": [memory_only("api", server.address())]});
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let context = context(MEMORY);
    let (out, mut batches) = Entry::for_test();
    let tasks = Tasks::default();
    let start = || {
        let receiver: PprofReceiver = settings.clone().build(&context).unwrap();
        let (stop, out) = (CancellationToken::new(), out.clone());
        let token = stop.clone();
        tasks.spawn("receiver", async move {
            Box::new(receiver).run(out, token).await.unwrap();
        });
        stop
    };
    let ticks = || {
        let text = context.metrics.encode().unwrap();
        let lines = text.lines();
        let counts = lines.filter(|l| l.starts_with("profile_relay_scrapes_total{"));
        let counts = counts.filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok());
        counts.sum::<u64>()
    };
    let mut stop = start();
    batches.recv().await.unwrap();
    let (began, before) = (Instant::now(), ticks());
    for _ in 0..6 {
        sleep(Duration::from_millis(130)).await;
        out.hand_over();
        stop.cancel();
        // Whatever keeps the next one from starting.
        sleep(Duration::from_millis(250)).await;
        stop = start();
    }
    // Each tick led to a scrape, or counts as one that was left out, as soon as
    // somebody gets to it.
    let caught_up = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            let expected = began.elapsed().as_millis() as u64 / 100;
            if (ticks() - before).abs_diff(expected) <= 2 {
                break;
            }
        }
    };
    let caught_up = tokio::time::timeout(Duration::from_secs(10), caught_up).await;
    assert!(
        caught_up.is_ok(),
        "{} in {:?}",
        ticks() - before,
        began.elapsed()
    );
    let shown = context.status.targets();
    assert_eq!(shown.len(), 1);
    let text = context.metrics.encode().unwrap();
    let up = r#"profile_relay_targets{job="api",health="up"} 1"#;
    assert!(text.contains(up), "{text}");
    context.ending.cancel();
    stop.cancel();
    tasks.wait().await;
}
