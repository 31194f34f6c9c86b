//! A run of whole processes on loopback that measures queues on disk: sources of
//! OTLP requests, the relay that keeps them, and a backend that is away until it is
//! told to be there.
//!
//! ```text
//! cargo bench --bench queue -- --rounds 5 --backlog 10GiB --json queue.json
//! ```
//!
//! This executable starts itself again for the sources, the sink and the guards of
//! foreign processes, so that the CPU of the helpers is not the relay's:
//!
//! - [`accept`]: how many profiles a second are accepted, beside what the disk can do
//! - [`backlog`]: what a large queue costs at the start, in memory, and until it is
//!   empty
//! - [`request`]: the request, one profile of 32 KiB
//! - [`source`]: the senders
//! - [`sink`]: the backend
//! - [`subject`]: what is measured: the relay, and the Collector with `OTELCOL_BIN`
//! - [`raw`]: the disk without anything around it
//! - [`report`]: the figures, as tables and as JSON
//! - [`common`]: what it shares with the other runs
//!
//! `RELAY_BIN` measures another binary than the one that cargo has just built.
//! The method is in `docs/performance.md`. Linux only: it reads `/proc`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

mod accept;
mod args;
mod backlog;
#[path = "../common/mod.rs"]
mod common;
mod raw;
mod report;
mod request;
mod sink;
mod source;
mod subject;

use args::{Args, Part, Role};
use clap::Parser;
use common::{Result, args::conclude, child, figures, metrics, proc, running, sent};
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        Some(Role::Sources { to, count }) => source::run(*to, *count),
        Some(Role::Sink) => sink::run(),
        Some(Role::Guard(guard)) => guard.run(),
        None => args.common.measure(|| run(&args)),
    };
    conclude("queue", outcome)
}

fn run(args: &Args) -> Result<()> {
    let mut report = Report::default();
    if args.parts.contains(&Part::Accept) {
        report.accept = accept::run(args)?;
        report.print_accept();
    }
    if args.parts.contains(&Part::Drain) {
        report.drain = backlog::drain(args)?;
        report.print_drain();
    }
    if args.parts.contains(&Part::Backlog) {
        report.backlog = Some(backlog::run(args)?);
        report.print_backlog();
    }
    args.common.write(&report)
}
