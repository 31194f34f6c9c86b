//! Which component types exist, said by the caller: this folder knows none.

use super::{Id, Node, Problem, Report, redact, typed};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Settings of a component: a type with a schema, defaults and rules.
pub trait ComponentSettings: DeserializeOwned + Serialize + JsonSchema {
    /// Everything that is wrong with values of the right shape, paths relative
    /// to the component.
    fn problems(&self) -> Vec<Problem>;

    /// What is wrong so that nothing of the component can run. Says less than
    /// [`Self::problems`] where a component can leave out a part of itself, so
    /// that a running process can be reloaded without that part.
    fn fatal_problems(&self) -> Vec<Problem> {
        self.problems()
    }
}

/// Settings of an exporter that hands profiles on to other exporters.
pub trait RouterSettings: ComponentSettings {
    /// The exporters that it names, each with the key path of its name relative to
    /// the component.
    fn outputs(&self) -> Vec<(String, Id)>;
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
    /// The same with [`ComponentSettings::fatal_problems`] alone.
    pub effective_parts: fn(&Node) -> Result<serde_json::Value, Report>,
    /// What the settings amount to.
    pub fingerprint: fn(&Node) -> Result<Fingerprint, Report>,
    /// Of a router: the exporters that it names ([`RouterSettings::outputs`]).
    pub outputs: Option<Outputs>,
}

/// Reads which exporters a router names, and where.
pub type Outputs = fn(&Node) -> Vec<(String, Id)>;

/// What settings amount to, secrets included: equal for two texts that mean the
/// same. It tells nothing of the secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// All component types of the program.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    types: Vec<ComponentType>,
    is_for_reload: bool,
}

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
            effective_parts: effective_parts::<T>,
            fingerprint: fingerprint::<T>,
            outputs: None,
        }
    }

    /// An exporter that hands profiles on to others.
    pub const fn router<T: RouterSettings>(name: &'static str, summary: &'static str) -> Self {
        Self {
            outputs: Some(outputs::<T>),
            ..Self::new::<T>(Kind::Exporter, name, summary)
        }
    }
}

/// What a router names, if its settings can be read.
fn outputs<T: RouterSettings>(node: &Node) -> Vec<(String, Id)> {
    node.typed::<T>()
        .map(|settings| settings.outputs())
        .unwrap_or_default()
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
        Self {
            types,
            is_for_reload: false,
        }
    }

    /// The same for a process that runs: bad parts that a component can leave
    /// out do not stop the others.
    pub fn for_reload(self) -> Self {
        Self {
            is_for_reload: true,
            ..self
        }
    }

    /// Checks a component's settings and fills their defaults in.
    pub(super) fn effective(
        &self,
        ty: &ComponentType,
        node: &Node,
    ) -> Result<serde_json::Value, Report> {
        if self.is_for_reload {
            (ty.effective_parts)(node)
        } else {
            (ty.effective)(node)
        }
    }

    /// The type of that kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&ComponentType> {
        self.of(kind).find(|ty| ty.name == name)
    }

    /// The types of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &ComponentType> {
        self.types.iter().filter(move |ty| ty.kind == kind)
    }

    /// All types.
    pub fn iter(&self) -> impl Iterator<Item = &ComponentType> {
        self.types.iter()
    }
}

/// Reads, checks and writes the settings in `node`.
pub(super) fn effective<T: ComponentSettings>(node: &Node) -> Result<serde_json::Value, Report> {
    written::<T>(node, T::problems)
}

fn effective_parts<T: ComponentSettings>(node: &Node) -> Result<serde_json::Value, Report> {
    written::<T>(node, T::fatal_problems)
}

fn written<T: ComponentSettings>(
    node: &Node,
    check: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<serde_json::Value, Report> {
    let (settings, secrets) = typed::read::<T>(node)?;
    let problems = check(&settings);
    if problems.is_empty() {
        return serde_json::to_value(&settings)
            .map(redact::value)
            .map_err(|error| node.locate([Problem::new("", error.to_string())]));
    }
    let mut report = node.locate(problems);
    report.hide(secrets);
    Err(report)
}

/// All settings with their defaults, and the secrets, which are written
/// nowhere.
fn fingerprint<T: ComponentSettings>(node: &Node) -> Result<Fingerprint, Report> {
    let (settings, secrets) = typed::read::<T>(node)?;
    let settings = serde_json::to_vec(&settings)
        .map_err(|error| node.locate([Problem::new("", error.to_string())]))?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(&settings);
    let mut add = |text: &str| {
        digest.update(&[0]);
        digest.update(text.as_bytes());
    };
    each_scalar(node, &mut |scalar, text| {
        if secrets.contains(&scalar.at) {
            add(text);
        }
    });
    let mut fingerprint = Fingerprint([0; 32]);
    fingerprint.0.copy_from_slice(digest.finish().as_ref());
    Ok(fingerprint)
}

fn each_scalar<'n>(node: &'n Node, show: &mut impl FnMut(&'n Node, &'n str)) {
    if let Some(text) = node.text() {
        show(node, text);
    }
    for item in node.items() {
        each_scalar(item, show);
    }
    for entry in node.entries() {
        each_scalar(&entry.node, show);
    }
}

// === impl Fingerprint ===

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}
