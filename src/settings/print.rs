//! The effective configuration as YAML, and its hash.

use super::tree::ScalarKind;
use serde_json::Value;
use std::fmt::Write;

/// Settings as YAML that reads back as the same settings: quoted where YAML
/// would see another type, `$` doubled where it would be expanded.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0, Place::Top);
    out
}

/// Twelve hex digits of the SHA-256 of settings, whatever the order of keys.
pub(super) fn hash(value: &Value) -> String {
    let text = sorted(value).to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter().take(6);
    bytes.fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What stands in front of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    AfterKey,
    AfterDash,
}

fn write_value(out: &mut String, value: &Value, indent: usize, place: Place) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, below)) in map.iter().enumerate() {
                if i > 0 || place == Place::AfterKey {
                    new_line(out, indent);
                }
                let _ = write!(out, "{}:", text(key));
                write_value(out, below, indent + 2, Place::AfterKey);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 || place == Place::AfterKey {
                    new_line(out, indent);
                }
                out.push_str("- ");
                write_value(out, item, indent + 2, Place::AfterDash);
            }
        }
        scalar => {
            if place == Place::AfterKey {
                out.push(' ');
            }
            match scalar {
                Value::String(string) => out.push_str(&text(&escaped(string))),
                other => out.push_str(&other.to_string()),
            }
        }
    }
    if place == Place::Top {
        out.push('\n');
    }
}

fn new_line(out: &mut String, indent: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A `$` that would be read as something else is doubled, and so are all others.
fn escaped(text: &str) -> String {
    if text.contains("$$") || text.contains("${") {
        text.replace('$', "$$")
    } else {
        text.to_owned()
    }
}

/// A text as a plain scalar where that is safe, else in double quotes, which
/// mean in YAML what they mean in JSON.
fn text(text: &str) -> String {
    let starts = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '$' | '(');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/_.$()-+;*^@<>~=".contains(c);
    let is_plain = text.starts_with(starts)
        && text.char_indices().all(|(i, c)| {
            let colon_inside = c == ':'
                && text
                    .get(i + 1..)
                    .is_some_and(|rest| rest.starts_with(|next: char| !next.is_whitespace()));
            goes_on(c) || colon_inside
        })
        && ScalarKind::of(text) == ScalarKind::Text
        && !is_old_boolean(text);
    if is_plain {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}

/// What YAML 1.1 readers take for a truth value.
fn is_old_boolean(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(text.as_str(), "y" | "n" | "yes" | "no" | "on" | "off")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs = pairs
                .into_iter()
                .map(|(key, below)| (key.clone(), sorted(below)));
            Value::Object(pairs.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
