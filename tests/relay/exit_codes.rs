//! How the process ends, which is what scripts and service managers see.

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::{Relay, finish, program},
    target::Target,
};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Output,
    time::Duration,
};

/// Every line with a fault ends in a comment that says where in it.
const FAULTY: &str = r#"recievers:                                  # 1
  pprof: {}
receivers:
  pprof:
    scrape_confgs: []                       # 5
    scrape_configs:
      - job_name: first
        scrape_intervall: 1s                # 9
        scrape_timeout: soon                # 25
        tls_config: {ca_fil: x}             # 22
        static_configs: [{targets: ["a:1"], labls: {}}]  # 45
  nonesuch: {}                              # 3
exporters:
  parca:
    endpoint: 127.0.0.1:1
    tls: {insecure: maybe}                  # 21
    sending_queue: {max_bytes: lots}        # 32
service:
  admin: {endpoint: "ADMIN", endpont: x}    #
  pipelines:
    profiles: {receivers: [pprof, otlp], exporters: [parca]}  # 35
"#;

fn run(folder: &Path, yaml: &str) -> (Output, Duration) {
    fs::write(folder.join("relay.yaml"), yaml).expect("the configuration is written");
    let mut command = program();
    command
        .args(["run", "-c", "relay.yaml"])
        .current_dir(folder);
    finish(command)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The quickest of some attempts: the machine may be busy.
fn refused_within_a_second(yaml: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let attempts = (0..5).map(|_| run(folder.path(), yaml));
    let mut quickest = Duration::MAX;
    for (output, took) in attempts {
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(output.stdout.is_empty());
        quickest = quickest.min(took);
        if quickest < Duration::from_secs(1) {
            return told;
        }
    }
    panic!("a bad configuration is refused after {quickest:?}");
}

#[test]
fn a_bad_configuration_is_told_in_full_and_nothing_is_bound() {
    // A relay that went on to bind would end with 3.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let admin = taken.local_addr().expect("an address").to_string();
    let yaml = FAULTY.replace("ADMIN", &admin);
    let told = refused_within_a_second(&yaml);
    let column_of_endpont = yaml.lines().find_map(|line| line.find("endpont"));
    for (number, line) in yaml.lines().enumerate() {
        let Some((_, column)) = line.rsplit_once("  #") else {
            continue;
        };
        let column = column
            .trim()
            .parse()
            .ok()
            .or(column_of_endpont.map(|c| c + 1));
        let place = format!("relay.yaml:{}:{}: ", number + 1, column.expect("a column"));
        assert!(told.contains(&place), "{place} is missing in\n{told}");
    }
    assert!(told.contains("did you mean scrape_interval?"), "{told}");
}

#[test]
fn one_bad_job_is_named_and_a_duplicate_key_is_found() {
    let good = "{job_name: good, static_configs: [{targets: [\"a:1\"]}]}";
    let bad = "{job_name: broken, scheme: ftp, static_configs: [{targets: [\"a:1\"]}]}";
    let jobs = [good.to_owned(), bad.to_owned()];
    let told = refused_within_a_second(&config::relay(&jobs, "endpoint: \"http://a:1\"", ""));
    assert!(told.contains("scrape_configs[1].scheme"), "{told}");
    assert!(told.contains("job \"broken\""), "{told}");
    assert!(!told.contains("job \"good\""), "{told}");

    let exporter = "endpoint: \"http://a:1\", timeout: 1s, timeout: 2s";
    let told = refused_within_a_second(&config::relay(&jobs[..1], exporter, ""));
    assert!(told.contains("timeout is given twice"), "{told}");

    let told = refused_within_a_second("");
    assert!(told.contains("relay.yaml"), "{told}");
}

#[test]
fn a_file_that_is_missing_is_named() {
    let mut command = program();
    command.args(["run", "--config", "/nonexistent/relay.yaml"]);
    let (output, _) = finish(command);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("/nonexistent/relay.yaml"), "{told}");
}

#[test]
fn a_taken_address_ends_with_3() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let admin = taken.local_addr().expect("an address");
    let service = format!("  admin: {{endpoint: \"{admin}\"}}");
    let jobs = [config::job("api", &[admin], "")];
    let yaml = config::relay(&jobs, "endpoint: \"http://127.0.0.1:1\"", &service);
    let folder = tempfile::tempdir().expect("a folder");
    let (output, _) = run(folder.path(), &yaml);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains(&admin.to_string()), "{told}");
}

#[test]
fn asked_to_end_it_sends_what_is_queued() {
    let target = Target::good();
    let store = FarEnd::start(Behaviour::default());
    // Nothing would be sent for a minute.
    let exporter = format!(
        "endpoint: \"http://{}\", sending_queue: {{flush_timeout: 1m}}",
        store.addr()
    );
    let jobs = [config::replicas("api", target.addr(), 5)];
    let relay = Relay::run(&config::relay(&jobs, &exporter, ""));
    let metrics = relay.until("some are queued", |m| m.books("parca").queued >= 5);
    assert_eq!(store.stored().len(), 0);
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("profiles_left=0"), "{}", ended.log);
    assert!(store.stored().len() as u64 >= metrics.accepted());
}

/// A relay that cannot send and has profiles queued.
fn stuck(target: &Target, store: &FarEnd, timeout: &str) -> Relay {
    store.stop();
    let jobs = [config::replicas("api", target.addr(), 5)];
    let service = format!("  shutdown_timeout: {timeout}");
    let yaml = config::relay(&jobs, &config::to(store.addr(), ""), &service);
    let relay = Relay::run(&yaml);
    relay.until("some are queued", |m| m.books("parca").queued >= 5);
    relay
}

#[test]
fn draining_ends_in_time_and_says_what_was_left() {
    let (target, store) = (Target::good(), FarEnd::start(Behaviour::default()));
    let relay = stuck(&target, &store, "2s");
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.took >= Duration::from_millis(1_500),
        "{:?}",
        ended.took
    );
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    let line = ended
        .log
        .lines()
        .find(|line| line.contains("profiles were left"));
    let line = line.unwrap_or_else(|| panic!("{}", ended.log));
    assert!(
        line.contains("exporter=parca") && line.contains("profiles="),
        "{line}"
    );
    assert!(!line.contains("profiles=0"), "{line}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (target, store) = (Target::good(), FarEnd::start(Behaviour::default()));
    let relay = stuck(&target, &store, "1m");
    relay.signal("TERM");
    relay.logged("a second signal ends at once");
    let ended = relay.stop();
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("is lost"), "{}", ended.log);
}

#[test]
fn health_follows_the_life_of_the_process() {
    let (target, store) = (Target::good(), FarEnd::start(Behaviour::default()));
    let relay = stuck(&target, &store, "1m");
    assert_eq!(relay.page("/healthz").trim(), "ok");
    relay.page("/readyz");
    relay.signal("TERM");
    relay.logged("stopping");
    let admin = relay.admin();
    let status = |path| crate::harness::get(admin, path).expect("it answers").0;
    assert_eq!(status("/readyz"), 503, "it takes no more work");
    assert_eq!(status("/healthz"), 200, "it is not dead");
    assert_eq!(status("/metrics"), 200);
    store.restart();
    assert_eq!(relay.wait().code, Some(0), "it could send in the end");
}
