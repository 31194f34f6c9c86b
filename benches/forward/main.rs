//! A run of whole processes on loopback: a generator of OTLP requests, the relay
//! that passes them on, and a sink that counts.
//!
//! ```text
//! cargo bench --bench forward -- --sizes 32KB,2MB --rounds 3 --json forward.json
//! ```
//!
//! This executable starts itself again for the generator, the sink and the guards
//! of foreign processes, so that the CPU of the helpers is not the relay's:
//!
//! - [`drive`]: what is run in which order, and each run's measurement
//! - [`request`]: the requests, by size
//! - [`template`]: a request as bytes, with a hole for the time at which it is sent,
//!   from which the sink tells how long the way took
//! - [`generator`], [`client`]: the sender: how fast, and how
//! - [`sink`], [`arrival`]: the receiver, and what it makes of a request
//! - [`subject`]: what is measured: the relay, and the Collector with `OTELCOL_BIN`
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
mod arrival;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod drive;
mod generator;
mod report;
mod request;
mod sink;
mod subject;
mod template;

use args::{Args, Role};
use clap::Parser;
use common::{Result, args::conclude, child, figures, metrics, proc, running, sent};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        Some(Role::Generator { to, case }) => generator::run(*to, *case),
        Some(Role::Sink { case }) => sink::run(*case),
        Some(Role::Guard(guard)) => guard.run(),
        None => args.common.measure(|| drive::run(&args)),
    };
    conclude("forward", outcome)
}
