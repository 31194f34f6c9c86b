//! `validate`: is the configuration sound? Binds nothing, connects nowhere.

use super::{refuse, written};
use crate::settings::{Catalogue, Kind, Loaded, Sources, load};
use std::{io::Write, process::ExitCode};

/// Says on `out` what the configuration holds, or on `errors` what is wrong.
pub fn run(
    sources: &Sources,
    catalogue: &Catalogue,
    colour: bool,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> ExitCode {
    match load(sources, catalogue) {
        Ok(loaded) => written(writeln!(out, "{}", summary(&loaded))),
        Err(report) => refuse(&report, colour, errors),
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
