//! `validate`: is the configuration sound? Binds nothing, connects nowhere.

use super::{Exit, print, reject};
use crate::{
    components,
    settings::{self, Kind, Loaded, Sources},
};

pub(super) fn run(sources: &Sources) -> Exit {
    match settings::load(sources, &components::catalogue()) {
        Ok(loaded) => print(&summary(&loaded)),
        Err(report) => reject(&report),
    }
}

fn summary(loaded: &Loaded) -> String {
    let counts = Kind::ALL.map(|kind| (kind, loaded.settings.of(kind).len()));
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = counts
        .map(|(kind, count)| match count {
            1 => format!("1 {kind}"),
            _ => format!("{count} {}", kind.section()),
        })
        .collect();
    format!(
        "the configuration is valid: {}, hash {}",
        parts.join(", "),
        loaded.hash
    )
}
