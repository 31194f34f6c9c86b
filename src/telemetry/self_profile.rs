//! The relay's own CPU profile.
//!
//! The `pprof` crate interrupts the process with a timer of its processor time
//! and keeps the stacks; this module turns addresses into names, each once, and
//! writes a pprof. Profiling is the process's, not a caller's: one at a time.

use crate::{
    profile::pprof::{Frame, ProfileWriter},
    runtime::blocking,
};
use bytes::Bytes;
use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder, UnresolvedReport};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// The longest profile; longer ones are asked for in pieces.
pub const MAX_DURATION: Duration = Duration::from_secs(60);

/// Samples a second of processor time: Go's.
const HERTZ: i32 = 100;

/// Unwinding through these may wait for a lock that the interrupted code holds.
const BLOCKLIST: &[&str] = &["libc", "libgcc", "pthread", "vdso"];

/// The crate's own signal handler. The frame after it is the kernel's
/// trampoline; what was interrupted comes next.
const HANDLER: &str = "perf_signal_handler";

/// Whether a profile is being taken.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum SelfProfileError {
    /// Somebody else is profiling: try again later.
    #[error("cpu profiling already in use")]
    InUse,
    /// The system does not allow it, or the process is ending.
    #[error("cannot profile this process: {0}")]
    Unavailable(String),
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
    let session = blocking(|| Session::start(running)).await.ok_or_else(gone)??;
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
        let guard = ProfilerGuardBuilder::default()
            .frequency(HERTZ)
            .blocklist(BLOCKLIST)
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
        let count = count as i64;
        let name = &stack.thread_name[..stack.thread_name_length];
        let thread = String::from_utf8_lossy(name).into_owned();
        let addresses = symbols.learn(stack);
        let frames: Vec<Frame<'_>> = symbols.frames(&addresses);
        writer.sample(&frames, &[count, count * period], &[("thread", &thread)]);
    }
    writer.finish()
}

// === impl Symbols ===

impl Symbols {
    /// Looks up the addresses of a stack that are new. Returns the stack's
    /// addresses, innermost first, without the signal handler's.
    fn learn(&mut self, stack: pprof_stack::Stack) -> Vec<usize> {
        todo!()
    }
}
