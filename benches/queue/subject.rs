//! What is measured: the relay, or the OpenTelemetry Collector on the same work.

use crate::{
    Result,
    args::Kind,
    child::Helper,
    metrics::Metrics,
    proc::{Cpu, Memory},
    running::{Running, free_port, relay, wait_for},
    sent::Sent,
    sink::Arrived,
    source::Order,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

/// Where accepted profiles are until they are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue<'a> {
    Memory,
    /// In a folder, each of them synced before it is accepted, or not.
    Disk {
        folder: &'a Path,
        fsync: bool,
    },
}

/// A subject that takes requests.
pub(crate) struct Subject {
    pub(crate) running: Running,
    input: SocketAddr,
    /// From the start of the process until `/metrics` answered, in seconds.
    pub(crate) up: f64,
    is_relay: bool,
}

/// No queue here is bounded by more than the disk, and no profile is too old.
const BOUND: &str = "64GiB";
/// A backend that comes back is noticed within this time.
const RETRY: &str = "100ms";

// === impl Subject ===

impl Subject {
    /// Starts one whose log is in `folder`; `None` when there is no such program.
    pub(crate) fn start(
        kind: Kind,
        queue: Queue<'_>,
        backend: SocketAddr,
        folder: &Path,
    ) -> Result<Option<Self>> {
        let (input, admin) = (free_port()?, free_port()?);
        let Some((mut command, mut config)) = program(kind, queue, backend, admin) else {
            return Ok(None);
        };
        let grpc = json!({ "endpoint": input.to_string() });
        config["receivers"] = json!({ "otlp": { "protocols": { "grpc": grpc } } });
        let file = folder.join("config.yaml");
        fs::write(&file, config.to_string())?;
        command.push(format!("--config={}", file.display()));
        if let Queue::Disk { folder, .. } = queue {
            fs::create_dir_all(folder)?;
        }
        let start = Instant::now();
        let running = Running::start(&command, folder, admin)
            .map_err(|error| format!("{}: {error}", kind.name()))?;
        let up = start.elapsed().as_secs_f64();
        wait_for(input)?;
        Ok(Some(Self {
            running,
            input,
            up,
            is_relay: kind == Kind::Relay,
        }))
    }

    /// Senders to it.
    pub(crate) fn sources(&self, count: usize) -> Result<Helper> {
        let to = self.input.to_string();
        let count = count.to_string();
        let (sources, _) = Helper::start::<String>(["sources", "--to", &to, "--count", &count])?;
        Ok(sources)
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.running.pid())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.running.pid())
    }

    /// What its books say: whether they balance, what they recovered, what waits.
    pub(crate) fn books(&self) -> Result<Option<(bool, u64, u64)>> {
        if !self.is_relay {
            return Ok(None);
        }
        let books = Metrics::fetch(self.running.admin)?.books();
        let of = |books: &crate::metrics::Books| {
            (
                books.balanced,
                books.recovered as u64,
                books.queued.max(0.0) as u64,
            )
        };
        Ok(books.first().map(of))
    }
}

/// A backend that is away until it is opened.
pub(crate) fn sink() -> Result<(Helper, SocketAddr)> {
    Helper::start(["sink"])
}

/// Opens it.
pub(crate) fn open(sink: &mut Helper) -> Result<()> {
    let Arrived { .. } = sink.ask("open")?;
    Ok(())
}

/// Sends as ordered, and waits until all is answered.
pub(crate) fn send(sources: &mut Helper, order: Order) -> Result<Sent> {
    let sent: Sent = sources.ask(&serde_json::to_string(&order)?)?;
    match &sent.failure {
        Some(failure) => Err(format!("{} requests failed: {failure}", sent.failed).into()),
        None => Ok(sent),
    }
}

/// The command without its configuration, and that without its receivers.
fn program(
    kind: Kind,
    queue: Queue<'_>,
    backend: SocketAddr,
    admin: SocketAddr,
) -> Option<(Vec<String>, Value)> {
    let is_relay = kind == Kind::Relay;
    let mut config = json!({});
    let mut sending = match (queue, is_relay) {
        (Queue::Memory, _) => json!({}),
        (Queue::Disk { folder, fsync }, _) => {
            let storage = json!({ "directory": folder, "fsync": fsync });
            config["extensions"] = json!({ "file_storage": storage });
            json!({ "storage": "file_storage" })
        }
    };
    if is_relay {
        sending["max_bytes"] = json!(BOUND);
    } else {
        sending["queue_size"] = json!(10_000_000);
    }
    let id = if is_relay { "otlp" } else { "otlp_grpc" };
    let exporter = json!({
        "endpoint": backend.to_string(),
        "tls": { "insecure": true },
        "compression": "none",
        "sending_queue": sending,
        "retry_on_failure": {
            "initial_interval": RETRY,
            "max_interval": RETRY,
            "max_elapsed_time": "0s",
        },
    });
    config["exporters"] = json!({ id: exporter });
    let pipelines = json!({ "profiles": { "receivers": ["otlp"], "exporters": [id] } });
    config["service"] = json!({ "pipelines": pipelines });
    if matches!(queue, Queue::Disk { .. }) {
        config["service"]["extensions"] = json!(["file_storage"]);
    }
    let command = if is_relay {
        config["service"]["admin"] = json!({ "endpoint": admin.to_string() });
        config["service"]["memory"] = match queue {
            Queue::Memory => json!({ "limit": "4GiB" }),
            Queue::Disk { .. } => json!({ "limit": "256MiB" }),
        };
        vec![relay().display().to_string(), "run".to_owned()]
    } else {
        let prometheus = json!({ "host": admin.ip().to_string(), "port": admin.port() });
        let reader = json!({ "pull": { "exporter": { "prometheus": prometheus } } });
        config["service"]["telemetry"] = json!({ "metrics": { "readers": [reader] } });
        let binary = PathBuf::from(std::env::var_os("OTELCOL_BIN")?);
        let gate = "--feature-gates=service.profilesSupport";
        vec![binary.display().to_string(), gate.to_owned()]
    };
    Some((command, config))
}
