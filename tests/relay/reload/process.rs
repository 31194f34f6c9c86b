//! The process around what is replaced: its own addresses, its start and its end.

use super::{NO_WATCH, arrived, load, push, relay, to, write};
use crate::{
    harness::{Relay, program, until},
    neighbours::free_port,
    otlp_in::address,
    support::sink::Sink,
};
use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

#[test]
fn the_process_itself_follows_a_reload() {
    let sink = Sink::start();
    let exporter = to("otlp_http", sink.addr(), "");
    let service = |admin: SocketAddr, more: &str| {
        relay(
            "",
            &exporter,
            &format!("{NO_WATCH}\n  admin: {{endpoint: \"{admin}\"}}\n{more}"),
        )
    };
    let [first, second] = [free_port(), free_port()];
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("relay.yaml"), service(first, "")).expect("a file");
    let mut command = program();
    command.args(["run", "--config", "relay.yaml"]);
    let mut relay = Relay::start(folder, command);
    let more = "  memory: {limit: 64MiB}\n  telemetry: {logs: {level: debug, format: json}}";
    let changes = load(&relay, &service(second, more));
    assert_eq!(
        changes["changed"],
        serde_json::json!(["service.admin", "service.memory", "service.telemetry"])
    );
    until("the former address is given up", || {
        TcpStream::connect(first).is_err().then_some(())
    });
    relay.move_admin(second);
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("memory_limit_bytes", &[]), 64 << 20);
    relay.logged("{\"ts\":");
    // An address in use is an error.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    write(
        &relay,
        &service(taken.local_addr().expect("an address"), more),
    );
    let (status, told) = relay.post("/-/reload");
    assert_eq!(status, 500, "{told}");
    assert!(told.contains("service.admin.endpoint"), "{told}");
    assert_eq!(relay.page("/readyz"), "ready\n");
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn a_hangup_while_it_starts_is_a_reload_after() {
    let sink = Sink::start();
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = relay("", &to("otlp_http", sink.addr(), ""), NO_WATCH);
    // The configuration comes by a pipe, so that the start has to wait for it.
    let pipe = folder.path().join("relay.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let writing = thread::spawn({
        let pipe = pipe.clone();
        move || {
            // Opens once the relay reads.
            let mut file = fs::OpenOptions::new().write(true).open(&pipe);
            let file = file.as_mut().expect("a pipe");
            let pid = until("it catches hangups", || reader_that_catches_hangups(&pipe));
            let hangup = std::process::Command::new("kill")
                .args(["-HUP", &pid])
                .status();
            assert!(hangup.expect("kill runs").success());
            file.write_all(yaml.as_bytes()).expect("it reads");
            fs::remove_file(&pipe).expect("a pipe");
            fs::write(&pipe, yaml).expect("a file");
        }
    });
    let mut command = program();
    command.args(["run", "--config"]).arg(&pipe);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let relay = Relay::start(tempfile::tempdir().expect("a folder"), command);
    writing.join().expect("it was written");
    relay.logged("because=SIGHUP");
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

/// The process that has this configuration and catches hangups.
fn reader_that_catches_hangups(config: &Path) -> Option<String> {
    let config = config.to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if !String::from_utf8_lossy(&arguments).contains(&config) {
            continue;
        }
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        // SIGHUP is 1.
        if caught & 1 == 1 {
            return Some(pid);
        }
    }
    None
}

#[test]
fn asked_to_end_during_a_reload_it_ends() {
    let sink = Sink::start();
    let yaml = relay("", &to("otlp_http", sink.addr(), ""), NO_WATCH);
    let relay_ = Relay::run(&yaml);
    let http = address(&relay_, "http");
    assert_eq!(push(&http, "accepted"), 200);
    // A reload that never comes to its end: nobody writes into the pipe.
    let config = relay_.folder().join("relay.yaml");
    fs::remove_file(&config).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(&config).status();
    assert!(made.expect("mkfifo runs").success());
    relay_.signal("HUP");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(push(&http, "meanwhile"), 200, "data does not wait for it");
    let ended = relay_.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_eq!(arrived([&sink]).len(), 2);
}
