//! The `routing` exporter: which exporters a profile is for, by its labels and by
//! the metadata of the request it came in.
//!
//! The entries of the table are tried from the top, and the first that describes a
//! profile decides. Expressions are Prometheus': they must match the whole value,
//! and what is absent has an empty value. For OTLP, labels are the attributes of the
//! resource, so nothing is decoded.

use crate::{
    pipeline::{Context, Route, Router, RouterPlan},
    profile::{Labels, Origin, Profile, relabel::Pattern},
    settings::{ComponentSettings, Id, Problem, RouterSettings},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Hands profiles on to other exporters, by labels or by who sent them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Tried from the top.
    pub table: Vec<EntrySettings>,
    /// Where profiles go that no entry describes; without any they are dropped
    /// (`unrouted`).
    pub default_exporters: Vec<Id>,
    /// The first entry that describes a profile decides; otherwise all do that
    /// describe it.
    pub match_once: bool,
}

/// One way.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct EntrySettings {
    /// An expression for each of some labels, matched against the whole value.
    pub labels: BTreeMap<String, String>,
    /// An expression for each of some metadata of the request, as a receiver's
    /// `include_metadata` and its identities give them, as in
    /// `{x-scope-orgid: team-a}`.
    pub metadata: BTreeMap<String, String>,
    /// The exporters that must have what all of these expressions match.
    pub exporters: Vec<Id>,
}

struct Routing {
    table: Vec<Entry>,
    default: Vec<usize>,
    match_once: bool,
}

struct Entry {
    labels: Vec<(String, Pattern)>,
    metadata: Vec<(String, Pattern)>,
    outputs: Vec<usize>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            table: Vec::new(),
            default_exporters: Vec::new(),
            match_once: true,
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        self.compile().err().unwrap_or_default()
    }
}

impl RouterSettings for Settings {
    fn outputs(&self) -> Vec<(String, Id)> {
        let entries = self.table.iter().enumerate().flat_map(|(at, entry)| {
            let ids = entry.exporters.iter().enumerate();
            ids.map(move |(i, id)| (format!("table[{at}].exporters[{i}]"), id.clone()))
        });
        let default = self.default_exporters.iter().enumerate();
        let default = default.map(|(i, id)| (format!("default_exporters[{i}]"), id.clone()));
        entries.chain(default).collect()
    }
}

impl Settings {
    /// The router, or all that is wrong with its settings.
    pub fn build(self, _: &Context) -> Result<RouterPlan, Vec<Problem>> {
        let (routing, outputs) = self.compile()?;
        Ok(RouterPlan {
            router: Arc::new(routing),
            outputs,
        })
    }

    fn compile(&self) -> Result<(Routing, Vec<Id>), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut outputs = Vec::new();
        if self.table.is_empty() {
            let message = "the table is empty: write table: [{labels: {…}, exporters: […]}]";
            problems.push(Problem::new("table", message));
        }
        let mut table = Vec::with_capacity(self.table.len());
        for (at, entry) in self.table.iter().enumerate() {
            let mut own = Vec::new();
            table.push(entry.compile(&mut outputs, &mut own));
            let place = format!("table[{at}]");
            problems.extend(own.into_iter().map(|problem| problem.below(&place)));
        }
        let routing = Routing {
            table,
            default: positions(&self.default_exporters, &mut outputs),
            match_once: self.match_once,
        };
        if problems.is_empty() {
            Ok((routing, outputs))
        } else {
            Err(problems)
        }
    }
}

/// Where these ids stand in `outputs`, to which new ones are added.
fn positions(ids: &[Id], outputs: &mut Vec<Id>) -> Vec<usize> {
    let position = |id: &Id| {
        let known = outputs.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            outputs.push(id.clone());
            outputs.len() - 1
        })
    };
    ids.iter().map(position).collect()
}

// === impl EntrySettings ===

impl EntrySettings {
    fn compile(&self, outputs: &mut Vec<Id>, problems: &mut Vec<Problem>) -> Entry {
        if self.labels.is_empty() && self.metadata.is_empty() {
            let message =
                "it describes every profile: write labels or metadata, or use default_exporters";
            problems.push(Problem::new("", message));
        }
        if self.exporters.is_empty() {
            let message = "list the exporters that it leads to; a filter processor drops profiles";
            problems.push(Problem::new("exporters", message));
        }
        let mut compile = |key: &str, patterns: &BTreeMap<String, String>| {
            let mut compiled = Vec::with_capacity(patterns.len());
            for (name, text) in patterns {
                match Pattern::new(text) {
                    Ok(pattern) => compiled.push((name.clone(), pattern)),
                    Err(error) => {
                        let path = format!("{key}.{name}");
                        problems.push(Problem::new(path, error.to_string()));
                    }
                }
            }
            compiled
        };
        Entry {
            labels: compile("labels", &self.labels),
            metadata: compile("metadata", &self.metadata),
            outputs: positions(&self.exporters, outputs),
        }
    }
}

// === impl Entry ===

impl Entry {
    fn describes(&self, profile: &Profile, origin: &Origin) -> bool {
        let all = |patterns: &[(String, Pattern)], values: &Labels| {
            let mut patterns = patterns.iter();
            patterns.all(|(name, p)| p.is_match(values.get(name).unwrap_or_default()))
        };
        all(&self.labels, &profile.labels) && all(&self.metadata, &origin.metadata)
    }
}

// === impl Routing ===

impl Router for Routing {
    fn route(&self, profile: &Profile, origin: &Origin, _: &[bool]) -> Route {
        let mut outputs = Vec::new();
        let fitting = self.table.iter().filter(|e| e.describes(profile, origin));
        let most = if self.match_once { 1 } else { usize::MAX };
        for output in fitting.take(most).flat_map(|entry| &entry.outputs) {
            if !outputs.contains(output) {
                outputs.push(*output);
            }
        }
        if outputs.is_empty() {
            outputs.clone_from(&self.default);
        }
        Route::Each(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporters::shared::testing::profile_of;

    fn routing(settings: serde_json::Value) -> (Routing, Vec<Id>) {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        settings.compile().unwrap()
    }

    fn route(routing: &Routing, labels: &[(&str, &str)], metadata: &[(&str, &str)]) -> Vec<usize> {
        let origin = Origin {
            metadata: metadata.iter().copied().collect(),
            ..Origin::default()
        };
        match routing.route(&profile_of(labels), &origin, &[]) {
            Route::Each(outputs) => outputs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_entry_that_describes_a_profile_decides() {
        let (routing, outputs) = routing(serde_json::json!({
            "table": [
                {"labels": {"juju_model": "prod.*", "debug": ""}, "exporters": ["parca/prod", "file"]},
                {"metadata": {"x-scope-orgid": "a"}, "exporters": ["parca/a"]},
                {"labels": {"juju_model": ".+"}, "exporters": ["file"]},
            ],
            "default_exporters": ["parca"],
        }));
        let names: Vec<_> = outputs.iter().map(Id::as_str).collect();
        assert_eq!(names, ["parca/prod", "file", "parca/a", "parca"]);
        let tenant = [("x-scope-orgid", "a")];
        assert_eq!(
            route(&routing, &[("juju_model", "prod-1")], &tenant),
            [0, 1]
        );
        assert_eq!(route(&routing, &[("juju_model", "test")], &tenant), [2]);
        let debugged = [("juju_model", "prod"), ("debug", "yes")];
        assert_eq!(route(&routing, &debugged, &[]), [1]);
        assert_eq!(route(&routing, &[], &[]), [3]);
    }

    #[test]
    fn all_entries_may_decide_and_nobody_gets_a_profile_twice() {
        let (routing, _) = routing(serde_json::json!({
            "table": [
                {"labels": {"a": "1"}, "exporters": ["parca", "file"]},
                {"labels": {"b": "1"}, "exporters": ["file", "debug"]},
            ],
            "match_once": false,
        }));
        assert_eq!(route(&routing, &[("a", "1"), ("b", "1")], &[]), [0, 1, 2]);
        assert_eq!(route(&routing, &[("b", "2")], &[]), [0; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "table": [{"exporters": ["parca"]}, {"labels": {"a": "("}}],
        }))
        .unwrap();
        let paths: Vec<_> = settings.problems().into_iter().map(|p| p.path).collect();
        assert_eq!(
            paths,
            ["table[0]", "table[1].exporters", "table[1].labels.a"]
        );
    }
}
