//! The relay between agents and a far end, and its configuration: all that is not
//! said here is its default.

use crate::{
    Result,
    args::{Args, Far, Tls},
    certificates::{CA, CERTIFICATE, KEY},
    common::args::memory,
    running::{Running, free_port, relay},
};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::Path};

/// A relay that takes calls.
pub(crate) struct Subject {
    pub(crate) running: Running,
    /// Where calls go.
    pub(crate) input: SocketAddr,
}

/// What is around it.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) far: Far,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Of agents.
    pub(crate) inward: Tls,
    /// Of the far end.
    pub(crate) outward: Tls,
}

/// Connections beside those of agents that have one each, and the least.
const SPARE: usize = 64;
const LEAST: usize = 1_024;

// === impl Subject ===

impl Subject {
    /// Starts it in front of this far end; `folder` is its own.
    pub(crate) fn start(
        args: &Args,
        around: &Around,
        sink: SocketAddr,
        folder: &Path,
    ) -> Result<Self> {
        let (input, admin) = (free_port()?, free_port()?);
        let id = match around.far {
            Far::Parca | Far::Old => "parca",
            Far::Otlp => "otlp",
        };
        let config = json!({
            "receivers": { "parca": receiver(around, input) },
            "exporters": { id: exporter(around, sink) },
            "service": {
                "admin": { "endpoint": admin.to_string() },
                "memory": memory(args.memory_limit.as_deref()),
                "pipelines": { "profiles": { "receivers": ["parca"], "exporters": [id] } },
            },
        });
        let file = folder.join("config.yaml");
        fs::write(&file, config.to_string())?;
        let command = [
            relay().display().to_string(),
            "run".to_owned(),
            format!("--config={}", file.display()),
        ];
        let mut running = Running::start(&command, folder, admin)?;
        running.until_answered("/readyz")?;
        Ok(Self { running, input })
    }
}

fn receiver(around: &Around, input: SocketAddr) -> Value {
    let mut receiver = json!({
        "endpoint": input.to_string(),
        "max_connections": (around.connections + SPARE).max(LEAST),
    });
    if let Some(folder) = &around.inward.folder {
        receiver["tls"] = json!({
            "cert_file": folder.join(CERTIFICATE),
            "key_file": folder.join(KEY),
            "min_version": "1.3",
        });
        if around.inward.mutual {
            receiver["tls"]["client_ca_file"] = json!(folder.join(CA));
        }
    }
    receiver
}

fn exporter(around: &Around, sink: SocketAddr) -> Value {
    let tls = match &around.outward.folder {
        Some(folder) => json!({ "ca_file": folder.join(CA), "min_version": "1.3" }),
        None => json!({ "insecure": true }),
    };
    let mut exporter = json!({ "endpoint": sink.to_string(), "tls": tls });
    if around.far == Far::Otlp {
        // What gzip costs is another question.
        exporter["compression"] = json!("none");
    }
    exporter
}
