//! What is measured: the relay, or Parca's scraper on the same work.

use crate::{
    Result,
    args::Args,
    common::args::memory,
    running::{Running, free_port, relay},
};
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A program that scrapes targets and sends what it gets to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The relay, by the path of its binary.
    Relay(PathBuf),
    /// `parca --mode=scraper-only`.
    Parca(PathBuf),
}

// === impl Subject ===

impl Subject {
    /// The relay and, with `PARCA_BIN`, Parca.
    pub(crate) fn all() -> Vec<Self> {
        let mut subjects = vec![Self::Relay(relay())];
        subjects.extend(std::env::var_os("PARCA_BIN").map(|path| Self::Parca(path.into())));
        subjects
    }

    /// The name of its rows.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Parca(_) => "parca",
        }
    }

    /// Starts it on these targets and this store; `folder` is its own.
    pub(crate) fn start(
        &self,
        args: &Args,
        targets: &[String],
        sink: &str,
        folder: &Path,
    ) -> Result<Running> {
        let list = folder.join("targets.json");
        fs::write(&list, json!([{ "targets": targets }]).to_string())?;
        let admin = free_port()?;
        let config = folder.join("config.yaml");
        let path = |path: &Path| path.display().to_string();
        let jobs = jobs(args.interval, &list);
        let command = match self {
            Self::Relay(binary) => {
                fs::write(&config, relay_config(args, &jobs, sink, admin))?;
                vec![path(binary), "run".into(), "--config".into(), path(&config)]
            }
            Self::Parca(binary) => {
                let bucket = json!({"type": "FILESYSTEM", "config": {"directory": path(folder)}});
                let storage = json!({ "bucket": bucket });
                fs::write(&config, format!("object_storage: {storage}\n{jobs}"))?;
                vec![
                    path(binary),
                    "--mode=scraper-only".into(),
                    "--insecure".into(),
                    format!("--store-address={sink}"),
                    format!("--config-path={}", config.display()),
                    format!("--http-address={admin}"),
                ]
            }
        };
        Running::start(&command, folder, admin)
    }
}

/// The same job for both: only `memory` and `goroutine`, without `seconds`.
fn jobs(interval: Duration, list: &Path) -> String {
    let interval = humantime::format_duration(interval);
    let off = json!({"enabled": false});
    let job = json!({
        "job_name": "load",
        "scrape_interval": interval.to_string(),
        "profiling_config": {
            "pprof_config": {"block": off, "mutex": off, "process_cpu": off},
        },
        "file_sd_configs": [{"files": [list]}],
    });
    format!("scrape_configs: [{job}]\n")
}

fn relay_config(args: &Args, jobs: &str, sink: &str, admin: SocketAddr) -> String {
    let exporter = json!({"endpoint": sink, "tls": {"insecure": true}});
    let service = json!({
        "admin": {"endpoint": admin.to_string()},
        "memory": memory(args.memory_limit.as_deref()),
        "pipelines": {"profiles": {"receivers": ["pprof"], "exporters": ["parca"]}},
    });
    format!(
        "receivers:\n  pprof:\n    {jobs}exporters: {{parca: {exporter}}}\nservice: {service}\n"
    )
}
