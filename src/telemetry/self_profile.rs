//! The relay's own CPU profile.
//!
//! The `pprof` crate interrupts the process with a timer of its processor time
//! and keeps the stacks; this module turns addresses into names, each once, and
//! writes a pprof. Profiling is the process's, not a caller's: one at a time.
//!
//! It is not free. The crate keeps 16,384 slots of 1 KiB for stacks, several
//! times while a profile ends, and a copy of the program to unwind it, and never
//! gives them back: a release build of 11 MB has been measured at 70 MB after its
//! first profile and 120 MB after the fourth, where it stays. Where the control
//! group leaves less than [`NEEDED`], the first profile is refused: looking at
//! the relay must not end it.

use super::{cgroup, metrics::resident_bytes};
use crate::{
    profile::pprof::{Frame, ProfileWriter},
    runtime::blocking,
};
use bytes::Bytes;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, UnresolvedReport};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// The longest profile; longer ones are asked for in pieces.
pub const MAX_DURATION: Duration = Duration::from_secs(60);

/// The memory that the first profile needs, in bytes.
pub const NEEDED: u64 = 128 << 20;

/// Samples a second of processor time: Go's.
const HERTZ: i32 = 100;

/// Whether a profile is being taken.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether a profile has been taken before, and the memory with it.
static PAID: AtomicBool = AtomicBool::new(false);

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum SelfProfileError {
    /// Somebody else is profiling: try again later.
    #[error("cpu profiling already in use")]
    InUse,
    /// The system does not allow it, or the process is ending.
    #[error("cannot profile this process: {0}")]
    Unavailable(String),
    /// The memory limit leaves too little.
    #[error(
        "profiling this process needs {} MiB of memory for good, and its limit leaves {} MiB: \
         raise the limit of the container or unit",
        NEEDED >> 20,
        left >> 20
    )]
    NoMemory {
        /// What the limit leaves, in bytes.
        left: u64,
    },
}

/// A running profile. Dropping it stops profiling.
struct Session {
    // Dropped in this order: who comes next must find the timer stopped.
    guard: ProfilerGuard<'static>,
    _running: Running,
}

/// The right to profile.
struct Running;

/// A named place in the program.
struct Symbol {
    name: String,
    system_name: String,
    file: String,
    line: i64,
}

/// The names of addresses, each looked up once.
#[derive(Default)]
struct Symbols(HashMap<usize, Vec<Symbol>>);

/// Profiles this process for `duration`, [`MAX_DURATION`] at most: a gzipped
/// pprof with the sample types `samples/count` and `cpu/nanoseconds`, and each
/// sample's thread in the label `thread`. Dropping the future ends the profile.
pub async fn cpu_profile(duration: Duration) -> Result<Bytes, SelfProfileError> {
    let running = Running::acquire().ok_or(SelfProfileError::InUse)?;
    let gone = || SelfProfileError::Unavailable("the process is ending".to_owned());
    let session = blocking(|| Session::start(running))
        .await
        .ok_or_else(gone)??;
    tokio::time::sleep(duration.min(MAX_DURATION)).await;
    blocking(|| session.finish()).await.ok_or_else(gone)?
}

// === impl Running ===

impl Running {
    fn acquire() -> Option<Self> {
        (!RUNNING.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Release);
    }
}

// === impl Session ===

impl Session {
    fn start(running: Running) -> Result<Self, SelfProfileError> {
        if !PAID.load(Ordering::Relaxed) {
            enough_memory(cgroup::memory_limit(), resident_bytes().unwrap_or(0))?;
            PAID.store(true, Ordering::Relaxed);
        }
        let guard = ProfilerGuardBuilder::default()
            .frequency(HERTZ)
            .build()
            .map_err(unavailable)?;
        Ok(Self {
            guard,
            _running: running,
        })
    }

    fn finish(self) -> Result<Bytes, SelfProfileError> {
        let report = self
            .guard
            .report()
            .build_unresolved()
            .map_err(unavailable)?;
        drop(self);
        Ok(encode(report))
    }
}

fn enough_memory(limit: Option<u64>, resident: u64) -> Result<(), SelfProfileError> {
    match limit.map(|limit| limit.saturating_sub(resident)) {
        Some(left) if left < NEEDED => Err(SelfProfileError::NoMemory { left }),
        _ => Ok(()),
    }
}

fn unavailable(error: pprof::Error) -> SelfProfileError {
    SelfProfileError::Unavailable(error.to_string())
}

fn encode(report: UnresolvedReport) -> Bytes {
    let timing = report.timing;
    let period = 1_000_000_000 / i64::from(timing.frequency.max(1));
    let mut writer = ProfileWriter::new(
        &[("samples", "count"), ("cpu", "nanoseconds")],
        ("cpu", "nanoseconds"),
        period,
        timing.start_time,
        timing.duration,
    );
    let mut symbols = Symbols::default();
    for (stack, count) in report.data {
        // The outermost frame of a thread may have no address.
        let addresses = stack.frames.iter().map(|frame| frame.ip);
        let addresses: Vec<usize> = addresses.filter(|address| *address != 0).collect();
        addresses.iter().for_each(|address| symbols.learn(*address));
        let count = count as i64;
        let thread = String::from_utf8_lossy(&stack.thread_name[..stack.thread_name_length]);
        writer.sample(
            &symbols.stack(&addresses),
            &[count, count * period],
            &[("thread", &thread)],
        );
    }
    // The tables of the whole program are not needed until the next profile.
    backtrace::clear_symbol_cache();
    writer.finish()
}

// === impl Symbols ===

impl Symbols {
    /// Looks up the names of an address that is new.
    fn learn(&mut self, address: usize) {
        self.0.entry(address).or_insert_with(|| {
            let mut found = Vec::new();
            let place = std::ptr::without_provenance_mut(address);
            backtrace::resolve(place, |symbol| found.push(Symbol::new(symbol)));
            if found.is_empty() {
                found.push(Symbol::unknown(address));
            }
            found
        });
    }

    /// A stack, innermost first, inlined functions as frames of their own.
    fn stack(&self, addresses: &[usize]) -> Vec<Frame<'_>> {
        addresses
            .iter()
            .filter_map(|address| self.0.get(address))
            .flatten()
            .map(Symbol::frame)
            .collect()
    }
}

// === impl Symbol ===

impl Symbol {
    fn new(symbol: &backtrace::Symbol) -> Self {
        let name = symbol.name();
        let system_name = name.as_ref().and_then(|name| name.as_str());
        let file = symbol.filename().map(|file| file.display().to_string());
        Self {
            // Without the hash that is at the end of the linker's name.
            name: name
                .as_ref()
                .map(|name| format!("{name:#}"))
                .unwrap_or_default(),
            system_name: system_name.unwrap_or_default().to_owned(),
            file: file.unwrap_or_default(),
            line: symbol.lineno().map_or(0, i64::from),
        }
    }

    fn unknown(address: usize) -> Self {
        Self {
            name: format!("0x{address:x}"),
            system_name: String::new(),
            file: String::new(),
            line: 0,
        }
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            function: &self.name,
            system_name: &self.system_name,
            file: &self.file,
            line: self.line,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
