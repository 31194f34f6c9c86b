//! `${env:X}`, `${env:X:-default}`, `${X}`, `${file:path}` and `$$`.
//!
//! Only in scalars of the tree, never in the text: what a variable holds cannot
//! become YAML, and comments stay comments. `$1` and `${1}` are none of ours, so
//! that Prometheus' relabelling rules can be pasted as they are; `$$1`, as
//! Collector users write it, gives the same.

use super::{
    Finding, ReadFile, key_path,
    tree::{Node, Position, Scalar, ScalarKind, Value},
};
use std::collections::BTreeMap;

/// How deep a default may hold a default.
const MAX_DEPTH: usize = 8;

/// Where `${env:X}` looks.
#[derive(Clone, Debug, Default)]
pub enum Environment {
    /// In the environment of the process.
    #[default]
    Process,
    /// In these variables only, for tests.
    Fixed(BTreeMap<String, String>),
}

/// What expanding a tree found out.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// What cannot be expanded.
    pub(super) findings: Vec<Finding>,
    /// The files that were read.
    pub(super) files: Vec<ReadFile>,
}

/// Why a scalar cannot be expanded, and the way out.
struct Failure(String, Option<String>);

// === impl Environment ===

impl Environment {
    fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        match self {
            Self::Fixed(variables) => Ok(variables.get(name).cloned()),
            Self::Process => match std::env::var_os(name).map(std::ffi::OsString::into_string) {
                None => Ok(None),
                Some(Ok(value)) => Ok(Some(value)),
                Some(Err(_)) => Err(Failure(
                    format!("environment variable {name} is not UTF-8"),
                    None,
                )),
            },
        }
    }
}

/// Expands all scalars below `node`.
pub(super) fn expand(node: &mut Node, path: &str, environment: &Environment, out: &mut Expanded) {
    match &mut node.value {
        Value::Sequence(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                expand(item, &key_path::index(path, i), environment, out);
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                let path = key_path::key(path, &entry.key);
                expand(&mut entry.node, &path, environment, out);
            }
        }
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            let mut expander = Expander {
                environment,
                at: &node.at,
                files: &mut out.files,
            };
            match expander.scalar(scalar) {
                Ok(expanded) => *scalar = expanded,
                Err(Failure(message, hint)) => out.findings.push(Finding {
                    at: node.at.clone(),
                    path: path.to_owned(),
                    message,
                    hint,
                }),
            }
        }
        Value::Scalar(_) => {}
    }
}

struct Expander<'a> {
    environment: &'a Environment,
    at: &'a Position,
    files: &'a mut Vec<ReadFile>,
}

// === impl Expander ===

impl Expander<'_> {
    /// A scalar that is one expansion takes the type of its value, unless quoted.
    fn scalar(&mut self, scalar: &Scalar) -> Result<Scalar, Failure> {
        let inner = scalar.text.strip_prefix("${");
        let is_one = inner.is_some_and(|inner| {
            is_expansion(inner) && closing(inner).is_some_and(|end| end + 1 == inner.len())
        });
        let text = self.text(&scalar.text, 0)?;
        Ok(if is_one && !scalar.quoted {
            Scalar::plain(text)
        } else {
            let kind = ScalarKind::Text;
            Scalar {
                text,
                kind,
                quoted: scalar.quoted,
            }
        })
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<String, Failure> {
        if depth > MAX_DEPTH {
            return Err(Failure("defaults are nested too deep".into(), None));
        }
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, after) = rest.split_at(dollar);
            result.push_str(before);
            if let Some(tail) = after.strip_prefix("$$") {
                result.push('$');
                rest = tail;
            } else if let Some(inner) = after.strip_prefix("${").filter(|inner| is_expansion(inner))
            {
                let Some(end) = closing(inner) else {
                    return Err(Failure(
                        "a ${ is not closed".into(),
                        Some("add the }, or write $${ for the characters themselves".into()),
                    ));
                };
                let (reference, tail) = inner.split_at(end);
                result.push_str(&self.reference(reference, depth)?);
                rest = tail.strip_prefix('}').unwrap_or(tail);
            } else {
                result.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    /// What stands between `${` and `}`.
    fn reference(&mut self, reference: &str, depth: usize) -> Result<String, Failure> {
        if let Some(path) = reference.strip_prefix("file:") {
            return self.file(path);
        }
        let is_bare = !reference.starts_with("env:");
        let variable = reference.strip_prefix("env:").unwrap_or(reference);
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
        let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(starts) || !name.chars().all(goes_on) {
            let message = format!("${{{reference}}} cannot be expanded");
            let hint = "known are ${env:NAME}, ${env:NAME:-default} and ${file:path}; \
                        a literal ${ is written $${";
            return Err(Failure(message, Some(hint.into())));
        }
        match (self.environment.get(name)?, default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => self.text(default, depth + 1),
            (None, None) => {
                let literal = if is_bare {
                    format!("; a literal ${{{name}}} is written $${{{name}}}")
                } else {
                    String::new()
                };
                Err(Failure(
                    format!("environment variable {name} is not set"),
                    Some(format!(
                        "set it, or give a default: ${{env:{name}:-value}}{literal}"
                    )),
                ))
            }
        }
    }

    fn file(&mut self, path: &str) -> Result<String, Failure> {
        let path = self.at.source.join(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure(format!("{} cannot be read: {error}", path.display()), None)
        })?;
        self.files.push(ReadFile::new(path, text.as_bytes()));
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}

/// Whether what follows `${` is ours: a name, not `1` or `}`.
fn is_expansion(inner: &str) -> bool {
    inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The place of the `}` that closes what stands before `inner`.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(i),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
