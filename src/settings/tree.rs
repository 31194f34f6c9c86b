//! YAML as a tree in which every node knows where it was written.

use super::{Problem, Report, key_path, parse, typed};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One text of configuration.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// What messages call it: the path as it was given, `stdin`, `--set`.
    pub name: String,
    /// Where relative paths start; empty for the working directory.
    pub folder: PathBuf,
    /// The text as it was read.
    pub text: String,
}

/// A place in a source.
#[derive(Clone, PartialEq, Eq)]
pub struct Position {
    /// Which text.
    pub source: Arc<Source>,
    /// From 1; 0 for the text as a whole.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// What is written.
    pub value: Value,
    /// Where it starts.
    pub at: Position,
    /// For a component's settings, the key path from the top of the
    /// configuration: `exporters.parca`. Empty for all other nodes.
    pub path: Arc<str>,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, number, truth value or nothing.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the text.
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub at: Position,
    /// The value.
    pub node: Node,
}

/// A text, and what YAML makes of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Scalar {
    /// As it was written, so that a label's `1.10` stays `1.10`.
    pub text: String,
    /// What it is.
    pub kind: ScalarKind,
    /// Whether quotes or a block make it a text whatever it looks like.
    pub quoted: bool,
}

/// What YAML's core schema makes of a plain scalar. Quoted ones are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true`, `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Any other number.
    Float,
    /// Everything else.
    Text,
}

// === impl Source ===

impl Source {
    /// A text, what messages call it, and where its relative paths start.
    pub fn new(
        name: impl Into<String>,
        folder: impl Into<PathBuf>,
        text: impl Into<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            folder: folder.into(),
            text: text.into(),
        })
    }

    /// The source as a whole.
    pub(super) fn whole(self: &Arc<Self>) -> Position {
        Position {
            source: self.clone(),
            line: 0,
            column: 0,
        }
    }

    /// A path as this source means it.
    pub(super) fn join(&self, path: &str) -> PathBuf {
        if path.is_empty() || self.folder == Path::new("") {
            path.into()
        } else {
            self.folder.join(path)
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.source.name)
        } else {
            write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Node ===

impl Node {
    /// A value at a place.
    pub fn new(value: Value, at: Position) -> Self {
        Self {
            value,
            at,
            path: Arc::default(),
        }
    }

    /// Reads one document, without looking at `${…}`.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Report> {
        parse::parse(source)
    }

    /// Reads a text that belongs to no file.
    pub fn from_text(name: &str, text: &str) -> Result<Self, Report> {
        Self::parse(&Source::new(name, "", text))
    }

    /// The settings that this node holds.
    ///
    /// Keys, types and units are checked against the schema of `T` first, and
    /// everything that is wrong is reported at once. `null` stands for defaults;
    /// relative [`super::FilePath`]s are joined to the folder of their source.
    pub fn typed<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Report> {
        typed::read(self).map(|(settings, _)| settings)
    }

    /// Puts places on what a component found wrong. Where a key is absent, the
    /// nearest one above it that exists is the place.
    pub fn locate(&self, problems: impl IntoIterator<Item = Problem>) -> Report {
        let findings = problems.into_iter().map(|problem| super::Finding {
            at: key_path::find(self, &problem.path).clone(),
            path: key_path::join(&self.path, &problem.path),
            message: problem.message,
            hint: None,
        });
        findings.collect::<Vec<_>>().into()
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The keys and values of a mapping; nothing for any other value.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Scalar(_) | Value::Sequence(_) => &[],
        }
    }

    /// The items of a list; nothing for any other value.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(items) => items,
            Value::Scalar(_) | Value::Mapping(_) => &[],
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// What messages call the value, with its article.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool => "a boolean",
                ScalarKind::Integer | ScalarKind::Float => "a number",
                ScalarKind::Text => "a string",
            },
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.describe(), self.at)
    }
}

// === impl Scalar ===

impl Scalar {
    /// A scalar as YAML reads one without quotes.
    pub fn plain(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            kind: ScalarKind::of(&text),
            text,
            quoted: false,
        }
    }

    /// A text, whatever it looks like.
    pub fn quoted(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind: ScalarKind::Text,
            quoted: true,
        }
    }

    /// The same text as another kind.
    pub(super) fn of_kind(text: impl Into<String>, kind: ScalarKind) -> Self {
        Self {
            text: text.into(),
            kind,
            quoted: false,
        }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the text: it may be a secret.
        fmt::Debug::fmt(&self.kind, f)
    }
}

// === impl ScalarKind ===

impl ScalarKind {
    /// What the core schema of YAML 1.2 makes of a plain scalar.
    pub fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Self::Bool,
            ".nan" | ".NaN" | ".NAN" => return Self::Float,
            _ => {}
        }
        if parse_integer(text).is_some() {
            return Self::Integer;
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let float = matches!(unsigned, ".inf" | ".Inf" | ".INF")
            || (unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && unsigned.parse::<f64>().is_ok());
        if float { Self::Float } else { Self::Text }
    }
}

/// A whole number as YAML writes it: decimal, `0x1f`, `0o17`.
pub(super) fn parse_integer(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    let number = digits(unsigned, 10)?;
    Some(if text.starts_with('-') {
        -number
    } else {
        number
    })
}

fn digits(text: &str, radix: u32) -> Option<i128> {
    let valid = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    valid.then(|| i128::from_str_radix(text, radix).ok())?
}
