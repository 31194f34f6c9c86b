//! What several test programs share.
#![allow(dead_code, unreachable_pub)]

pub mod sink;

use std::io::Write;

/// Says that a test did not run, and why, in a line that is seen even where
/// the output of passing tests is not: `skipped: <test>: <reason>`.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// The value of an environment variable, or nothing and a line that says that
/// the test was skipped for it.
pub fn needs_env(test: &str, variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        skipped(test, &format!("{variable} is not set"));
    }
    value
}
