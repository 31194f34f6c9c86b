//! `print-config`: the effective configuration as YAML.

use super::{Exit, print, reject};
use crate::{
    components,
    settings::{self, Sources},
};

pub(super) fn run(sources: &Sources) -> Exit {
    match settings::load(sources, &components::catalogue()) {
        Ok(loaded) => print(&format!(
            "# hash {}\n{}",
            loaded.hash,
            settings::to_yaml(&loaded.effective)
        )),
        Err(report) => reject(&report),
    }
}
