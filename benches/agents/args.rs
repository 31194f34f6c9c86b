//! What can be asked for on the command line.

use crate::common::args::{Common, Guard};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Measures the relay while agents push to it as if it were their Parca.
#[derive(Debug, Parser)]
#[command(name = "agents")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Push, Part::Agents, Part::Tls])]
    pub(crate) parts: Vec<Part>,
    /// What agents send, of `push` and `agents`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Size::Host, Size::Busy])]
    pub(crate) sizes: Vec<Size>,
    /// How profiles come and go, of `push`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Way::Raw, Way::Arrow, Way::Write, Way::ArrowAsWrite, Way::RawAsOtlp, Way::ArrowAsOtlp, Way::WriteAsOtlp])]
    pub(crate) ways: Vec<Way>,
    /// How many agents, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000])]
    pub(crate) agents: Vec<usize>,
    /// What they call.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Call::Arrow])]
    pub(crate) protocol: Vec<Call>,
    /// Time between two calls of an agent; it is spread by a fifth either way.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) interval: Duration,
    /// Calls a second that are passed on with and without TLS.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// How often each case is run; medians are shown.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Length of a measurement; of `agents` it is at least two intervals.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// Length of the same load before it; of `agents` it is at least one interval.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration)]
    pub(crate) warm: Duration,
    /// The relay's `service.memory.limit`, such as `256MiB`.
    #[arg(long)]
    pub(crate) memory_limit: Option<String>,
    /// Leaves runs out of medians during which other processes took more of the CPUs
    /// than this.
    #[arg(long, value_name = "CORES")]
    pub(crate) max_foreign: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What this executable is when it has started itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The senders.
    #[command(hide = true)]
    Agents {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// How many, each with a connection of its own.
        #[arg(long)]
        count: usize,
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        tls: Tls,
    },
    /// Clients that connect and leave.
    #[command(hide = true)]
    Handshakes {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        tls: Tls,
    },
    /// The far end that counts.
    #[command(hide = true)]
    Sink {
        /// What it is.
        #[arg(long, value_enum)]
        far: Far,
        #[command(flatten)]
        tls: Tls,
    },
    /// Runs a command that ends when stdin does.
    #[command(hide = true)]
    Guard(Guard),
}

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::Args)]
pub(crate) struct Work {
    #[arg(long, value_enum)]
    pub(crate) call: Call,
    #[arg(long, value_enum)]
    pub(crate) size: Size,
}

/// TLS of one side.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Tls {
    /// The folder with certificates; plaintext without it.
    #[arg(long = "tls")]
    pub(crate) folder: Option<PathBuf>,
    /// Clients show a certificate too.
    #[arg(long)]
    pub(crate) mutual: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// As many calls as are taken.
    Push,
    /// Many agents, each with a call now and then.
    Agents,
    /// Handshakes, and what TLS adds to passing on.
    Tls,
}

/// What an agent calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// `WriteRaw`, a pprof.
    Raw,
    /// `WriteArrow`, Arrow of schema v2.
    Arrow,
    /// `Write`, Arrow of schema v1 in two steps.
    Write,
}

/// What is behind the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Far {
    /// A Parca that takes all calls.
    Parca,
    /// A Parca that does not know `WriteArrow`.
    Old,
    /// A backend that takes OTLP.
    Otlp,
}

/// How profiles come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// `WriteRaw` in and out.
    Raw,
    /// `WriteArrow` in and out.
    Arrow,
    /// `Write` in and out.
    Write,
    /// `WriteArrow` in, `Write` out, for a Parca that takes nothing newer.
    ArrowAsWrite,
    /// `WriteRaw` in, OTLP out.
    RawAsOtlp,
    /// `WriteArrow` in, OTLP out.
    ArrowAsOtlp,
    /// `Write` in, OTLP out.
    WriteAsOtlp,
}

/// How much an agent has to say; [`crate::body`] has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Size {
    /// Of a host with two busy cores; for `WriteRaw` a small pprof.
    Host,
    /// Of one with twenty; for `WriteRaw` a pprof of 28 KB.
    Busy,
}

/// A value's name on the command line.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

// === impl Work ===

impl Work {
    /// As arguments of a [`Role`].
    pub(crate) fn arguments(self) -> [String; 4] {
        let (call, size) = (name(&self.call), name(&self.size));
        ["--call".to_owned(), call, "--size".to_owned(), size]
    }
}

// === impl Tls ===

impl Tls {
    /// As arguments of a [`Role`].
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(folder) = &self.folder {
            arguments.extend(["--tls".to_owned(), folder.display().to_string()]);
        }
        if self.mutual {
            arguments.push("--mutual".to_owned());
        }
        arguments
    }
}

// === impl Way ===

impl Way {
    /// What agents call.
    pub(crate) fn call(self) -> Call {
        match self {
            Self::Raw | Self::RawAsOtlp => Call::Raw,
            Self::Arrow | Self::ArrowAsWrite | Self::ArrowAsOtlp => Call::Arrow,
            Self::Write | Self::WriteAsOtlp => Call::Write,
        }
    }

    /// What is behind the relay.
    pub(crate) fn far(self) -> Far {
        match self {
            Self::Raw | Self::Arrow | Self::Write => Far::Parca,
            Self::ArrowAsWrite => Far::Old,
            Self::RawAsOtlp | Self::ArrowAsOtlp | Self::WriteAsOtlp => Far::Otlp,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "WriteRaw",
            Self::Arrow => "WriteArrow",
            Self::Write => "Write",
            Self::ArrowAsWrite => "WriteArrow > Write",
            Self::RawAsOtlp => "WriteRaw > OTLP",
            Self::ArrowAsOtlp => "WriteArrow > OTLP",
            Self::WriteAsOtlp => "Write > OTLP",
        })
    }
}

// === impl Call ===

impl Call {
    /// The same call in and out.
    pub(crate) fn way(self) -> Way {
        match self {
            Self::Raw => Way::Raw,
            Self::Arrow => Way::Arrow,
            Self::Write => Way::Write,
        }
    }

    /// The path of the method.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Raw => "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw",
            Self::Arrow => "/parca.profilestore.v1alpha1.ProfileStoreService/WriteArrow",
            Self::Write => "/parca.profilestore.v1alpha1.ProfileStoreService/Write",
        }
    }
}
