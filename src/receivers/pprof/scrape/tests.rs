use super::*;
use crate::{
    profile::pprof::{SampleTypeTotal, compress, summarize, synthetic::SyntheticProfile},
    receivers::pprof::{
        Settings,
        job::Job,
        target::Target,
        testing::{Answer, Server, context},
    },
};
use std::sync::Arc;

const MEMORY: u64 = 256 << 20;

/// A job with one profile of `address`, and its target.
fn job(address: &str, mut json: serde_json::Value) -> (Arc<Job>, Arc<Target>) {
    json["job_name"] = "api".into();
    json["static_configs"] = serde_json::json!([{"targets": [address]}]);
    for name in ["block", "goroutine", "mutex", "process_cpu"] {
        json["profiling_config"]["pprof_config"][name]["enabled"] = false.into();
    }
    let json = serde_json::json!({"scrape_configs": [json]});
    let settings: Settings = serde_json::from_value(json).unwrap();
    let (jobs, problems) = settings.compile();
    assert!(problems.is_empty(), "{problems:?}");
    let built = jobs[0].plan.build(&jobs[0].static_groups, 0);
    (jobs[0].clone(), built.targets[0].clone())
}

fn shared(memory: u64) -> Shared {
    let context = context(memory);
    Shared {
        receiver: context.id.shared(),
        memory: context.memory,
        cores: Arc::new(Semaphore::new(1)),
    }
}

async fn fetch_with(answer: Answer, json: serde_json::Value) -> Result<Batch, Failure> {
    let server = Server::start(move |_| answer.clone()).await;
    let (job, target) = job(server.address(), json);
    let shared = shared(MEMORY);
    let result = shared.fetch(&job, &target, 0).await;
    if let Err(failure) = &result {
        assert_eq!(shared.memory.used(), 0, "{failure} keeps memory");
        let text = failure.to_string();
        assert!(text.len() < 700 && !text.contains('\n'), "{text}");
    }
    result
}

async fn failure(answer: Answer) -> (Outcome, String) {
    let failure = fetch_with(answer, serde_json::json!({})).await.unwrap_err();
    (failure.outcome(), failure.to_string())
}

fn heap() -> Vec<u8> {
    SyntheticProfile::heap(1).encode().to_vec()
}

#[tokio::test]
async fn a_profile_passes_byte_for_byte_and_is_charged() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let (job, target) = job(server.address(), serde_json::json!({}));
    let shared = shared(MEMORY);
    let batch = shared.fetch(&job, &target, 0).await.unwrap();
    let Some(pprof) = batch.profiles[0].body.as_pprof() else {
        panic!("no pprof")
    };
    assert_eq!(pprof.bytes()[..], heap()[..]);
    assert_eq!(shared.memory.used(), heap().len() as u64);
    assert_eq!(batch.profiles[0].labels, target.labels);
    assert_eq!(batch.origin.peer.as_deref(), Some(&*target.url));
    assert_eq!(batch.origin.transport, Transport::Scrape);
    drop(batch);
    assert_eq!(shared.memory.used(), 0);
    assert_eq!(server.requests(), ["/debug/pprof/allocs"]);
}

#[tokio::test]
async fn a_status_says_what_to_do() {
    let said = |status, headers: &'static str, body: &'static str| async move {
        let (outcome, text) = failure(Answer::status(status, headers, body)).await;
        assert_eq!(outcome, Outcome::HttpError);
        text
    };
    let missing = said(404, "", "404 page not found\n").await;
    assert!(missing.contains("/debug/pprof/allocs"), "{missing}");
    assert!(missing.contains("import"), "{missing}");
    let moved = said(308, "location: /elsewhere\r\n", "").await;
    assert!(
        moved.contains("/elsewhere") && moved.contains("follow_redirects"),
        "{moved}"
    );
    assert!(said(401, "", "").await.contains("basic_auth"));
    assert!(said(403, "", "").await.contains("403"));
    assert!(said(204, "", "").await.contains("200 only"));
    let busy = "Could not enable CPU profiling: cpu profiling already in use\n";
    assert!(said(500, "", busy).await.contains("one place only"));
    assert!(said(503, "", "a\u{1b}[31mb").await.contains("503"));
}

#[tokio::test]
async fn a_body_that_is_no_profile_is_explained() {
    let mut truncated = heap();
    truncated.truncate(1_000);
    for (body, expected) in [
        (b"<html><body>login</body></html>".to_vec(), "HTML"),
        (b"{\"error\": \"no\"}".to_vec(), "JSON"),
        (b"goroutine profile: total 3\n1 @ 0x1\n".to_vec(), "debug=1"),
        (truncated, "cut short"),
        (Vec::new(), "empty"),
        (
            (0..20_000_u32).map(|at| (at * 7 % 251) as u8).collect(),
            "no pprof",
        ),
    ] {
        let (outcome, text) = failure(Answer::ok(body)).await;
        assert_eq!(outcome, Outcome::Invalid, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_bomb_is_too_large_whatever_it_claims() {
    let bomb = compress(&vec![0; 200 << 20]).to_vec();
    let mut liar = bomb.clone();
    let end = liar.len() - 4;
    liar[end..].copy_from_slice(&100_u32.to_le_bytes());
    for body in [bomb, liar] {
        let (outcome, text) = failure(Answer::ok(body)).await;
        assert_eq!(outcome, Outcome::TooLarge, "{text}");
        assert!(text.contains("body_size_limit_uncompressed"), "{text}");
    }
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    let small = serde_json::json!({"body_size_limit": "1MiB"});
    for answer in [Answer::ok(vec![0; 2 << 20]), Answer::Endless(1 << 30)] {
        let failure = fetch_with(answer, small.clone()).await.unwrap_err();
        assert_eq!(failure.outcome(), Outcome::TooLarge);
        assert!(failure.to_string().contains("body_size_limit"));
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_charged_as_it_grows() {
    let server = Server::start(|_| Answer::Endless(64 << 20)).await;
    let (job, target) = job(server.address(), serde_json::json!({}));
    let shared = shared(8 << 20);
    let failure = shared.fetch(&job, &target, 0).await.unwrap_err();
    assert_eq!(failure.outcome(), Outcome::MemoryLimit);
    assert_eq!(shared.memory.used(), 0);
}

#[tokio::test]
async fn a_target_that_never_answers_or_dribbles_meets_the_deadline() {
    let short = serde_json::json!({"scrape_timeout": "150ms"});
    for (answer, stage) in [
        (Answer::Never, "waiting for the answer"),
        (Answer::Dribble, "reading the body"),
    ] {
        let failure = fetch_with(answer, short.clone()).await.unwrap_err();
        assert_eq!(failure.outcome(), Outcome::Timeout);
        assert!(failure.to_string().contains(stage), "{failure}");
    }
}

#[tokio::test]
async fn a_broken_or_missing_connection_is_told_apart() {
    let (outcome, text) = failure(Answer::Cut(heap())).await;
    assert_eq!(outcome, Outcome::ConnectError);
    assert!(text.contains("broke after"), "{text}");
    let (job, target) = job("127.0.0.1:1", serde_json::json!({}));
    let failure = shared(MEMORY).fetch(&job, &target, 0).await.unwrap_err();
    assert_eq!(failure.outcome(), Outcome::ConnectError);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start(|_| Answer::ok(heap())).await;
    let (job, target) = job(server.address(), serde_json::json!({}));
    let shared = shared(MEMORY);
    for _ in 0..5 {
        shared.fetch(&job, &target, 0).await.unwrap();
    }
    assert_eq!(server.requests().len(), 5);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn redirects_are_followed_when_asked_for() {
    let server = Server::start(|path| match path {
        "/new" => Answer::ok(heap()),
        _ => Answer::status(302, "location: /new\r\n", ""),
    })
    .await;
    for (follow, good) in [(true, true), (false, false)] {
        let json = serde_json::json!({"follow_redirects": follow});
        let (job, target) = job(server.address(), json);
        let result = shared(MEMORY).fetch(&job, &target, 0).await;
        assert_eq!(result.is_ok(), good, "{result:?}");
    }
}

#[tokio::test]
async fn only_the_sample_types_to_keep_are_kept() {
    let keep = |kind: &str| {
        serde_json::json!({"profiling_config": {"pprof_config": {"memory": {
            "keep_sample_type": [{"type": kind, "unit": "bytes"}]}}}})
    };
    let batch = fetch_with(Answer::ok(heap()), keep("inuse_space"))
        .await
        .unwrap();
    let Some(pprof) = batch.profiles[0].body.as_pprof() else {
        panic!("no pprof")
    };
    let summary = pprof.read(MEMORY, summarize).unwrap();
    let types: Vec<&SampleTypeTotal> = summary.as_ref().unwrap().sample_types.iter().collect();
    assert_eq!(types.len(), 1);
    let failure = fetch_with(Answer::ok(heap()), keep("nothing"))
        .await
        .unwrap_err();
    assert_eq!(failure.outcome(), Outcome::Invalid);
    assert!(failure.to_string().contains("nothing"), "{failure}");
}

#[tokio::test]
async fn large_bodies_pass_too() {
    let mut large = SyntheticProfile::heap(1);
    large.samples = 20_000;
    let large = large.encode().to_vec();
    assert!(large.len() > SMALL, "{}", large.len());
    fetch_with(Answer::ok(large), serde_json::json!({}))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_memory_a_scrape_waits_a_part_of_the_interval_and_is_skipped() {
    let (job, target) = job("127.0.0.1:1", serde_json::json!({}));
    let shared = shared(FIRST);
    let all = shared.memory.try_take(1).unwrap();
    let started = Instant::now();
    let failure = shared.fetch(&job, &target, 0).await.unwrap_err();
    assert_eq!(failure.outcome(), Outcome::SkippedMemory);
    let waited = started.elapsed();
    assert!((2_500..2_700).contains(&waited.as_millis()), "{waited:?}");
    drop(all);
    assert_eq!(shared.memory.used(), 0);
}
