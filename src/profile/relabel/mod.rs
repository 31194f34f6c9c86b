//! Prometheus' relabelling, for targets and for profiles.
//!
//! The rules are those of Prometheus 3.5 (`model/relabel`, UTF-8 label names),
//! the release whose library Parca links: what is written for a Parca or a
//! Prometheus job does here what it does there. [`RelabelConfig`] is a rule as
//! written, [`Rules`] are all of a list, checked and compiled once.
//!
//! Differences, none of which a rule in the wild was seen to depend on:
//!
//! - Upper and lower case follow Unicode's one-to-one mappings, as in Go; the
//!   few letters that only have a mapping to several letters stay as they are.
//! - When `labelmap` maps two labels to one name, the label whose own name sorts
//!   last wins. Prometheus has the ones that an earlier rule changed win.
//! - What [`Pattern`] lists.

mod config;
mod pattern;
mod template;
#[cfg(test)]
mod tests;

pub use self::{
    config::{Action, RelabelConfig, UnknownAction},
    pattern::{InvalidPattern, Pattern},
};

use self::template::Template;
use super::{Label, LabelsBuilder};
use md5::{Digest, Md5};
use std::{borrow::Cow, num::NonZeroU64};

/// A list of rules, ready to be applied in order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// What the rules decided about a set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It goes on with the labels as they now are.
    Keep,
    /// A rule took it out; the labels are as that rule found them.
    Drop,
}

/// One thing that is wrong with one rule of a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct RuleError {
    /// The rule's place in the list, from 0.
    pub index: usize,
    /// The key of the rule.
    pub key: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a key of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The action writes or compares a label that is not named.
    #[error("action {0} needs a target_label: name the label that it writes or compares with")]
    NoTarget(Action),
    /// Division by zero.
    #[error("action hashmod needs a modulus above 0: write the number of shards")]
    NoModulus,
    /// `labelmap` would make a label without a name.
    #[error("action labelmap needs a replacement: it makes the new name, as in $1")]
    NoReplacement,
    /// The key has no meaning for the action.
    #[error("action {0} does not use it: leave it out")]
    Unused(Action),
    /// A source label without a name.
    #[error("a label's name is empty: name a label or leave it out")]
    EmptyName,
    /// The expression cannot be compiled.
    #[error("{0}")]
    Pattern(#[from] InvalidPattern),
}

#[derive(Clone, Debug)]
struct Rule {
    source: Source,
    step: Step,
}

/// Where a rule's text comes from.
#[derive(Clone, Debug)]
struct Source {
    labels: Vec<Box<str>>,
    separator: Box<str>,
}

#[derive(Clone, Debug)]
enum Step {
    Replace {
        regex: Pattern,
        target: Template,
        replacement: Template,
    },
    Keep(Pattern),
    Drop(Pattern),
    KeepEqual(Box<str>),
    DropEqual(Box<str>),
    HashMod {
        modulus: NonZeroU64,
        target: Box<str>,
    },
    LabelMap {
        regex: Pattern,
        replacement: Template,
    },
    LabelDrop(Pattern),
    LabelKeep(Pattern),
    Lowercase(Box<str>),
    Uppercase(Box<str>),
}

// === impl Rules ===

impl Rules {
    /// Checks and compiles a list; on error, all that is wrong with all rules.
    pub fn compile(configs: &[RelabelConfig]) -> Result<Self, Vec<RuleError>> {
        let mut rules = Vec::with_capacity(configs.len());
        let mut errors = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            match Rule::compile(config) {
                Ok(rule) => rules.push(rule),
                Err(faults) => errors.extend(faults.into_iter().map(|(key, fault)| RuleError {
                    index,
                    key,
                    fault,
                })),
            }
        }
        if errors.is_empty() {
            Ok(Self(rules))
        } else {
            Err(errors)
        }
    }

    /// Applies the rules in order until one drops.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> Decision {
        for rule in &self.0 {
            if rule.apply(labels) == Decision::Drop {
                return Decision::Drop;
            }
        }
        Decision::Keep
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// === impl RuleError ===

impl RuleError {
    /// The place below the list's own key: `[2].target_label`.
    pub fn path(&self) -> String {
        format!("[{}].{}", self.index, self.key)
    }
}

// === impl Rule ===

impl Rule {
    fn compile(config: &RelabelConfig) -> Result<Self, Vec<(&'static str, Fault)>> {
        let mut faults = config.faults();
        let regex = Pattern::new(&config.regex);
        if let Err(error) = &regex {
            faults.push(("regex", error.clone().into()));
        }
        match (regex, NonZeroU64::new(config.modulus)) {
            (Ok(regex), modulus) if faults.is_empty() => Ok(Self {
                source: Source {
                    labels: config.source_labels.iter().map(|l| (**l).into()).collect(),
                    separator: config.separator.as_str().into(),
                },
                step: Step::new(config, regex, modulus),
            }),
            _ => Err(faults),
        }
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> Decision {
        let value = self.source.value(labels);
        match &self.step {
            Step::Keep(regex) => return keep_if(regex.is_match(&value)),
            Step::Drop(regex) => return keep_if(!regex.is_match(&value)),
            Step::KeepEqual(target) => {
                return keep_if(labels.get(target).unwrap_or_default() == value);
            }
            Step::DropEqual(target) => {
                return keep_if(labels.get(target).unwrap_or_default() != value);
            }
            Step::Replace {
                regex,
                target,
                replacement,
            } => replace(value.into_owned(), regex, target, replacement, labels),
            Step::HashMod { modulus, target } => {
                let shard = (hash(&value) % *modulus).to_string();
                labels.set(target, &shard);
            }
            Step::Lowercase(target) => {
                let lower = change_case(&value, char::to_lowercase);
                labels.set(target, &lower);
            }
            Step::Uppercase(target) => {
                let upper = change_case(&value, char::to_uppercase);
                labels.set(target, &upper);
            }
            Step::LabelMap { regex, replacement } => map_names(regex, replacement, labels),
            Step::LabelDrop(regex) => {
                labels.retain(|label| !regex.is_match(&label.name));
            }
            Step::LabelKeep(regex) => {
                labels.retain(|label| regex.is_match(&label.name));
            }
        }
        Decision::Keep
    }
}

// === impl Step ===

impl Step {
    /// `config` has no faults, hence a modulus where one is needed.
    fn new(config: &RelabelConfig, regex: Pattern, modulus: Option<NonZeroU64>) -> Self {
        let target = || config.target_label.as_str().into();
        let replacement = Template::new(&config.replacement, &regex);
        match config.action {
            Action::Replace => Self::Replace {
                target: Template::new(&config.target_label, &regex),
                replacement,
                regex,
            },
            Action::Keep => Self::Keep(regex),
            Action::Drop => Self::Drop(regex),
            Action::KeepEqual => Self::KeepEqual(target()),
            Action::DropEqual => Self::DropEqual(target()),
            Action::HashMod => Self::HashMod {
                modulus: modulus.unwrap_or(NonZeroU64::MIN),
                target: target(),
            },
            Action::LabelMap => Self::LabelMap { regex, replacement },
            Action::LabelDrop => Self::LabelDrop(regex),
            Action::LabelKeep => Self::LabelKeep(regex),
            Action::Lowercase => Self::Lowercase(target()),
            Action::Uppercase => Self::Uppercase(target()),
        }
    }
}

// === impl Source ===

impl Source {
    /// The values joined; a label that is absent is an empty text.
    fn value<'a>(&self, labels: &'a LabelsBuilder) -> Cow<'a, str> {
        let value = |name: &str| labels.get(name).unwrap_or_default();
        match &*self.labels {
            [] => Cow::Borrowed(""),
            [only] => Cow::Borrowed(value(only)),
            many => Cow::Owned(
                many.iter()
                    .map(|name| value(name))
                    .collect::<Vec<_>>()
                    .join(&self.separator),
            ),
        }
    }
}

fn keep_if(keep: bool) -> Decision {
    if keep { Decision::Keep } else { Decision::Drop }
}

/// Nothing happens without a match or without a target; an empty result removes
/// the target.
fn replace(
    value: String,
    regex: &Pattern,
    target: &Template,
    replacement: &Template,
    labels: &mut LabelsBuilder,
) {
    let Some(groups) = regex.groups(&value) else {
        return;
    };
    let target = target.expand(&groups);
    if !target.is_empty() {
        labels.set(&target, &replacement.expand(&groups));
    }
}

/// Copies; labels that are made here are not mapped again.
fn map_names(regex: &Pattern, replacement: &Template, labels: &mut LabelsBuilder) {
    let made: Vec<(String, Box<str>)> = labels
        .as_slice()
        .iter()
        .filter_map(|Label { name, value }| {
            let name = replacement.expand(&regex.groups(name)?).into_owned();
            (!name.is_empty()).then(|| (name, value.clone()))
        })
        .collect();
    for (name, value) in made {
        labels.set(&name, &value);
    }
}

/// The last 8 of md5's 16 bytes, big-endian, as Prometheus hashes.
fn hash(value: &str) -> u64 {
    let digest = Md5::digest(value.as_bytes());
    digest[8..]
        .iter()
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Letter by letter, without regard to neighbours and without growing.
fn change_case<I: Iterator<Item = char>>(text: &str, change: fn(char) -> I) -> String {
    text.chars()
        .map(|letter| {
            let mut changed = change(letter);
            match (changed.next(), changed.next()) {
                (Some(one), None) => one,
                _ => letter,
            }
        })
        .collect()
}
