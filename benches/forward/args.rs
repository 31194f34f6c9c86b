//! What can be asked for on the command line.

use crate::common::args::{Common, Guard};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::{fmt, net::SocketAddr, time::Duration};

/// Measures the relay, and the Collector beside it with OTELCOL_BIN, while they
/// pass on OTLP requests.
#[derive(Debug, Parser)]
#[command(name = "forward")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Sizes of requests.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Size::Kb32, Size::Kb256, Size::Mb2])]
    pub(crate) sizes: Vec<Size>,
    /// How requests are compressed when they are sent to the subject.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Coding::None, Coding::Gzip])]
    pub(crate) input: Vec<Coding>,
    /// The `compression` of the subject's exporter.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Coding::None, Coding::Gzip])]
    pub(crate) output: Vec<Coding>,
    /// What is spoken on both sides of the subject.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Protocol::Grpc])]
    pub(crate) protocol: Vec<Protocol>,
    /// How often each case is run with each subject; medians are shown.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Length of a measurement.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// Length of the same load before it.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration)]
    pub(crate) warm: Duration,
    /// The relay's `service.memory.limit`, such as `256MiB`.
    #[arg(long)]
    pub(crate) memory_limit: Option<String>,
    /// Leaves out the case without requests.
    #[arg(long)]
    pub(crate) no_idle: bool,
    /// What is measured; the Collector only with OTELCOL_BIN.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Relay, Kind::Otelcol, Kind::Unqueued])]
    pub(crate) subjects: Vec<Kind>,
    /// Drops runs during which other processes took more of the CPUs than this.
    #[arg(long, value_name = "CORES")]
    pub(crate) max_foreign: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What this executable is when it has started itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The sender of requests.
    #[command(hide = true)]
    Generator {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        case: Case,
    },
    /// The backend that counts.
    #[command(hide = true)]
    Sink {
        #[command(flatten)]
        case: Case,
    },
    /// Runs a command that ends when stdin does.
    #[command(hide = true)]
    Guard(Guard),
}

/// What is passed on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::Args)]
pub(crate) struct Case {
    #[arg(long, value_enum)]
    pub(crate) size: Size,
    #[arg(long, value_enum)]
    pub(crate) input: Coding,
    #[arg(long, value_enum)]
    pub(crate) output: Coding,
    #[arg(long, value_enum)]
    pub(crate) protocol: Protocol,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The relay.
    Relay,
    /// The Collector.
    Otelcol,
    /// The Collector with `sending_queue: {enabled: false}`.
    Unqueued,
}

/// The size of a request, by name; [`crate::request`] has the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub(crate) enum Size {
    /// A few services of a small host.
    #[value(name = "32KB")]
    #[serde(rename = "32KB")]
    Kb32,
    /// One large profile.
    #[value(name = "52KB")]
    #[serde(rename = "52KB")]
    Kb52,
    /// A busy host.
    #[value(name = "256KB")]
    #[serde(rename = "256KB")]
    Kb256,
    /// An agent's collection of many processes.
    #[value(name = "2MB")]
    #[serde(rename = "2MB")]
    Mb2,
}

/// How a request is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Coding {
    /// Not at all.
    None,
    /// With gzip at its usual level.
    Gzip,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// gRPC: one connection.
    Grpc,
    /// HTTP/1.1: a connection for each call in flight.
    Http,
}

/// A value's name on the command line.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

// === impl Size ===

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self))
    }
}

// === impl Case ===

impl Case {
    /// As arguments of a [`Role`].
    pub(crate) fn arguments(&self) -> [String; 8] {
        [
            "--size".to_owned(),
            name(&self.size),
            "--input".to_owned(),
            name(&self.input),
            "--output".to_owned(),
            name(&self.output),
            "--protocol".to_owned(),
            name(&self.protocol),
        ]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, protocol) = (name(&self.size), name(&self.protocol));
        let (input, output) = (name(&self.input), name(&self.output));
        write!(f, "{size} {protocol} {input}>{output}")
    }
}

// === impl Coding ===

impl Coding {
    /// What stands in `grpc-encoding` and `content-encoding`.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
        }
    }

    /// The value of the exporter's `compression`.
    pub(crate) fn setting(self) -> &'static str {
        self.header().unwrap_or("none")
    }
}
