use super::*;

fn settings(json: serde_json::Value) -> Settings {
    serde_json::from_value(serde_json::json!({ "scrape_configs": json })).unwrap()
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// A job of a real `parca.yaml`, every key set.
#[test]
fn a_job_of_a_parca_yaml_is_taken_as_it_is() {
    let settings = settings(serde_json::json!([{
        "job_name": "api",
        "params": {"foo": ["bar"]},
        "scrape_interval": "5s",
        "scrape_timeout": "8s",
        "scheme": "https",
        "normalized_addresses": true,
        "profiling_config": {
            "path_prefix": "/x",
            "pprof_config": {
                "memory": {"enabled": true, "path": "/debug/pprof/allocs",
                    "keep_sample_type": [{"type": "inuse_space", "unit": "bytes"}]},
                "process_cpu": {"enabled": true, "path": "/debug/pprof/profile", "delta": true,
                    "seconds": 5},
                "fgprof": {"enabled": true, "path": "/debug/pprof/fgprof", "delta": true}}},
        "relabel_configs": [{"source_labels": ["__meta_x"], "regex": "a", "action": "drop"}],
        "static_configs": [{"targets": ["127.0.0.1:7070"], "labels": {"env": "dev"}}],
        "file_sd_configs": [{"files": ["targets/*.yaml"], "refresh_interval": "1m"}],
        "basic_auth": {"username": "u", "password": "p"},
        "tls_config": {"insecure_skip_verify": true},
        "follow_redirects": true,
        "enable_http2": true,
    }]));
    assert_eq!(texts(&settings.problems()), [""; 0]);
    let (jobs, problems) = settings.compile();
    assert_eq!(texts(&problems), [""; 0]);
    assert_eq!(jobs[0].plan.specs.len(), 6);
    assert_eq!(jobs[0].plan.timeout, Duration::from_secs(8));
    let warnings = texts(&settings.warnings());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("normalized_addresses"));
}

#[test]
fn the_timeout_is_the_interval_and_three_seconds() {
    let settings = settings(serde_json::json!([{}, {"scrape_interval": "5s"}]));
    let timeouts: Vec<_> = settings
        .scrape_configs
        .iter()
        .map(|c| c.timeout())
        .collect();
    assert_eq!(timeouts, [13, 8].map(Duration::from_secs));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_the_jobs_name() {
    let settings = settings(serde_json::json!([
        {"job_name": "good"},
        {"job_name": "good"},
        {},
        {"job_name": "many", "scheme": "ftp", "scrape_interval": "0s",
            "static_configs": [{"targets": ["http://a:1/debug/pprof"]}],
            "file_sd_configs": [{"files": ["a.txt", "*/b.json"]}, {"refresh_interval": "0s"}],
            "relabel_configs": [{"action": "hashmod"}, {"regex": "("}],
            "basic_auth": {}, "authorization": {},
            "kubernetes_sd_configs": [{"role": "pod"}]},
    ]));
    let all = texts(&settings.problems());
    for expected in [
        "scrape_configs[1].job_name: job \"good\": scrape_configs[0] has this job_name too",
        "scrape_configs[2].job_name: job_name is missing",
        "scrape_configs[3].scheme: job \"many\": scheme is \"ftp\"",
        "scrape_configs[3].scrape_interval: ",
        "scrape_configs[3].file_sd_configs[0].files[0]: ",
        "scrape_configs[3].file_sd_configs[0].files[1]: ",
        "scrape_configs[3].file_sd_configs[1].files: ",
        "scrape_configs[3].file_sd_configs[1].refresh_interval: ",
        "scrape_configs[3].relabel_configs[0].modulus: ",
        "scrape_configs[3].relabel_configs[1].regex: ",
        "scrape_configs[3].authorization: ",
        "scrape_configs[3].kubernetes_sd_configs: ",
    ] {
        assert!(
            all.iter().any(|text| text.starts_with(expected)),
            "{expected}\n{all:#?}"
        );
    }
    let way_out = all.iter().find(|text| text.contains("kubernetes")).unwrap();
    assert!(way_out.contains("file_sd_configs"), "{way_out}");
    let (jobs, _) = settings.compile();
    assert_eq!(jobs.len(), 1, "a bad job leaves the others alone");
}

#[test]
fn a_static_target_that_looks_like_a_url_is_for_relabelling_only() {
    let with = |rules: serde_json::Value| {
        settings(
            serde_json::json!([{"job_name": "a", "relabel_configs": rules,
            "static_configs": [{"targets": ["http://a:1"]}]}]),
        )
        .problems()
    };
    assert_eq!(with(serde_json::json!([])).len(), 1);
    assert!(
        with(serde_json::json!([{"target_label": "__address__", "replacement": "a:1"}])).is_empty()
    );
}

#[test]
fn limits_of_nothing_are_refused() {
    let settings = Settings {
        max_concurrent_scrapes: 0,
        ..Settings::default()
    };
    assert_eq!(settings.problems().len(), 1);
}

#[test]
fn the_schema_knows_every_key_of_a_job() {
    let schema = serde_json::to_string(&schemars::schema_for!(ScrapeConfig)).unwrap();
    for key in [
        "job_name",
        "basic_auth",
        "kubernetes_sd_configs",
        "body_size_limit",
    ] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn settings_survive_printing() {
    let settings = settings(serde_json::json!([{"job_name": "a",
        "basic_auth": {"username": "u", "password": "hunter2"},
        "profiling_config": {"pprof_config": {"memory": {"enabled": false}}}}]));
    let printed = serde_json::to_value(&settings).unwrap();
    assert!(!printed.to_string().contains("hunter2"));
    let again: Settings = serde_json::from_value(printed).unwrap();
    assert_eq!(texts(&again.problems()), [""; 0]);
    let (jobs, _) = again.compile();
    assert_eq!(jobs[0].plan.specs.len(), 4);
}

#[test]
fn a_reload_keeps_the_good_jobs() {
    let json = serde_json::json!([{"job_name": "good"}, {"job_name": "bad", "scheme": "ftp"}]);
    let context = crate::receivers::pprof::testing::context(1 << 20);
    assert_eq!(settings(json.clone()).build(&context).unwrap_err().len(), 1);
    let (_, problems) = settings(json).build_good_jobs(&context).unwrap();
    assert_eq!(problems[0].path, "scrape_configs[1].scheme");
}
