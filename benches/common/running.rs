//! A program under measurement: the relay or a peer of it.

use super::{Result, child::Guarded, metrics};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A program that runs.
pub(crate) struct Running {
    process: Guarded,
    /// Where its `/metrics` is.
    pub(crate) admin: SocketAddr,
    log: PathBuf,
}

/// A subject is up within this time, or not at all.
const START: Duration = Duration::from_secs(60);
/// A receiver listens within this time after `/metrics` does, or not at all.
const LISTENING: Duration = Duration::from_secs(10);
/// How often it is asked whether it is.
const ASKING: Duration = Duration::from_millis(10);
/// So many lines of a log are shown after a failure.
const SHOWN: usize = 15;
/// What marks a warning or an error in the logs of the subjects.
const BAD: [&str; 4] = ["level=warn", "level=error", "\twarn\t", "\terror\t"];

/// The relay that is measured: `RELAY_BIN`, or the one that cargo has built.
pub(crate) fn relay() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_profile-relay").into();
    std::env::var_os("RELAY_BIN").unwrap_or_else(built).into()
}

/// A port that was free just now.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody listens there.
pub(crate) fn wait_for(address: SocketAddr) -> Result<()> {
    let until = Instant::now() + LISTENING;
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(_) if Instant::now() < until => thread::sleep(ASKING),
            Err(error) => return Err(format!("nothing listens on {address}: {error}").into()),
        }
    }
}

// === impl Running ===

impl Running {
    /// Starts it and waits until `admin` answers with its metrics. Its log is in
    /// `folder`.
    pub(crate) fn start(command: &[String], folder: &Path, admin: SocketAddr) -> Result<Self> {
        let log = folder.join("log");
        let mut running = Self {
            process: Guarded::start(command, &log)?,
            admin,
            log,
        };
        running.until_answered("/metrics")?;
        Ok(running)
    }

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
        let bad = |line: &&str| BAD.iter().any(|mark| line.contains(mark));
        log.lines().filter(bad).map(str::to_owned).collect()
    }

    /// Waits until there is an answer of status 200.
    pub(crate) fn until_answered(&mut self, path: &str) -> Result<()> {
        let until = Instant::now() + START;
        loop {
            self.must_run()?;
            match metrics::get(self.admin, path) {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < until => thread::sleep(ASKING),
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
