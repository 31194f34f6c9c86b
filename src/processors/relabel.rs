//! The `relabel` processor: Prometheus' relabelling on the labels of profiles
//! in flight.
//!
//! It sees the labels that are sent, not those of discovery: `__meta_*` are
//! gone by then. `__name__` is the profile's name.

use crate::{
    pipeline::{Context, Processor, Reason, Verdict},
    profile::{
        Origin, Profile,
        relabel::{Decision, RelabelConfig, Rules},
    },
    settings::{ComponentSettings, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rewrites labels, and drops profiles by them, with Prometheus' rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct RelabelSettings {
    /// The rules, applied in order.
    pub relabel_configs: Vec<RelabelConfig>,
}

struct Relabel {
    rules: Rules,
}

// === impl RelabelSettings ===

impl ComponentSettings for RelabelSettings {
    fn problems(&self) -> Vec<Problem> {
        match self.rules() {
            Ok(rules) if rules.is_empty() => vec![Problem::new(
                "relabel_configs",
                "there is no rule: write one, or take the processor out of its pipelines",
            )],
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        }
    }
}

impl RelabelSettings {
    /// The processor, or all that is wrong with its settings.
    pub fn build(self, _context: &Context) -> Result<Box<dyn Processor>, Vec<Problem>> {
        let rules = self.rules()?;
        Ok(Box::new(Relabel { rules }))
    }

    fn rules(&self) -> Result<Rules, Vec<Problem>> {
        Rules::compile(&self.relabel_configs).map_err(|errors| {
            errors
                .iter()
                .map(|error| Problem::new(error.path(), error.to_string()).below("relabel_configs"))
                .collect()
        })
    }
}

// === impl Relabel ===

impl Processor for Relabel {
    fn process(&self, mut profile: Profile, _origin: &Origin) -> Verdict {
        let mut labels = profile.labels.edit();
        match self.rules.apply(&mut labels) {
            Decision::Keep => {
                profile.labels = labels.build();
                Verdict::Keep(profile)
            }
            Decision::Drop => Verdict::Drop(Reason::Relabelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::testing::{context, labels_after};
    use serde_json::json;

    fn settings(rules: serde_json::Value) -> RelabelSettings {
        serde_json::from_value(json!({ "relabel_configs": rules })).unwrap()
    }

    #[test]
    fn labels_are_rewritten_and_profiles_dropped() {
        let processor = settings(json!([
            {"source_labels": ["juju_unit"], "regex": "(.*)/\\d+", "target_label": "juju_application"},
            {"source_labels": ["__name__"], "regex": "mutex|block", "action": "drop"},
        ]))
        .build(&context("relabel"))
        .unwrap();
        assert_eq!(
            labels_after(
                &*processor,
                &[("__name__", "memory"), ("juju_unit", "api/0")]
            ),
            Ok(r#"{__name__="memory", juju_application="api", juju_unit="api/0"}"#.into())
        );
        assert_eq!(
            labels_after(&*processor, &[("__name__", "mutex")]),
            Err(Reason::Relabelled)
        );
    }

    #[test]
    fn a_faulty_rule_is_a_problem_with_its_place() {
        let faulty = settings(json!([{"target_label": "a"}, {"regex": "("}]));
        let places: Vec<_> = faulty.problems().into_iter().map(|p| p.path).collect();
        assert_eq!(
            places,
            [
                "relabel_configs[1].target_label",
                "relabel_configs[1].regex"
            ]
        );
        assert!(faulty.build(&context("relabel")).is_err());
        assert_eq!(settings(json!([])).problems().len(), 1);
    }
}
