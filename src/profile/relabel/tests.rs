//! What each action does, written from Prometheus' documentation and code.

use super::*;
use crate::profile::Labels;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Labels, rules, and the labels after them.
type Case<'a> = (&'a [(&'a str, &'a str)], Value, &'a str);

/// Labels as written in a test; `drop` where the rules drop.
fn relabel(labels: &[(&str, &str)], rules: Value) -> String {
    let configs: Vec<RelabelConfig> = serde_json::from_value(rules.clone()).unwrap();
    let compiled = Rules::compile(&configs).unwrap_or_else(|e| panic!("{rules}: {e:?}"));
    let mut edit = labels.iter().copied().collect::<Labels>().edit();
    match compiled.apply(&mut edit) {
        Decision::Keep => edit.build().to_string(),
        Decision::Drop => "drop".into(),
    }
}

#[test]
fn each_action_does_what_prometheus_documents() {
    let foo: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
    let ports: &[(&str, &str)] = &[("one", "1"), ("other", "2"), ("port", "1")];
    let cases: &[Case] = &[
        // replace
        (
            foo,
            json!([{"source_labels": ["a"], "regex": "f(.*)", "target_label": "d",
                    "replacement": "ch${1}-ch$1"}]),
            r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#,
        ),
        (
            foo,
            json!([{"source_labels": ["a", "b"], "regex": "f(.*);(.*)r", "target_label": "a",
                    "replacement": "$2${1}"},
                   {"source_labels": ["a"], "target_label": "seen"}]),
            r#"{a="baoo", b="bar", c="baz", seen="baoo"}"#,
        ),
        (
            foo,
            json!([{"source_labels": ["a", "b"], "separator": "", "target_label": "ab"},
                   {"source_labels": ["a", "gone", "b"], "separator": "-", "target_label": "gap"},
                   {"action": "labelkeep", "regex": "ab|gap"}]),
            r#"{ab="foobar", gap="foo--bar"}"#,
        ),
        // An expression matches all or nothing.
        (
            &[("a", "foobar")],
            json!([{"source_labels": ["a"], "regex": "foo|bar", "target_label": "a", "replacement": "x"}]),
            r#"{a="foobar"}"#,
        ),
        // Without a match nothing happens; with an empty result the target goes.
        (
            foo,
            json!([{"source_labels": ["a"], "regex": "x", "target_label": "b", "replacement": "y"},
                   {"source_labels": ["a"], "regex": "(f).*", "target_label": "c", "replacement": "$2"}]),
            r#"{a="foo", b="bar"}"#,
        ),
        (
            foo,
            json!([{"target_label": "b", "replacement": ""}, {"target_label": "d", "replacement": "static"}]),
            r#"{a="foo", c="baz", d="static"}"#,
        ),
        // The default copies, and copying nothing removes.
        (
            foo,
            json!([{"source_labels": ["a"], "target_label": "d"}, {"source_labels": ["gone"], "target_label": "b"}]),
            r#"{a="foo", c="baz", d="foo"}"#,
        ),
        // The target is a template; without a name nothing happens.
        (
            &[("tags", "label:zone=eu,job:api")],
            json!([{"source_labels": ["tags"], "regex": ".*label:([^=]+)=([^,]+).*",
                    "target_label": "${1}", "replacement": "$2"},
                   {"source_labels": ["tags"], "regex": "(.*)x?", "target_label": "$7", "replacement": "lost"}]),
            r#"{tags="label:zone=eu,job:api", zone="eu"}"#,
        ),
        (
            &[("a", "line1\nline2")],
            json!([{"source_labels": ["a"], "regex": "(line1).*(?P<second>line2)",
                    "target_label": "utf-8.${1}", "replacement": "${second}"}]),
            "{a=\"line1\\nline2\", utf-8.line1=\"line2\"}",
        ),
        // keep, drop
        (
            foo,
            json!([{"action": "keep", "source_labels": ["a"], "regex": "f.*"}]),
            r#"{a="foo", b="bar", c="baz"}"#,
        ),
        (
            foo,
            json!([{"action": "keep", "source_labels": ["a"], "regex": "f"}]),
            "drop",
        ),
        (
            foo,
            json!([{"action": "keep", "source_labels": ["gone"], "regex": ".+"}]),
            "drop",
        ),
        (
            foo,
            json!([{"action": "drop", "source_labels": ["a"], "regex": ".*o.*"}]),
            "drop",
        ),
        (
            foo,
            json!([{"action": "drop", "source_labels": ["a"], "regex": "f|o"}]),
            r#"{a="foo", b="bar", c="baz"}"#,
        ),
        (
            foo,
            json!([{"action": "drop", "source_labels": ["gone"], "regex": ""}]),
            "drop",
        ),
        // keepequal, dropequal
        (
            ports,
            json!([{"action": "keepequal", "source_labels": ["port"], "target_label": "one"}]),
            r#"{one="1", other="2", port="1"}"#,
        ),
        (
            ports,
            json!([{"action": "keepequal", "source_labels": ["port"], "target_label": "other"}]),
            "drop",
        ),
        (
            ports,
            json!([{"action": "dropequal", "source_labels": ["port"], "target_label": "one"}]),
            "drop",
        ),
        (
            ports,
            json!([{"action": "dropequal", "source_labels": ["port"], "target_label": "other"}]),
            r#"{one="1", other="2", port="1"}"#,
        ),
        (
            ports,
            json!([{"action": "dropequal", "source_labels": ["gone"], "target_label": "lost"}]),
            "drop",
        ),
        // hashmod: the numbers are those of Prometheus' own tests.
        (
            &[("c", "baz")],
            json!([{"action": "hashmod", "source_labels": ["c"], "target_label": "d", "modulus": 1000}]),
            r#"{c="baz", d="976"}"#,
        ),
        (
            &[("c", "foo\nbar")],
            json!([{"action": "hashmod", "source_labels": ["c"], "target_label": "c", "modulus": 1000}]),
            r#"{c="734"}"#,
        ),
        // labelmap, labeldrop, labelkeep
        (
            &[("__meta_x_zone", "eu"), ("__meta_x_rack", "7"), ("a", "1")],
            json!([{"action": "labelmap", "regex": "__meta_x_(.+)"}, {"action": "labeldrop", "regex": "__meta_.*"}]),
            r#"{a="1", rack="7", zone="eu"}"#,
        ),
        (
            &[("a1", "1"), ("a2", "2")],
            json!([{"action": "labelmap", "regex": "a(.)", "replacement": "a1$1"}]),
            r#"{a1="1", a11="1", a12="2", a2="2"}"#,
        ),
        (
            &[("a", "1")],
            json!([{"action": "labelmap", "regex": "a(x?)", "replacement": "$1"}]),
            r#"{a="1"}"#,
        ),
        (
            foo,
            json!([{"action": "labeldrop", "regex": "a|b"}]),
            r#"{c="baz"}"#,
        ),
        (
            foo,
            json!([{"action": "labelkeep", "regex": "a|b"}]),
            r#"{a="foo", b="bar"}"#,
        ),
        // lowercase, uppercase: letter by letter
        (
            &[("a", "bAr ΟΔΟΣ")],
            json!([{"action": "lowercase", "source_labels": ["a"], "target_label": "l"},
                   {"action": "UpperCase", "source_labels": ["a"], "target_label": "u"}]),
            r#"{a="bAr ΟΔΟΣ", l="bar οδοσ", u="BAR ΟΔΟΣ"}"#,
        ),
        (
            &[("a", "straße")],
            json!([{"action": "uppercase", "source_labels": ["a"], "target_label": "a"}]),
            r#"{a="STRAßE"}"#,
        ),
        (
            foo,
            json!([{"action": "lowercase", "source_labels": ["gone"], "target_label": "a"}]),
            r#"{b="bar", c="baz"}"#,
        ),
    ];
    for (labels, rules, expected) in cases {
        assert_eq!(relabel(labels, rules.clone()), *expected, "{rules}");
    }
}

#[test]
fn templates_follow_go() {
    for (replacement, expected) in [
        ("$1", "foo"),
        ("${1}", "foo"),
        ("$0", "foo-bar"),
        ("$second", "bar"),
        ("${second}s", "bars"),
        // The group named 1x, seconds or 01: there is none.
        ("<$1x>", "<>"),
        ("<$seconds>", "<>"),
        ("<$01>", "<>"),
        ("<$9>", "<>"),
        ("$1-$second", "foo-bar"),
        ("$$1", "$1"),
        ("$$$1", "$foo"),
        ("a$", "a$"),
        ("$-", "$-"),
        ("${}", "${}"),
        ("${1", "${1"),
        ("${1 }", "${1 }"),
        ("{$1}", "{foo}"),
    ] {
        let rules = json!([{"source_labels": ["a"], "regex": "(foo)-(?P<second>bar)",
                            "target_label": "b", "replacement": replacement}]);
        let labels: Labels = [("a", "foo-bar"), ("b", expected)].into_iter().collect();
        assert_eq!(
            relabel(&[("a", "foo-bar")], rules),
            labels.to_string(),
            "{replacement}"
        );
    }
}

#[test]
fn expressions_follow_go() {
    for (pattern, matching, other) in [
        (r"\d+", "12", "١٢"),
        (r"\w", "w", "ü"),
        (r"[\w-]+", "a-b", "ü"),
        (r"[\w-.]+", "a-.b", "a/b"),
        (r"[^\w]", "ü", "w"),
        (r"\W", "ü", "w"),
        (r"a\s", "a ", "a\u{a0}"),
        (r"\ba.*", "aü", "ba"),
        (r"a\b.*", "aü", "ab"),
        (r"\Qa.b\E.", "a.bc", "axbc"),
        (r"\Qa.b", "a.b", "axb"),
        (r"\<a\>", "<a>", "a"),
        (r"[\<]", "<", "\\"),
        (r"[[a]", "[", "b"),
        (r"[a&&b]", "&", "x"),
        (r"[a~~b]", "~", "x"),
        (r"[[:alpha:]_]+", "a_b", "1"),
        (r"[]a]", "]", "b"),
        (r"[^]a]", "b", "]"),
        (r"{(.*)}", "{x}", "x"),
        (r"a{,2}", "a{,2}", "aa"),
        (r"a{2}", "aa", "a"),
        (r"a{1,}", "aaa", ""),
        (r"(?i)API", "api", "apis"),
        (r"a.b", "a\nb", "ab"),
        (r"\pL+", "aü", "1"),
        (r"\p{Greek}{2}", "λλ", "l"),
        (r"[^\p{Greek}\x{61}]", "l", "a"),
        (r"\x{2F}\x41", "/A", "A"),
        (r"^api$", "api", "api\n"),
        (r"a\_b\-c\/d", "a_b-c/d", "a"),
        (r"[a\]]", "]", "b"),
        (r"", "", "a"),
    ] {
        let compiled = Pattern::new(pattern).unwrap_or_else(|e| panic!("{e}"));
        assert!(compiled.is_match(matching), "{pattern} {matching:?}");
        assert!(!compiled.is_match(other), "{pattern} {other:?}");
    }
}

#[test]
fn all_that_prometheus_refuses_is_refused_at_once() {
    let rules = json!([
        {"action": "hashmod", "source_labels": [""]},
        {"action": "keepequal", "target_label": "a", "regex": "x", "separator": "-"},
        {"action": "labeldrop", "source_labels": ["a"]},
        {"action": "labelmap", "replacement": ""},
        {"action": "uppercase", "target_label": "a", "replacement": "b"},
        {"regex": "(a"},
        {"action": "keep", "modulus": 3, "target_label": "ignored"},
    ]);
    let configs: Vec<RelabelConfig> = serde_json::from_value(rules).unwrap();
    let errors = Rules::compile(&configs).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|e| format!("{}: {e}", e.path()))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    [0].source_labels: a label's name is empty: name a label or leave it out
    [0].target_label: action hashmod needs a target_label: name the label that it writes or compares with
    [0].modulus: action hashmod needs a modulus above 0: write the number of shards
    [1].separator: action keepequal does not use it: leave it out
    [1].regex: action keepequal does not use it: leave it out
    [2].source_labels: action labeldrop does not use it: leave it out
    [3].replacement: action labelmap needs a replacement: it makes the new name, as in $1
    [4].replacement: action uppercase does not use it: leave it out
    [5].target_label: action replace needs a target_label: name the label that it writes or compares with
    [5].regex: "(a" is no regular expression: unclosed group
    "#);
    let unknown = serde_json::from_value::<RelabelConfig>(json!({"action": "kepp"}));
    let unknown = unknown.unwrap_err().to_string();
    assert!(unknown.starts_with(r#"unknown relabel action "kepp": write replace, keep"#));
}

#[test]
fn defaults_and_names_survive_a_round_trip() {
    let config = RelabelConfig::default();
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(written["action"], "replace");
    assert_eq!(
        serde_json::from_value::<RelabelConfig>(written).unwrap(),
        config
    );
    for action in Action::ALL {
        assert_eq!(action.as_str().to_uppercase().parse(), Ok(*action));
    }
}

fn any_rule() -> impl Strategy<Value = RelabelConfig> {
    let text = || {
        prop_oneof![
            Just("(.*)".to_owned()),
            "[a-c.*+?()\\[\\]{}|^$\\\\QEdwb<&~:,1-]{0,8}",
            "\\PC{0,6}"
        ]
    };
    (
        proptest::sample::select(Action::ALL),
        proptest::collection::vec("[a-c]{0,1}", 0..3),
        text(),
        prop_oneof![text(), Just("$1".to_owned())],
        "[a-c$1{}]{0,4}",
        0..3u64,
    )
        .prop_map(
            |(action, source_labels, regex, replacement, target_label, modulus)| RelabelConfig {
                source_labels,
                regex,
                replacement,
                target_label,
                modulus,
                action,
                ..RelabelConfig::default()
            },
        )
}

proptest! {
    #[test]
    fn no_rule_panics_and_labels_stay_sound(
        rules in proptest::collection::vec(any_rule(), 0..4),
        labels in proptest::collection::btree_map("[a-c]{1,2}", "\\PC{0,4}", 0..4),
    ) {
        // Faulty rules go one by one, so that the sound ones are tried.
        let rules: Vec<_> = rules.into_iter().filter(|r| Rules::compile(std::slice::from_ref(r)).is_ok()).collect();
        let rules = Rules::compile(&rules).unwrap();
        let mut edit = labels.iter().collect::<Labels>().edit();
        let _ = rules.apply(&mut edit);
        let slice = edit.as_slice();
        prop_assert!(slice.windows(2).all(|pair| pair[0].name < pair[1].name));
        prop_assert!(slice.iter().all(|label| !label.name.is_empty() && !label.value.is_empty()));
    }

    #[test]
    fn rules_that_only_decide_change_nothing(
        rules in proptest::collection::vec(("[a-c]", "([a-c.|]{0,2}[a-c.]\\*?)?", any::<bool>()), 0..4),
        labels in proptest::collection::btree_map("[a-c]", "[a-c]{0,3}", 0..4),
    ) {
        let configs: Vec<_> = rules.into_iter().map(|(source, regex, keep)| RelabelConfig {
            source_labels: vec![source],
            regex,
            action: if keep { Action::Keep } else { Action::Drop },
            ..RelabelConfig::default()
        }).collect();
        let rules = Rules::compile(&configs).unwrap();
        let labels: Labels = labels.iter().collect();
        let mut edit = labels.edit();
        let first = rules.apply(&mut edit);
        prop_assert_eq!(edit.clone().build(), labels);
        prop_assert_eq!(rules.apply(&mut edit), first);
    }

    #[test]
    fn shards_are_below_the_modulus(value in "\\PC{0,20}", modulus in 1..u64::MAX) {
        let rules = Rules::compile(&[RelabelConfig {
            source_labels: vec!["a".into()],
            action: Action::HashMod,
            modulus,
            target_label: "shard".into(),
            ..RelabelConfig::default()
        }]).unwrap();
        let mut edit = [("a", value)].into_iter().collect::<Labels>().edit();
        prop_assert_eq!(rules.apply(&mut edit), Decision::Keep);
        prop_assert!(edit.get("shard").unwrap().parse::<u64>().unwrap() < modulus);
    }
}
