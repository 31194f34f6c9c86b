//! `scrape URL`: one scrape and a plain answer.
//!
//! The first tool to reach for when a target does not work: what was found, what
//! would be repaired before it is sent, and under which names Parca would show it.

mod answer;

use self::answer::Answer;
use super::{Exit, complain, print};
use crate::{
    components::{self, Shared},
    pipeline::{Budget, ExportError, Exporter, Reason},
    profile::{Batch, Body, Labels, Origin, Profile, pprof::Pprof},
    receivers::pprof::{OnceSettings, ScrapeOutcome, scrape_once},
    settings::{Duration, FilePath, Node, Report},
};
use clap::Args;
use std::{path::PathBuf, sync::Arc, time::SystemTime};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The endpoint: http://host:port/debug/pprof/heap, or host:port for Go's allocs profile
    url: String,
    /// Write the body, as it came, to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Send the profile to a Parca: HOST:PORT without TLS, or an https:// URL
    #[arg(long, value_name = "PARCA")]
    to: Option<String>,
    /// The profile's name in Parca [default: what a scrape job would call it]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The deadline
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Duration,
    /// A file with a token for the header `authorization: Bearer`
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// A file with the CA that signed the target's certificate
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Do not check the target's certificate
    #[arg(long, short = 'k')]
    insecure_skip_verify: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(scrape(arguments)),
        Err(error) => complain(Exit::Failed, format!("no runtime: {error}")),
    }
}

async fn scrape(arguments: Arguments) -> Exit {
    let url = full_url(&arguments.url);
    let outcome = match scrape_once(&arguments.settings(), &url).await {
        Ok(outcome) => outcome,
        Err(problems) => return super::reject(&Report::about("arguments", problems)),
    };
    if let Some(path) = &arguments.output
        && let Err(error) = tokio::fs::write(path, &outcome.body).await
    {
        return complain(Exit::Failed, format!("{}: {error}", path.display()));
    }
    let name = arguments.name.clone().unwrap_or_else(|| guess_name(&url));
    let answer = Answer::new(&url, &name, &outcome);
    let printed = print(&answer.render(arguments.json));
    if outcome.result.is_err() {
        return Exit::Failed;
    }
    match &arguments.to {
        Some(to) => send(to, &name, &url, &outcome).await,
        None => printed,
    }
}

/// What a user means by `host:port`.
fn full_url(given: &str) -> String {
    let url = if given.contains("://") {
        given.to_owned()
    } else {
        format!("http://{given}")
    };
    match url.splitn(4, '/').nth(3) {
        None | Some("") => format!("{}/debug/pprof/allocs", url.trim_end_matches('/')),
        Some(_) => url,
    }
}

/// The name a scrape job with default settings gives to a path.
fn guess_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    match path.rsplit('/').next().unwrap_or_default() {
        "allocs" | "heap" => "memory".into(),
        "profile" => "process_cpu".into(),
        other => other.into(),
    }
}

/// Sends the profile by a real exporter, one attempt.
async fn send(to: &str, name: &str, url: &str, outcome: &ScrapeOutcome) -> Exit {
    let exporter = match exporter(to) {
        Ok(exporter) => exporter,
        Err(report) => return super::reject(&report),
    };
    let authority = url.split('/').nth(2).unwrap_or(url);
    let labels: Labels = [
        ("__name__", name),
        ("instance", authority),
        ("job", "profile-relay-scrape"),
    ]
    .into_iter()
    .collect();
    let profile = Profile {
        labels: labels.clone(),
        body: Body::Pprof(Pprof::new(outcome.body.clone())),
        received: SystemTime::now(),
    };
    match attempt(&*exporter, profile).await {
        Ok(()) => print(&format!("sent         to {to} as {labels}")),
        Err(cause) => complain(Exit::Failed, format!("not sent to {to}: {cause}")),
    }
}

async fn attempt(exporter: &dyn Exporter, profile: Profile) -> Result<(), String> {
    let prepared = exporter.prepare(&[profile], &Budget::new(u64::MAX));
    let prepared = prepared.map_err(|_| Reason::MemoryLimit.describe().to_owned())?;
    let parts: Result<Vec<_>, Reason> = prepared.into_iter().collect();
    let parts = parts
        .map_err(|reason| reason.describe().to_owned())?
        .concat();
    let profiles = parts.into_iter().map(|part| part.profile).collect();
    exporter
        .export(&Batch::new(Origin::default(), profiles))
        .await
        .map_err(|error: ExportError| error.to_string())
}

fn exporter(to: &str) -> Result<Arc<dyn Exporter>, Report> {
    let insecure = !to.starts_with("https://");
    let text = format!("endpoint: {to:?}\ntls: {{insecure: {insecure}}}\n");
    let node = Node::from_text("--to", &text)?;
    let shared = Shared::new(Budget::new(u64::MAX));
    components::exporter("parca", &node, &shared)
}

// === impl Arguments ===

impl Arguments {
    fn settings(&self) -> OnceSettings {
        let mut settings = OnceSettings {
            timeout: self.timeout.get(),
            ..OnceSettings::default()
        };
        let http = &mut settings.http;
        // A person follows redirects and wants to see where they end.
        http.follow_redirects = true;
        http.bearer_token_file = self.bearer_token_file.clone().map(FilePath);
        http.tls_config.ca_file = self.ca_file.clone().map(FilePath);
        http.tls_config.insecure_skip_verify = self.insecure_skip_verify;
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_enough() {
        for (given, url) in [
            ("127.0.0.1:6060", "http://127.0.0.1:6060/debug/pprof/allocs"),
            ("https://a/", "https://a/debug/pprof/allocs"),
            ("http://a:1/x?y=1", "http://a:1/x?y=1"),
        ] {
            assert_eq!(full_url(given), url);
        }
    }

    #[test]
    fn names_are_those_of_a_scrape_job() {
        assert_eq!(
            guess_name("http://a/debug/pprof/profile?seconds=1"),
            "process_cpu"
        );
        assert_eq!(guess_name("http://a/debug/pprof/goroutine"), "goroutine");
    }
}
