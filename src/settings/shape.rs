//! What a JSON Schema allows at one place, as a list of plain alternatives.
//!
//! `$ref`, `allOf`, `oneOf` and `anyOf` are resolved into schemas that have none
//! of them, so that whoever checks a value, or describes one, meets only types,
//! properties and items. This covers what schemars makes of settings types:
//! options, enums of all taggings, flattened structs.

use serde_json::{Map, Value};
use std::borrow::Cow;

/// Unions of unions end somewhere.
const MAX_DEPTH: usize = 16;

/// A schema with its definitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes<'a> {
    defs: Option<&'a Map<String, Value>>,
}

// === impl Shapes ===

impl<'a> Shapes<'a> {
    /// Of a root schema, which holds the `$defs`.
    pub(super) fn of(root: &'a Value) -> Self {
        Self {
            defs: root.get("$defs").and_then(Value::as_object),
        }
    }

    fn target(&self, reference: &str) -> Option<&'a Value> {
        self.defs?.get(reference.strip_prefix("#/$defs/")?)
    }

    /// The plain schemas of which a value must fulfil one.
    pub(super) fn alternatives<'s>(&self, schema: &'s Value) -> Vec<Cow<'s, Value>>
    where
        'a: 's,
    {
        self.resolve(schema, 0)
    }

    /// The target of a schema that is no more than a reference: large types are
    /// not copied for each value.
    fn follow<'s>(&self, mut schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        let annotations = ["$ref", "description", "default", "title"];
        for _ in 0..MAX_DEPTH {
            let plain = schema
                .as_object()
                .filter(|object| object.keys().all(|key| annotations.contains(&key.as_str())));
            let reference = plain.and_then(|object| object.get("$ref")?.as_str());
            match reference.and_then(|reference| self.target(reference)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    fn resolve<'s>(&self, schema: &'s Value, depth: usize) -> Vec<Cow<'s, Value>>
    where
        'a: 's,
    {
        let schema = self.follow(schema);
        let Some(object) = schema.as_object() else {
            return vec![Cow::Borrowed(schema)];
        };
        let composed = ["$ref", "allOf", "oneOf", "anyOf"];
        if depth > MAX_DEPTH || !composed.iter().any(|key| object.contains_key(*key)) {
            return vec![Cow::Borrowed(schema)];
        }
        let mut own = object.clone();
        own.retain(|key, _| !composed.contains(&key.as_str()));
        let mut all = vec![Cow::Owned(Value::Object(own))];
        let reference = object.get("$ref").and_then(Value::as_str);
        if let Some(target) = reference.and_then(|reference| self.target(reference)) {
            all = both(&all, &self.resolve(target, depth + 1));
        }
        for part in members(object, "allOf") {
            all = both(&all, &self.resolve(part, depth + 1));
        }
        for key in ["oneOf", "anyOf"] {
            let options: Vec<_> = members(object, key)
                .flat_map(|option| self.resolve(option, depth + 1))
                .collect();
            if !options.is_empty() {
                all = both(&all, &options);
            }
        }
        all
    }
}

fn members<'s>(object: &'s Map<String, Value>, key: &str) -> impl Iterator<Item = &'s Value> {
    object
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn both<'s>(left: &[Cow<'_, Value>], right: &[Cow<'_, Value>]) -> Vec<Cow<'s, Value>> {
    left.iter()
        .flat_map(|a| right.iter().map(move |b| Cow::Owned(merged(a, b))))
        .collect()
}

/// A schema that asks for what both ask.
fn merged(a: &Value, b: &Value) -> Value {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return if a.is_object() { a.clone() } else { b.clone() };
    };
    let mut result = a.clone();
    for (key, theirs) in b {
        match (result.get_mut(key), theirs) {
            (Some(Value::Object(ours)), Value::Object(theirs))
                if matches!(key.as_str(), "properties" | "patternProperties") =>
            {
                ours.extend(theirs.clone());
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) if key == "required" => {
                ours.extend(theirs.iter().cloned());
            }
            (Some(ours @ Value::Bool(false)), theirs) if key == "additionalProperties" => {
                *ours = theirs.clone();
            }
            // The comment on a value says more than the one on its type.
            (Some(ours), theirs) if key == "description" => *ours = theirs.clone(),
            (Some(_), _) => {}
            (None, theirs) => {
                result.insert(key.clone(), theirs.clone());
            }
        }
    }
    Value::Object(result)
}

// === what a plain schema says ===

/// The types it allows; none means any.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ if constants(schema).is_some() => vec!["string"],
        _ => Vec::new(),
    }
}

/// The texts it allows, when it lists them.
pub(super) fn constants(schema: &Value) -> Option<Vec<&str>> {
    if let Some(one) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![one]);
    }
    let listed = schema.get("enum")?.as_array()?;
    Some(listed.iter().filter_map(Value::as_str).collect())
}

/// Its format: `duration`, `bytesize`, `path`, `secret`, `id`, `uint16`.
pub(super) fn format(schema: &Value) -> Option<&str> {
    schema.get("format").and_then(Value::as_str)
}

/// The named keys of a mapping with their schemas.
pub(super) fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> + Clone {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

/// Whether it is only there to be refused with a better reason, or to be left.
pub(super) fn is_deprecated(schema: &Value) -> bool {
    schema.get("deprecated") == Some(&Value::Bool(true))
}

/// Whether a key must be given.
pub(super) fn is_required(schema: &Value, key: &str) -> bool {
    required(schema).any(|required| required == key)
}

/// The keys that must be given.
pub(super) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// The schema of keys that are not named; `None` when there may be none.
pub(super) fn additional(schema: &Value) -> Option<&Value> {
    ["additionalProperties", "unevaluatedProperties"]
        .iter()
        .find_map(|key| schema.get(*key))
        .filter(|schema| **schema != Value::Bool(false))
}

/// What a value of this schema is called, with its article.
pub(super) fn describe(schema: &Value, shapes: Shapes<'_>) -> String {
    let types = types(schema);
    let Some(first) = types.iter().find(|ty| **ty != "null") else {
        return if types.is_empty() {
            "any value"
        } else {
            "nothing"
        }
        .to_owned();
    };
    match (*first, format(schema)) {
        (_, Some("duration")) => "a duration such as 10s".to_owned(),
        (_, Some("bytesize")) => "a size such as 64MiB".to_owned(),
        (_, Some("path")) => "a path".to_owned(),
        ("object", _) => "a mapping".to_owned(),
        ("array", _) => match schema.get("items") {
            Some(items) => format!("a list of {}", plural(items, shapes)),
            None => "a list".to_owned(),
        },
        ("boolean", _) => "true or false".to_owned(),
        ("integer", _) => "a whole number".to_owned(),
        ("number", _) => "a number".to_owned(),
        ("string", _) => "a string".to_owned(),
        (other, _) => other.to_owned(),
    }
}

fn plural(schema: &Value, shapes: Shapes<'_>) -> &'static str {
    let alternatives = shapes.alternatives(schema);
    let [one] = alternatives.as_slice() else {
        return "values";
    };
    match (types(one).first().copied(), format(one)) {
        (_, Some("duration")) => "durations",
        (_, Some("bytesize")) => "sizes",
        (_, Some("path")) => "paths",
        (_, Some("id")) => "component ids",
        (Some("string"), _) => "strings",
        (Some("integer" | "number"), _) => "numbers",
        (Some("object"), _) => "mappings",
        (Some("array"), _) => "lists",
        _ => "values",
    }
}
