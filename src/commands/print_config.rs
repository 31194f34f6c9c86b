//! `print-config`: the configuration as it is understood, defaults filled in.

use super::{refuse, written};
use crate::settings::{Catalogue, Sources, load, to_yaml};
use std::{io::Write, process::ExitCode};

/// Writes the effective configuration to `out` as YAML, secrets as
/// `[REDACTED]`; or to `errors` what is wrong.
pub fn run(
    sources: &Sources,
    catalogue: &Catalogue,
    colour: bool,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> ExitCode {
    match load(sources, catalogue) {
        Ok(loaded) => written(write!(
            out,
            "# hash {}\n{}",
            loaded.hash,
            to_yaml(&loaded.effective)
        )),
        Err(report) => refuse(&report, colour, errors),
    }
}
