//! What the binary can do, one file each.

pub mod print_config;
pub mod schema;
pub mod validate;

use crate::settings::Report;
use std::{io::Write, process::ExitCode};

/// The exit code of a bad configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Writes the report of a bad configuration, with colours if wanted.
fn refuse(report: &Report, colour: bool, errors: &mut impl Write) -> ExitCode {
    // Nothing can be done about a closed stderr; the exit code still tells.
    let _ = if colour {
        write!(errors, "{}", report.coloured())
    } else {
        write!(errors, "{report}")
    };
    ExitCode::from(BAD_CONFIGURATION)
}

/// The exit code of a command that had something to write.
fn written(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
