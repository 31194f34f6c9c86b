//! Whole configurations, and messages as users see them.

mod catalogue;
mod faults;
mod fingerprints;
mod graphs;
mod printing;
mod reading;
mod shapes;

use super::{Environment, Input, Loaded, Report, Sources, load};
use std::path::Path;

/// A configuration that is sound as far as its components go.
fn around(exporter: &str) -> String {
    format!(
        "receivers:\n  listen:\nexporters:\n  send:\n{exporter}\nservice:\n  pipelines:\n    \
         profiles: {{receivers: [listen], exporters: [send]}}\n"
    )
}

fn loaded(text: &str) -> Result<Loaded, Report> {
    load(&Sources::text("relay.yaml", text), &catalogue::catalogue())
}

/// The report of a bad configuration, without source lines.
fn faults(text: &str) -> Vec<String> {
    let report = loaded(text).expect_err("the configuration is accepted");
    short(&report)
}

fn short(report: &Report) -> Vec<String> {
    let lines = report.findings().into_iter().map(|finding| {
        let path = if finding.path.is_empty() {
            "-"
        } else {
            &finding.path
        };
        format!("{} {path}: {}", finding.at, finding.text())
    });
    lines.collect()
}

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Sources {
    let pairs = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Sources {
        environment: Environment::Fixed(pairs.collect()),
        ..Sources::text("relay.yaml", text)
    }
}

fn files(folder: &Path, texts: &[(&str, &str)]) -> Sources {
    let inputs = texts.iter().map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Input::File(path)
    });
    Sources {
        inputs: inputs.collect(),
        environment: Environment::Fixed(Default::default()),
        ..Sources::default()
    }
}
