//! `docs/reference.md`, from the same schemas that check a configuration.

use super::{
    Catalogue, Kind, Service, key_path,
    shape::{self, Shapes},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;
use std::{borrow::Cow, fmt::Write};

/// How deep nested settings are written out.
const MAX_DEPTH: usize = 8;

/// A further table of the reference: metrics, reasons, rules.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// A paragraph in front of it; may be empty.
    pub text: String,
    /// The heads of its columns.
    pub columns: Vec<String>,
    /// Its rows, as long as `columns`, in Markdown.
    pub rows: Vec<Vec<String>>,
}

/// One key in a table.
struct Row {
    key: String,
    ty: String,
    default: String,
    text: String,
}

/// The reference as Markdown: the service, each component type, `tables`.
/// The same catalogue gives the same text.
pub fn reference(catalogue: &Catalogue, tables: &[Table]) -> String {
    let mut out = String::from(
        "# Reference\n\n\
         Generated from the settings types; do not edit. `[]` stands for the items of a list, \
         `<key>` for any key of a mapping.\n",
    );
    let _ = write!(out, "\n## service\n\n");
    section::<Service>(&mut out);
    for kind in Kind::ALL {
        let mut types: Vec<_> = catalogue.of(kind).collect();
        if types.is_empty() {
            continue;
        }
        types.sort_by_key(|ty| ty.name);
        let _ = write!(out, "\n## {}\n", kind.section());
        for ty in types {
            let _ = write!(
                out,
                "\n### {} `{}`\n\n{}.\n\n",
                kind,
                ty.name,
                upper(ty.summary)
            );
            let mut generator = SchemaGenerator::default();
            let schema = (ty.schema)(&mut generator);
            settings(&mut out, schema, generator);
        }
    }
    for table in tables {
        let _ = write!(out, "\n## {}\n\n", table.title);
        if !table.text.is_empty() {
            let _ = write!(out, "{}\n\n", table.text);
        }
        let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        head(&mut out, &columns);
        for row in &table.rows {
            line(&mut out, row);
        }
    }
    out
}

fn section<T: JsonSchema>(out: &mut String) {
    let mut generator = SchemaGenerator::default();
    let schema = T::json_schema(&mut generator);
    settings(out, schema, generator);
}

/// What the type's comment says, and its keys.
fn settings(out: &mut String, schema: Schema, mut generator: SchemaGenerator) {
    let mut root = schema.to_value();
    if let Some(map) = root.as_object_mut() {
        map.insert("$defs".into(), generator.take_definitions(true).into());
    }
    if let Some(text) = description(&root) {
        let _ = write!(out, "{text}\n\n");
    }
    let mut rows = Vec::new();
    let shapes = Shapes::of(&root);
    collect(&mut rows, &root, shapes, "", None, 0);
    if rows.is_empty() {
        out.push_str("It has no settings.\n");
        return;
    }
    head(out, &["Key", "Type", "Default", "Meaning"]);
    for row in rows {
        line(
            out,
            &[format!("`{}`", row.key), row.ty, row.default, row.text],
        );
    }
}

/// One row for each key of a mapping, and the rows below it.
fn collect(
    rows: &mut Vec<Row>,
    schema: &Value,
    shapes: Shapes<'_>,
    path: &str,
    defaults: Option<&Value>,
    depth: usize,
) {
    if depth > MAX_DEPTH {
        return;
    }
    let alternatives = shapes.alternatives(schema);
    let mut seen = Vec::new();
    for alternative in &alternatives {
        for (key, below) in shape::properties(alternative) {
            if seen.contains(&key) || shape::is_deprecated(below) {
                continue;
            }
            seen.push(key);
            let path = key_path::key(path, key);
            let inherited = defaults.and_then(|defaults| defaults.get(key));
            let default = inherited.or_else(|| below.get("default"));
            let is_required = alternatives.iter().all(|one| shape::is_required(one, key));
            let tags = tags(&alternatives, key);
            rows.push(row(&path, below, shapes, default, is_required, tags));
            nested(rows, below, shapes, &path, default, depth);
        }
    }
}

/// The rows below a key: of a mapping, or of the items of lists and maps.
fn nested(
    rows: &mut Vec<Row>,
    schema: &Value,
    shapes: Shapes<'_>,
    path: &str,
    default: Option<&Value>,
    depth: usize,
) {
    collect(rows, schema, shapes, path, default, depth + 1);
    for alternative in shapes.alternatives(schema) {
        if let Some(items) = alternative.get("items") {
            nested(rows, items, shapes, &format!("{path}[]"), None, depth + 1);
        }
        if let Some(values) = shape::additional(&alternative).filter(|values| values.is_object()) {
            nested(
                rows,
                values,
                shapes,
                &format!("{path}.<key>"),
                None,
                depth + 1,
            );
        }
    }
}

/// The values by which a key tells alternatives apart, and what they mean.
fn tags(alternatives: &[Cow<'_, Value>], key: &str) -> Vec<(String, String)> {
    let tag = |one: &Value| -> Option<(String, String)> {
        let tag = one.get("properties")?.get(key)?.get("const")?.as_str()?;
        Some((
            tag.to_owned(),
            description(one).unwrap_or_default().to_owned(),
        ))
    };
    alternatives.iter().filter_map(|one| tag(one)).collect()
}

fn row(
    path: &str,
    schema: &Value,
    shapes: Shapes<'_>,
    default: Option<&Value>,
    is_required: bool,
    mut values: Vec<(String, String)>,
) -> Row {
    let alternatives = shapes.alternatives(schema);
    let ty = if values.is_empty() {
        type_name(schema, shapes, 0)
    } else {
        let tags = values.iter().map(|(value, _)| format!("`{value}`"));
        tags.collect::<Vec<_>>().join(", ")
    };
    let is_mapping = alternatives
        .iter()
        .any(|one| shape::properties(one).next().is_some());
    let default = match default {
        _ if is_required => "required".to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(_)) if is_mapping => String::new(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    };
    let mut text = description(schema).map(one_line).unwrap_or_default();
    values.extend(alternatives.iter().filter_map(|one| {
        let value = one.get("const")?.as_str()?.to_owned();
        Some((value, description(one)?.to_owned()))
    }));
    for (value, meaning) in values.iter().filter(|(_, meaning)| !meaning.is_empty()) {
        let _ = write!(text, " `{value}`: {}", one_line(meaning));
    }
    Row {
        key: path.to_owned(),
        ty,
        default,
        text: text.trim().to_owned(),
    }
}

fn type_name(schema: &Value, shapes: Shapes<'_>, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "any".to_owned();
    }
    let mut names: Vec<String> = Vec::new();
    for alternative in shapes.alternatives(schema) {
        for name in plain_names(&alternative, shapes, depth) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    match names.as_slice() {
        [] => "any".to_owned(),
        [several @ .., last] if names.iter().all(|name| !name.starts_with('`')) => {
            let first = several.join(", ");
            if first.is_empty() {
                last.clone()
            } else {
                format!("{first} or {last}")
            }
        }
        _ => names.join(", "),
    }
}

fn plain_names(schema: &Value, shapes: Shapes<'_>, depth: usize) -> Vec<String> {
    if let Some(values) = shape::constants(schema) {
        return values.iter().map(|value| format!("`{value}`")).collect();
    }
    if let Some(format @ ("duration" | "path" | "secret" | "id")) = shape::format(schema) {
        return vec![format.to_owned()];
    }
    if shape::format(schema) == Some("bytesize") {
        return vec!["size".to_owned()];
    }
    let types = shape::types(schema).into_iter().filter(|ty| *ty != "null");
    let names = types.map(|ty| match ty {
        "array" => match schema.get("items") {
            Some(items) => format!("list of {}", type_name(items, shapes, depth + 1)),
            None => "list".to_owned(),
        },
        "object" => match shape::additional(schema) {
            Some(values) => format!("map of {}", type_name(values, shapes, depth + 1)),
            None => "mapping".to_owned(),
        },
        other => other.to_owned(),
    });
    names.collect()
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

fn head(out: &mut String, columns: &[&str]) {
    let _ = writeln!(out, "| {} |", columns.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(columns.len()));
}

fn line(out: &mut String, cells: &[String]) {
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| cell.replace('|', "\\|").replace('\n', " "))
        .collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}
