//! `validate`: everything that is wrong with a configuration, or `valid`.

use super::{Exit, print, reject, run::assemble};
use crate::settings::Sources;

pub(super) fn run(sources: &Sources) -> Exit {
    match assemble(sources) {
        Ok(assembled) => print(&format!(
            "valid: {} receivers, {} exporters, {} pipelines, hash {}",
            assembled.blueprint.receivers.len(),
            assembled.blueprint.exporters.len(),
            assembled.blueprint.pipelines.len(),
            assembled.loaded.hash,
        )),
        Err(report) => reject(&report),
    }
}
