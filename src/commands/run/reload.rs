//! One reload: sources to something that can take the place of what runs.
//!
//! [`Reloader::prepare`] does all that can fail, beside what runs, and can be
//! dropped at any time: what it made goes with it. What it returns is bound and
//! built, and putting it in place ([`super::life`]) cannot fail.

use super::{Logging, log_options, watch::Watched};
use crate::{
    components::{self, Built, Shared},
    pipeline::{Blueprint, Changes, Inventory},
    runtime::blocking,
    settings::{self, Loaded, ReadFile, Report, Service, Sources},
    telemetry::{
        admin::{self, AdminHandle, AdminState},
        logs,
        reload::ReloadAnswer,
    },
};
use std::sync::Arc;

/// Loads and builds configurations beside the one that runs.
pub(super) struct Reloader {
    pub(super) sources: Arc<Sources>,
    pub(super) shared: Shared,
    pub(super) logging: Logging,
    pub(super) logs: logs::Live,
    pub(super) admin: AdminState,
}

/// What can take the place of what runs.
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) blueprint: Blueprint,
    /// Scrape jobs that are left out, and why.
    pub(super) left_out: Report,
    /// The admin endpoint, if it has another address.
    pub(super) admin: Option<AdminHandle>,
}

/// Why what runs goes on.
#[derive(Debug)]
pub(super) enum Refused {
    /// The configuration is wrong; with its files as they were before they were
    /// loaded.
    Configuration(Report, Vec<ReadFile>),
    /// Something is in the way.
    Failed(String),
}

/// What a reload changed, as it is told to who asked for it.
#[derive(Debug, serde::Serialize)]
pub(super) struct Reloaded {
    /// The hash of what runs now.
    pub(super) hash: String,
    #[serde(flatten)]
    pub(super) changes: Changes,
    /// Scrape jobs that are left out, and why.
    pub(super) left_out: Vec<String>,
}

// === impl Reloader ===

impl Reloader {
    /// Loads the configuration, builds what differs from what is `running`, and
    /// takes its addresses.
    pub(super) async fn prepare(
        &self,
        running: Inventory,
        service: &Service,
        watched: &Watched,
    ) -> Result<Prepared, Refused> {
        let (sources, shared) = (self.sources.clone(), self.shared.clone());
        let files = watched.files.clone();
        let before = running.clone();
        let work = move || load(&sources, &shared, &before, &files);
        let Some(built) = blocking(work).await else {
            return Err(Refused::Failed(
                "loading the configuration panicked; the log says where".into(),
            ));
        };
        let (loaded, built) = built?;
        let mut blueprint = built.blueprint;
        let bound = blueprint.bind(&running, &self.shared.memory).await;
        bound.map_err(|failure| Refused::Failed(failure.to_string()))?;
        Ok(Prepared {
            admin: self.admin(service, &loaded.settings.service)?,
            loaded,
            blueprint,
            left_out: built.left_out,
        })
    }

    /// The admin endpoint at its new address, if that is another one.
    fn admin(&self, before: &Service, after: &Service) -> Result<Option<AdminHandle>, Refused> {
        let endpoint = &after.admin.endpoint;
        if *endpoint == before.admin.endpoint {
            return Ok(None);
        }
        let bound = admin::Server::bind(endpoint);
        let started = bound.and_then(|bound| bound.start(self.admin.clone()));
        started
            .map(Some)
            .map_err(|error| Refused::Failed(format!("service.admin.endpoint {endpoint}: {error}")))
    }

    /// Lets the process itself be as configured.
    pub(super) fn configure(&self, service: &Service) {
        self.shared.memory.set_limit(super::memory_limit(service));
        let options = log_options(service, &self.logging);
        if let Err(error) = self.logs.set(options.format, &options.level) {
            // A level of the configuration is good, one of an argument was.
            tracing::warn!(%error, "the log stays as it is");
        }
    }
}

/// Blocks on files.
fn load(
    sources: &Sources,
    shared: &Shared,
    running: &Inventory,
    files: &[ReadFile],
) -> Result<(Loaded, Built), Refused> {
    // Before: who changes a file while it is loaded is heard again.
    let files: Vec<_> = files
        .iter()
        .map(|file| ReadFile::read(&file.path))
        .collect();
    let catalogue = components::catalogue().for_reload();
    settings::load(sources, &catalogue)
        .and_then(|loaded| {
            let built = components::build(&loaded, shared, Some(running))?;
            Ok((loaded, built))
        })
        .map_err(|report| Refused::Configuration(report, files))
}

// === impl Refused ===

impl Refused {
    /// What is wrong, line by line.
    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::Configuration(report, _) => lines(report),
            Self::Failed(reason) => vec![reason.clone()],
        }
    }

    /// What is told to who asked.
    pub(super) fn answer(&self) -> ReloadAnswer {
        match self {
            Self::Configuration(report, _) => ReloadAnswer::Refused(report.to_string()),
            Self::Failed(reason) => ReloadAnswer::Failed(reason.clone()),
        }
    }
}

/// The findings of a report, each on a line.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let findings = report.findings().into_iter();
    findings
        .map(|finding| {
            let path = &finding.path;
            let colon = if path.is_empty() { "" } else { ": " };
            format!("{}: {path}{colon}{}", finding.at, finding.text())
        })
        .collect()
}

/// The parts of `service` that are others than before.
pub(super) fn changed_parts(before: &Service, after: &Service) -> Vec<String> {
    let parts = [
        ("extensions", before.extensions != after.extensions),
        ("admin", before.admin != after.admin),
        ("memory", before.memory != after.memory),
        ("reload", before.reload != after.reload),
        ("telemetry", before.telemetry != after.telemetry),
        (
            "shutdown_timeout",
            before.shutdown_timeout != after.shutdown_timeout,
        ),
        ("pipelines", before.pipelines != after.pipelines),
    ];
    let changed = parts.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(part, _)| format!("service.{part}")).collect()
}
