//! What can be asked of each run on the command line.

use super::{Result, child};
use serde::Serialize;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::ExitCode};

/// Arguments that all runs have.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Writes the figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by those who want to know only whether it starts.
    #[arg(long, hide = true)]
    test: bool,
}

/// What a guard is told; see [`child`].
#[derive(Debug, clap::Args)]
pub(crate) struct Guard {
    /// Where its output goes.
    #[arg(long)]
    log: PathBuf,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The exit code of the run of this name, whose error goes to stderr.
pub(crate) fn conclude(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The relay's `service.memory` with this limit, such as `256MiB`, or its default.
pub(crate) fn memory(limit: Option<&str>) -> Value {
    match limit {
        Some(limit) => json!({ "limit": limit }),
        None => json!({}),
    }
}

// === impl Common ===

impl Common {
    /// Does what is measured, unless this only shows that it starts: `cargo test
    /// --benches` runs it too, without `--bench`.
    pub(crate) fn measure(&self, run: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.bench && !self.test {
            true => run(),
            false => Ok(()),
        }
    }

    /// Writes the figures where they are wanted.
    pub(crate) fn write(&self, figures: &impl Serialize) -> Result<()> {
        match &self.json {
            Some(file) => Ok(fs::write(file, serde_json::to_string_pretty(figures)?)?),
            None => Ok(()),
        }
    }
}

// === impl Guard ===

impl Guard {
    /// Runs the command until it ends by itself or stdin does.
    pub(crate) fn run(&self) -> Result<()> {
        child::guard(&self.log, &self.command)
    }
}
