//! What the binary can do: one command a file, and the arguments they share.

mod completions;
mod components;
mod exit;
mod print_config;
mod queue;
mod quickstart;
mod run;
mod schema;
mod scrape;
mod validate;

use self::exit::Exit;
use crate::{
    settings::{Report, Sources},
    telemetry::logs,
};
use clap::{Args, Parser, Subcommand};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Collects continuous profiles next to the workloads and forwards them to a
/// remote Parca.
#[derive(Debug, Parser)]
#[command(name = "profile-relay", version, max_term_width = 100)]
struct Arguments {
    /// Without a command: quickstart
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the pipelines of a configuration
    Run(run::Arguments),
    /// Run without a configuration: profile this process, or the programs named
    Quickstart(quickstart::Arguments),
    /// Check a configuration and say everything that is wrong with it
    Validate(Configuration),
    /// Print the effective configuration: defaults filled in, secrets redacted
    PrintConfig(Configuration),
    /// List the receivers, processors and exporters of this program
    Components(components::Arguments),
    /// Print the JSON Schema of the configuration, or its reference
    Schema(schema::Arguments),
    /// Scrape one URL once and say what was found
    Scrape(scrape::Arguments),
    /// Look into the queues on disk: list, show, copy, purge, verify
    Queue(queue::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Where a configuration comes from.
#[derive(Args, Clone, Debug)]
struct Configuration {
    /// A YAML file, or - for standard input; later ones merge over earlier ones
    #[arg(long = "config", short = 'c', value_name = "FILE", required = true)]
    configs: Vec<String>,
    /// Set one key over all files, as in service.admin.endpoint=127.0.0.1:0
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// How much is logged, and how.
#[derive(Args, Clone, Debug)]
struct Logging {
    /// error, warn, info, debug or trace, also by module: info,profile_relay::net=debug
    /// [default: service.telemetry.logs.level]
    #[arg(long, value_name = "LEVEL", env = "PROFILE_RELAY_LOG_LEVEL")]
    log_level: Option<String>,
    /// How log lines are written [default: service.telemetry.logs.format]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<logs::Format>,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // A second call finds the provider set, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = Arguments::parse().command;
    let exit = match command.unwrap_or_else(Command::quickstart) {
        Command::Run(arguments) => run::run(arguments),
        Command::Quickstart(arguments) => quickstart::run(arguments),
        Command::Validate(configuration) => validate::run(&configuration.sources()),
        Command::PrintConfig(configuration) => print_config::run(&configuration.sources()),
        Command::Components(arguments) => components::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Scrape(arguments) => scrape::run(arguments),
        Command::Queue(arguments) => queue::run(arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    exit.into()
}

// === impl Command ===

impl Command {
    fn quickstart() -> Self {
        let arguments = quickstart::Arguments::parse_from(["quickstart"]);
        Self::Quickstart(arguments)
    }
}

// === impl Configuration ===

impl Configuration {
    fn sources(&self) -> Sources {
        Sources::new(self.configs.clone(), self.sets.clone())
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        })
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
        _ => Exit::Done,
    }
}

/// Says on standard error why the command ends.
fn complain(exit: Exit, message: impl std::fmt::Display) -> Exit {
    // Nobody can be told when standard error is gone.
    let _ = writeln!(io::stderr(), "profile-relay: {message}");
    exit
}

/// Says everything that is wrong with a configuration.
fn reject(report: &Report) -> Exit {
    let _ = if logs::colour_wanted() {
        write!(io::stderr(), "{}", report.coloured())
    } else {
        write!(io::stderr(), "{report}")
    };
    Exit::BadConfiguration
}

/// The command line as clap knows it, for completions and the reference.
fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}
