//! What can be asked for on the command line.

use crate::common::args::{Common, Guard};
use clap::{Parser, Subcommand, ValueEnum};
use profile_relay::settings::ByteSize;
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Measures queues on disk: the relay's and, with OTELCOL_BIN, the Collector's
/// beside it.
#[derive(Debug, Parser)]
#[command(name = "queue")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Accept, Part::Drain, Part::Backlog])]
    pub(crate) parts: Vec<Part>,
    /// How many sources push at once, each over a connection of its own and one
    /// request after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    pub(crate) sources: Vec<usize>,
    /// Whether the backend is there while profiles are accepted.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Backend::Away])]
    pub(crate) backend: Vec<Backend>,
    /// What takes part; the Collector only with OTELCOL_BIN.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Append, Kind::Preallocated, Kind::Direct, Kind::Relay, Kind::Otelcol])]
    pub(crate) kinds: Vec<Kind>,
    /// How often each case is run; medians are shown.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Length of a measurement.
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// Length of the same load before it.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) warm: Duration,
    /// How much waits when a drain is measured, such as `512MiB`: the memory queue
    /// has to hold it too.
    #[arg(long, default_value = "384MiB", value_parser = size)]
    pub(crate) drain: u64,
    /// How much waits when a restart is measured, such as `10GiB`; the volume needs
    /// a little more.
    #[arg(long, default_value = "1GiB", value_parser = size)]
    pub(crate) backlog: u64,
    /// Where queues are kept: on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What this executable is when it has started itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The senders of requests.
    #[command(hide = true)]
    Sources {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// How many.
        #[arg(long)]
        count: usize,
    },
    /// The backend that counts.
    #[command(hide = true)]
    Sink,
    /// Runs a command that ends when stdin does.
    #[command(hide = true)]
    Guard(Guard),
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Accepted profiles a second.
    Accept,
    /// How fast a queue empties, on disk and in memory.
    Drain,
    /// What a large queue costs after a restart.
    Backlog,
}

/// What takes profiles, or only writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A loop that appends to a file and syncs it.
    Append,
    /// The same, with room taken for the file in advance.
    Preallocated,
    /// The same, past the page cache.
    Direct,
    /// The relay.
    Relay,
    /// The Collector.
    Otelcol,
}

/// Where the backend is while profiles are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// Nobody listens.
    Away,
    /// It takes everything at once.
    There,
}

fn size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    Ok(size.get())
}

// === impl Kind ===

impl Kind {
    /// The name of its rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "disk, append",
            Self::Preallocated => "disk, preallocated",
            Self::Direct => "disk, direct",
            Self::Relay => "relay",
            Self::Otelcol => "otelcol",
        }
    }
}

// === impl Backend ===

impl Backend {
    /// As it stands in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::There => "there",
        }
    }
}
