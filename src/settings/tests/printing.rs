//! print-config, hashes, the JSON Schema, and the commands around them.

use super::{around, catalogue::catalogue, loaded};
use crate::settings::{Node, Value, check, schema, to_yaml};
use proptest::prelude::*;

#[test]
fn the_effective_configuration_has_defaults_and_no_secrets() {
    let text = around(
        "    client: {bearer_token: hunter2, tls: {key: hunter2}}\n    \
         headers: {X-Scope: hunter2}\n    endpoint: http://me:hunter2@parca:1",
    );
    let yaml = to_yaml(&loaded(&text).unwrap().effective);
    assert!(!yaml.contains("hunter2"), "{yaml}");
    insta::assert_snapshot!(yaml, @r###"
    receivers:
      listen:
        endpoint: 0.0.0.0:7070
        jobs: []
    exporters:
      send:
        endpoint: "http://[REDACTED]@parca:1"
        queue:
          max_bytes: 64MiB
          on_full: refuse
          workers: 4
        level: low
        share: 1.0
        compression: gzip
        actions: []
        client:
          follow_redirects: false
          connections: 0
          bearer_token: "[REDACTED]"
          tls:
            ca_file: null
            key: "[REDACTED]"
        headers:
          X-Scope: "[REDACTED]"
        claims: {}
    service:
      extensions: []
      admin:
        endpoint: 127.0.0.1:13133
      memory:
        limit: null
      reload:
        watch: true
        interval: 1m
      telemetry:
        logs:
          level: info
          format: logfmt
      shutdown_timeout: 20s
      pipelines:
        profiles:
          receivers:
            - listen
          processors: []
          exporters:
            - send
    "###);
}

#[test]
fn the_hash_follows_what_is_meant() {
    let hash = |settings: &str| loaded(&around(settings)).unwrap().hash;
    assert_eq!(hash("").len(), 12);
    assert_eq!(hash(""), hash("    # a comment\n    queue: {workers: 4}"));
    assert_ne!(hash(""), hash("    queue: {workers: 5}"));
}

#[test]
fn the_printed_configuration_is_a_configuration() {
    let text = around("    actions: [{action: insert, key: a, value: '${1} $${X}'}]");
    let first = loaded(&text).unwrap();
    let second = loaded(&to_yaml(&first.effective)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(first.effective, second.effective);
    assert_eq!(first.hash, second.hash);
}

#[test]
fn the_schema_accepts_what_is_printed_and_closes_mappings() {
    let schema = schema(&catalogue());
    let effective = loaded(&around("")).unwrap().effective;
    let node = Node::from_text("t", &to_yaml(&effective)).unwrap();
    assert_eq!(check::check(&node, &schema, "").findings, []);
    let exporter = &schema["properties"]["exporters"]["patternProperties"]["^send(/.+)?$"];
    assert_eq!(exporter["anyOf"][0]["additionalProperties"], false);
    assert_eq!(
        schema["properties"]["exporters"]["additionalProperties"],
        false
    );
    let wrong = Node::from_text("t", "exporters: {sned: {}}\nservice: {}").unwrap();
    assert_eq!(check::check(&wrong, &schema, "").findings.len(), 1);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        "[a-z$#:{}\\[\\] \n'\"&*!|>%@,?-]{0,8}".prop_map(Into::into),
        "(yes|no|null|~|1e3|0x1|-1|\\.5|true)".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[ -~]{1,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn back(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Sequence(items) => items.iter().map(back).collect(),
        Value::Mapping(entries) => {
            let pairs = entries
                .iter()
                .map(|entry| (entry.key.clone(), back(&entry.node)));
            serde_json::Value::Object(pairs.collect())
        }
        Value::Scalar(scalar) => match scalar.kind {
            crate::settings::ScalarKind::Text => scalar.text.clone().into(),
            _ => serde_json::from_str(&scalar.text).unwrap(),
        },
    }
}

proptest! {
    #[test]
    fn printed_yaml_reads_back(value in json()) {
        use crate::settings::expand::{Expanded, expand};
        let yaml = to_yaml(&value);
        let mut node = Node::from_text("t", &yaml).unwrap();
        let mut out = Expanded::default();
        expand(&mut node, "", &crate::settings::Environment::Fixed(Default::default()), &mut out);
        prop_assert_eq!(out.findings, vec![], "{}", yaml);
        prop_assert_eq!(back(&node), value, "{}", yaml);
    }
}
