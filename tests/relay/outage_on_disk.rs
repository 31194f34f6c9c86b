//! The far end is away for long: a queue on disk keeps to its bounds, by whatever rule
//! it has for being full, and accounts for every profile, also across restarts.

use crate::{
    disk_queue::{Folder, NOWHERE, Volume, names, otlp_to, storage},
    harness::{LIMIT, Relay},
    metrics::Books,
    otlp_in::{PROTOBUF, address, post, request, try_post},
    support::sink::Sink,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A request of about 10 KB.
fn body(name: &str) -> Vec<u8> {
    let filler = "x".repeat(10_000);
    request(&[name, &filler])
}

/// Pushes so many, named by their place; the names that were acknowledged.
fn push(relay: &Relay, count: usize) -> Vec<String> {
    let http = address(relay, "http");
    let names = (0..count).map(|at| format!("p{at}"));
    let names = names.filter(|name| match post(&http, PROTOBUF, &body(name)) {
        (200, _) => true,
        (503, _) => false,
        (status, told) => panic!("{status} {}", String::from_utf8_lossy(&told)),
    });
    names.collect()
}

/// The names that arrived, without the fillers.
fn arrived(sink: &Sink) -> BTreeSet<String> {
    let all = sink.taken();
    let names = all.iter().flat_map(|taken| names(&taken.request));
    names.filter(|name| name.len() < 100).collect()
}

fn drained(relay: &Relay) -> Books {
    relay
        .until("the queue is empty", |m| m.books("otlp").queued == 0)
        .books("otlp")
}

/// The last ones, and what was in flight: the oldest that wait make room.
fn assert_newest(kept: &BTreeSet<String>, all: &[String]) {
    // One at the sender, one that waits for it.
    const IN_FLIGHT: usize = 2;
    let waited = all[IN_FLIGHT..].iter();
    let waited: Vec<_> = waited.map(|name| kept.contains(name)).collect();
    let dropped = waited.iter().take_while(|kept| !**kept).count();
    assert!(waited[dropped..].iter().all(|kept| *kept), "{kept:?}");
    assert!(dropped > 0 && kept.len() > IN_FLIGHT, "{kept:?}");
}

/// Each request has a profile of a name and one of a filler.
const PROFILES: u64 = 2;

#[test]
fn a_full_queue_does_as_it_is_told_and_the_rest_arrives() {
    for on_full in ["refuse", "drop_oldest", "drop_newest"] {
        let folder = Folder::new();
        let queue = format!("max_bytes: 200KiB, num_consumers: 1, on_full: {on_full}");
        let relay = Relay::run(&folder.otlp_to(NOWHERE, &queue));
        let accepted = push(&relay, 40);
        let metrics = relay.metrics();
        let books = metrics.books("otlp");
        let bytes = metrics.sum("exporter_queue_bytes", &[]);
        assert!(bytes <= 200 << 10, "{on_full}: {bytes}");
        assert!(bytes > 150 << 10, "{on_full}: {bytes}");
        let lost = metrics.dropped("otlp", "queue_full");
        let refused = metrics.sum(
            "receiver_refused_profiles_total",
            &[("reason", "queue_full")],
        );
        if on_full == "refuse" {
            assert_eq!(
                (lost, refused),
                (0, (40 - accepted.len() as u64) * PROFILES)
            );
        } else {
            assert_eq!((accepted.len(), refused), (40, 0), "{on_full}");
            assert_eq!(lost, 40 * PROFILES - books.queued);
        }
        assert!(lost + refused > 20 * PROFILES, "{on_full}");
        // Killed, and started with a far end.
        drop(relay);
        let sink = Sink::start();
        let relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), &queue));
        let after = drained(&relay);
        assert_eq!(
            (after.recovered, after.dropped),
            (books.queued, 0),
            "{on_full}"
        );
        let kept = arrived(&sink);
        if on_full == "drop_oldest" {
            assert_newest(&kept, &accepted);
        } else {
            let count = (books.queued / PROFILES) as usize;
            let first: BTreeSet<_> = accepted[..count].iter().cloned().collect();
            assert_eq!(kept, first, "{on_full}");
        }
    }
}

#[test]
fn what_waits_too_long_expires_on_disk_in_flight_and_while_nobody_runs() {
    let folder = Folder::new();
    let queue = "max_age: 2s, num_consumers: 2";
    let yaml = folder.otlp_to(NOWHERE, queue);
    let relay = Relay::run(&yaml);
    let began = Instant::now();
    assert_eq!(push(&relay, 30).len(), 30);
    relay.until("it is tried", |m| {
        m.sum("exporter_attempts_total", &[("outcome", "retry")]) > 1
    });
    // Some are in flight, the rest waits.
    relay.until("all are expired", |m| {
        m.dropped("otlp", "expired") == 30 * PROFILES
    });
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(relay.books("otlp").queued, 0);

    // Their age does not begin anew with a process.
    assert_eq!(push(&relay, 5).len(), 5);
    drop(relay);
    thread::sleep(Duration::from_millis(2_100));
    let sink = Sink::start();
    let relay = Relay::run(&folder.otlp_to(&sink.addr().to_string(), queue));
    let metrics = relay.until("all are expired", |m| m.dropped("otlp", "expired") > 0);
    let books = metrics.books("otlp");
    assert_eq!((books.recovered, books.sent), (5 * PROFILES, 0));
    let books = drained(&relay);
    assert_eq!((books.dropped, books.sent), (5 * PROFILES, 0));
    assert_eq!(push(&relay, 1).len(), 1);
    assert!(
        sink.wait(LIMIT, |taken| taken.len() == 1),
        "what is new is sent"
    );
}

#[test]
fn a_full_volume_keeps_the_newest_where_the_oldest_may_go() {
    let test = "a_full_volume_keeps_the_newest_where_the_oldest_may_go";
    let Some(volume) = Volume::mount(test, 6) else {
        return;
    };
    let storage = storage(volume.path(), ", segment_bytes: 1MiB");
    let queue = "on_full: drop_oldest, num_consumers: 1";
    let relay = Relay::run(&otlp_to(NOWHERE, &storage, queue));
    let http = address(&relay, "http");
    let names: Vec<_> = (0..100).map(|at| format!("p{at}")).collect();
    let filler = "x".repeat(100_000);
    for name in &names {
        let (status, told) = post(&http, PROTOBUF, &request(&[name, &filler]));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&told));
    }
    let metrics = relay.metrics();
    let (books, lost) = (
        metrics.books("otlp"),
        metrics.dropped("otlp", "storage_full"),
    );
    assert_eq!((books.dropped, books.queued), (lost, 100 * PROFILES - lost));
    assert!(lost >= 30 * PROFILES, "{lost}");
    drop(relay);
    let sink = Sink::start();
    let relay = Relay::run(&otlp_to(&sink.addr().to_string(), &storage, queue));
    let after = drained(&relay);
    assert_eq!(
        (after.recovered, after.dropped),
        (books.queued, 0),
        "{}",
        relay.log()
    );
    let kept = arrived(&sink);
    assert_newest(&kept, &names);
    assert!(kept.len() >= 20, "{kept:?}");
}

/// Where the far end is, or will be.
fn seat() -> SocketAddr {
    crate::neighbours::free_port()
}

#[test]
fn the_books_balance_at_any_moment_and_across_restarts_of_any_kind() {
    const LIVES: usize = 6;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (folder, at) = (Folder::new(), seat());
    let queue = "max_bytes: 400KiB, num_consumers: 2";
    let yaml = folder.otlp_to(&at.to_string(), queue) + "  shutdown_timeout: 300ms\n";
    let (next, acknowledged) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let mut got = BTreeSet::new();
    // What the process before had at the most, and at the least.
    let mut left = 0..=0;
    for life in 0..LIVES {
        // The far end is there every other time, and slow.
        let sink = (life % 2 == 1).then(|| Sink::at(at));
        if let Some(sink) = &sink {
            sink.delay(Duration::from_millis(40));
        }
        let relay = Relay::run(&yaml);
        let recovered = relay.books("otlp").recovered;
        assert!(
            left.contains(&recovered),
            "life {life}: {recovered} of {left:?}"
        );
        let (http, over) = (address(&relay, "http"), AtomicBool::new(false));
        let last = thread::scope(|scope| {
            for _ in 0..4 {
                let (http, over, next, acknowledged) = (&http, &over, &next, &acknowledged);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let name = format!("r{}", next.fetch_add(1, Ordering::Relaxed));
                        if let Ok((200, _)) = try_post(http, PROTOBUF, &body(&name)) {
                            acknowledged.lock().expect("no panic").insert(name);
                        }
                    }
                });
            }
            // Each reading asserts the law.
            for _ in 0..random.random_range(5..15) {
                relay.metrics();
                thread::sleep(Duration::from_millis(random.random_range(1..60)));
            }
            over.store(true, Ordering::Relaxed);
            // While the calls under way are done, books may grow by as many.
            relay.books("otlp")
        });
        let after = relay.books("otlp");
        assert!(after.enqueued >= last.enqueued, "{after:?}");
        assert_eq!(after.dropped, 0, "{}", relay.log());
        if life % 3 == 0 {
            assert_eq!(relay.stop().code, Some(0));
        } else {
            drop(relay);
        }
        // While it ended it may have sent more. Of what it did send a kill may have
        // come before that was noted: the next one sends it again.
        let most = after.recovered + after.enqueued;
        left = 0..=if life % 3 == 0 { after.queued } else { most };
        if sink.is_none() {
            left = after.queued..=after.queued;
        }
        got.extend(sink.iter().flat_map(arrived));
    }
    let sink = Sink::at(at);
    let relay = Relay::run(&yaml);
    let books = drained(&relay);
    assert!(left.contains(&books.recovered), "{books:?} {left:?}");
    assert_eq!((books.sent, books.dropped), (books.recovered, 0));
    got.extend(arrived(&sink));
    let acknowledged = acknowledged.into_inner().expect("no panic");
    let lost: Vec<_> = acknowledged.difference(&got).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
}
