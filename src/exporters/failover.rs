//! The `failover` exporter: the first exporter to which sending works.
//!
//! An exporter counts as failing from the first attempt of several to come that
//! fails until one succeeds, or until nothing waits for it. Profiles that are in its
//! queue then stay there and are sent when its backend is back, or expire by its
//! `max_age`.

use crate::{
    pipeline::{Context, Route, Router, RouterPlan},
    profile::{Origin, Profile},
    settings::{ComponentSettings, Id, Problem, RouterSettings},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Hands profiles on to the first exporter whose backend answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// By preference. One that is failing, or whose queue is full, is passed over;
    /// when all are failing, the first with room has it. One whose `on_full` drops
    /// is never full.
    pub exporters: Vec<Id>,
}

struct Failover;

// === impl Settings ===

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        match self.exporters.len() {
            0 | 1 => vec![Problem::new(
                "exporters",
                "list at least two exporters, the preferred one first",
            )],
            _ => Vec::new(),
        }
    }
}

impl RouterSettings for Settings {
    fn outputs(&self) -> Vec<(String, Id)> {
        let ids = self.exporters.iter().enumerate();
        ids.map(|(i, id)| (format!("exporters[{i}]"), id.clone()))
            .collect()
    }
}

impl Settings {
    /// The router, or all that is wrong with its settings.
    pub fn build(self, _: &Context) -> Result<RouterPlan, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(RouterPlan {
            router: Arc::new(Failover),
            outputs: self.exporters,
        })
    }
}

// === impl Failover ===

impl Router for Failover {
    fn route(&self, _: &Profile, _: &Origin, healthy: &[bool]) -> Route {
        let mut outputs: Vec<_> = (0..healthy.len()).collect();
        // Stable: among equals by preference.
        outputs.sort_by_key(|at| !healthy[*at]);
        Route::First(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporters::shared::testing::profile_of;

    #[test]
    fn what_fails_comes_last() {
        let route = |healthy| Failover.route(&profile_of(&[]), &Origin::default(), healthy);
        assert_eq!(route(&[true, true, true]), Route::First(vec![0, 1, 2]));
        assert_eq!(route(&[false, true, false]), Route::First(vec![1, 0, 2]));
        assert_eq!(route(&[false, false, false]), Route::First(vec![0, 1, 2]));
    }

    #[test]
    fn one_exporter_is_no_choice() {
        let settings = Settings {
            exporters: vec!["parca".parse().unwrap()],
        };
        assert_eq!(settings.problems()[0].path, "exporters");
    }
}
