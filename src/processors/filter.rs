//! The `filter` processor: lets profiles pass, or not, by their labels.
//!
//! With `include`, only what one of its matchers describes passes; of that, what
//! one of `exclude`'s matchers describes does not. A matcher describes a profile
//! when all of its conditions hold. Expressions are Prometheus': they must match
//! the whole value, and a label that is absent has an empty value.

use crate::{
    pipeline::{Context, Processor, Reason, Verdict},
    profile::{Labels, NAME, Origin, Profile, relabel::Pattern},
    settings::{ComponentSettings, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lets profiles pass, or not, by their labels and names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct FilterSettings {
    /// What passes; without any entry, everything.
    pub include: Vec<MatcherSettings>,
    /// What does not pass, of what is included.
    pub exclude: Vec<MatcherSettings>,
}

/// Which profiles are meant: those for which all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct MatcherSettings {
    /// An expression for each of some labels, matched against the whole value.
    /// An absent label has an empty value, so `""` means "not there" and `.+`
    /// means "there".
    pub labels: BTreeMap<String, String>,
    /// Names of profiles, of which one must be the profile's (the label
    /// `__name__`), as in `memory` or `process_cpu`. Each is an expression, too.
    pub profile_names: Vec<String>,
}

struct Filter {
    include: Vec<Matcher>,
    exclude: Vec<Matcher>,
}

struct Matcher {
    labels: Vec<(Box<str>, Pattern)>,
    names: Vec<Pattern>,
}

// === impl FilterSettings ===

impl ComponentSettings for FilterSettings {
    fn problems(&self) -> Vec<Problem> {
        self.compile().err().unwrap_or_default()
    }
}

impl FilterSettings {
    /// The processor, or all that is wrong with its settings.
    pub fn build(self, _context: &Context) -> Result<Box<dyn Processor>, Vec<Problem>> {
        Ok(Box::new(self.compile()?))
    }

    fn compile(&self) -> Result<Filter, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.include.is_empty() && self.exclude.is_empty() {
            problems.push(Problem::new(
                "",
                "nothing is filtered: write include or exclude, or take the processor out of its \
                 pipelines",
            ));
        }
        let filter = Filter {
            include: compile_all("include", &self.include, &mut problems),
            exclude: compile_all("exclude", &self.exclude, &mut problems),
        };
        if problems.is_empty() {
            Ok(filter)
        } else {
            Err(problems)
        }
    }
}

fn compile_all(
    key: &str,
    settings: &[MatcherSettings],
    problems: &mut Vec<Problem>,
) -> Vec<Matcher> {
    let mut matchers = Vec::with_capacity(settings.len());
    for (index, settings) in settings.iter().enumerate() {
        let mut own = Vec::new();
        matchers.push(Matcher::new(settings, &mut own));
        let place = format!("{key}[{index}]");
        problems.extend(own.into_iter().map(|problem| problem.below(&place)));
    }
    matchers
}

// === impl Matcher ===

impl Matcher {
    fn new(settings: &MatcherSettings, problems: &mut Vec<Problem>) -> Self {
        if settings.labels.is_empty() && settings.profile_names.is_empty() {
            problems.push(Problem::new(
                "",
                "it describes every profile: write labels or profile_names",
            ));
        }
        let mut compile = |path: String, text: &str| match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                problems.push(Problem::new(path, error.to_string()));
                None
            }
        };
        Self {
            labels: settings
                .labels
                .iter()
                .filter_map(|(name, text)| {
                    let pattern = compile(format!("labels.{name}"), text)?;
                    Some((name.as_str().into(), pattern))
                })
                .collect(),
            names: settings
                .profile_names
                .iter()
                .enumerate()
                .filter_map(|(index, text)| compile(format!("profile_names[{index}]"), text))
                .collect(),
        }
    }

    fn describes(&self, labels: &Labels) -> bool {
        let value = |name: &str| labels.get(name).unwrap_or_default();
        let name = value(NAME);
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.is_match(name)))
            && self
                .labels
                .iter()
                .all(|(name, pattern)| pattern.is_match(value(name)))
    }
}

// === impl Filter ===

impl Filter {
    fn passes(&self, labels: &Labels) -> bool {
        let any = |matchers: &[Matcher]| matchers.iter().any(|m| m.describes(labels));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

impl Processor for Filter {
    fn process(&self, profile: Profile, _origin: &Origin) -> Verdict {
        if self.passes(&profile.labels) {
            Verdict::Keep(profile)
        } else {
            Verdict::Drop(Reason::Filtered)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::testing::{context, labels_after};
    use serde_json::{Value, json};

    fn settings(value: Value) -> FilterSettings {
        serde_json::from_value(value).unwrap()
    }

    /// Which of some profiles pass.
    fn passing(filter: Value) -> Vec<&'static str> {
        let processor = settings(filter).build(&context("filter")).unwrap();
        let profiles: &[(&str, &[(&str, &str)])] = &[
            ("api", &[("__name__", "memory"), ("job", "api")]),
            ("api-cpu", &[("__name__", "process_cpu"), ("job", "api")]),
            (
                "web",
                &[("__name__", "memory"), ("job", "web"), ("team", "a")],
            ),
            ("nobody", &[("__name__", "memory")]),
        ];
        profiles
            .iter()
            .filter(|(_, labels)| match labels_after(&*processor, labels) {
                Ok(after) => {
                    let before: Labels = labels.iter().copied().collect();
                    assert_eq!(after, before.to_string());
                    true
                }
                Err(reason) => {
                    assert_eq!(reason, Reason::Filtered);
                    false
                }
            })
            .map(|(name, _)| *name)
            .collect()
    }

    #[test]
    fn what_passes_is_included_and_not_excluded() {
        for (filter, expected) in [
            (
                json!({"include": [{"labels": {"job": "api|web"}}]}),
                vec!["api", "api-cpu", "web"],
            ),
            // The whole value must match.
            (json!({"include": [{"labels": {"job": "ap"}}]}), vec![]),
            // All conditions of one matcher, any of several.
            (
                json!({"include": [{"labels": {"job": "api"}, "profile_names": ["process_.*", "x"]}]}),
                vec!["api-cpu"],
            ),
            (
                json!({"include": [{"profile_names": ["process_cpu"]}, {"labels": {"team": "a"}}]}),
                vec!["api-cpu", "web"],
            ),
            // Absent is empty.
            (
                json!({"include": [{"labels": {"job": ""}}]}),
                vec!["nobody"],
            ),
            (
                json!({"exclude": [{"labels": {"team": ".+"}}]}),
                vec!["api", "api-cpu", "nobody"],
            ),
            (
                json!({"include": [{"profile_names": ["memory"]}], "exclude": [{"labels": {"job": "web"}}]}),
                vec!["api", "nobody"],
            ),
        ] {
            assert_eq!(passing(filter.clone()), expected, "{filter}");
        }
    }

    #[test]
    fn all_problems_are_found() {
        let faulty = settings(json!({
            "include": [{"labels": {"job": "("}, "profile_names": ["a", "["]}, {}],
            "exclude": [{"labels": {"b": "*"}}],
        }));
        let places: Vec<_> = faulty.problems().into_iter().map(|p| p.path).collect();
        assert_eq!(
            places,
            [
                "include[0].labels.job",
                "include[0].profile_names[1]",
                "include[1]",
                "exclude[0].labels.b"
            ]
        );
        assert!(faulty.build(&context("filter")).is_err());
        assert_eq!(settings(json!({})).problems().len(), 1);
    }
}
