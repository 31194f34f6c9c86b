//! The JSON Schema (draft 2020-12) of the whole configuration, for editors.

use super::{Catalogue, Kind, Service};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// One schema for the file, composed of the service's and of all components'.
pub fn schema(catalogue: &Catalogue) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut properties = Map::new();
    for kind in Kind::ALL {
        properties.insert(
            kind.section().into(),
            section(catalogue, kind, &mut generator),
        );
    }
    let service = Service::json_schema(&mut generator).to_value();
    properties.insert("service".into(), service);
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "profile-relay configuration",
        "type": "object",
        "properties": properties,
        "required": ["service"],
        "$defs": generator.take_definitions(true),
    });
    close(&mut root, false);
    root
}

fn section(catalogue: &Catalogue, kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let mut patterns = Map::new();
    for ty in catalogue.of(kind) {
        let mut settings = (ty.schema)(generator).to_value();
        if let Some(map) = settings.as_object_mut() {
            map.entry("description")
                .or_insert_with(|| ty.summary.into());
        }
        // `debug:` alone asks for the defaults.
        let settings = json!({"anyOf": [settings, {"type": "null"}]});
        patterns.insert(format!("^{}(/.+)?$", ty.name), settings);
    }
    json!({
        "description": format!("The {}, by id: type or type/name.", kind.section()),
        "type": ["object", "null"],
        "patternProperties": patterns,
        "additionalProperties": false,
    })
}

/// Forbids unknown keys, as the loader does. A schema that is part of a
/// composition leaves that to the whole.
fn close(schema: &mut Value, is_part: bool) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    let named = map.contains_key("properties");
    let composed = named
        && ["allOf", "anyOf", "oneOf", "$ref"]
            .iter()
            .any(|key| map.contains_key(*key));
    for (key, below) in map.iter_mut() {
        match (key.as_str(), below) {
            ("properties" | "patternProperties" | "$defs", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| close(schema, false));
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas
                    .iter_mut()
                    .for_each(|schema| close(schema, composed));
            }
            ("items" | "additionalProperties", below) => close(below, false),
            _ => {}
        }
    }
    let is_open =
        map.contains_key("additionalProperties") || map.contains_key("unevaluatedProperties");
    if named && !is_part && !is_open {
        let key = if composed {
            "unevaluatedProperties"
        } else {
            "additionalProperties"
        };
        map.insert(key.into(), false.into());
    }
}
