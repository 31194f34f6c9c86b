//! `schema`: the JSON Schema of the configuration, for editors.

use super::written;
use crate::settings::{Catalogue, schema};
use std::{io::Write, process::ExitCode};

/// Writes the schema to `out`, indented.
pub fn run(catalogue: &Catalogue, out: &mut impl Write) -> ExitCode {
    written(writeln!(out, "{:#}", schema(catalogue)))
}
