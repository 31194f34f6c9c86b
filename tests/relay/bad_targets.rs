//! Bad targets are named with a reason and hold up no good one.

use crate::{
    config,
    far_end::{Behaviour, FarEnd, damage},
    harness::Relay,
    target::{Answer, ClosedPort, Target, not_found, profile},
};
use bytes::Bytes;
use serde_json::Value;
use std::time::{Duration, Instant};

const MEMORY: u64 = 256 << 20;
const LATE: &str = "within 1s";

fn other(kind: &'static str, body: impl Into<Bytes>) -> Target {
    let body = body.into();
    Target::start(move |_| Answer::Other(200, kind, body.clone()))
}

/// Noise that is no gzip and no protobuf.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(10_000).collect()
}

fn text<'a>(target: &'a Value, key: &str) -> &'a str {
    target[key].as_str().unwrap_or_default()
}

#[test]
fn each_is_told_what_is_wrong_and_a_good_one_goes_on() {
    let good = Target::good();
    let truncated = profile();
    let truncated = truncated.slice(..truncated.len() / 2);
    let closed = ClosedPort::new();
    let bad = [
        ("missing", Target::start(|_| not_found()), "404"),
        ("html", other("text/html", "<html>login</html>"), "HTML"),
        ("json", other("application/json", "{\"a\": 1}"), "JSON"),
        (
            "truncated",
            other("application/octet-stream", truncated),
            "gzip",
        ),
        (
            "bomb",
            other(
                "application/octet-stream",
                damage::gzip(&vec![0; 200 << 20]),
            ),
            "body_size_limit_uncompressed",
        ),
        ("noise", other("application/octet-stream", noise()), "pprof"),
        (
            "huge",
            Target::start(|_| Answer::Zeros(200 << 20)),
            "body_size_limit",
        ),
        ("silent", Target::start(|_| Answer::Nothing), LATE),
        ("dribbling", Target::start(|_| Answer::Dribble), LATE),
    ];
    let store = FarEnd::start(Behaviour::default());
    // Who does not answer gets a second; the others are read as long as it takes.
    let timeout = |wanted| {
        if wanted == LATE {
            "scrape_timeout: 1s"
        } else {
            ""
        }
    };
    let mut jobs: Vec<_> = bad
        .iter()
        .map(|(job, target, wanted)| config::job(job, &[target.addr()], timeout(*wanted)))
        .collect();
    jobs.push(config::job("closed", &[closed.addr()], ""));
    jobs.push(config::job(
        "good",
        &[good.addr(), good.addr(), good.addr()],
        "",
    ));
    let many: Vec<_> = (0..10_000).map(|n| format!("label_{n}: x")).collect();
    let many = format!(
        "static_configs: [{{targets: [\"{}\"], labels: {{{}}}}}]",
        good.addr(),
        many.join(", ")
    );
    jobs.push(config::job_of("labelled", &many, ""));
    let service = format!("  memory: {{limit: {MEMORY}B}}");
    let relay = Relay::run(&config::relay(
        &jobs,
        &config::to(store.addr(), ""),
        &service,
    ));

    let started = Instant::now();
    relay.until("all have been tried four times", |metrics| {
        let tried = |job: &str| {
            let outcomes = [
                "ok",
                "timeout",
                "connect_error",
                "http_error",
                "invalid",
                "too_large",
            ];
            let count =
                |outcome| metrics.sum("scrapes_total", &[("job", job), ("outcome", outcome)]);
            outcomes.into_iter().map(count).sum::<u64>()
        };
        let jobs = bad.iter().map(|(job, _, _)| *job).chain(["closed", "good"]);
        jobs.into_iter().all(|job| tried(job) >= 4)
    });
    let took = started.elapsed();

    let shown = relay.json("/api/targets");
    let shown = shown["targets"].as_array().expect("targets");
    let of = |job: &str| {
        let fitting: Vec<_> = shown.iter().filter(|t| text(t, "job") == job).collect();
        assert_eq!(fitting.len(), 1, "{job}: {fitting:?}");
        fitting[0]
    };
    for (job, _, wanted) in &bad {
        let target = of(job);
        assert_eq!(text(target, "health"), "down", "{target}");
        let error = text(target, "last_error");
        let found = error.to_lowercase().contains(&wanted.to_lowercase());
        assert!(found, "{job}: {error}");
    }
    assert!(text(of("closed"), "last_error").contains("connection refused"));
    let labelled = of("labelled");
    assert!(
        text(labelled, "last_error").contains("10003 labels"),
        "{labelled}"
    );

    // Three times the same target is one, and its profiles came on time.
    let target = of("good");
    assert_eq!(text(target, "health"), "up", "{target}");
    let arrived = store.stored().len() as u64;
    assert!(arrived + 2 >= took.as_secs(), "{arrived} in {took:?}");
    assert!(
        arrived <= took.as_secs() + 2,
        "{arrived} in {took:?}: scraped twice"
    );
    let mut times: Vec<_> = good.requests().into_iter().map(|r| r.at).collect();
    times.sort();
    let gaps = times
        .windows(2)
        .map(|w| w[1].duration_since(w[0]).unwrap_or_default());
    let longest = gaps.max().unwrap_or_default();
    assert!(longest < Duration::from_millis(1_900), "{longest:?}");

    let served = good.served();
    assert!(store.stored().iter().all(|s| served.contains(&s.body)));
    assert_eq!(store.crashes(), [""; 0]);
    relay.assert_memory_within(MEMORY);
}
