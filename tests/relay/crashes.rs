//! `kill -9` at any moment, also while recovering from the one before: what was
//! acknowledged arrives.
//!
//! `CRASH_ROUNDS` says how often (30 without it), `CRASH_SEED` which moments.

use crate::{
    disk_queue::{Folder, names},
    harness::{Relay, program},
    otlp_in::{PROTOBUF, address, request, try_post},
    support::sink::Sink,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Calls under way at once.
const CLIENTS: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Sends requests, each under a name of its own, until the relay is gone. The names
/// of those that were acknowledged are kept.
fn push(address: &str, next: &AtomicU64, acknowledged: &Mutex<BTreeSet<String>>, on: &AtomicBool) {
    while on.load(Ordering::Relaxed) {
        let name = format!("request-{}", next.fetch_add(1, Ordering::Relaxed));
        match try_post(address, PROTOBUF, &request(&[&name])) {
            Ok((200, _)) => {
                acknowledged.lock().expect("no panic").insert(name);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Starts a relay and kills it before it can have got far.
fn stillborn(folder: &Folder, after: Duration) {
    let file = folder.path().join("stillborn.yaml");
    fs::write(&file, folder.otlp_to("127.0.0.1:1", "")).expect("the configuration is written");
    let mut command: Command = program();
    let mut child = command
        .arg("run")
        .arg("-c")
        .arg(&file)
        .args(["--set", "service::admin::endpoint=127.0.0.1:0"])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    thread::sleep(after);
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_any_moment() {
    let rounds = number("CRASH_ROUNDS").unwrap_or(30);
    let seed = number("CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::new();
    let sink = Sink::start();
    // A backlog builds up.
    sink.delay(Duration::from_millis(60));
    let yaml = folder.otlp_to(&sink.addr().to_string(), "num_consumers: 2");
    let (next, acknowledged) = (AtomicU64::new(0), Mutex::default());
    for _ in 0..rounds {
        let relay = Relay::run(&yaml);
        let address = address(&relay, "http");
        let on = AtomicBool::new(true);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| push(&address, &next, &acknowledged, &on));
            }
            thread::sleep(Duration::from_millis(random.random_range(5..250)));
            // `kill -9`, while the clients go on.
            drop(relay);
            on.store(false, Ordering::Relaxed);
        });
        for _ in 0..random.random_range(0..4) {
            stillborn(
                &folder,
                Duration::from_micros(random.random_range(0..40_000)),
            );
        }
    }
    sink.delay(Duration::ZERO);
    let relay = Relay::run(&yaml);
    relay.until("the queue is empty", |m| m.books("otlp").queued == 0);
    let metrics = relay.metrics();
    assert_eq!(metrics.books("otlp").dropped, 0, "{}", relay.log());
    let mut arrived: BTreeMap<String, u64> = BTreeMap::new();
    for taken in sink.taken() {
        for name in names(&taken.request) {
            *arrived.entry(name).or_default() += 1;
        }
    }
    let acknowledged = acknowledged.into_inner().expect("no panic");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !arrived.contains_key(*name))
        .collect();
    // What was in flight when it was killed is sent again, and what was stored but not
    // answered yet was never acknowledged.
    let twice: u64 = arrived.values().map(|count| count - 1).sum();
    println!(
        "{rounds} kills: {} acknowledged, {} lost, {} arrived, {twice} of them again",
        acknowledged.len(),
        lost.len(),
        arrived.len(),
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(acknowledged.len() as u64 > rounds, "there was load");
    let bound = (rounds + 1) * 16;
    assert!(twice <= bound, "{twice} are more than were in flight");
}
