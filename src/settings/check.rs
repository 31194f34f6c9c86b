//! A tree against a JSON Schema: everything that is wrong, and the tree as the
//! schema means it.
//!
//! One walk does both. It reports unknown and missing keys, wrong types, values
//! that are not listed, and numbers, durations and sizes that are none. And it
//! makes of `12` a text where a text is wanted (as written: `1.10` stays
//! `1.10`), of `"12"` a number where a number is wanted, of nothing the defaults
//! of a mapping, and of a relative path one from where its source stands. serde
//! could not do that below a flattened or untagged type.

use super::{
    ByteSize, Duration, Finding, Id, key_path, nearest, redact,
    shape::{self, Shapes},
    tree::{Entry, Node, Position, Scalar, ScalarKind, Value, parse_integer},
};
use serde_json::Value as Schema;
use std::borrow::Cow;

/// A tree that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// The values as the schema means them.
    pub(super) node: Node,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// Where secrets stand.
    pub(super) secrets: Vec<Position>,
}

/// Checks `node`, whose path is `path`, against a root schema.
pub(super) fn check(node: &Node, root: &Schema, path: &str) -> Checked {
    let mut checker = Checker {
        shapes: Shapes::of(root),
        findings: Vec::new(),
        secrets: Vec::new(),
    };
    let node = checker.node(node, root, path);
    Checked {
        node,
        findings: checker.findings,
        secrets: checker.secrets,
    }
}

struct Checker<'a> {
    shapes: Shapes<'a>,
    findings: Vec<Finding>,
    secrets: Vec<Position>,
}

/// How far a value is from an alternative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The types agree.
    Exact,
    /// The value can be read as that type.
    Readable,
    /// Nothing is written, and the type has defaults.
    Defaults,
    /// Another type.
    Not,
}

// === impl Checker ===

impl Checker<'_> {
    fn wrong(&mut self, at: &Position, path: &str, message: String, hint: Option<String>) {
        self.findings.push(Finding {
            at: at.clone(),
            path: path.to_owned(),
            message,
            hint,
        });
    }

    fn node(&mut self, node: &Node, schema: &Schema, path: &str) -> Node {
        let shapes = self.shapes;
        let alternatives = shapes.alternatives(schema);
        let best = alternatives
            .iter()
            .map(|alternative| fit(node, alternative))
            .min()
            .unwrap_or(Fit::Not);
        if best == Fit::Not {
            return self.wrong_type(node, &alternatives, path);
        }
        let candidates: Vec<&Schema> = alternatives
            .iter()
            .map(Cow::as_ref)
            .filter(|alternative| fit(node, alternative) == best)
            .collect();
        match candidates.as_slice() {
            [one] => self.plain(node, one, path),
            several => self.choose(node, several, path),
        }
    }

    fn wrong_type(&mut self, node: &Node, alternatives: &[Cow<'_, Schema>], path: &str) -> Node {
        if alternatives
            .iter()
            .any(|one| shape::format(one) == Some("secret"))
        {
            self.secrets.push(node.at.clone());
        }
        let mut expected: Vec<String> = Vec::new();
        for alternative in alternatives {
            let name = shape::describe(alternative, self.shapes);
            if name != "nothing" && !expected.contains(&name) {
                expected.push(name);
            }
        }
        let message = format!(
            "expected {}, found {}",
            expected.join(" or "),
            node.describe()
        );
        self.wrong(&node.at, path, message, None);
        node.clone()
    }

    /// Several alternatives have the right type: the one with which least is wrong.
    fn choose(&mut self, node: &Node, candidates: &[&Schema], path: &str) -> Node {
        let listed: Option<Vec<Vec<&str>>> =
            candidates.iter().map(|one| shape::constants(one)).collect();
        if let (Some(listed), Value::Scalar(scalar)) = (listed, &node.value) {
            return self.listed(node, scalar, &listed.concat(), path);
        }
        if let Some(chosen) = self.tagged(node, candidates, path) {
            return chosen;
        }
        let trials = candidates.iter().map(|candidate| {
            let mut trial = Checker {
                shapes: self.shapes,
                findings: Vec::new(),
                secrets: Vec::new(),
            };
            let node = trial.plain(node, candidate, path);
            (trial.findings, trial.secrets, node)
        });
        let best = trials.min_by_key(|(findings, _, _)| findings.len());
        let Some((findings, secrets, chosen)) = best else {
            return node.clone();
        };
        self.findings.extend(findings);
        self.secrets.extend(secrets);
        chosen
    }

    /// Alternatives that one key tells apart: `action: insert`.
    fn tagged(&mut self, node: &Node, candidates: &[&Schema], path: &str) -> Option<Node> {
        let tag_of = |candidate: &Schema, key: &str| -> Option<String> {
            let tag = candidate.get("properties")?.get(key)?.get("const")?;
            Some(tag.as_str()?.to_owned())
        };
        let tag = shape::properties(candidates.first()?)
            .map(|(key, _)| key)
            .find(|key| candidates.iter().all(|one| tag_of(one, key).is_some()))?;
        let tags: Vec<_> = candidates
            .iter()
            .filter_map(|one| tag_of(one, tag))
            .collect();
        let Some(given) = node.get(tag) else {
            let hint = format!("valid are {}", tags.join(", "));
            let message = "a required key is missing".to_owned();
            self.wrong(&node.at, &key_path::key(path, tag), message, Some(hint));
            return Some(node.clone());
        };
        let text = given.text()?;
        match tags.iter().position(|known| known == text) {
            Some(index) => Some(self.plain(node, candidates.get(index)?, path)),
            None => {
                let hint = nearest::hint(text, tags.iter().map(String::as_str));
                let message = format!("{text:?} is not valid here");
                self.wrong(&given.at, &key_path::key(path, tag), message, Some(hint));
                Some(node.clone())
            }
        }
    }

    /// One alternative, and the value has its type.
    fn plain(&mut self, node: &Node, schema: &Schema, path: &str) -> Node {
        if shape::types(schema).is_empty() {
            return node.clone();
        }
        if shape::format(schema) == Some("secret") {
            self.secrets.push(node.at.clone());
        }
        match &node.value {
            Value::Sequence(items) => self.list(node, items, schema, path),
            Value::Mapping(entries) => self.mapping(node, entries, schema, path),
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => {
                if allows(schema, "null") && !(scalar.text.is_empty() && allows(schema, "object")) {
                    node.clone()
                } else if allows(schema, "object") {
                    self.mapping(node, &[], schema, path)
                } else if allows(schema, "array") {
                    self.list(node, &[], schema, path)
                } else if allows(schema, "string") {
                    as_scalar(node, "", ScalarKind::Text)
                } else {
                    node.clone()
                }
            }
            Value::Scalar(scalar) => match shape::constants(schema) {
                Some(listed) => self.listed(node, scalar, &listed, path),
                None => self.scalar(node, scalar, schema, path),
            },
        }
    }

    fn listed(&mut self, node: &Node, scalar: &Scalar, valid: &[&str], path: &str) -> Node {
        if !valid.contains(&scalar.text.as_str()) {
            let hint = nearest::hint(&scalar.text, valid.iter().copied());
            let message = format!("{:?} is not valid here", scalar.text);
            self.wrong(&node.at, path, message, Some(hint));
        }
        as_scalar(node, &scalar.text, ScalarKind::Text)
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &Schema, path: &str) -> Node {
        let least = schema.get("minItems").and_then(Schema::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            let message = format!("at least {least} needed, found {}", items.len());
            self.wrong(&node.at, path, message, None);
        }
        let item_schema = schema.get("items").unwrap_or(&Schema::Bool(true));
        let items = items
            .iter()
            .enumerate()
            .map(|(i, item)| self.node(item, item_schema, &key_path::index(path, i)))
            .collect();
        with_value(node, Value::Sequence(items))
    }

    fn mapping(&mut self, node: &Node, entries: &[Entry], schema: &Schema, path: &str) -> Node {
        let mut result = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = key_path::key(path, &entry.key);
            let named = schema
                .get("properties")
                .and_then(|named| named.get(&entry.key));
            let Some(below) = named
                .or_else(|| pattern(schema, &entry.key))
                .or_else(|| shape::additional(schema))
            else {
                let valid = shape::properties(schema)
                    .filter(|(_, below)| !shape::is_deprecated(below))
                    .map(|(key, _)| key);
                let hint = nearest::hint(&entry.key, valid.clone());
                let meant = nearest::nearest(&entry.key, valid).unwrap_or(&entry.key);
                if redact::resembles_secret_key(meant) {
                    self.secrets.push(entry.node.at.clone());
                }
                self.wrong(&entry.at, &path, "unknown key".to_owned(), Some(hint));
                continue;
            };
            if entry.node.is_null() && named.is_some() && self.may_be_left_out(below, schema, entry)
            {
                continue;
            }
            result.push(Entry {
                key: entry.key.clone(),
                at: entry.at.clone(),
                node: self.node(&entry.node, below, &path),
            });
        }
        for key in shape::required(schema) {
            if !entries.iter().any(|entry| entry.key == key) {
                let path = key_path::key(path, key);
                let message = "a required key is missing".to_owned();
                self.wrong(&node.at, &path, message, None);
            }
        }
        with_value(node, Value::Mapping(result))
    }

    /// A key without a value is as good as no key, unless its type has a meaning
    /// for nothing.
    fn may_be_left_out(&self, below: &Schema, schema: &Schema, entry: &Entry) -> bool {
        let has_meaning = self.shapes.alternatives(below).iter().any(|alternative| {
            shape::types(alternative).is_empty()
                || ["null", "object", "array"]
                    .iter()
                    .any(|ty| allows(alternative, ty))
        });
        !has_meaning && !shape::is_required(schema, &entry.key)
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, schema: &Schema, path: &str) -> Node {
        let text = scalar.text.as_str();
        let problem = match shape::format(schema) {
            Some("duration") => text.parse::<Duration>().err().map(|e| e.to_string()),
            Some("bytesize") => text.parse::<ByteSize>().err().map(|e| e.to_string()),
            Some("id") => text.parse::<Id>().err().map(|e| e.to_string()),
            Some("path") => {
                let joined = node.at.source.join(text);
                return as_scalar(node, &joined.to_string_lossy(), ScalarKind::Text);
            }
            _ => return self.number_or_text(node, scalar, schema, path),
        };
        if let Some(problem) = problem {
            self.wrong(&node.at, path, problem, None);
        }
        as_scalar(node, text, ScalarKind::Text)
    }

    fn number_or_text(
        &mut self,
        node: &Node,
        scalar: &Scalar,
        schema: &Schema,
        path: &str,
    ) -> Node {
        let text = scalar.text.as_str();
        let types = shape::types(schema);
        let has = |ty: &str| types.contains(&ty);
        if has("string") && (scalar.kind == ScalarKind::Text || types.len() == 1) {
            let least = schema
                .get("minLength")
                .and_then(Schema::as_u64)
                .unwrap_or(0);
            if (text.chars().count() as u64) < least {
                self.wrong(&node.at, path, "must not be empty".to_owned(), None);
            }
            return as_scalar(node, text, ScalarKind::Text);
        }
        if has("integer")
            && let Some(number) = whole(scalar)
        {
            self.bounds(node, number as f64, schema, path);
            return as_scalar(node, &number.to_string(), ScalarKind::Integer);
        }
        if has("number")
            && let Ok(number) = text.parse::<f64>()
        {
            self.bounds(node, number, schema, path);
            return as_scalar(node, text, ScalarKind::Float);
        }
        if has("boolean")
            && let Some(truth) = truth(scalar)
        {
            return as_scalar(node, if truth { "true" } else { "false" }, ScalarKind::Bool);
        }
        as_scalar(node, text, ScalarKind::Text)
    }

    fn bounds(&mut self, node: &Node, number: f64, schema: &Schema, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Schema::as_f64);
        let (least_of_type, most_of_type) = match shape::format(schema) {
            Some("uint32") => (None, Some(f64::from(u32::MAX))),
            Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            Some("uint64" | "uint") => (None, Some(u64::MAX as f64)),
            _ => (None, None),
        };
        let least = bound("minimum").or(least_of_type);
        let most = bound("maximum").or(most_of_type);
        let above = bound("exclusiveMinimum");
        let message = match (least, most, above) {
            (Some(least), _, _) if number < least => format!("must be at least {least}"),
            (_, Some(most), _) if number > most => format!("must be at most {most}"),
            (_, _, Some(above)) if number <= above => format!("must be above {above}"),
            _ => return,
        };
        self.wrong(&node.at, path, message, None);
    }
}

fn with_value(node: &Node, value: Value) -> Node {
    Node {
        value,
        at: node.at.clone(),
        path: node.path.clone(),
    }
}

fn as_scalar(node: &Node, text: &str, kind: ScalarKind) -> Node {
    with_value(node, Value::Scalar(Scalar::of_kind(text, kind)))
}

fn allows(schema: &Schema, ty: &str) -> bool {
    shape::types(schema).contains(&ty)
}

fn fit(node: &Node, schema: &Schema) -> Fit {
    let types = shape::types(schema);
    if types.is_empty() {
        return Fit::Exact;
    }
    let has = |ty: &str| types.contains(&ty);
    let exact = |ty: &str| if has(ty) { Fit::Exact } else { Fit::Not };
    let scalar = match &node.value {
        Value::Sequence(_) => return exact("array"),
        Value::Mapping(_) => return exact("object"),
        Value::Scalar(scalar) => scalar,
    };
    match scalar.kind {
        // `tls:` asks for the defaults of tls, `tls: null` for no tls.
        ScalarKind::Null if scalar.text.is_empty() && has("object") => Fit::Exact,
        ScalarKind::Null if has("null") => Fit::Readable,
        ScalarKind::Null if has("object") || has("array") => Fit::Defaults,
        ScalarKind::Null if has("string") && shape::constants(schema).is_none() => Fit::Defaults,
        ScalarKind::Null => Fit::Not,
        ScalarKind::Text if has("string") => Fit::Exact,
        ScalarKind::Bool if has("boolean") => Fit::Exact,
        ScalarKind::Integer if has("integer") || has("number") => Fit::Exact,
        ScalarKind::Float if has("number") => Fit::Exact,
        _ if has("string")
            || (has("integer") && whole(scalar).is_some())
            || (has("number") && scalar.text.parse::<f64>().is_ok())
            || (has("boolean") && truth(scalar).is_some()) =>
        {
            Fit::Readable
        }
        _ => Fit::Not,
    }
}

/// A whole number, quoted or not; `1e3` is one too.
fn whole(scalar: &Scalar) -> Option<i128> {
    let text = scalar.text.trim();
    parse_integer(text).or_else(|| {
        let number = text.parse::<f64>().ok()?;
        (number.fract() == 0.0 && number.abs() < 1e18).then_some(number as i128)
    })
}

/// A truth value as YAML 1.1 writes it too.
fn truth(scalar: &Scalar) -> Option<bool> {
    match scalar.text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn pattern<'s>(schema: &'s Schema, key: &str) -> Option<&'s Schema> {
    let patterns = schema.get("patternProperties")?.as_object()?;
    patterns
        .iter()
        .find(|(pattern, _)| regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(key)))
        .map(|(_, schema)| schema)
}
