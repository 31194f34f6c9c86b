//! A checked tree to a type, through the `config` crate's deserializer.

use super::{
    Problem, Report,
    check::check,
    tree::{Node, Position, Scalar, ScalarKind, Value, parse_integer},
};
use config::{ConfigError, Map, ValueKind};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

/// The settings in a node, and where its secrets stand.
pub(super) fn read<T: DeserializeOwned + JsonSchema>(
    node: &Node,
) -> Result<(T, Vec<Position>), Report> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let checked = check(node, schema.as_value(), &node.path);
    if !checked.findings.is_empty() {
        return Err(Report::new(checked.findings, checked.secrets));
    }
    match value(&checked.node).try_deserialize() {
        Ok(settings) => Ok((settings, checked.secrets)),
        Err(error) => {
            let mut report = node.locate([problem(error)]);
            report.hide(checked.secrets);
            Err(report)
        }
    }
}

/// The tree as `config` holds values. Places are left out: errors name the key,
/// and the key names the place.
fn value(node: &Node) -> config::Value {
    let kind = match &node.value {
        Value::Scalar(scalar) => scalar_kind(scalar),
        Value::Sequence(items) => ValueKind::Array(items.iter().map(value).collect()),
        Value::Mapping(entries) => {
            let entries = entries.iter();
            let pairs = entries.map(|entry| (entry.key.clone(), value(&entry.node)));
            ValueKind::Table(pairs.collect::<Map<_, _>>())
        }
    };
    config::Value::new(None, kind)
}

fn scalar_kind(scalar: &Scalar) -> ValueKind {
    let text = || ValueKind::String(scalar.text.clone());
    match scalar.kind {
        ScalarKind::Null => ValueKind::Nil,
        ScalarKind::Bool => ValueKind::Boolean(scalar.text.eq_ignore_ascii_case("true")),
        ScalarKind::Integer => match parse_integer(&scalar.text) {
            Some(number) => i64::try_from(number)
                .map(ValueKind::I64)
                .or_else(|_| u64::try_from(number).map(ValueKind::U64))
                .unwrap_or(ValueKind::I128(number)),
            None => text(),
        },
        ScalarKind::Float => scalar
            .text
            .parse()
            .map_or_else(|_| text(), ValueKind::Float),
        ScalarKind::Text => text(),
    }
}

/// What serde found wrong although the shape is right: a rule of the type.
fn problem(error: ConfigError) -> Problem {
    match error {
        ConfigError::At { error, key, .. } => {
            let inner = problem(*error);
            Problem::new(key.unwrap_or(inner.path), inner.message)
        }
        ConfigError::NotFound(key) => Problem::new(key, "a required key is missing"),
        // The value that was found is left out: it may be a secret.
        ConfigError::Type { expected, key, .. } => {
            Problem::new(key.unwrap_or_default(), format!("expected {expected}"))
        }
        other => Problem::new("", other.to_string()),
    }
}
