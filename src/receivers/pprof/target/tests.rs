use super::*;
use crate::receivers::pprof::{profiles, settings::ScrapeConfig};

fn plan(mut json: serde_json::Value) -> Plan {
    json["job_name"] = "api".into();
    let config: ScrapeConfig = serde_json::from_value(json).unwrap();
    Plan {
        job: config.job_name.as_str().into(),
        scheme: config.scheme.as_str().into(),
        params: config.params.clone(),
        specs: profiles::specs(&config),
        rules: Rules::compile(&config.relabel_configs).unwrap(),
        timeout: config.timeout(),
        limits: LabelLimits {
            count: config.label_limit,
            name: config.label_name_length_limit,
            value: config.label_value_length_limit,
        },
    }
}

/// A plan for one profile, `memory`.
fn memory(mut json: serde_json::Value) -> Plan {
    for name in ["block", "goroutine", "mutex", "process_cpu"] {
        json["profiling_config"]["pprof_config"][name]["enabled"] = false.into();
    }
    plan(json)
}

fn group(addresses: &[&str], labels: &[(&str, &str)]) -> Group {
    Group {
        addresses: addresses.iter().map(|address| (*address).into()).collect(),
        labels: labels.iter().copied().collect(),
    }
}

fn urls(built: &Built) -> Vec<&str> {
    built.targets.iter().map(|target| &*target.url).collect()
}

fn error(built: &Built) -> &str {
    built.bad[0].error.as_deref().unwrap()
}

#[test]
fn the_default_job_has_five_targets_and_only_cpu_waits() {
    let built = plan(serde_json::json!({})).build(&[group(&["localhost:9090"], &[])], 0);
    assert_eq!(
        urls(&built),
        [
            "http://localhost:9090/debug/pprof/block",
            "http://localhost:9090/debug/pprof/goroutine",
            "http://localhost:9090/debug/pprof/allocs",
            "http://localhost:9090/debug/pprof/mutex",
            "http://localhost:9090/debug/pprof/profile?seconds=10",
        ]
    );
    let waits: Vec<_> = built.targets.iter().map(|t| t.wait).collect();
    assert_eq!(waits[4], Some(Duration::from_secs(10)));
    assert!(waits[..4].iter().all(Option::is_none));
    assert_eq!(
        built.targets[2].labels.to_string(),
        r#"{__name__="memory", instance="localhost:9090", job="api"}"#
    );
}

#[test]
fn params_go_to_all_profiles_and_never_leak_between_them() {
    let plan = plan(serde_json::json!({"params": {"foo": ["bar", "b z"]}}));
    let groups = [group(&["a:1", "b:1"], &[])];
    let first = plan.build(&groups, 0);
    let again = plan.build(&groups, 0);
    assert_eq!(urls(&first), urls(&again), "building twice changes nothing");
    for url in urls(&again) {
        let expected = usize::from(url.contains("/profile?"));
        assert_eq!(url.matches("seconds=").count(), expected, "{url}");
        assert!(url.contains("foo=bar&foo=b+z"), "{url}");
    }
}

#[test]
fn a_path_may_carry_a_query() {
    let json = serde_json::json!({"params": {"debug": ["0"]}, "profiling_config": {
        "pprof_config": {"memory": {"path": "/debug/pprof/heap?gc=1"}}}});
    let built = memory(json).build(&[group(&["a:1"], &[])], 0);
    assert_eq!(urls(&built), ["http://a:1/debug/pprof/heap?gc=1&debug=0"]);
}

#[test]
fn relabelling_sees_and_changes_everything() {
    let json = serde_json::json!({
    "params": {"foo": ["bar"]},
    "relabel_configs": [
        {"source_labels": ["__meta_port"], "target_label": "__address__", "replacement": "pod:$1"},
        {"target_label": "__scheme__", "replacement": "https"},
        {"source_labels": ["__name__"], "regex": "memory", "target_label": "__profile_path__",
         "replacement": "/own/a b"},
        {"target_label": "__param_foo", "replacement": "new"},
        {"target_label": "__param_more", "replacement": "1"},
        {"target_label": "__name__", "replacement": "heap"},
        {"source_labels": ["__address__"], "target_label": "instance", "replacement": "me"},
    ]});
    let groups = [group(
        &["a"],
        &[("__meta_port", "8443"), ("team", "x"), ("job", "own")],
    )];
    let built = memory(json).build(&groups, 0);
    assert_eq!(urls(&built), ["https://pod:8443/own/a%20b?foo=new&more=1"]);
    assert_eq!(
        built.targets[0].labels.to_string(),
        r#"{__name__="heap", instance="me", job="own", team="x"}"#
    );
    let seen = memory(serde_json::json!({})).discovered(&built.targets[0].source, 0);
    assert_eq!(seen.get("__meta_port"), Some("8443"));
    assert_eq!(seen.get("__profile_path__"), Some("/debug/pprof/allocs"));
}

#[test]
fn relabelling_drops_single_profiles() {
    let json = serde_json::json!({"relabel_configs": [
        {"source_labels": ["__name__", "__address__"], "regex": "(block|mutex);a:1", "action": "drop"}]});
    let built = plan(json).build(&[group(&["a:1"], &[])], 1);
    assert_eq!(built.targets.len(), 3);
    assert_eq!((built.dropped_total, built.dropped.len()), (2, 1));
}

#[test]
fn relabelling_may_set_seconds_but_not_beyond_the_timeout() {
    let rule = |seconds: &str| {
        memory(serde_json::json!({"relabel_configs": [
            {"target_label": "__param_seconds", "replacement": seconds}]}))
        .build(&[group(&["a:1"], &[])], 0)
    };
    assert_eq!(rule("5").targets[0].wait, Some(Duration::from_secs(5)));
    assert!(error(&rule("60")).contains("scrape_timeout of 13s"));
}

#[test]
fn ports_follow_the_scheme_and_instance_follows_the_address() {
    let address = |scheme: &str, address: &str| {
        let built =
            memory(serde_json::json!({"scheme": scheme})).build(&[group(&[address], &[])], 0);
        match built.targets.first() {
            Some(target) => target.labels.get("instance").unwrap().to_owned(),
            None => format!("bad: {}", error(&built)),
        }
    };
    assert_eq!(address("http", "a"), "a:80");
    assert_eq!(address("https", "a"), "a:443");
    assert_eq!(address("http", "a:6060"), "a:6060");
    assert_eq!(address("http", "[::1]:6060"), "[::1]:6060");
    assert_eq!(address("http", "[::1]"), "[::1]:80");
    assert_eq!(address("http", "::1"), "[::1]:80");
    for wrong in [
        "a:b",
        "a:70000",
        "a:",
        ":80",
        "a b",
        "http://a:1",
        "u:p@a:1",
        "a:1:2",
    ] {
        assert!(address("http", wrong).starts_with("bad: "), "{wrong}");
    }
    assert!(!address("http", "u:secret@a:1").contains("secret"));
}

#[test]
fn one_wrong_target_never_skips_its_group() {
    let built =
        memory(serde_json::json!({})).build(&[group(&["good:1", "ba/d:1", "", "fine:1"], &[])], 0);
    assert_eq!(
        urls(&built),
        [
            "http://good:1/debug/pprof/allocs",
            "http://fine:1/debug/pprof/allocs"
        ]
    );
    assert_eq!(built.bad.len(), 2);
}

#[test]
fn a_target_above_a_label_limit_is_bad_and_alone_so() {
    let many: Vec<(String, String)> = (0..10_000)
        .map(|at| (format!("l{at}"), "v".to_owned()))
        .collect();
    let long = "x".repeat(5_000);
    let groups = [
        Group {
            addresses: vec!["many:1".into()],
            labels: many.into_iter().collect(),
        },
        group(&["value:1"], &[("a", &long)]),
        group(&["name:1"], &[(&long, "a")]),
        group(&["good:1"], &[]),
    ];
    let built = memory(serde_json::json!({})).build(&groups, 0);
    assert_eq!(built.targets.len(), 1);
    let errors: Vec<_> = built
        .bad
        .iter()
        .map(|bad| bad.error.clone().unwrap())
        .collect();
    assert!(errors[0].contains("more than the label_limit of 64"));
    assert!(errors[1].contains("label_value_length_limit"));
    assert!(errors[2].contains("label_name_length_limit"));
    assert!(errors.iter().all(|error| error.len() < 300));
    let unlimited = memory(serde_json::json!({"label_limit": 0})).build(&groups, 0);
    assert_eq!(unlimited.targets.len(), 2);
}

#[test]
fn identity_is_labels_and_url() {
    let hash = |json: serde_json::Value, labels: &[(&str, &str)]| {
        memory(json).build(&[group(&["a:1"], labels)], 0).targets[0].hash
    };
    let plain = hash(serde_json::json!({}), &[]);
    assert_eq!(
        plain,
        hash(serde_json::json!({"scrape_interval": "5s"}), &[])
    );
    assert_eq!(plain, hash(serde_json::json!({}), &[("__meta_x", "y")]));
    assert_ne!(plain, hash(serde_json::json!({}), &[("x", "y")]));
    assert_ne!(
        plain,
        hash(serde_json::json!({"params": {"x": ["y"]}}), &[])
    );
    // Known value: a change of the hash would move every target's phase.
    assert_eq!(plain, 14_322_850_081_248_515_359);
}
