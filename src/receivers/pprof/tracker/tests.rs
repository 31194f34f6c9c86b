use super::*;
use crate::{
    pipeline::{Reason, Refusal},
    receivers::pprof::{
        Settings,
        schedule::{Places, WallClock},
    },
    telemetry::Metrics,
};

fn one_target() -> (Metrics, JobState, Arc<Tracked>, Schedule) {
    let json = serde_json::json!({"scrape_configs": [{"job_name": "api",
        "profiling_config": {"pprof_config": {
            "block": {"enabled": false}, "goroutine": {"enabled": false},
            "mutex": {"enabled": false}, "process_cpu": {"enabled": false}}},
        "static_configs": [{"targets": ["a:1", "a:1"]}]}]});
    let settings: Settings = serde_json::from_value(json).unwrap();
    let (jobs, _) = settings.compile();
    let metrics = Metrics::default();
    let now = Instant::now();
    let mut state = JobState::new(jobs[0].clone(), &metrics.set::<ScrapeMetrics>(), now);
    let places = Places { quick: 1, delta: 1 };
    let mut schedule = Schedule::new(WallClock::new(now, Duration::from_secs(1)), places);
    let built = jobs[0].plan.build(&jobs[0].static_groups, 0);
    let change = state.merge(0, built, &mut schedule, Instant::now());
    (metrics, state, change.added[0].1.clone(), schedule)
}

#[test]
fn a_refused_profile_shows_at_its_target_until_one_is_accepted() {
    let (metrics, mut state, tracked, _) = one_target();
    let refusal = Refusal::retryable(Reason::QueueFull);
    let now = Instant::now();
    state.ended(
        &tracked,
        Duration::ZERO,
        Err(Failure::Refused(refusal)),
        now,
    );
    let error = tracked.observed().last_error.clone().unwrap();
    assert!(
        error.contains("queue_full") && error.contains("max_bytes"),
        "{error}"
    );
    assert_eq!(tracked.observed().health, Health::Down);
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"profile_relay_scrapes_total{job="api",outcome="refused"} 1"#));
    state.ended(&tracked, Duration::ZERO, Ok(7), now);
    assert_eq!(tracked.observed().last_error, None);
    assert_eq!(tracked.observed().health, Health::Up);
}

#[test]
fn a_skip_is_shown_and_leaves_the_health_alone() {
    let (_, mut state, tracked, _) = one_target();
    let now = Instant::now();
    state.ended(&tracked, Duration::ZERO, Ok(7), now);
    state.ended(&tracked, Duration::ZERO, Err(Failure::NoMemory), now);
    assert_eq!(tracked.observed().health, Health::Up);
    assert_eq!(tracked.observed().skipped, 1);
    assert!(tracked.observed().last_error.is_some());
}

#[test]
fn the_same_targets_again_keep_their_slot_and_history() {
    let (_, mut state, tracked, mut schedule) = one_target();
    state.ended(&tracked, Duration::ZERO, Ok(7), Instant::now());
    let built = state.job.plan.build(&state.job.static_groups, 0);
    assert_eq!(built.targets.len(), 2);
    let change = state.merge(0, built, &mut schedule, Instant::now());
    assert!(change.added.is_empty() && change.removed.is_empty());
    assert_eq!(state.duplicates, 1);
    assert!(Arc::ptr_eq(&change.shown.tracked[0], &tracked));
    let change = state.merge(0, Built::default(), &mut schedule, Instant::now());
    assert_eq!(change.removed.len(), 1);
}
