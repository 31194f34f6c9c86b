//! One configuration after the other while profiles come without a pause.

use super::{NO_WATCH, arrived, load, push, relay, to};
use crate::{
    harness::{LIMIT, Relay},
    otlp_in::address,
    support::sink::Sink,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Configurations that take turns: other exporters, other settings, other
/// receivers, other processors.
fn turns(sinks: &[Sink], at: usize) -> String {
    let (receiver, processor) = (at % 4 == 1, at % 3 == 1);
    let more = if receiver {
        ", max_connections: 900"
    } else {
        ""
    };
    let mut exporters = vec![to("otlp_http", sinks[at % 2].addr(), "")];
    if !at.is_multiple_of(5) {
        exporters.push(to("otlp", sinks[2].addr(), ""));
    }
    let yaml = relay(more, &exporters.join("\n"), NO_WATCH);
    if !processor {
        return yaml;
    }
    let labels = format!(
        "processors: {{labels: {{actions: [{{key: turn, value: \"{at}\", action: upsert}}]}}}}\n"
    );
    let yaml = yaml.replace("exporters: [", "processors: [labels], exporters: [");
    format!("{labels}{yaml}")
}

#[test]
fn two_hundred_reloads_under_load_lose_and_double_nothing() {
    const RELOADS: usize = 200;
    let sinks = [(); 3].map(|()| Sink::start());
    let relay_ = Relay::run(&turns(&sinks, 1));
    let http = address(&relay_, "http");
    let accepted = Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        for pusher in 0..4 {
            let (http, over, accepted) = (&http, &over, &accepted);
            scope.spawn(move || {
                let mut at = 0;
                while !over.load(Ordering::Relaxed) {
                    let id = format!("{pusher}-{at}");
                    at += 1;
                    // Refused for now is not accepted: it is sent again.
                    while push(http, &id) != 200 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    accepted.lock().expect("no panic").push(id);
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        for at in 2..RELOADS + 2 {
            load(&relay_, &turns(&sinks, at));
            if at % 7 == 0 {
                relay_.metrics().assert_law();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let took = began.elapsed();
    let accepted = accepted.into_inner().expect("no panic");
    assert!(accepted.len() > RELOADS, "{}", accepted.len());
    relay_.until("all are sent", |metrics| {
        let text = metrics.text();
        ["otlp", "otlp_http"]
            .iter()
            .filter(|id| text.contains(&format!("exporter=\"{id}\"")))
            .all(|id| metrics.books(id).queued == 0)
    });
    let ended = relay_.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    assert!(!ended.log.contains("were left"), "{}", ended.log);
    // Each went to one of the first two, whichever it was then.
    let arrived_once = arrived(&sinks[..2]);
    let lost: Vec<_> = accepted
        .iter()
        .filter(|id| !arrived_once.contains_key(*id))
        .collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", accepted.len());
    let doubled: Vec<_> = arrived_once
        .iter()
        .filter(|(_, times)| **times > 1)
        .collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert_eq!(arrived_once.len(), accepted.len());
    // The third was there four times out of five.
    let third = arrived([&sinks[2]]);
    assert!(third.values().all(|times| *times == 1), "doubled");
    assert!(!third.is_empty() && third.keys().all(|id| arrived_once.contains_key(id)));
    assert!(took < LIMIT, "{took:?}");
}
