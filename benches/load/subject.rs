//! What is measured: the relay, or Parca's scraper on the same work.

use crate::{Result, args::Args, child::Guarded, metrics};
use serde_json::json;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A program that scrapes targets and sends what it gets to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The relay, by the path of its binary.
    Relay(PathBuf),
    /// `parca --mode=scraper-only`.
    Parca(PathBuf),
}

/// A subject that runs.
pub(crate) struct Running {
    process: Guarded,
    /// Where its `/metrics` is.
    pub(crate) admin: SocketAddr,
    log: PathBuf,
}

/// A subject is up within this time, or not at all.
const START: Duration = Duration::from_secs(60);
/// So many lines of a log are shown after a failure.
const SHOWN: usize = 15;

// === impl Subject ===

impl Subject {
    /// The relay and, with `PARCA_BIN`, Parca.
    pub(crate) fn all() -> Vec<Self> {
        let relay = std::env::var_os("RELAY_BIN")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_profile-relay").into());
        let mut subjects = vec![Self::Relay(relay.into())];
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
        let (config, log) = (folder.join("config.yaml"), folder.join("log"));
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
        let mut running = Running {
            process: Guarded::start(&command, &log)?,
            admin,
            log,
        };
        running.wait_until_up()?;
        Ok(running)
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
    let memory = match &args.memory_limit {
        Some(limit) => json!({ "limit": limit }),
        None => json!({}),
    };
    let exporter = json!({"endpoint": sink, "tls": {"insecure": true}});
    let service = json!({
        "admin": {"endpoint": admin.to_string()},
        "memory": memory,
        "pipelines": {"profiles": {"receivers": ["pprof"], "exporters": ["parca"]}},
    });
    format!(
        "receivers:\n  pprof:\n    {jobs}exporters: {{parca: {exporter}}}\nservice: {service}\n"
    )
}

/// A port that was free just now.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

// === impl Running ===

impl Running {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// An error with the end of its log if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        if self.process.is_running() {
            return Ok(());
        }
        Err(self.failed("it ended"))
    }

    /// The lines of its log that are warnings or worse.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let bad = |line: &&str| line.contains("level=warn") || line.contains("level=error");
        log.lines().filter(bad).map(str::to_owned).collect()
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        loop {
            self.must_run()?;
            match metrics::get(self.admin, "/metrics") {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(100)),
                Err(error) => return Err(self.failed(&format!("it does not come up: {error}"))),
            }
        }
    }

    fn failed(&self, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n  ");
        format!("{what}; its last words:\n  {last}").into()
    }
}
