use super::*;
use crate::settings::Duration;

fn job(json: serde_json::Value) -> ScrapeConfig {
    serde_json::from_value(json).unwrap()
}

fn find<'a>(specs: &'a [ProfileSpec], name: &str) -> &'a ProfileSpec {
    specs.iter().find(|spec| *spec.name == *name).unwrap()
}

fn names(specs: &[ProfileSpec]) -> Vec<&str> {
    specs.iter().map(|spec| &*spec.name).collect()
}

#[test]
fn the_default_set_is_parcas_and_only_cpu_has_seconds() {
    let specs = specs(&job(serde_json::json!({})));
    assert_eq!(
        names(&specs),
        ["block", "goroutine", "memory", "mutex", "process_cpu"]
    );
    for spec in &specs {
        let expected = (&*spec.name == "process_cpu").then_some(10);
        assert_eq!(spec.seconds, expected, "{}", spec.name);
    }
    assert_eq!(&*find(&specs, "memory").path, "/debug/pprof/allocs");
}

#[test]
fn a_partly_given_process_cpu_keeps_delta() {
    let specs = specs(&job(serde_json::json!({"profiling_config": {
        "pprof_config": {"process_cpu": {"enabled": true}}}})));
    assert_eq!(find(&specs, "process_cpu").seconds, Some(10));
}

#[test]
fn seconds_may_differ_from_the_interval() {
    let specs = specs(&job(serde_json::json!({
        "scrape_interval": "10m",
        "profiling_config": {"pprof_config": {
            "memory": {"delta": true, "seconds": 10},
            "process_cpu": {"seconds": 30},
            "block": {"enabled": false}}}})));
    assert_eq!(find(&specs, "memory").seconds, Some(10));
    assert_eq!(find(&specs, "process_cpu").seconds, Some(30));
    assert!(!names(&specs).contains(&"block"));
}

#[test]
fn an_interval_below_a_second_still_asks_for_one() {
    let mut config = job(serde_json::json!({}));
    config.scrape_interval = Duration::from_millis(500);
    assert_eq!(find(&specs(&config), "process_cpu").seconds, Some(1));
}

#[test]
fn known_names_are_prefilled_and_off_and_others_must_be_enabled() {
    let specs = specs(&job(
        serde_json::json!({"profiling_config": {"pprof_config": {
        "fgprof": {"enabled": true},
        "godeltaprof_memory": {"enabled": true},
        "godeltaprof_block": {},
        "heap": {"path": "/debug/pprof/heap?gc=1"},
        "threads": {"enabled": true, "path": "debug/threads"}}}}),
    ));
    let fgprof = find(&specs, "fgprof");
    assert_eq!((&*fgprof.path, fgprof.seconds), ("/debug/fgprof", Some(10)));
    let delta = find(&specs, "godeltaprof_memory");
    assert_eq!(
        (&*delta.path, delta.seconds),
        ("/debug/pprof/delta_heap", None)
    );
    assert_eq!(&*find(&specs, "threads").path, "/debug/threads");
    assert!(!names(&specs).contains(&"godeltaprof_block"));
    assert!(!names(&specs).contains(&"heap"));
}

#[test]
fn the_prefix_is_put_in_front_of_every_path() {
    let specs = specs(&job(serde_json::json!({"profiling_config": {
        "path_prefix": "/test/prefix/",
        "pprof_config": {"own": {"enabled": true, "path": "/own"}}}})));
    assert_eq!(
        &*find(&specs, "memory").path,
        "/test/prefix/debug/pprof/allocs"
    );
    assert_eq!(&*find(&specs, "own").path, "/test/prefix/own");
}

#[test]
fn the_users_own_seconds_are_left_alone() {
    let by_params = job(serde_json::json!({"params": {"seconds": ["5"]}}));
    let specs_by_params = specs(&by_params);
    let cpu = find(&specs_by_params, "process_cpu");
    assert_eq!(cpu.seconds, None);
    assert_eq!(cpu.wait(&by_params.params), Some(5));
    let by_path = specs(&job(
        serde_json::json!({"profiling_config": {"pprof_config": {
        "process_cpu": {"path": "/debug/pprof/profile?seconds=7"}}}}),
    ));
    let cpu = find(&by_path, "process_cpu");
    assert_eq!((cpu.seconds, cpu.wait(&BTreeMap::new())), (None, Some(7)));
}

#[test]
fn what_cannot_work_is_refused_with_the_way_out() {
    let messages = |json| {
        let mut config = job(json);
        config.job_name = "api".into();
        problems(&config)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let short = messages(serde_json::json!({"scrape_timeout": "5s"}));
    assert_eq!(short.len(), 1, "{short:?}");
    assert!(short[0].starts_with("scrape_timeout: process_cpu is collected over 10s"));
    let with_less = messages(serde_json::json!({"scrape_timeout": "5s",
        "profiling_config": {"pprof_config": {"process_cpu": {"seconds": 3}}}}));
    assert!(with_less.is_empty(), "{with_less:?}");
    let without_cpu = messages(serde_json::json!({"scrape_timeout": "5s",
        "profiling_config": {"pprof_config": {"process_cpu": {"enabled": false}}}}));
    assert!(without_cpu.is_empty(), "{without_cpu:?}");
    let odd = messages(serde_json::json!({"profiling_config": {"pprof_config": {
        "trace": {"enabled": true, "path": "/debug/pprof/trace"},
        "own": {"enabled": true},
        "memory": {"keep_sample_type": [{"type": "alloc_space"}]}}}}));
    assert_eq!(odd.len(), 3, "{odd:?}");
}

#[test]
fn a_cpu_profile_without_seconds_is_warned_about() {
    let config = job(serde_json::json!({"profiling_config": {"pprof_config": {
        "process_cpu": {"delta": false}}}}));
    assert_eq!(warnings(&config).len(), 1);
    assert!(warnings(&job(serde_json::json!({}))).is_empty());
}
