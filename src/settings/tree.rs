//! YAML as a tree in which every node knows where it was written.

use super::{Problem, Report};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::{fmt, path::PathBuf, sync::Arc};

/// One text of configuration.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// What messages call it: the path as it was given, `stdin`, `--set a.b`.
    pub name: String,
    /// Where relative paths start.
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
    /// From 1.
    pub column: u32,
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// What is written.
    pub value: Value,
    /// Where it starts.
    pub at: Position,
    /// The key path from the top: `exporters.parca`. Empty at the top.
    pub path: String,
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

// === impl Node ===

impl Node {
    /// Reads one text, without looking at `${…}`.
    pub fn parse(_source: &Arc<Source>) -> Result<Self, Report> {
        Err(Report::default())
    }

    /// The settings that this node holds.
    ///
    /// Keys, types and units are checked against the schema of `T` first, and
    /// everything that is wrong is reported at once.
    pub fn typed<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Report> {
        Err(Report::default())
    }

    /// Puts places on what a component found wrong. Where a key is absent, the
    /// nearest one above it that exists is named.
    pub fn locate(&self, _problems: impl IntoIterator<Item = Problem>) -> Report {
        Report::default()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.at, self.value)
    }
}

// === impl Position ===

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.source.name)
        } else {
            write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
        }
    }
}

// === impl Scalar ===

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

// === impl Source ===

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
