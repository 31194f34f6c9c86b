//! The `load_balancing` exporter: a series goes to one of several exporters, and
//! stays with it.
//!
//! Each exporter has a weight for each series, a hash of both, and the heaviest has
//! the series (rendezvous hashing). So all relays with the same list agree, and when
//! an exporter comes, goes or fails, only its own series move.

use crate::{
    pipeline::{Context, Route, Router, RouterPlan},
    profile::{Label, Labels, Origin, Profile},
    settings::{ComponentSettings, Id, Problem, RouterSettings},
};
use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, sync::Arc};

/// Spreads series over several exporters; each stays on one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Among these. While one is failing its series go to others; one whose queue is
    /// full refuses them.
    pub exporters: Vec<Id>,
    /// The labels that make a series; all of them unless given. Profiles that agree
    /// in these go to the same exporter.
    pub routing_labels: Vec<String>,
}

struct LoadBalancing {
    outputs: Vec<Id>,
    labels: Vec<String>,
}

// === impl Settings ===

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        match self.exporters.len() {
            0 | 1 => vec![Problem::new("exporters", "list at least two exporters")],
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
            router: Arc::new(LoadBalancing {
                outputs: self.exporters.clone(),
                labels: self.routing_labels,
            }),
            outputs: self.exporters,
        })
    }
}

// === impl LoadBalancing ===

impl LoadBalancing {
    fn series(&self, labels: &Labels) -> Md5 {
        let mut hash = Md5::new();
        let mut add = |name: &str, value: &str| {
            for part in [name, value] {
                hash.update(part.as_bytes());
                hash.update([0xff]);
            }
        };
        if self.labels.is_empty() {
            let all = labels.iter();
            all.for_each(|Label { name, value, .. }| add(name, value));
        }
        for name in &self.labels {
            add(name, labels.get(name).unwrap_or_default());
        }
        hash
    }
}

impl Router for LoadBalancing {
    fn route(&self, profile: &Profile, _: &Origin, healthy: &[bool]) -> Route {
        let series = self.series(&profile.labels);
        let weight = |at: usize| {
            let id = self.outputs[at].as_str();
            let hash: [u8; 16] = series.clone().chain_update(id).finalize().into();
            u128::from_be_bytes(hash)
        };
        let all = 0..self.outputs.len().min(healthy.len());
        let heaviest = all.max_by_key(|at| (healthy[*at], weight(*at), Reverse(*at)));
        Route::Each(heaviest.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporters::shared::testing::profile_of;

    fn balancing(exporters: &[&str], labels: &[&str]) -> LoadBalancing {
        LoadBalancing {
            outputs: exporters.iter().map(|id| id.parse().unwrap()).collect(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    /// Where the series 0 to 999 go.
    fn spread(balancing: &LoadBalancing, healthy: &[bool]) -> Vec<usize> {
        let route = |series: usize| {
            let profile = profile_of(&[("pod", &series.to_string()), ("app", "a")]);
            match balancing.route(&profile, &Origin::default(), healthy) {
                Route::Each(one) => one[0],
                other => panic!("{other:?}"),
            }
        };
        (0..1_000).map(route).collect()
    }

    #[test]
    fn series_are_spread_evenly_and_stay_where_they_are() {
        let three = balancing(&["parca/a", "parca/b", "parca/c"], &[]);
        let all = spread(&three, &[true; 3]);
        for at in 0..3 {
            let share = all.iter().filter(|to| **to == at).count();
            assert!((250..420).contains(&share), "{share} of 1,000");
        }
        assert_eq!(spread(&three, &[true; 3]), all);
        // Without the last one, or while it fails, only its series move.
        let two = balancing(&["parca/a", "parca/b"], &[]);
        for moved in [
            spread(&two, &[true; 2]),
            spread(&three, &[true, true, false]),
        ] {
            let changed = all
                .iter()
                .zip(&moved)
                .filter(|(before, after)| before != after);
            assert!(changed.clone().all(|(before, _)| *before == 2));
            assert!(moved.iter().all(|to| *to != 2));
        }
    }

    #[test]
    fn a_series_is_what_its_labels_make_of_it() {
        let by_app = balancing(&["parca/a", "parca/b", "parca/c"], &["app"]);
        let all = spread(&by_app, &[true; 3]);
        assert!(all.iter().all(|to| *to == all[0]));
    }
}
