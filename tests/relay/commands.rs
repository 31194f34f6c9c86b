//! The commands that end by themselves, and what they print.

use crate::{
    far_end::{Behaviour, FarEnd},
    harness::{Relay, finish, program},
    schema::Schema,
    target::{Answer, ClosedPort, Target, not_found},
};
use profile_relay::{
    components,
    settings::{self, Sources},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

fn run(arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments);
    finish(command).0
}

/// What a command printed that ended well.
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The examples that are shipped.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("config")).expect("config/ is there");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

/// An example with all defaults filled in.
fn effective(example: &Path) -> Value {
    let sources = Sources::new([text(example).to_owned()], Vec::new());
    let loaded = settings::load(&sources, &components::catalogue());
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    loaded.effective
}

const SECRETS: &str = r#"
receivers:
  pprof:
    scrape_configs:
      - job_name: a
        basic_auth: {username: user, password: s3cret-1}
        http_headers: {x-key: {secrets: [s3cret-2]}}
        static_configs: [{targets: ["127.0.0.1:1"]}]
      - job_name: b
        bearer_token: s3cret-3
        proxy_url: "http://user:s3cret-4@127.0.0.1:1"
        proxy_connect_header: {x-auth: [s3cret-5]}
        static_configs: [{targets: ["127.0.0.1:1"]}]
      - job_name: c
        authorization: {credentials: s3cret-6}
        static_configs: [{targets: ["127.0.0.1:1"]}]
      - job_name: d
        oauth2: {client_id: x, client_secret: s3cret-7, token_url: "http://127.0.0.1:1/"}
        static_configs: [{targets: ["127.0.0.1:1"]}]
exporters:
  parca:
    endpoint: "http://127.0.0.1:1"
    headers: {x-scope: s3cret-8}
    auth: {bearer_token: "${env:TOKEN}"}
  parca/basic:
    endpoint: "http://127.0.0.1:1"
    proxy_url: "http://user:s3cret-10@127.0.0.1:1"
    auth: {basic: {username: user, password: s3cret-11}}
service:
  pipelines:
    profiles: {receivers: [pprof], exporters: [parca, parca/basic]}
"#;

#[test]
fn no_secret_is_ever_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("relay.yaml");
    fs::write(&file, SECRETS).expect("a file");
    let run = |command: &str| {
        let mut program = program();
        program.args([command, "--config", text(&file)]);
        program.env("TOKEN", "s3cret-9");
        let (output, _) = finish(program);
        let all = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&all).into_owned(),
        )
    };
    let (code, shown) = run("print-config");
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.matches("[REDACTED]").count() >= 11, "{shown}");

    // A report quotes the line that is wrong.
    let wrong = SECRETS.replace(
        "password: s3cret-11",
        "password: s3cret-11, pass: s3cret-12",
    );
    fs::write(&file, wrong).expect("a file");
    let (code, told) = run("validate");
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("basic.pass") && !told.contains("s3cret"),
        "{told}"
    );

    fs::write(&file, SECRETS).expect("a file");
    let mut command = program();
    command.env("TOKEN", "s3cret-9");
    command.args(["run", "--config", "relay.yaml", "--log-level", "trace"]);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let relay = Relay::start(folder, command);
    relay.until("targets were tried", |metrics| {
        metrics.sum("scrapes_total", &[("outcome", "connect_error")]) > 4
    });
    for page in [
        "/",
        "/api/config",
        "/api/targets",
        "/api/status",
        "/metrics/targets",
    ] {
        let page = relay.page(page);
        assert!(!page.contains("s3cret"), "{page}");
    }
    let log = relay.stop().log;
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn every_example_is_valid_and_survives_being_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    for example in examples() {
        let valid = printed(&["validate", "--config", text(&example)]);
        assert!(valid.contains("is valid"), "{valid}");
        let effective = printed(&["print-config", "--config", text(&example)]);
        let copy = folder.path().join("printed.yaml");
        fs::write(&copy, &effective).expect("a file");
        let again = printed(&["print-config", "--config", text(&copy)]);
        let unhashed = |text: &str| text.lines().skip(1).collect::<Vec<_>>().join("\n");
        assert_eq!(unhashed(&again), unhashed(&effective), "{example:?}");
    }
}

#[test]
fn each_component_has_an_example_and_a_section_in_the_reference() {
    let listed: Value = serde_json::from_str(&printed(&["components", "--json"])).expect("JSON");
    let told = printed(&["components"]);
    let reference = fs::read_to_string(root().join("docs/reference.md")).expect("a reference");
    let examples: Vec<_> = examples().iter().map(|e| effective(e)).collect();
    let mut count = 0;
    for (section, components) in listed.as_object().expect("sections") {
        for component in components.as_array().expect("components") {
            let name = component["name"].as_str().expect("a name");
            let kind = section.trim_end_matches('s');
            let heading = format!("### {kind} `{name}`");
            assert!(reference.contains(&heading), "{heading}");
            assert!(told.contains(name), "{told}");
            let is_it = |id: &String| id.split('/').next() == Some(name);
            let has = |example: &Value| {
                example[section]
                    .as_object()
                    .is_some_and(|c| c.keys().any(is_it))
            };
            assert!(examples.iter().any(has), "no example has {kind} {name}");
            count += 1;
        }
    }
    assert!(count >= 7, "{listed}");
}

#[test]
fn the_reference_is_current() {
    let printed = printed(&["schema", "--format", "markdown"]);
    let written = fs::read_to_string(root().join("docs/reference.md")).expect("a reference");
    assert!(
        printed.trim_end() == written.trim_end(),
        "docs/reference.md is stale: make reference"
    );
}

#[test]
fn the_schema_knows_what_the_examples_say() {
    let schema = Schema::new(&printed(&["schema"]));
    schema.assert_sound();
    for example in examples() {
        let mut config = effective(&example);
        schema.assert_fits(&config);
        // An editor that has the schema underlines what the relay refuses.
        let receivers = config["receivers"].as_object_mut().expect("receivers");
        receivers
            .values_mut()
            .for_each(|r| r["protocolls"] = 1.into());
        assert!(!schema.fits(&config), "{example:?}");
        let mut config = effective(&example);
        config["service"]["pipelines"]["profiles"]["receivers"] = "pprof".into();
        assert!(!schema.fits(&config), "{example:?}");
    }
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(
            script.contains("quickstart") && script.contains("print-config"),
            "{shell}"
        );
    }
    assert_eq!(run(&["completions", "cobol"]).status.code(), Some(2));
}

#[test]
fn scrape_tells_what_a_target_is_worth() {
    let good = Target::good();
    let store = FarEnd::start(Behaviour::default());
    let url = good.addr().to_string();
    let told = printed(&["scrape", &url]);
    assert!(
        told.contains("in Parca     memory:cpu:nanoseconds"),
        "{told}"
    );
    assert!(told.contains("byte for byte"), "{told}");
    assert_eq!(good.requests()[0].path, "/debug/pprof/allocs");
    let json: Value = serde_json::from_str(&printed(&["scrape", &url, "--json"])).expect("JSON");
    assert_eq!(json["status"], 200);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body");
    let to = store.addr().to_string();
    let url = format!("http://{url}/debug/pprof/heap");
    printed(&["scrape", &url, "--output", text(&file), "--to", &to]);
    let body = fs::read(&file).expect("the body");
    assert_eq!(store.stored()[0].body, body);
    assert_eq!(store.stored()[0].labels["__name__"], "memory");

    let closed = ClosedPort::new();
    let missing = Target::start(|_| not_found());
    let html = Target::start(|_| Answer::Other(200, "text/html", "<html></html>".into()));
    let silent = Target::start(|_| Answer::Nothing);
    for (target, wanted) in [
        (closed.addr(), "connection refused"),
        (missing.addr(), "404"),
        (html.addr(), "HTML"),
        (silent.addr(), "within 1s"),
    ] {
        let output = run(&["scrape", &target.to_string(), "--timeout", "1s"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_wrong_argument_ends_with_2_and_help_with_0() {
    assert_eq!(run(&["run"]).status.code(), Some(2));
    assert_eq!(run(&["runn"]).status.code(), Some(2));
    let help = printed(&["--help"]);
    for command in ["run", "quickstart", "validate", "print-config", "scrape"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(printed(&["--version"]).starts_with("profile-relay "));
}
