//! Which component types exist, said by the caller: this folder knows none.

use super::{Node, Problem, Report, redact, typed};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Settings of a component: a type with a schema, defaults and rules.
pub trait ComponentSettings: DeserializeOwned + Serialize + JsonSchema {
    /// Everything that is wrong with values of the right shape, paths relative
    /// to the component.
    fn problems(&self) -> Vec<Problem>;
}

/// What a component does, which is also its section of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Takes profiles from outside.
    Receiver,
    /// Changes or drops profiles.
    Processor,
    /// Sends profiles away.
    Exporter,
    /// Serves other components.
    Extension,
}

/// One component type.
#[derive(Clone, Copy)]
pub struct ComponentType {
    /// What it does.
    pub kind: Kind,
    /// The part of an id before the slash.
    pub name: &'static str,
    /// One line for `components` and the reference: lower case, no full stop.
    pub summary: &'static str,
    /// The schema of its settings.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads, checks and writes its settings: the result has all defaults filled
    /// in and no secret.
    pub effective: fn(&Node) -> Result<serde_json::Value, Report>,
}

/// All component types of the program.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(Vec<ComponentType>);

// === impl Kind ===

impl Kind {
    /// All kinds, in the order of the data.
    pub const ALL: [Self; 4] = [
        Self::Receiver,
        Self::Processor,
        Self::Exporter,
        Self::Extension,
    ];

    /// `receiver`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Processor => "processor",
            Self::Exporter => "exporter",
            Self::Extension => "extension",
        }
    }

    /// `receivers`: the key in the configuration.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Extension => "extensions",
        }
    }

    /// The kind as a noun with its article, for messages.
    pub(super) const fn with_article(self) -> &'static str {
        match self {
            Self::Receiver => "a receiver",
            Self::Processor => "a processor",
            Self::Exporter => "an exporter",
            Self::Extension => "an extension",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ComponentType ===

impl ComponentType {
    /// A type whose settings are a `T`.
    pub const fn new<T: ComponentSettings>(
        kind: Kind,
        name: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            kind,
            name,
            summary,
            schema: T::json_schema,
            effective: effective::<T>,
        }
    }
}

impl fmt::Debug for ComponentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// A catalogue of these types, in the order in which they are listed.
    pub fn new(types: Vec<ComponentType>) -> Self {
        Self(types)
    }

    /// The type of that kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&ComponentType> {
        self.of(kind).find(|ty| ty.name == name)
    }

    /// The types of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &ComponentType> {
        self.0.iter().filter(move |ty| ty.kind == kind)
    }

    /// All types.
    pub fn iter(&self) -> impl Iterator<Item = &ComponentType> {
        self.0.iter()
    }
}

/// Reads, checks and writes the settings in `node`.
pub(super) fn effective<T: ComponentSettings>(node: &Node) -> Result<serde_json::Value, Report> {
    let (settings, secrets) = typed::read::<T>(node)?;
    let problems = settings.problems();
    if problems.is_empty() {
        return serde_json::to_value(&settings)
            .map(redact::value)
            .map_err(|error| node.locate([Problem::new("", error.to_string())]));
    }
    let mut report = node.locate(problems);
    report.hide(secrets);
    Err(report)
}
