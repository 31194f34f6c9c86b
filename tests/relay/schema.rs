//! Enough of JSON Schema to hold a configuration against one.

use regex::Regex;
use serde_json::{Map, Value};

/// A schema.
pub struct Schema(Value);

// === impl Schema ===

impl Schema {
    pub fn new(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("JSON"))
    }

    /// Every reference leads somewhere, every type and pattern is one.
    pub fn assert_sound(&self) {
        let draft = "https://json-schema.org/draft/2020-12/schema";
        assert_eq!(self.0["$schema"], draft);
        self.assert_sound_at(&self.0);
    }

    fn assert_sound_at(&self, schema: &Value) {
        const TYPES: [&str; 7] = [
            "array", "boolean", "integer", "null", "number", "object", "string",
        ];
        let Value::Object(schema) = schema else {
            assert!(schema.is_boolean(), "no schema: {schema}");
            return;
        };
        if let Some(reference) = schema.get("$ref") {
            assert!(self.referred(reference).is_some(), "{reference}");
        }
        for kind in several(schema.get("type")) {
            assert!(TYPES.contains(&kind.as_str().unwrap_or_default()), "{kind}");
        }
        for key in ["properties", "patternProperties", "$defs"] {
            for (name, below) in entries(schema.get(key)) {
                assert!(key != "patternProperties" || Regex::new(name).is_ok());
                self.assert_sound_at(below);
            }
        }
        for key in ["items", "additionalProperties", "propertyNames"] {
            schema
                .get(key)
                .into_iter()
                .for_each(|s| self.assert_sound_at(s));
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            several(schema.get(key)).for_each(|s| self.assert_sound_at(s));
        }
    }

    pub fn assert_fits(&self, value: &Value) {
        assert!(self.fits(value), "not as the schema says: {value:#}");
    }

    /// Whether a value is as the schema says; keys it does not know do not fit.
    pub fn fits(&self, value: &Value) -> bool {
        self.fits_at(&self.0, value)
    }

    fn fits_at(&self, schema: &Value, value: &Value) -> bool {
        let Value::Object(schema) = schema else {
            return schema == true;
        };
        let referred = schema.get("$ref").map(|r| self.referred(r).expect("sound"));
        let fits = |below: &Value| self.fits_at(below, value);
        let kinds: Vec<_> = several(schema.get("type")).collect();
        (kinds.is_empty() || kinds.iter().any(|kind| is_a(kind, value)))
            && referred.is_none_or(fits)
            && schema.get("const").is_none_or(|only| only == value)
            && schema
                .get("enum")
                .is_none_or(|_| several(schema.get("enum")).any(|v| v == value))
            && schema
                .get("anyOf")
                .is_none_or(|s| several(Some(s)).any(fits))
            && schema
                .get("oneOf")
                .is_none_or(|s| several(Some(s)).filter(|s| fits(s)).count() == 1)
            && several(schema.get("allOf")).all(fits)
            && self.text_fits(schema, value)
            && self.items_fit(schema, value)
            && self.keys_fit(schema, value)
    }

    fn text_fits(&self, schema: &Map<String, Value>, value: &Value) -> bool {
        let pattern = schema.get("pattern").and_then(Value::as_str);
        match (pattern, value.as_str()) {
            (Some(pattern), Some(text)) => Regex::new(pattern).expect("sound").is_match(text),
            _ => true,
        }
    }

    fn items_fit(&self, schema: &Map<String, Value>, value: &Value) -> bool {
        match (schema.get("items"), value) {
            (Some(items), Value::Array(values)) => values.iter().all(|v| self.fits_at(items, v)),
            _ => true,
        }
    }

    fn keys_fit(&self, schema: &Map<String, Value>, value: &Value) -> bool {
        let Value::Object(members) = value else {
            return true;
        };
        let required = several(schema.get("required")).filter_map(Value::as_str);
        let key_fits = |(key, member): (&String, &Value)| {
            let named = entries(schema.get("properties")).filter(|(name, _)| *name == key);
            let matching = entries(schema.get("patternProperties"))
                .filter(|(pattern, _)| Regex::new(pattern).expect("sound").is_match(key));
            let known: Vec<_> = named.chain(matching).collect();
            if known.is_empty() {
                let others = schema.get("additionalProperties");
                return others.is_none_or(|others| self.fits_at(others, member));
            }
            known.iter().all(|(_, below)| self.fits_at(below, member))
        };
        required.into_iter().all(|key| members.contains_key(key)) && members.iter().all(key_fits)
    }

    fn referred(&self, reference: &Value) -> Option<&Value> {
        self.0.pointer(reference.as_str()?.strip_prefix('#')?)
    }
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        Some("number") => value.is_number(),
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        _ => false,
    }
}

/// The values of a list, or the one value.
fn several(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let values = match value {
        None => &[][..],
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
    };
    values.iter()
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}
