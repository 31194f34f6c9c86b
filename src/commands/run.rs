//! `run`: the product.
//!
//! Order: everything that can be wrong with the configuration is found before
//! anything is bound; the admin endpoint is bound before anything is accepted;
//! the first SIGTERM or SIGINT drains, the second ends at once.

use super::{Configuration, Exit, Logging, complain, reject};
use crate::{
    components::{self, Shared},
    pipeline::{Blueprint, Budget, Failure, ReceiverError, Running},
    runtime::Tasks,
    settings::{self, Id, Loaded, LogFormat, Report, Service, Sources},
    telemetry::{
        Metrics, Status,
        admin::{self, AdminState},
        cgroup,
        health::{self, Health},
        logs,
        metrics::{BuildInfo, ConfigMetrics, MemoryUse, ProcessMetrics},
        status::{PipelineStatus, RunningConfig},
    },
};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long the runtime may be silent before `/healthz` says so.
const MAX_SILENCE: Duration = Duration::from_secs(15);

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    #[command(flatten)]
    logging: Logging,
}

/// A configuration and what was built from it; nothing runs yet.
pub(super) struct Assembled {
    pub(super) loaded: Loaded,
    pub(super) blueprint: Blueprint,
    pub(super) shared: Shared,
}

/// The signals that matter.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Why a running relay ends.
enum End {
    Asked,
    Failed(Failure),
}

pub(super) fn run(arguments: Arguments) -> Exit {
    run_sources(
        &arguments.configuration.sources(),
        &arguments.logging,
        |endpoint| {
            admin::Server::bind(endpoint)
                .map_err(|error| format!("service.admin.endpoint {endpoint}: {error}"))
        },
    )
}

/// Runs a configuration until it is told to stop. `bind` is called with its
/// admin endpoint once nothing is wrong with it.
pub(super) fn run_sources(
    sources: &Sources,
    logging: &Logging,
    bind: impl FnOnce(&str) -> Result<admin::Bound, String>,
) -> Exit {
    let loaded = match settings::load(sources, &components::catalogue()) {
        Ok(loaded) => loaded,
        Err(report) => return reject(&report),
    };
    // Before components are built: they may have something to say.
    if let Err(error) = start_logs(&loaded.settings.service, logging) {
        return complain(Exit::BadConfiguration, error);
    }
    let assembled = match assemble(loaded) {
        Ok(assembled) => assembled,
        Err(report) => return reject(&report),
    };
    let bound = match bind(&assembled.loaded.settings.service.admin.endpoint) {
        Ok(bound) => bound,
        Err(message) => return complain(Exit::CannotBind, message),
    };
    raise_file_limit();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, format!("no runtime: {error}")),
    };
    let exit = runtime.block_on(serve(assembled, bound));
    // What blocks a thread now must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

/// Raises the limit on open files as far as it goes without asking anybody, as Go
/// programs do: each target may be a connection.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit on open files stays as it is");
    }
}

/// Builds the components of a configuration; binds nothing.
pub(super) fn assemble(loaded: Loaded) -> Result<Assembled, Report> {
    let shared = Shared {
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(memory_limit(&loaded.settings.service)),
    };
    let blueprint = components::build(&loaded, &shared)?;
    Ok(Assembled {
        loaded,
        blueprint,
        shared,
    })
}

fn memory_limit(service: &Service) -> u64 {
    match service.memory.limit {
        Some(limit) => limit.get(),
        None => cgroup::default_limit(cgroup::memory_limit()),
    }
}

fn start_logs(service: &Service, logging: &Logging) -> Result<(), logs::LogError> {
    let configured = &service.telemetry.logs;
    let format = logging.log_format.unwrap_or(match configured.format {
        LogFormat::Logfmt => logs::Format::Logfmt,
        LogFormat::Json => logs::Format::Json,
    });
    let level = configured.level.as_str().to_owned();
    logs::init(&logs::Options {
        format,
        level: logging.log_level.clone().unwrap_or(level),
        colour: logs::colour_wanted(),
    })
}

async fn serve(assembled: Assembled, bound: admin::Bound) -> Exit {
    let Assembled {
        loaded,
        blueprint,
        shared,
    } = assembled;
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return complain(Exit::Failed, format!("signals: {error}")),
    };
    let health = Health::default();
    let beating = CancellationToken::new();
    let tasks = Tasks::default();
    let heartbeat = health.watch("runtime", MAX_SILENCE);
    tasks.spawn(
        "heartbeat",
        heartbeat.keep_beating(health::BEAT, beating.clone()),
    );
    let memory = show_process(&shared, &loaded);
    let address = bound.local_addr().map(|a| a.to_string());
    let admin = bound.start(AdminState {
        metrics: shared.metrics.clone(),
        status: shared.status.clone(),
        health: health.clone(),
        memory,
    });
    let admin = match admin {
        Ok(admin) => admin,
        Err(error) => return complain(Exit::Failed, format!("admin endpoint: {error}")),
    };
    let running = match blueprint.start(&shared.metrics, &shared.status, &shared.memory) {
        Ok(running) => running,
        Err(error) => return complain(Exit::CannotBind, error),
    };
    health.ready();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = loaded.hash,
        admin = address.unwrap_or_default(),
        memory_limit = shared.memory.limit(),
        "profile-relay is running"
    );
    let patience = loaded.settings.service.shutdown_timeout.get();
    let exit = live(running, &mut signals, &health, patience).await;
    beating.cancel();
    admin.shutdown();
    exit
}

/// Registers what is true of the process as a whole.
pub(super) fn show_process(shared: &Shared, loaded: &Loaded) -> MemoryUse {
    let metrics = &shared.metrics;
    metrics.set::<BuildInfo>();
    metrics.collect(ProcessMetrics::default());
    let (used, limit) = (shared.memory.clone(), shared.memory.clone());
    let memory = MemoryUse::new(move || used.used(), move || limit.limit());
    metrics.collect(memory.clone());
    metrics
        .set::<ConfigMetrics>()
        .loaded(&loaded.hash, SystemTime::now());
    shared.status.publish_config(RunningConfig {
        hash: loaded.hash.clone(),
        yaml: settings::to_yaml(&loaded.effective).into(),
    });
    let pipelines = loaded.settings.service.pipelines.iter();
    let names = |ids: &[Id]| ids.iter().map(Id::to_string).collect();
    let pipelines = pipelines.map(|(id, pipeline)| PipelineStatus {
        pipeline: id.to_string(),
        receivers: names(&pipeline.receivers),
        processors: names(&pipeline.processors),
        exporters: names(&pipeline.exporters),
    });
    shared.status.publish_pipelines(pipelines.collect());
    memory
}

/// Waits for the end, and drains.
async fn live(
    mut running: Running,
    signals: &mut Signals,
    health: &Health,
    patience: Duration,
) -> Exit {
    let end = tokio::select! {
        () = signals.stop() => End::Asked,
        failure = running.failure() => End::Failed(failure),
    };
    health.stopping();
    let exit = match end {
        End::Asked => {
            info!(
                timeout_seconds = patience.as_secs_f64(),
                "stopping: no more scrapes, sending what is queued; a second signal ends at once"
            );
            Exit::Done
        }
        End::Failed(failure) => {
            error!(receiver = %failure.receiver, error = %failure.error, "a receiver failed, stopping");
            match failure.error {
                ReceiverError::Bind { .. } => Exit::CannotBind,
                ReceiverError::Failed(_) => Exit::Failed,
            }
        }
    };
    tokio::select! {
        left = running.shutdown(patience) => {
            info!(profiles_left = left, "stopped");
            exit
        }
        () = signals.stop() => {
            warn!("a second signal: ending at once, what is queued in memory is lost");
            Exit::Failed
        }
    }
}

// === impl Signals ===

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the next signal that asks the process to end.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    warn!("a hangup is ignored: restart the process to load another configuration");
                }
            }
        }
    }
}
