//! What nginx finds too large (`client_max_body_size`) on its way to a Parca: it is
//! divided, or dropped for that reason, and nothing else is touched.

use crate::{
    agent::{Agent, Habit, Mark},
    certificates::Authority,
    config,
    far_end::{
        Log,
        real::{RealParca, flat},
    },
    front::Nginx,
    harness::{LIMIT, Relay},
    neighbours::find,
    nginx::{PACE, attempts, file, folder, listening, store},
    outages::settle,
    support::{
        needs_env,
        sink::{Sink, Taken, pprof_totals, totals},
    },
    target::{Answer, Target, not_found},
};
use bytes::Bytes;
use profile_relay::profile::{
    arrow::{Arrow, SyntheticArrow, outline},
    pprof::SyntheticProfile,
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::runtime::Runtime;
use tonic::Code;

const ROWS: u32 = 2_000;

/// The type of CPU samples of an agent, as Parca calls it.
pub const CPU: &str = "parca_agent:samples:count:cpu:nanoseconds:delta";

/// Parca gives CPU samples times their period.
pub const PERIOD: i64 = 52_631_578;

/// What an agent of a busy machine sends, in both schemas.
fn busy(rows: u32) -> [Arrow; 2] {
    let made = SyntheticArrow {
        rows,
        ..SyntheticArrow::busy(3)
    };
    [made.v1().expect("a body"), made.v2().expect("a body")]
}

/// nginx before a store, with its limit.
fn limited(binary: &Path, authority: &Authority, store: SocketAddr, limit: &str) -> Nginx {
    let files = folder(authority, authority);
    Nginx::start(binary, files, &directives(store, limit))
}

fn directives(store: SocketAddr, limit: &str) -> String {
    format!("client_max_body_size {limit};\n    location / {{ grpc_pass grpc://{store}; }}")
}

/// A relay that scrapes `targets`, takes what agents push, and knows a Parca only
/// through nginx.
fn relay(authority: &Authority, nginx: &Nginx, targets: &[&Target]) -> Relay {
    let targets: Vec<_> = targets.iter().map(|target| target.addr()).collect();
    let job = config::job("api", &targets, "");
    let to = format!(
        "endpoint: \"https://{}\", timeout: 20s, tls: {{ca_file: ca.pem}}",
        nginx.addr()
    );
    Relay::run_in(
        folder(authority, authority),
        &format!(
            "receivers:\n  pprof: {{scrape_configs: [{job}]}}\n  \
             parca: {{endpoint: \"127.0.0.1:0\", upstream: {{{to}}}}}\n\
             exporters: {{parca: {{{to}, {}}}}}\n\
             service:\n  pipelines: {{profiles: {{receivers: [pprof, parca], exporters: [parca]}}}}\n",
            config::delivery(""),
        ),
    )
}

async fn push_busy(agent: &Agent, rows: u32) {
    let [v1, v2] = busy(rows);
    let stacks = v1.stacks().expect("stacks");
    let written = agent.write(v1.samples(), stacks, Habit::ReadsOn).await;
    written.expect("a success").expect("a question");
    let written = agent.write_arrow(v2.samples()).await;
    written.expect("a success");
}

/// The rows that are stored: of schema v1, and of v2.
fn rows(log: &Log) -> (u64, u64) {
    let rows = |samples: &Bytes| outline(samples).expect("Arrow").rows;
    log.arrow.iter().fold((0, 0), |(v1, v2), arrow| {
        let rows = rows(&arrow.samples);
        match arrow.stacks {
            Some(_) => (v1 + rows, v2),
            None => (v1, v2 + rows),
        }
    })
}

#[test]
fn what_agents_push_is_divided_until_nginx_lets_it_through() {
    let test = "what_agents_push_is_divided_until_nginx_lets_it_through";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (authority, store, target) = (Authority::new(), store(), Target::good());
    let nginx = limited(&binary, &authority, store.addr(), "48k");
    let relay = relay(&authority, &nginx, &[&target]);
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let agent = Agent::dial(listening(&relay, "parca", "grpc"), PACE).await;
        push_busy(&agent, ROWS).await;
    });
    let all = (u64::from(ROWS), u64::from(ROWS));
    let arrived = store.wait(LIMIT, |log| rows(log) == all);
    assert!(
        arrived,
        "{:?}\n{}\n{}",
        rows(&store.log()),
        relay.log(),
        nginx.log()
    );
    settle(&relay, &target);
    let books = relay.books("parca");
    assert_eq!((books.dropped, books.sent), (0, books.enqueued));
    assert!(attempts(&relay, "parca", "split") > 0);
    // None of it looks as if the backend had died, or waits for better times.
    for outcome in ["died", "retry", "unknown"] {
        assert_eq!(
            attempts(&relay, "parca", outcome),
            0,
            "{outcome}: {}",
            relay.log()
        );
    }
}

#[test]
fn a_real_parca_behind_nginx_has_all_that_was_divided() {
    let test = "a_real_parca_behind_nginx_has_all_that_was_divided";
    let (Some(nginx), Some(parca)) = (find(test, "nginx"), needs_env(test, "PARCA_BIN")) else {
        return;
    };
    let (authority, target) = (Authority::new(), Target::good());
    let runtime = Runtime::new().expect("a runtime");
    let parca = runtime.block_on(RealParca::start(&parca));
    let nginx = limited(&nginx, &authority, parca.addr(), "48k");
    let relay = relay(&authority, &nginx, &[&target]);
    runtime.block_on(async {
        let agent = Agent::dial(listening(&relay, "parca", "grpc"), PACE).await;
        push_busy(&agent, ROWS).await;
    });
    relay.until("something is sent", |metrics| {
        metrics.books("parca").sent > 2
    });
    settle(&relay, &target);
    let books = relay.books("parca");
    assert_eq!(
        (books.dropped, books.sent),
        (0, books.enqueued),
        "{}",
        relay.log()
    );
    assert!(attempts(&relay, "parca", "split") > 0);
    // One that seems to have killed it would be there twice.
    let died = attempts(&relay, "parca", "died");
    assert_eq!(died, 0, "{}\n{}", relay.log(), nginx.log());
    let always = (1, 4_000_000_000_000_000_000);
    let merged = runtime.block_on(parca.merged(&format!("{CPU}{{}}"), always, &[]));
    let sum: i64 = flat(&merged.expect("a report")).values().sum();
    let expected = 2 * i64::from(ROWS) * PERIOD;
    assert_eq!(sum, expected, "{}\n{}", relay.log(), nginx.log());
}

#[test]
fn otlp_is_divided_as_well() {
    let test = "otlp_is_divided_as_well";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (authority, sinks) = (Authority::new(), [(); 2].map(|()| Sink::start()));
    let directives = format!(
        "client_max_body_size 24k;\n    \
         location /opentelemetry. {{ grpc_pass grpc://{}; }}\n    \
         location /v1development/ {{ proxy_pass http://{}; }}",
        sinks[0].addr(),
        sinks[1].addr(),
    );
    let nginx = Nginx::start(&binary, folder(&authority, &authority), &directives);
    let bodies: Vec<_> = (0..8)
        .map(|seed| SyntheticProfile::heap(seed).encode())
        .collect();
    let (next, served) = (AtomicUsize::new(0), bodies.clone());
    let target = Target::start(
        move |_| match served.get(next.fetch_add(1, Ordering::Relaxed)) {
            Some(body) => Answer::Profile(body.clone()),
            None => not_found(),
        },
    );
    let job = config::job("api", &[target.addr()], "");
    let to = format!(
        "endpoint: \"https://{}\", compression: none, tls: {{ca_file: ca.pem}}, {}",
        nginx.addr(),
        config::delivery(""),
    );
    let relay = Relay::run_in(
        folder(&authority, &authority),
        &format!(
            "receivers: {{pprof: {{scrape_configs: [{job}]}}}}\n\
             exporters:\n  otlp: {{{to}}}\n  otlp_http: {{{to}}}\n\
             service:\n  pipelines: {{profiles: {{receivers: [pprof], exporters: [otlp, otlp_http]}}}}\n"
        ),
    );
    let expected = pprof_totals(&bodies);
    for (id, sink) in ["otlp", "otlp_http"].into_iter().zip(&sinks) {
        let all = |taken: &[Taken]| totals(taken.iter().map(|t| &t.request)) == expected;
        assert!(
            sink.wait(LIMIT, all),
            "{id}\n{}\n{}",
            relay.log(),
            nginx.log()
        );
        let metrics = relay.until("nothing is left", |metrics| metrics.books(id).queued == 0);
        assert_eq!(metrics.books(id).dropped, 0, "{id}");
        assert!(attempts(&relay, id, "split") > 0, "{id}");
        for outcome in ["died", "retry", "unknown", "rejected"] {
            assert_eq!(
                attempts(&relay, id, outcome),
                0,
                "{id} {outcome}: {}",
                relay.log()
            );
        }
    }
}

#[test]
fn what_no_division_makes_small_enough_is_dropped_and_the_rest_goes_on() {
    let test = "what_no_division_makes_small_enough_is_dropped_and_the_rest_goes_on";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (authority, store, target) = (Authority::new(), store(), Target::good());
    let nginx = limited(&binary, &authority, store.addr(), "1k");
    // One sample of it is larger than that: its stack is a deep one.
    let once = Once::new();
    let large = Target::start(move |_| {
        let mut answer = Answer::Nothing;
        once.call_once(|| {
            let mut profile = SyntheticProfile::heap(1);
            profile.samples = 4;
            profile.depth = 400;
            profile.functions = 2_000;
            answer = Answer::Profile(profile.encode());
        });
        answer
    });
    let relay = relay(&authority, &nginx, &[&target, &large]);
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let agent = Agent::dial(listening(&relay, "parca", "grpc"), PACE).await;
        push_busy(&agent, 40).await;
    });
    let before = store.stored().len();
    relay.until("what is too large is given up", |metrics| {
        metrics.dropped("parca", "too_large") == 3
    });
    let more = store.wait(LIMIT, |log| log.stored.len() > before);
    assert!(more, "{}", relay.log());
    settle(&relay, &target);
    let books = relay.books("parca");
    assert_eq!((books.dropped, books.queued), (3, 0), "{}", relay.log());
    assert_eq!(store.stored().len() as u64, books.sent);
    assert_eq!(rows(&store.log()), (0, 0));
    for outcome in ["died", "retry", "unknown"] {
        assert_eq!(
            attempts(&relay, "parca", outcome),
            0,
            "{outcome}: {}",
            relay.log()
        );
    }
}

#[test]
fn an_agent_does_not_give_up_symbols_that_nginx_finds_too_large() {
    let test = "an_agent_does_not_give_up_symbols_that_nginx_finds_too_large";
    let Some(binary) = find(test, "nginx") else {
        return;
    };
    let (authority, store, target) = (Authority::new(), store(), Target::good());
    let nginx = limited(&binary, &authority, store.addr(), "1k");
    let relay = relay(&authority, &nginx, &[&target]);
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let agent = Agent::dial(listening(&relay, "parca", "grpc"), PACE).await;
        for symbols in [file(2_000), file(3 << 20)] {
            assert_eq!(agent.upload(&symbols).await, Mark::None);
        }
        let log: Vec<_> = std::mem::take(&mut *agent.log.lock().expect("a lock"));
        let uploads: Vec<_> = log.iter().filter(|(call, _)| *call == "upload").collect();
        assert_eq!(uploads, [&("upload", Code::Unavailable); 2], "{log:?}");
        assert!(store.log().files.is_empty());
        // Whoever is in charge of nginx hears of it, and mends it.
        let line = relay.logged("HTTP 413");
        assert!(line.contains("client_max_body_size"), "{line}");
        nginx.direct(&directives(store.addr(), "0"));
        nginx.reload();
        for symbols in [file(2_000), file(3 << 20)] {
            assert_eq!(agent.upload(&symbols).await, Mark::ForGood);
        }
    });
    let log = store.log();
    assert_eq!((log.files.len(), log.finished.len()), (2, 2));
    let sent = relay.books("parca").sent;
    relay.until("scraping went on", |metrics| {
        metrics.books("parca").sent > sent
    });
}
