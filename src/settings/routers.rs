//! Exporters that hand profiles on to other exporters: those exist, and no way
//! leads back.

use super::{Catalogue, Finding, Id, Kind, Node, key_path, nearest};
use std::collections::{BTreeMap, BTreeSet};

/// The routers among the exporters of a configuration.
pub(super) struct Routers<'a> {
    exporters: &'a BTreeMap<Id, Node>,
    /// What each names, and where.
    named: BTreeMap<&'a Id, Vec<(String, Id)>>,
}

// === impl Routers ===

impl<'a> Routers<'a> {
    pub(super) fn of(exporters: &'a BTreeMap<Id, Node>, catalogue: &Catalogue) -> Self {
        let named = exporters.iter().filter_map(|(id, node)| {
            let outputs = catalogue.find(Kind::Exporter, id.kind())?.outputs?;
            Some((id, outputs(node)))
        });
        Self {
            exporters,
            named: named.collect(),
        }
    }

    /// All exporters that a router names.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Id> {
        self.named.values().flatten().map(|(_, output)| output)
    }

    /// What is wrong with what they name.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (id, outputs) in &self.named {
            for (path, output) in outputs {
                let Some((message, hint)) = self.wrong(id, output) else {
                    continue;
                };
                let node = &self.exporters[*id];
                findings.push(Finding {
                    at: key_path::find(node, path).clone(),
                    path: key_path::join(&node.path, path),
                    message,
                    hint: Some(hint),
                });
            }
        }
        findings
    }

    fn wrong(&self, router: &Id, output: &Id) -> Option<(String, String)> {
        if !self.exporters.contains_key(output) {
            let ids = self.exporters.keys().map(Id::as_str);
            let hint = match nearest::nearest(output.as_str(), ids) {
                Some(near) => format!("did you mean {near}?"),
                None => "define it under exporters".to_owned(),
            };
            return Some((format!("exporter {output} is not defined"), hint));
        }
        let mut seen = BTreeSet::new();
        self.leads_to(output, router, &mut seen).then(|| {
            let message = format!("{output} leads back to {router}, so profiles would never leave");
            (message, "take it out of one of them".to_owned())
        })
    }

    fn leads_to<'s>(&'s self, from: &'s Id, to: &Id, seen: &mut BTreeSet<&'s Id>) -> bool {
        if from == to {
            return true;
        }
        if !seen.insert(from) {
            return false;
        }
        let outputs = self.named.get(from).into_iter().flatten();
        outputs
            .map(|(_, output)| output)
            .any(|output| self.leads_to(output, to, seen))
    }
}
