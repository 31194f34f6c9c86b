//! `run`: the product.
//!
//! Order: everything that can be wrong with the configuration is found before
//! anything is bound; all addresses are bound before anything is accepted; the
//! first SIGTERM or SIGINT drains, the second ends at once. In between another
//! configuration may take the place of the one that runs ([`reload`]).

mod life;
mod reload;
pub(super) mod show;
mod signals;
mod watch;

use self::{
    life::{End, Life},
    reload::Reloader,
    signals::Signals,
    watch::Watched,
};
use super::{Configuration, Exit, Logging, complain, reject};
use crate::{
    components::{self, Shared},
    pipeline::{BindError, Blueprint, Budget, Inventory, ReceiverError, Running},
    runtime::Tasks,
    settings::{self, Loaded, LogFormat, Report, Service, Sources},
    telemetry::{
        admin::{self, AdminState},
        cgroup,
        health::{self, Health},
        logs,
        reload::Reloads,
    },
};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch as latest},
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

/// How the process came to its configuration, to do it again.
struct Origin {
    sources: Arc<Sources>,
    logging: Logging,
    logs: logs::Live,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    run_sources(
        arguments.configuration.sources(),
        arguments.logging,
        |endpoint| {
            admin::Server::bind(endpoint)
                .map_err(|error| format!("service.admin.endpoint {endpoint}: {error}"))
        },
    )
}

/// Runs a configuration until it is told to stop. `bind` is called with its
/// admin endpoint once nothing is wrong with it.
pub(super) fn run_sources(
    sources: Sources,
    logging: Logging,
    bind: impl FnOnce(&str) -> Result<admin::Bound, String>,
) -> Exit {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, format!("no runtime: {error}")),
    };
    // Before anything else: a hangup while the process starts is a reload after.
    let signals = {
        let _within = runtime.enter();
        Signals::listen()
    };
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => return complain(Exit::Failed, format!("signals: {error}")),
    };
    let loaded = match settings::load(&sources, &components::catalogue()) {
        Ok(loaded) => loaded,
        Err(report) => return reject(&report),
    };
    // Before components are built: they may have something to say.
    let logs = match logs::init(&log_options(&loaded.settings.service, &logging)) {
        Ok(logs) => logs,
        Err(error) => return complain(Exit::BadConfiguration, error),
    };
    let assembled = match assemble(loaded) {
        Ok(assembled) => assembled,
        Err(report) => return reject(&report),
    };
    let bound = match bind(&assembled.loaded.settings.service.admin.endpoint) {
        Ok(bound) => bound,
        Err(message) => return complain(Exit::CannotBind, message),
    };
    raise_file_limit();
    let origin = Origin {
        sources: Arc::new(sources),
        logging,
        logs,
    };
    let exit = runtime.block_on(serve(assembled, origin, signals, bound));
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
    let shared = Shared::new(Budget::new(memory_limit(&loaded.settings.service)));
    let built = components::build(&loaded, &shared, None)?;
    Ok(Assembled {
        loaded,
        blueprint: built.blueprint,
        shared,
    })
}

fn memory_limit(service: &Service) -> u64 {
    match service.memory.limit {
        Some(limit) => limit.get(),
        None => cgroup::default_limit(cgroup::memory_limit()),
    }
}

/// How to log; arguments go before the configuration.
fn log_options(service: &Service, logging: &Logging) -> logs::Options {
    let configured = &service.telemetry.logs;
    let format = logging.log_format.unwrap_or(match configured.format {
        LogFormat::Logfmt => logs::Format::Logfmt,
        LogFormat::Json => logs::Format::Json,
    });
    let level = configured.level.as_str().to_owned();
    logs::Options {
        format,
        level: logging.log_level.clone().unwrap_or(level),
        colour: logs::colour_wanted(),
    }
}

async fn serve(
    assembled: Assembled,
    origin: Origin,
    mut signals: Signals,
    bound: admin::Bound,
) -> Exit {
    let Assembled {
        loaded,
        mut blueprint,
        shared,
    } = assembled;
    let nothing = Inventory::default();
    if let Err(error) = blueprint.bind(&nothing, &shared.memory).await {
        let exit = match &error {
            BindError::Receiver(failure) => exit_of(&failure.error),
            BindError::Storage(_) => Exit::CannotBind,
        };
        return complain(exit, error);
    }
    let health = Health::default();
    let tasks = Tasks::default();
    let heartbeat = health.watch("runtime", MAX_SILENCE);
    let beating = CancellationToken::new();
    tasks.spawn(
        "heartbeat",
        heartbeat.keep_beating(health::BEAT, beating.clone()),
    );
    let tidy = beating
        .clone()
        .run_until_cancelled_owned(shared.memory.clone().tidy());
    tasks.spawn("tidy", tidy);
    let memory = show::process(&shared);
    show::configuration(&shared, &loaded);
    let address = bound.local_addr().map(|a| a.to_string());
    let (reloads, requests) = Reloads::channel();
    let admin_state = AdminState {
        metrics: shared.metrics.clone(),
        status: shared.status.clone(),
        health: health.clone(),
        memory,
        reloads,
    };
    let admin = match bound.start(admin_state.clone()) {
        Ok(admin) => admin,
        Err(error) => return complain(Exit::Failed, format!("admin endpoint: {error}")),
    };
    let service = loaded.settings.service.clone();
    let mut running = Running::new(&shared.metrics, &shared.status, &shared.memory);
    let patience = service.shutdown_timeout.get();
    running.apply(blueprint, patience).await;
    let (watched, watching) = latest::channel(Watched {
        files: loaded.files,
        settings: service.reload.clone(),
    });
    let (tell, changed) = mpsc::channel(1);
    let watch = watch::run(watching, tell, beating.clone());
    tasks.spawn("configuration watch", watch);
    health.ready();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = loaded.hash,
        admin = address.unwrap_or_default(),
        memory_limit = shared.memory.limit(),
        "profile-relay is running"
    );
    let mut life = Life {
        running,
        service,
        reloader: Reloader {
            sources: origin.sources,
            logging: origin.logging,
            logs: origin.logs,
            admin: admin_state,
            shared,
        },
        admin,
        requests,
        changed,
        watched,
    };
    let end = life.live(&mut signals).await;
    health.stopping();
    let exit = finish(life, end, &mut signals).await;
    beating.cancel();
    exit
}

fn exit_of(error: &ReceiverError) -> Exit {
    match error {
        ReceiverError::Bind { .. } => Exit::CannotBind,
        ReceiverError::Failed(_) => Exit::Failed,
    }
}

/// Drains.
async fn finish(life: Life, end: End, signals: &mut Signals) -> Exit {
    let Life {
        running,
        service,
        reloader,
        admin,
        requests,
        ..
    } = life;
    // Who asks for a reload from now on hears that it is too late.
    drop(requests);
    reloader.shared.ending.cancel();
    let patience = service.shutdown_timeout.get();
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
            exit_of(&failure.error)
        }
    };
    let exit = tokio::select! {
        left = running.shutdown(patience) => {
            info!(profiles_left = left, "stopped");
            exit
        }
        () = signals.stop.asked() => {
            warn!("a second signal: ending at once, what is queued in memory is lost");
            Exit::Failed
        }
    };
    admin.shutdown();
    exit
}
