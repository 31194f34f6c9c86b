//! What is measured: the relay, or the OpenTelemetry Collector on the same work.

use crate::{
    Result,
    args::{Args, Case, Kind, Protocol},
    common::args::memory,
    running::{Running, free_port, relay, wait_for},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A program that receives OTLP and sends it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The relay, by the path of its binary.
    Relay(PathBuf),
    /// The Collector with its default queue, or without one.
    Otelcol { binary: PathBuf, queue: bool },
}

/// A subject that takes requests.
pub(crate) struct Ready {
    pub(crate) running: Running,
    /// Where requests go.
    pub(crate) input: SocketAddr,
}

// === impl Subject ===

impl Subject {
    /// The relay and, with `OTELCOL_BIN`, the Collector.
    pub(crate) fn all(args: &Args) -> Vec<Self> {
        let otelcol = std::env::var_os("OTELCOL_BIN").map(PathBuf::from);
        let subject = |kind: &Kind| {
            let queue = match kind {
                Kind::Relay => return Some(Self::Relay(relay())),
                Kind::Otelcol => true,
                Kind::Unqueued => false,
            };
            let binary = otelcol.clone()?;
            Some(Self::Otelcol { binary, queue })
        };
        args.subjects.iter().filter_map(subject).collect()
    }

    /// The name of its rows.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Otelcol { queue: true, .. } => "otelcol",
            Self::Otelcol { queue: false, .. } => "otelcol, no queue",
        }
    }

    /// Starts it between a sender and this backend; `folder` is its own.
    pub(crate) fn start(
        &self,
        args: &Args,
        case: Case,
        sink: SocketAddr,
        folder: &Path,
    ) -> Result<Ready> {
        let (grpc, http, admin) = (free_port()?, free_port()?, free_port()?);
        let config = match self {
            Self::Relay(_) => relay_config(args, case, sink, admin),
            Self::Otelcol { queue, .. } => otelcol_config(case, *queue, sink, admin),
        };
        let config = with_receivers(config, grpc, http);
        let file = folder.join("config.yaml");
        fs::write(&file, config.to_string())?;
        let file = file.display().to_string();
        let command = match self {
            Self::Relay(binary) => vec![
                binary.display().to_string(),
                "run".to_owned(),
                "--config".to_owned(),
                file,
            ],
            Self::Otelcol { binary, .. } => vec![
                binary.display().to_string(),
                "--feature-gates=service.profilesSupport".to_owned(),
                format!("--config={file}"),
            ],
        };
        let running = Running::start(&command, folder, admin)
            .map_err(|error| format!("{}: {error}", self.name()))?;
        let input = match case.protocol {
            Protocol::Grpc => grpc,
            Protocol::Http => http,
        };
        wait_for(input)?;
        Ok(Ready { running, input })
    }
}

/// Adds the same receiver for both.
fn with_receivers(mut config: Value, grpc: SocketAddr, http: SocketAddr) -> Value {
    let endpoint = |address: SocketAddr| json!({ "endpoint": address.to_string() });
    let protocols = json!({ "grpc": endpoint(grpc), "http": endpoint(http) });
    config["receivers"] = json!({ "otlp": { "protocols": protocols } });
    config
}

fn relay_config(args: &Args, case: Case, sink: SocketAddr, admin: SocketAddr) -> Value {
    let id = match case.protocol {
        Protocol::Grpc => "otlp",
        Protocol::Http => "otlp_http",
    };
    json!({
        "exporters": { id: exporter(case, sink) },
        "service": {
            "admin": { "endpoint": admin.to_string() },
            "memory": memory(args.memory_limit.as_deref()),
            "pipelines": { "profiles": { "receivers": ["otlp"], "exporters": [id] } },
        },
    })
}

fn otelcol_config(case: Case, queue: bool, sink: SocketAddr, admin: SocketAddr) -> Value {
    let id = match case.protocol {
        Protocol::Grpc => "otlp_grpc",
        Protocol::Http => "otlp_http",
    };
    let mut exporter = exporter(case, sink);
    if !queue {
        exporter["sending_queue"] = json!({ "enabled": false });
    }
    let prometheus = json!({ "host": admin.ip().to_string(), "port": admin.port() });
    let reader = json!({ "pull": { "exporter": { "prometheus": prometheus } } });
    json!({
        "exporters": { id: exporter },
        "service": {
            "telemetry": { "metrics": { "readers": [reader] } },
            "pipelines": { "profiles": { "receivers": ["otlp"], "exporters": [id] } },
        },
    })
}

/// The keys that both have.
fn exporter(case: Case, sink: SocketAddr) -> Value {
    let endpoint = match case.protocol {
        Protocol::Grpc => sink.to_string(),
        Protocol::Http => format!("http://{sink}"),
    };
    json!({
        "endpoint": endpoint,
        "tls": { "insecure": true },
        "compression": case.output.setting(),
    })
}
