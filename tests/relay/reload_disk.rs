//! Queues on disk while configurations change: what was accepted stays, is named, and
//! arrives once its exporter is there.

use crate::{
    config,
    disk_queue::Folder,
    harness::{LIMIT, Relay},
    neighbours::free_port,
    otlp_in::address,
    reload::{NO_WATCH, arrived, gets, load, push, relay, to, write},
    support::sink::Sink,
};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// An exporter with a queue on disk.
fn on_disk(id: &str, to: SocketAddr, more: &str) -> String {
    let delivery = config::delivery("storage: file_storage");
    format!("  {id}: {{endpoint: \"http://{to}\", {delivery}{more}}}")
}

/// A configuration with the storage of this folder.
fn with(folder: &Folder, exporters: &[&str], receiver: &str) -> String {
    let service = format!("{NO_WATCH}\n  extensions: [file_storage]\n  shutdown_timeout: 1s");
    folder.storage("") + &relay(receiver, &exporters.join("\n"), &service)
}

/// The orphans that the status page names.
fn orphans(relay: &Relay) -> Vec<(String, u64)> {
    let status = relay.json("/api/status");
    let orphans = status["orphans"].as_array().expect("a list").iter();
    let named = orphans.map(|orphan| {
        let exporter = orphan["exporter"].as_str().expect("a name");
        (
            exporter.to_owned(),
            orphan["profiles"].as_u64().expect("a number"),
        )
    });
    named.collect()
}

fn refused(relay: &Relay, yaml: &str, texts: &[&str]) {
    let before = relay.page("/api/config");
    write(relay, yaml);
    let (status, told) = relay.post("/-/reload");
    assert!(status >= 400, "{told}");
    for text in texts {
        assert!(told.contains(text), "{text}\n{told}");
    }
    assert_eq!(relay.page("/api/config"), before);
}

#[test]
fn an_exporter_that_goes_leaves_its_rest_on_disk_and_gets_it_back() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let down = free_port();
    let stays = to("otlp_http", sink.addr(), "");
    let gone = with(&folder, &[&stays], "");
    let there = |at| with(&folder, &[&stays, &on_disk("otlp", at, "")], "");
    let relay = Relay::run(&there(down));
    let http = address(&relay, "http");
    let names: Vec<_> = (0..30).map(|at| format!("p{at}")).collect();
    for name in &names {
        assert_eq!(push(&http, name), 200);
    }
    let changes = load(&relay, &gone);
    assert_eq!(changes["removed"], serde_json::json!(["exporters.otlp"]));
    assert_eq!(push(&http, "meanwhile"), 200);
    gets(&sink, "meanwhile");
    // It has a second to send what it has, and cannot.
    relay.logged("profiles stay on disk");
    let line = relay.logged("a queue on disk has no exporter");
    assert!(
        line.contains("exporter=otlp ") && line.contains("profiles=30"),
        "{line}"
    );
    crate::harness::until("the orphan is named", || {
        (orphans(&relay) == [("otlp".to_owned(), 30)]).then_some(())
    });

    let back = Sink::start();
    let changes = load(&relay, &there(back.addr()));
    assert_eq!(changes["added"], serde_json::json!(["exporters.otlp"]));
    let books = relay.until("all are sent", |m| m.books("otlp").sent == 30);
    assert_eq!(books.books("otlp").recovered, 30);
    assert_eq!(orphans(&relay), []);
    let arrived = arrived([&back]);
    assert_eq!(arrived.len(), 30, "{arrived:?}");
    assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
    assert!(names.iter().all(|name| arrived.contains_key(name)));
}

#[test]
fn an_exporter_that_goes_sends_what_it_can() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let stays = to("otlp_http", sink.addr(), "");
    let other = Sink::start();
    other.delay(Duration::from_millis(20));
    let relay = Relay::run(&with(
        &folder,
        &[&stays, &on_disk("otlp", other.addr(), "")],
        "",
    ));
    let http = address(&relay, "http");
    for at in 0..20 {
        assert_eq!(push(&http, &format!("p{at}")), 200);
    }
    load(&relay, &with(&folder, &[&stays], ""));
    assert!(other.wait(LIMIT, |taken| taken.len() == 20), "all are sent");
    relay.logged("all profiles are delivered");
    relay.until("it is shown no more", |m| {
        !m.text().contains("exporter=\"otlp\"")
    });
    assert_eq!(orphans(&relay), []);
}

#[test]
fn a_storage_comes_by_a_reload_and_a_changed_one_is_refused() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let sink = Sink::start();
    let stays = to("otlp_http", sink.addr(), "");
    let none = relay("", &stays, &format!("{NO_WATCH}\n  shutdown_timeout: 1s"));
    let relay = Relay::run(&none);
    let http = address(&relay, "http");
    let disk = on_disk("otlp", sink.addr(), "");

    // A receiver that cannot listen spoils it all; what was opened is given back.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let in_use = taken.local_addr().expect("an address");
    let more = format!("}}, grpc: {{endpoint: \"{in_use}\"");
    refused(
        &relay,
        &with(&folder, &[&stays, &disk], &more),
        &["another process"],
    );
    let good = with(&folder, &[&stays, &disk], "");
    let changes = load(&relay, &good);
    assert_eq!(changes["added"], serde_json::json!(["exporters.otlp"]));
    assert_eq!(push(&http, "on disk"), 200);
    relay.until("it is sent", |m| m.books("otlp").sent == 1);

    let moved = good.replace(
        &format!("{:?}", folder.path()),
        &format!("{:?}", elsewhere.path()),
    );
    refused(&relay, &moved, &["extensions.file_storage", "restart"]);
    let in_memory = good.replace("storage: file_storage", "num_consumers: 3");
    refused(&relay, &in_memory, &["sending_queue.storage", "otlp"]);
    assert_eq!(push(&http, "still on disk"), 200);
    relay.until("it is sent", |m| m.books("otlp").sent == 2);
    assert_eq!(load(&relay, &good)["changed"], serde_json::json!([]));
}

#[test]
fn a_folder_that_another_process_has_is_refused_to_a_reload() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let disk = on_disk("otlp", sink.addr(), "");
    let holder = Relay::run(&with(&folder, &[&disk], ""));
    let stays = to("otlp_http", sink.addr(), "");
    let other = Relay::run(&relay("", &stays, NO_WATCH));
    let yaml = with(&folder, &[&stays, &disk], "");
    let pid = holder.pid().to_string();
    refused(&other, &yaml, &["file_storage", &pid]);
    assert_eq!(push(&address(&other, "http"), "goes on"), 200);
    gets(&sink, "goes on");
    assert_eq!(holder.stop().code, Some(0));
    load(&other, &yaml);
    assert_eq!(push(&address(&other, "http"), "has it now"), 200);
    other.until("both exporters sent it", |m| m.books("otlp").sent == 1);
}

#[test]
fn fifty_reloads_with_and_without_a_queue_on_disk_lose_and_double_nothing() {
    const RELOADS: usize = 50;
    let folder = Folder::new();
    let sinks = [(); 2].map(|()| Sink::start());
    // Some are always under way, or wait.
    sinks[1].delay(Duration::from_millis(5));
    let one = to("otlp_http", sinks[0].addr(), "");
    let yaml = |at: usize| {
        let timeout = format!(", timeout: {}s", 10 + at % 3);
        let two = on_disk("otlp", sinks[1].addr(), &timeout);
        let exporters: &[&str] = if at.is_multiple_of(2) {
            &[&one, &two]
        } else {
            &[&one]
        };
        with(&folder, exporters, "")
    };
    let relay = Relay::run(&yaml(0));
    let http = address(&relay, "http");
    let (accepted, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    // Whose acceptance ended before the exporter went, and began after it came.
    let turn = Mutex::new(0);
    let certain = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for pusher in 0..4 {
            let (http, over, accepted) = (&http, &over, &accepted);
            let (turn, certain) = (&turn, &certain);
            scope.spawn(move || {
                for at in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{pusher}-{at}");
                    let before = *turn.lock().expect("no panic");
                    let is_accepted = push(http, &id) == 200;
                    let after = *turn.lock().expect("no panic");
                    if is_accepted {
                        accepted.lock().expect("no panic").push(id.clone());
                        if before == after && before % 4 == 0 {
                            certain.lock().expect("no panic").push(id);
                        }
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        for at in 1..=RELOADS {
            // Odd: a change is under way; 0 of 4: both are there.
            *turn.lock().expect("no panic") += 1;
            load(&relay, &yaml(at));
            *turn.lock().expect("no panic") += 1;
            thread::sleep(Duration::from_millis(if at % 8 == 3 { 300 } else { 30 }));
            relay.metrics();
        }
        over.store(true, Ordering::Relaxed);
    });
    relay.until("all are sent", |metrics| {
        ["otlp", "otlp_http"]
            .iter()
            .all(|id| metrics.books(id).queued == 0)
    });
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
    assert!(!relay.log().contains("is in memory"), "{}", relay.log());
    let [first, second] = [arrived([&sinks[0]]), arrived([&sinks[1]])];
    let accepted = accepted.into_inner().expect("no panic");
    let certain = certain.into_inner().expect("no panic");
    assert!(
        accepted.len() > 200 && certain.len() > 50,
        "{} {}",
        accepted.len(),
        certain.len()
    );
    let missing = |names: &[String], arrived: &std::collections::BTreeMap<String, usize>| {
        let missing = names.iter().filter(|name| !arrived.contains_key(*name));
        missing.cloned().collect::<Vec<_>>()
    };
    assert_eq!(missing(&accepted, &first), [""; 0]);
    assert_eq!(missing(&certain, &second), [""; 0]);
    assert!(
        first
            .values()
            .chain(second.values())
            .all(|times| *times == 1),
        "doubled"
    );
}
