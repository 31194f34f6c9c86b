//! A relabelling rule as it is written, with Prometheus' keys and defaults.

use super::Fault;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};

/// One relabelling rule, as in Prometheus' `relabel_configs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct RelabelConfig {
    /// The labels whose values, joined by `separator`, are the text that the
    /// rule looks at. A label that is absent is an empty text.
    pub source_labels: Vec<String>,
    /// What is put between the values of `source_labels`.
    pub separator: String,
    /// The expression that the whole text must match (for labelmap, labeldrop
    /// and labelkeep: a label's whole name), in Go's syntax; a dot also matches
    /// a line feed.
    pub regex: String,
    /// For hashmod: the number of shards.
    pub modulus: u64,
    /// The label that is written or compared with. For replace it may hold
    /// groups of `regex`, as in `${1}_port`.
    pub target_label: String,
    /// What is written, or for labelmap the new name: text with groups of
    /// `regex`, as in `$1`, `${1}` or `$name`; nothing to write removes the
    /// label. A `${name}` is written `$${name}`, for without the second dollar
    /// sign it is an environment variable of the configuration.
    pub replacement: String,
    /// What is done, in any case: replace, keep, drop, keepequal, dropequal,
    /// hashmod, labelmap, labeldrop, labelkeep, lowercase or uppercase.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Action {
    /// On a match, writes `replacement` to `target_label`.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops unless the text equals `target_label`'s value.
    KeepEqual,
    /// Drops when the text equals `target_label`'s value.
    DropEqual,
    /// Writes the text's hash modulo `modulus` to `target_label`.
    HashMod,
    /// Copies the labels whose names match to the name that `replacement` makes.
    LabelMap,
    /// Removes the labels whose names match.
    LabelDrop,
    /// Removes the labels whose names do not match.
    LabelKeep,
    /// Writes the text in lower case to `target_label`.
    Lowercase,
    /// Writes the text in upper case to `target_label`.
    Uppercase,
}

/// The text names no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown relabel action {0:?}: write replace, keep, drop, keepequal, dropequal, hashmod, \
     labelmap, labeldrop, labelkeep, lowercase or uppercase"
)]
pub struct UnknownAction(String);

// === impl RelabelConfig ===

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".into(),
            regex: "(.*)".into(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".into(),
            action: Action::Replace,
        }
    }
}

impl RelabelConfig {
    /// All that Prometheus refuses, but for the expression itself.
    pub(super) fn faults(&self) -> Vec<(&'static str, Fault)> {
        use Action::*;
        let mut faults = Vec::new();
        let action = self.action;
        if self.source_labels.iter().any(String::is_empty) {
            faults.push(("source_labels", Fault::EmptyName));
        }
        if action.needs_target() && self.target_label.is_empty() {
            faults.push(("target_label", Fault::NoTarget(action)));
        }
        if action == HashMod && self.modulus == 0 {
            faults.push(("modulus", Fault::NoModulus));
        }
        if action == LabelMap && self.replacement.is_empty() {
            faults.push(("replacement", Fault::NoReplacement));
        }
        faults.extend(
            self.written()
                .filter(|key| action.refuses(key))
                .map(|key| (key, Fault::Unused(action))),
        );
        faults
    }

    /// The keys whose values are not the default.
    fn written(&self) -> impl Iterator<Item = &'static str> + use<> {
        let default = Self::default();
        [
            ("source_labels", self.source_labels != default.source_labels),
            ("separator", self.separator != default.separator),
            ("regex", self.regex != default.regex),
            ("modulus", self.modulus != default.modulus),
            ("target_label", self.target_label != default.target_label),
            ("replacement", self.replacement != default.replacement),
        ]
        .into_iter()
        .filter_map(|(key, written)| written.then_some(key))
    }
}

// === impl Action ===

impl Action {
    /// All actions, in the order of Prometheus' documentation.
    pub const ALL: &[Self] = &[
        Self::Replace,
        Self::Keep,
        Self::Drop,
        Self::KeepEqual,
        Self::DropEqual,
        Self::HashMod,
        Self::LabelMap,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::Lowercase,
        Self::Uppercase,
    ];

    /// The name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::KeepEqual => "keepequal",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::LabelMap => "labelmap",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::Lowercase => "lowercase",
            Self::Uppercase => "uppercase",
        }
    }

    const fn needs_target(self) -> bool {
        matches!(
            self,
            Self::Replace
                | Self::HashMod
                | Self::Lowercase
                | Self::Uppercase
                | Self::KeepEqual
                | Self::DropEqual
        )
    }

    /// Whether Prometheus refuses a rule of this action with `key`. Other keys
    /// without a meaning are ignored there, and here.
    fn refuses(self, key: &str) -> bool {
        match self {
            Self::Lowercase | Self::Uppercase => key == "replacement",
            Self::KeepEqual | Self::DropEqual => !matches!(key, "source_labels" | "target_label"),
            Self::LabelDrop | Self::LabelKeep => key != "regex",
            _ => false,
        }
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .iter()
            .find(|action| action.as_str().eq_ignore_ascii_case(text))
            .copied()
            .ok_or_else(|| UnknownAction(text.into()))
    }
}

impl TryFrom<String> for Action {
    type Error = UnknownAction;

    fn try_from(text: String) -> Result<Self, UnknownAction> {
        text.parse()
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.as_str().into()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No `enum`: any case is accepted.
impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "RelabelAction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::ALL.iter().map(|action| action.as_str()).collect();
        json_schema!({"type": "string", "examples": names})
    }
}
