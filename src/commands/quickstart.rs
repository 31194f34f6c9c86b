//! `quickstart`: the whole relay without a configuration.
//!
//! Without arguments the relay profiles itself, by its own `/debug/pprof/profile`,
//! through a real pipeline into files, with an example workload to be seen in them. With `--scrape` it scrapes the programs
//! named, and with `--to` it sends to a real Parca.

mod example;

use super::{Exit, Logging, complain, run::run_sources};
use crate::{settings::Sources, telemetry::admin};
use clap::Parser;
use std::{net::SocketAddr, path::PathBuf};

/// The configuration, commented, as `config/quickstart.yaml` shows it.
const CONFIG: &str = include_str!("../../config/quickstart.yaml");
/// Where the admin endpoint of a quickstart listens if nobody else does.
const ADMIN: &str = "127.0.0.1:13133";

#[derive(Debug, Parser)]
pub(super) struct Arguments {
    /// Programs with Go's /debug/pprof endpoints, instead of this process
    #[arg(long, value_name = "HOST:PORT", num_args = 1..)]
    scrape: Vec<String>,
    /// A Parca to send to, instead of files: HOST:PORT without TLS, or an https:// URL
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    /// The folder of the profiles
    #[arg(long, value_name = "FOLDER", default_value = "profile-relay-profiles")]
    directory: PathBuf,
    /// No example workload: profile a relay that idles
    #[arg(long, conflicts_with = "scrape")]
    no_example: bool,
    /// How often to scrape
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: crate::settings::Duration,
    #[command(flatten)]
    logging: Logging,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    // Bound at once and kept: the address is part of the configuration.
    let bound = admin::Server::bind(ADMIN).or_else(|_| admin::Server::bind("127.0.0.1:0"));
    let bound = bound.and_then(|bound| Ok((bound.local_addr()?, bound)));
    let (admin, bound) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            return complain(
                Exit::CannotBind,
                format!("no free port on 127.0.0.1: {error}"),
            );
        }
    };
    let mut sources = Sources::text("quickstart.yaml", configuration(&arguments));
    sources.set = overrides(&arguments, admin);
    let greeting = greeting(&arguments, admin);
    let example = arguments.has_example();
    run_sources(sources, arguments.logging, |_| {
        if example && let Err(error) = example::start() {
            tracing::warn!(%error, "no example workload: the profiles will be nearly empty");
        }
        // To standard error, beside the log: standard output stays empty.
        let _ = complain(Exit::Done, greeting);
        Ok(bound)
    })
}

// === impl Arguments ===

impl Arguments {
    fn has_example(&self) -> bool {
        self.scrape.is_empty() && !self.no_example
    }
}

/// The configuration for these arguments, as text.
fn configuration(arguments: &Arguments) -> String {
    let Some(to) = &arguments.to else {
        return CONFIG.to_owned();
    };
    // The exporters are replaced: a file exporter that no pipeline names would
    // be refused.
    let (receivers, _) = CONFIG.split_once("\nexporters:").unwrap_or((CONFIG, ""));
    let insecure = !to.starts_with("https://");
    format!(
        "{receivers}\nexporters:\n  parca: {{endpoint: {to:?}, tls: {{insecure: {insecure}}}}}\n\
         service:\n  pipelines:\n    profiles: {{receivers: [pprof], exporters: [parca]}}\n"
    )
}

/// What the arguments change in it.
fn overrides(arguments: &Arguments, admin: SocketAddr) -> Vec<String> {
    let job = "receivers::pprof::scrape_configs";
    let interval = arguments.interval;
    let mut set = vec![format!("service::admin::endpoint={admin}")];
    if arguments.scrape.is_empty() {
        set.push(format!(
            "{job}=[{{job_name: profile-relay, scrape_interval: {interval}, \
             profiling_config: {{pprof_config: {{memory: {{enabled: false}}, \
             block: {{enabled: false}}, goroutine: {{enabled: false}}, \
             mutex: {{enabled: false}}}}}}, static_configs: [{{targets: [\"{admin}\"]}}]}}]"
        ));
    } else {
        let targets = arguments.scrape.iter().map(|t| format!("{t:?}"));
        let targets: Vec<String> = targets.collect();
        set.push(format!(
            "{job}=[{{job_name: quickstart, scrape_interval: {interval}, \
             static_configs: [{{targets: [{}]}}]}}]",
            targets.join(", ")
        ));
    }
    if arguments.to.is_none() {
        set.push(format!(
            "exporters::file::directory={:?}",
            arguments.directory.display().to_string()
        ));
    }
    set
}

fn greeting(arguments: &Arguments, admin: SocketAddr) -> String {
    let source = match arguments.scrape.as_slice() {
        [] if arguments.has_example() => {
            "this process, with an example workload of a tenth of a core".to_owned()
        }
        [] => "this process".to_owned(),
        targets => targets.join(", "),
    };
    let way_out = match &arguments.to {
        Some(to) => format!("sent to the Parca at {to}"),
        None => {
            let folder = std::path::absolute(&arguments.directory)
                .unwrap_or_else(|_| arguments.directory.clone());
            format!(
                "{}\n               (go tool pprof -http=: FILE, or drop one on speedscope.app)",
                folder.display()
            )
        }
    };
    format!(
        "quickstart\n  profiling    {source}, every {}\n  profiles     {way_out}\n  \
         targets      http://{admin}/api/targets\n  metrics      http://{admin}/metrics\n  \
         stop         Ctrl-C",
        arguments.interval
    )
}
