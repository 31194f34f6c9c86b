//! A run of whole processes on loopback: agents that push to a Parca, the relay in
//! its place, and a far end that counts.
//!
//! ```text
//! cargo bench --bench agents -- --parts push,agents,tls --rounds 3 --json agents.json
//! ```
//!
//! This executable starts itself again for the agents, the far end and the guards of
//! foreign processes, so that their CPU is not the relay's:
//!
//! - [`parts`]: what is run, in which order
//! - [`measure`]: the processes of one run, and what is read of them
//! - [`body`]: the requests, ready-made
//! - [`agents`], [`client`]: the senders, and how they call
//! - [`handshakes`]: clients that connect and leave
//! - [`sink`]: the far end: a Parca, an old Parca, or an OTLP backend
//! - [`subject`]: the relay and its configuration
//! - [`certificates`]: those of all who speak TLS
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

mod agents;
mod args;
mod body;
mod certificates;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod handshakes;
mod measure;
mod parts;
mod report;
mod sink;
mod subject;

use args::{Args, Role};
use clap::Parser;
use common::{Result, args::conclude, child, figures, metrics, proc, running, sent};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        Some(Role::Agents {
            to,
            count,
            work,
            tls,
        }) => agents::run(*to, *count, *work, tls),
        Some(Role::Handshakes { to, tls }) => handshakes::run(*to, tls),
        Some(Role::Sink { far, tls }) => sink::run(*far, tls),
        Some(Role::Guard(guard)) => guard.run(),
        None => args.common.measure(|| parts::run(&args)),
    };
    conclude("agents", outcome)
}
