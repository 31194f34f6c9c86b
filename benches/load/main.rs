//! A load run of whole processes on loopback: targets that answer with a
//! profile, the relay that scrapes them, and a gRPC sink that counts.
//!
//! ```text
//! cargo bench --bench load -- --targets 100,1000 --window 30s --json load.json
//! ```
//!
//! This executable starts itself again for the targets, the sink and the guards
//! of foreign processes, so that the CPU of the helpers is not the relay's:
//!
//! - [`drive`]: starts a case, waits, measures, ends it
//! - [`targets`], [`sink`]: the two ends, each in processes of their own
//! - [`body`]: the profile that targets answer with; it carries the time of the
//!   answer, from which the sink tells how long the way took
//! - [`subject`]: what is measured: the relay, or Parca with `PARCA_BIN`
//! - [`report`]: the figures of a case, as a table and as JSON
//! - [`common`]: what it shares with the other run
//!
//! `RELAY_BIN` measures another binary than the one that cargo has just built.
//! The method is in `docs/performance.md`. Linux only: it reads `/proc`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

mod args;
mod body;
#[path = "../common/mod.rs"]
mod common;
mod drive;
mod report;
mod sink;
mod subject;
mod targets;

use args::{Args, Role};
use clap::Parser;
use common::{Result, args::conclude, child, figures, metrics, proc, running};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        Some(Role::Targets { count, answer }) => targets::run(*count, *answer),
        Some(Role::Sink) => sink::run(),
        Some(Role::Guard(guard)) => guard.run(),
        None => args.common.measure(|| drive::run(&args)),
    };
    conclude("load", outcome)
}
