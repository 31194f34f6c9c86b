//! The `labels` processor: sets and deletes labels, in the shape of the
//! Collector's attributes processor.
//!
//! A value is a text, another label's value, or the content of a file. A
//! processor does no I/O, so files are read by a `Watch`: once before the
//! processor is built, then every five seconds on a thread of its own, which
//! ends with the processor. Without files there is no thread.

mod watch;

use self::watch::{Content, INTERVAL, Watch, WatchError};
use crate::{
    pipeline::{Context, Processor, Verdict},
    profile::{LabelsBuilder, Origin, Profile, relabel::Pattern},
    settings::{ComponentSettings, FilePath, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sets and deletes labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct LabelsSettings {
    /// What is done, in order.
    pub actions: Vec<ActionSettings>,
}

/// One change to the labels of each profile.
///
/// `insert`, `update` and `upsert` need a `key` and one of `value`,
/// `value_file` and `from_label`; when that yields nothing, they do nothing.
/// `delete` needs a `key`, a `pattern`, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ActionSettings {
    /// The label. `__name__` is the profile's name.
    pub key: String,
    /// What is done to it.
    pub action: ActionKind,
    /// The value it gets.
    pub value: Option<String>,
    /// The file whose content it gets, without white space at its ends. The
    /// file is read again every 5s; when that fails, or it has become empty, the
    /// last content stays.
    pub value_file: Option<FilePath>,
    /// The label whose value it gets.
    pub from_label: Option<String>,
    /// For delete: an expression; the labels whose whole name matches go.
    pub pattern: Option<String>,
}

/// What an action does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Sets the label if it is absent.
    Insert,
    /// Sets the label if it is there.
    Update,
    /// Sets the label.
    #[default]
    Upsert,
    /// Removes labels.
    Delete,
}

struct LabelsProcessor {
    steps: Vec<Step>,
    /// Ends the thread that reads files when the processor goes.
    _watch: Option<Watch>,
}

enum Step {
    Set {
        key: Box<str>,
        when: Option<Presence>,
        value: Value,
    },
    Delete {
        key: Option<Box<str>>,
        pattern: Option<Pattern>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    Present,
}

enum Value {
    Text(Box<str>),
    Label(Box<str>),
    File(Content),
}

// === impl LabelsSettings ===

impl ComponentSettings for LabelsSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.actions.is_empty() {
            problems.push(Problem::new(
                "actions",
                "there is no action: write one, or take the processor out of its pipelines",
            ));
        }
        for (index, action) in self.actions.iter().enumerate() {
            let place = format!("actions[{index}]");
            problems.extend(action.problems().into_iter().map(|p| p.below(&place)));
        }
        problems
    }
}

impl LabelsSettings {
    /// The processor, or all that is wrong with its settings. Reads the files of
    /// `value_file`.
    pub fn build(self, context: &Context) -> Result<Box<dyn Processor>, Vec<Problem>> {
        let mut problems = self.problems();
        let mut files = Vec::new();
        let mut steps = Vec::with_capacity(self.actions.len());
        for (index, action) in self.actions.into_iter().enumerate() {
            match action.build(&mut files) {
                Ok(step) => steps.push(step),
                Err(error) => problems.push(Problem::new(
                    format!("actions[{index}].value_file"),
                    error.to_string(),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let watch = Watch::start(context.id.clone(), files, INTERVAL)
            .map_err(|error| vec![Problem::new("", error.to_string())])?;
        Ok(Box::new(LabelsProcessor {
            steps,
            _watch: watch,
        }))
    }
}

// === impl ActionSettings ===

impl ActionSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = match self.action {
            ActionKind::Delete => self.problems_of_delete(),
            _ => self.problems_of_set(),
        };
        if let Some(Err(error)) = self.pattern.as_deref().map(Pattern::new) {
            problems.push(Problem::new("pattern", error.to_string()));
        }
        problems
    }

    fn problems_of_set(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.key.is_empty() {
            problems.push(Problem::new("key", "name the label that is set"));
        }
        let sources = self.sources();
        if sources.iter().filter(|(_, written)| *written).count() != 1 {
            problems.push(Problem::new(
                "",
                "write one of value, value_file and from_label: where the label's value comes from",
            ));
        }
        if self.pattern.is_some() {
            problems.push(Problem::new(
                "pattern",
                "only delete uses it: leave it out, or write action: delete",
            ));
        }
        problems
    }

    fn problems_of_delete(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.key.is_empty() && self.pattern.is_none() {
            problems.push(Problem::new(
                "",
                "write a key, a pattern, or both: which labels are deleted",
            ));
        }
        for (key, written) in self.sources() {
            if written {
                problems.push(Problem::new(key, "delete does not use it: leave it out"));
            }
        }
        problems
    }

    fn sources(&self) -> [(&'static str, bool); 3] {
        [
            ("value", self.value.is_some()),
            ("value_file", self.value_file.is_some()),
            ("from_label", self.from_label.is_some()),
        ]
    }

    /// What is wrong but for unreadable files was found by `problems`.
    fn build(self, files: &mut Vec<Content>) -> Result<Step, WatchError> {
        let key: Box<str> = self.key.into();
        let when = match self.action {
            ActionKind::Insert => Some(Presence::Absent),
            ActionKind::Update => Some(Presence::Present),
            ActionKind::Upsert => None,
            ActionKind::Delete => {
                return Ok(Step::Delete {
                    key: (!key.is_empty()).then_some(key),
                    pattern: self.pattern.and_then(|text| Pattern::new(&text).ok()),
                });
            }
        };
        let value = if let Some(file) = self.value_file {
            let content = Content::read(file.0)?;
            files.push(content.clone());
            Value::File(content)
        } else if let Some(label) = self.from_label {
            Value::Label(label.into())
        } else {
            Value::Text(self.value.unwrap_or_default().into())
        };
        Ok(Step::Set { key, when, value })
    }
}

// === impl LabelsProcessor ===

impl Processor for LabelsProcessor {
    fn process(&self, mut profile: Profile, _origin: &Origin) -> Verdict {
        let mut labels = profile.labels.edit();
        for step in &self.steps {
            step.apply(&mut labels);
        }
        profile.labels = labels.build();
        Verdict::Keep(profile)
    }
}

// === impl Step ===

impl Step {
    fn apply(&self, labels: &mut LabelsBuilder) {
        match self {
            Self::Set { key, when, value } => {
                let presence = match labels.get(key) {
                    Some(_) => Presence::Present,
                    None => Presence::Absent,
                };
                if when.is_none_or(|when| when == presence) {
                    value.set(key, labels);
                }
            }
            Self::Delete { key, pattern } => {
                labels.retain(|label| {
                    let named = key.as_ref().is_some_and(|key| *key == label.name);
                    let matched = pattern.as_ref().is_some_and(|p| p.is_match(&label.name));
                    !named && !matched
                });
            }
        }
    }
}

// === impl Value ===

impl Value {
    fn set(&self, key: &str, labels: &mut LabelsBuilder) {
        match self {
            Self::Text(text) => set_some(key, text, labels),
            Self::File(content) => set_some(key, &content.get(), labels),
            Self::Label(name) => {
                let value = labels.get(name).unwrap_or_default().to_owned();
                set_some(key, &value, labels);
            }
        }
    }
}

/// An empty value is none: setting it must not delete the label.
fn set_some(key: &str, value: &str, labels: &mut LabelsBuilder) {
    if !value.is_empty() {
        labels.set(key, value);
    }
}

#[cfg(test)]
mod tests;
