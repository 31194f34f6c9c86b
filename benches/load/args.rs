//! What can be asked for on the command line.

use crate::common::args::{Common, Guard};
use clap::{Parser, Subcommand, ValueEnum};
use std::time::Duration;

/// Measures the relay, and Parca's scraper beside it with PARCA_BIN, under load.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Numbers of targets, one case each; each target has two profiles.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    pub(crate) targets: Vec<usize>,
    /// Time between two scrapes of a profile.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) interval: Duration,
    /// Time between the start of a case and its measurement.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) settle: Duration,
    /// Length of the measurement.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// The relay's `service.memory.limit`, such as `256MiB`.
    #[arg(long)]
    pub(crate) memory_limit: Option<String>,
    /// How targets frame their answers.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) answer: Answer,
    /// Leaves out the case without targets.
    #[arg(long)]
    pub(crate) no_idle: bool,
    /// Runs Parca (PARCA_BIN) up to this number of targets; above it only lives on
    /// gigabytes of bodies piling up.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) peer_max_targets: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What this executable is when it has started itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Targets to be scraped.
    #[command(hide = true)]
    Targets {
        /// How many.
        #[arg(long)]
        count: usize,
        /// How answers are framed.
        #[arg(long, value_enum)]
        answer: Answer,
    },
    /// The store that counts.
    #[command(hide = true)]
    Sink,
    /// Runs a command that ends when stdin does.
    #[command(hide = true)]
    Guard(Guard),
}

/// How targets frame their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Answer {
    /// In chunks of 2 KiB, as Go's `net/http/pprof` does.
    #[default]
    Chunked,
    /// With a `content-length`.
    Length,
}

// === impl Answer ===

impl Answer {
    /// The value of the argument.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Chunked => "chunked",
            Self::Length => "length",
        }
    }
}
