use super::*;
use crate::receivers::pprof::{Settings, metrics::ScrapeMetrics};
use crate::telemetry::Metrics;
use std::os::unix::fs::symlink;

fn source(patterns: &[PathBuf]) -> (FileSource, Counter) {
    let files: Vec<_> = patterns.iter().map(|p| p.to_str().unwrap()).collect();
    let settings: Settings = serde_json::from_value(serde_json::json!({"scrape_configs": [
        {"job_name": "a", "file_sd_configs": [{"files": files}]}]}))
    .unwrap();
    let (jobs, problems) = settings.compile();
    assert!(problems.is_empty(), "{problems:?}");
    let errors = Metrics::default()
        .set::<ScrapeMetrics>()
        .discovery_errors("a");
    let source = FileSource::new(0, 1, &jobs[0], &jobs[0].file_sd[0], errors.clone());
    (source, errors)
}

fn addresses(groups: &[Group]) -> Vec<&str> {
    groups
        .iter()
        .flat_map(|g| g.addresses.iter().map(|a| &**a))
        .collect()
}

#[test]
fn json_and_yaml_say_the_same() {
    let yaml = "# comment\n- targets: ['a:1', \"b:1\"]\n  labels:\n    env: dev\n    port: 6060\n    ok: true\n- targets:\n  - c:1\n";
    let json = r#"[{"targets": ["a:1", "b:1"], "labels": {"env": "dev", "port": 6060, "ok": true}},
        {"targets": ["c:1"]}]"#;
    let from_yaml = parse(Path::new("x.yml"), yaml.as_bytes()).unwrap();
    let mut from_json = parse(Path::new("x.json"), json.as_bytes()).unwrap();
    assert_eq!(addresses(&from_yaml), ["a:1", "b:1", "c:1"]);
    assert_eq!(
        from_yaml[0].labels.to_string(),
        r#"{__meta_filepath="x.yml", env="dev", ok="true", port="6060"}"#
    );
    for group in &mut from_json {
        group.labels = group
            .labels
            .edit()
            .set("__meta_filepath", "x.yml")
            .clone()
            .build();
    }
    assert_eq!(from_json, from_yaml);
    assert!(parse(Path::new("x.yml"), b"").unwrap().is_empty());
    assert!(parse(Path::new("x.json"), b"[]").unwrap().is_empty());
}

#[test]
fn what_is_no_list_of_groups_is_an_error() {
    for (name, text) in [
        ("x.json", "not json"),
        ("x.json", ""),
        ("x.json", "{}"),
        ("x.json", r#"["a:1"]"#),
        ("x.json", r#"[{"targets": "a:1"}]"#),
        ("x.json", r#"[{"targets": [1]}]"#),
        ("x.json", r#"[{"target": ["a:1"]}]"#),
        ("x.json", r#"[{"targets": [], "labels": {"a": []}}]"#),
        ("x.yml", "a: [unclosed"),
        ("x.yml", "targets: [a:1]"),
    ] {
        assert!(parse(Path::new(name), text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse(Path::new("x.yml"), b"\xff\xfe").is_err());
}

#[test]
fn wildcards_match_whole_names() {
    for (pattern, name, expected) in [
        ("*.json", "a.json", true),
        ("*.json", ".json", true),
        ("*.json", "a.json.tmp", false),
        ("a*b*c.yml", "a--b-b-c.yml", true),
        ("a*b*c.yml", "a--c.yml", false),
        ("t?.yml", "t1.yml", true),
        ("t?.yml", "t12.yml", false),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), name.as_bytes()),
            expected,
            "{pattern} {name}"
        );
    }
}

#[test]
fn a_bad_file_keeps_its_last_targets_and_a_gone_one_takes_them_along() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let (mut source, errors) = source(&[folder.path().join("*.json")]);
    assert_eq!(
        addresses(&source.refresh().unwrap()),
        [""; 0],
        "told once even if empty"
    );
    write("a.json", r#"[{"targets": ["a:1"]}]"#);
    write("b.json", r#"[{"targets": ["b:1"]}]"#);
    write("c.txt", r#"[{"targets": ["c:1"]}]"#);
    assert_eq!(addresses(&source.refresh().unwrap()), ["a:1", "b:1"]);
    assert!(source.refresh().is_none(), "nothing changed");
    write("a.json", "[{");
    assert!(source.refresh().is_none());
    assert!(source.refresh().is_none());
    assert_eq!(errors.get(), 2);
    write("b.json", r#"[{"targets": ["b:2"]}]"#);
    assert_eq!(addresses(&source.refresh().unwrap()), ["a:1", "b:2"]);
    write("a.json", r#"[{"targets": ["a:1"]}]"#);
    assert!(
        source.refresh().is_none(),
        "good again, with the same targets"
    );
    fs::remove_file(folder.path().join("a.json")).unwrap();
    assert_eq!(addresses(&source.refresh().unwrap()), ["b:2"]);
}

#[test]
fn links_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir(at(version)).unwrap();
        let text = format!(r#"[{{"targets": ["{version}:1"]}}]"#);
        fs::write(at(version).join("t.json"), text).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/t.json", at("t.json")).unwrap();
    let (mut source, _) = source(&[at("*.json")]);
    assert_eq!(addresses(&source.refresh().unwrap()), ["v1:1"]);
    symlink("v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(addresses(&source.refresh().unwrap()), ["v2:1"]);
}
