//! Texts that are no configuration, and what must never be printed.

use super::{around, catalogue::catalogue, faults, files, loaded, short};
use crate::settings::{Sources, Table, load, schema};
use proptest::prelude::*;

#[test]
fn a_report_shows_lines_and_carets() {
    let text = around("    endpont: a:1\n    queue: {on_full: refues}\n    level: 3");
    insta::assert_snapshot!(loaded(&text).unwrap_err().to_string(), @r###"
    relay.yaml:5:5: exporters.send.endpont: unknown key; did you mean endpoint?
            endpont: a:1
            ^

    relay.yaml:6:22: exporters.send.queue.on_full: "refues" is not valid here; did you mean refuse?
            queue: {on_full: refues}
                             ^

    relay.yaml:7:12: exporters.send.level: "3" is not valid here; valid are low, high
            level: 3
                   ^

    3 problems in the configuration
    "###);
}

#[test]
fn colours_are_only_for_who_asks() {
    let report = loaded("exporters: 3").unwrap_err();
    assert!(!report.to_string().contains('\x1b'));
    assert!(report.coloured().to_string().contains('\x1b'));
}

#[test]
fn texts_that_are_no_configuration() {
    let cases = [
        "a: [1",
        "a: b: c",
        "\ta: 1",
        "x: {endpoint: ${env:X}}",
        "- a",
        "hello",
        "a: 1\n---\nb: 2",
        "exporters:\n  send: {}\n  send: {}\nexporters: {}",
        "? [a, b]\n: 1",
        "a: !secret x",
        "a: *nowhere",
        "a: &a [*a]",
    ];
    let messages: Vec<_> = cases
        .iter()
        .map(|text| format!("{text:?}\n  {}", faults(text).join("\n  ")))
        .collect();
    insta::assert_snapshot!(messages.join("\n"), @r###"
    "a: [1"
      relay.yaml:2:1 -: this is no YAML: while parsing a flow sequence, expected ',' or ']'
    "a: b: c"
      relay.yaml:1:5 -: this is no YAML: mapping values are not allowed in this context
    "\ta: 1"
      relay.yaml:1:2 a: unknown key; valid are receivers, processors, exporters, extensions, service
      relay.yaml:1:2 service.pipelines: there is no pipeline, so nothing would run; write service: {pipelines: {profiles: {receivers: […], exporters: […]}}}
    "x: {endpoint: ${env:X}}"
      relay.yaml:1:16 -: this is no YAML: while parsing a flow mapping, did not find expected ',' or '}'; inside { } and [ ], put ${…} in quotes
    "- a"
      relay.yaml -: expected a mapping with receivers, exporters and service, found a list
    "hello"
      relay.yaml -: expected a mapping with receivers, exporters and service, found a string
    "a: 1\n---\nb: 2"
      relay.yaml:2:1 -: a second document starts here, and only one is read; write the parts into files of their own and give --config for each
    "exporters:\n  send: {}\n  send: {}\nexporters: {}"
      relay.yaml:3:3 -: the key send is given twice, first at relay.yaml:2:3; keep one of them
      relay.yaml:4:1 -: the key exporters is given twice, first at relay.yaml:1:1; keep one of them
    "? [a, b]\n: 1"
      relay.yaml:1:3 -: a key must be a string, not a list or a mapping
    "a: !secret x"
      relay.yaml:1:4 -: the tag !secret has no meaning here
    "a: *nowhere"
      relay.yaml:1:4 -: this is no YAML: while parsing node, found unknown anchor
    "a: &a [*a]"
      relay.yaml:1:8 -: an alias cannot stand inside its own anchor
    "###);
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let below = format!("*a{},", i - 1).repeat(10);
        text.push_str(&format!("a{i}: &a{i} [{below}]\n"));
    }
    assert!(faults(&text)[0].contains("more than 2000000 values"));
    let deep = format!("a: {}{}", "[".repeat(150), "]".repeat(150));
    assert!(faults(&deep)[0].contains("deeper than 100 levels"));
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for i in 1..150 {
        chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(faults(&chain)[0].contains("deeper than 100 levels"));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = files(folder.path(), &[("latin1.yaml", "")]);
    std::fs::write(folder.path().join("latin1.yaml"), b"a: \xff").unwrap();
    sources
        .inputs
        .push(crate::settings::Input::File("/does/not/exist.yaml".into()));
    let report = load(&sources, &catalogue()).unwrap_err();
    assert_eq!(
        short(&report),
        [
            "/does/not/exist.yaml -: cannot be read: No such file or directory (os error 2)".into(),
            format!(
                "{}/latin1.yaml -: is no UTF-8 text",
                folder.path().display()
            ),
        ]
    );
    let none = load(&Sources::default(), &catalogue()).unwrap_err();
    assert!(none.to_string().contains("add --config FILE"), "{none}");
}

/// Every way in which a report could show a line with a secret on it.
#[test]
fn no_report_holds_a_secret() {
    for text in [
        around("    headers: {X-Scope: hunter2, Y: [hunter2]}"),
        around("    headers: {X-Scope: hunter2}\n    endpont: 3"),
        around("    client: {tls: {key: hunter2, ky: 1}}"),
        around("    client: {connections: x, bearer_token: hunter2}"),
        around("    client: {bearer_token: hunter2, connections: x}"),
        around("    client: {bearer_tokn: hunter2}"),
        around("    pasword: hunter2"),
        around("    client:\n      bearer_token: [hunter2]"),
        around("    client:\n      bearer_token: {a: hunter2}"),
        around("    client:\n      tls:\n        key: |\n          hunter2\n         x"),
        around("    client: {bearer_token: hunter2, x"),
        around("    client:\n      bearer_token: hunter2\n      bearer_token: hunter2"),
        around(
            "    endpoint: nowhere\n    compression: http://me:hunter2@host/\n    x: http://me:hunter2@host/",
        ),
        "hunter2".to_owned(),
    ] {
        let report = loaded(&text).expect_err(&text);
        assert!(!report.to_string().contains("hunter2"), "{report}");
        assert!(!format!("{report:?}").contains("hunter2"));
    }
}

#[test]
fn set_does_not_show_secrets() {
    let mut sources = Sources::text("relay.yaml", around(""));
    sources.set = vec!["exporters.send.client.bearer_token=[hunter2]".into()];
    let report = load(&sources, &catalogue()).unwrap_err().to_string();
    assert!(!report.contains("hunter2"), "{report}");
    sources.set = vec!["exporters.send.headers={X: [hunter2]}".into()];
    let report = load(&sources, &catalogue()).unwrap_err().to_string();
    assert!(!report.contains("hunter2"), "{report}");
}

/// All keys that the schema knows, as paths of keys from the top, lists as `-`.
fn keys(
    schema: &serde_json::Value,
    at: &serde_json::Value,
    path: &str,
    out: &mut Vec<(String, String)>,
) {
    if let Some(target) = at["$ref"].as_str() {
        let target = schema.pointer(target.trim_start_matches('#')).unwrap();
        keys(schema, target, path, out);
    }
    for part in ["anyOf"] {
        for option in at[part].as_array().into_iter().flatten() {
            keys(schema, option, path, out);
        }
    }
    for (key, below) in at["properties"].as_object().into_iter().flatten() {
        out.push((path.to_owned(), key.clone()));
        keys(schema, below, &format!("{path}/{key}"), out);
    }
    if let Some(patterns) = at["patternProperties"].as_object() {
        for (pattern, below) in patterns {
            let name = pattern.trim_start_matches('^').split('(').next().unwrap();
            keys(schema, below, &format!("{path}/{name}"), out);
        }
    }
    if at["items"].is_object() {
        keys(schema, &at["items"], &format!("{path}/-"), out);
    }
}

fn misspelt(path: &str, key: &str) -> String {
    let mut value = serde_json::json!({key: null});
    for step in path.split('/').rev().filter(|step| !step.is_empty()) {
        value = if step == "-" {
            serde_json::json!([value])
        } else {
            serde_json::json!({step: value})
        };
    }
    value.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_misspelt_key_is_reported_with_its_nearest_name(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        how in 0..4_u8,
        letter in "[a-z]",
    ) {
        let schema = schema(&catalogue());
        let mut all = Vec::new();
        keys(&schema, &schema, "", &mut all);
        prop_assert!(all.len() > 40, "{}", all.len());
        let (path, key) = which.get(&all);
        let mut letters: Vec<char> = key.chars().collect();
        let i = place.index(letters.len());
        let letter = letter.chars().next().unwrap();
        match how {
            0 => letters[i] = letter,
            1 => letters.insert(i, letter),
            2 if letters.len() > 3 => { letters.remove(i); }
            _ if i > 0 => letters.swap(i, i - 1),
            _ => {}
        }
        let wrong: String = letters.into_iter().collect();
        let siblings: Vec<_> = all.iter().filter(|(p, _)| p == path).map(|(_, k)| k.as_str()).collect();
        prop_assume!(!siblings.contains(&wrong.as_str()) && wrong != "<<");
        let report = loaded(&misspelt(path, &wrong)).unwrap_err();
        let found = report.findings().into_iter().find(|finding| {
            finding.message == "unknown key" && finding.path.ends_with(&wrong)
        });
        let hint = found.and_then(|finding| finding.hint.clone()).unwrap_or_default();
        let near = siblings.iter().any(|sibling| hint == format!("did you mean {sibling}?"));
        prop_assert!(near, "{path}/{wrong} for {key}: {hint:?}");
    }
}

#[test]
fn the_reference_is_written_from_the_schema() {
    let table = Table {
        title: "Reasons".into(),
        text: "Why.".into(),
        columns: vec!["Reason".into(), "Meaning".into()],
        rows: vec![vec!["`a|b`".into(), "x".into()]],
    };
    let text = crate::settings::reference(&catalogue(), &[table]);
    insta::assert_snapshot!(text, @r###"
    # Reference

    Generated from the settings types; do not edit. `[]` stands for the items of a list, `<key>` for any key of a mapping.

    ## service

    What concerns the process, and how components are joined. All of it follows a
    reload of the configuration.

    | Key | Type | Default | Meaning |
    |---|---|---|---|
    | `extensions` | list of id | `[]` | The extensions that run, by id. |
    | `admin` | mapping |  | The admin endpoint. |
    | `admin.endpoint` | string | `127.0.0.1:13133` | The address to listen on, as `host:port`. |
    | `memory` | mapping |  | The bound on memory. |
    | `memory.limit` | size |  | The memory of the process; without it, the limit of the container (cgroup) or a part of the machine's memory is taken. |
    | `reload` | mapping |  | When a changed configuration is loaded. |
    | `reload.watch` | boolean | `true` | Whether the files of the configuration, those behind `${file:…}` included, are watched, and loaded when their content changes. |
    | `reload.interval` | duration | `1m` | How often they are read for changes that the watch cannot see, as on network file systems. 0 means never. |
    | `telemetry` | mapping |  | What the relay says about itself. |
    | `telemetry.logs` | mapping |  | The log. |
    | `telemetry.logs.level` | `trace`, `debug`, `info`, `warn`, `error` | `info` | The least severe level that is written. `trace`: Everything, for developers. `debug`: What helps to find out why. `info`: What changed. `warn`: What may need a look. `error`: What needs a look. |
    | `telemetry.logs.format` | `logfmt`, `json` | `logfmt` | How a line is written. `logfmt`: `ts=… level=info msg=… key=value`. `json`: One JSON object a line. |
    | `shutdown_timeout` | duration | `20s` | How long a shutdown may take to send what is queued. |
    | `pipelines` | map of mapping | `{}` | The pipelines: `profiles`, or `profiles/name` where there are several. |
    | `pipelines.<key>.receivers` | list of id | `[]` | Where profiles come from. |
    | `pipelines.<key>.processors` | list of id | `[]` | What happens to them, in this order. |
    | `pipelines.<key>.exporters` | list of id | `[]` | Where they go; each exporter gets all of them, or what a router leaves to it. |

    ## receivers

    ### receiver `listen`

    Listens for profiles.

    Listens.

    | Key | Type | Default | Meaning |
    |---|---|---|---|
    | `endpoint` | string | `0.0.0.0:7070` | The address to listen on. |
    | `jobs` | list of mapping | `[]` | Jobs. |
    | `jobs[].job_name` | string | required | Its name. |
    | `jobs[].interval` | duration | `10s` | How often. |
    | `jobs[].labels` | map of string | `{}` | Labels of all targets. |
    | `jobs[].targets` | list of string | `[]` | Where to. |
    | `jobs[].profiles` | map of mapping | `{}` | Profiles by name. |
    | `jobs[].profiles.<key>.enabled` | boolean |  | Whether it is taken. |
    | `jobs[].profiles.<key>.seconds` | integer | `0` | Seconds. |
    | `jobs[].follow_redirects` | boolean | `false` | Follow redirects. |
    | `jobs[].connections` | integer | `0` | How many at once. |
    | `jobs[].bearer_token` | secret |  | A token. |
    | `jobs[].tls` | mapping |  | TLS. |
    | `jobs[].tls.ca_file` | path |  | The authority. |
    | `jobs[].tls.key` | secret |  | The private key as PEM text. |

    ## processors

    ### processor `pass`

    Passes profiles on.

    Nothing.

    It has no settings.

    ## exporters

    ### exporter `debug`

    Logs profiles.

    Nothing.

    It has no settings.

    ### exporter `send`

    Sends profiles.

    Sends.

    | Key | Type | Default | Meaning |
    |---|---|---|---|
    | `endpoint` | string | `parca:7070` | Where to. |
    | `queue` | mapping |  | The queue. |
    | `queue.max_bytes` | size | `64MiB` | Its size. |
    | `queue.on_full` | `refuse`, `drop_oldest` | `refuse` | When full. `refuse`: The source hears it. `drop_oldest`: The oldest goes. |
    | `queue.workers` | integer | `4` | Workers. |
    | `level` | `low`, `high` | `low` | How hard. |
    | `share` | number | `1.0` | A share. |
    | `compression` | string or mapping | `gzip` | Either shape. |
    | `compression.name` | string |  | The name. |
    | `compression.level` | integer |  | The level. |
    | `actions` | list of mapping | `[]` | What to do. |
    | `actions[].action` | `insert`, `delete` | required | `insert`: Adds. `delete`: Removes. |
    | `actions[].key` | string | required | The label. |
    | `actions[].value` | string |  | Its value. |
    | `client` | mapping |  | The client. |
    | `client.follow_redirects` | boolean | `false` | Follow redirects. |
    | `client.connections` | integer | `0` | How many at once. |
    | `client.bearer_token` | secret |  | A token. |
    | `client.tls` | mapping |  | TLS. |
    | `client.tls.ca_file` | path |  | The authority. |
    | `client.tls.key` | secret |  | The private key as PEM text. |
    | `headers` | map of secret | `{}` | Extra headers. |
    | `claims` | map of any | `{}` | Anything. |

    ### exporter `spread`

    Hands on to others.

    Names other exporters.

    | Key | Type | Default | Meaning |
    |---|---|---|---|
    | `to` | list of id | `[]` | The exporters. |

    ## extensions

    ### extension `storage`

    Keeps queues on disk.

    Nothing.

    It has no settings.

    ## Reasons

    Why.

    | Reason | Meaning |
    |---|---|
    | `a\|b` | x |
    "###);
}
