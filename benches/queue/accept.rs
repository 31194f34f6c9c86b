//! How many profiles a second are on disk and acknowledged, beside what the same
//! disk can do at that moment.
//!
//! In each round and for each number of sources, all take turns in an order of
//! chance, each for one window, as a new process with an empty folder. A share of the
//! disk's limit is a share of the same round's.

use crate::{
    Result,
    args::{Args, Backend, Kind},
    figures::shuffle,
    proc::Cpu,
    raw,
    running::free_port,
    source::Order,
    subject::{Queue, Subject, open, send, sink},
};
use serde::Serialize;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// One window of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) kind: Option<Kind>,
    pub(crate) backend: Option<Backend>,
    pub(crate) sources: usize,
    pub(crate) round: usize,
    /// Accepted, in a second.
    pub(crate) rate: f64,
    /// Of what was sent.
    pub(crate) refused: u64,
    /// CPU seconds for 1,000 accepted.
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// Until the answer, in seconds.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
    /// Resident memory at the end, in bytes.
    pub(crate) rss: u64,
    /// CPUs that other processes kept busy, those of the sources and the sink
    /// among them.
    pub(crate) others: f64,
    /// Whether the relay's books balance.
    pub(crate) balanced: Option<bool>,
}

/// Runs all cases.
pub(crate) fn run(args: &Args) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 0..args.rounds {
        for &sources in &args.sources {
            for &backend in &args.backend {
                let mut kinds = args.kinds.clone();
                shuffle(&mut kinds);
                for kind in kinds {
                    let folder = tempfile::tempdir_in(&args.folder)?;
                    let run = match kind {
                        Kind::Append | Kind::Preallocated | Kind::Direct => {
                            Some(of_disk(args, kind, sources, folder.path())?)
                        }
                        _ => of_subject(args, kind, backend, sources, folder.path())?,
                    };
                    runs.extend(run.map(|run| Run {
                        kind: Some(kind),
                        backend: Some(backend),
                        sources,
                        round,
                        ..run
                    }));
                }
            }
        }
    }
    Ok(runs)
}

fn of_disk(args: &Args, kind: Kind, sources: usize, folder: &Path) -> Result<Run> {
    let machine = Cpu::of_machine()?;
    let written = raw::run(folder, sources, kind, args.window)?;
    let others = Cpu::of_machine()?.saturating_sub(machine);
    Ok(Run {
        rate: written.records as f64 / written.seconds,
        others: others.as_secs_f64() / written.seconds,
        ..Run::default()
    })
}

fn of_subject(
    args: &Args,
    kind: Kind,
    backend: Backend,
    sources: usize,
    folder: &Path,
) -> Result<Option<Run>> {
    let (mut sink, mut address) = sink()?;
    match backend {
        Backend::There => open(&mut sink)?,
        Backend::Away => address = free_port()?,
    }
    let queue = folder.join("queue");
    let queue = Queue::Disk {
        folder: &queue,
        fsync: true,
    };
    let Some(subject) = Subject::start(kind, queue, address, folder)? else {
        return Ok(None);
    };
    let mut sources = subject.sources(sources)?;
    send(&mut sources, Order::For(args.warm))?;
    let (start, cpu, machine) = (Instant::now(), subject.cpu()?, Cpu::of_machine()?);
    let sent = send(&mut sources, Order::For(args.window))?;
    let length = start.elapsed();
    let cpu = subject.cpu()?.since(cpu);
    let others = (Cpu::of_machine()?.saturating_sub(machine)).saturating_sub(cpu.sum());
    let per_1000 = |time: Duration| time.as_secs_f64() * 1e3 / (sent.accepted as f64).max(1.0);
    Ok(Some(Run {
        rate: sent.accepted as f64 / length.as_secs_f64(),
        refused: sent.refused,
        user: per_1000(cpu.user),
        system: per_1000(cpu.system),
        answer_p50: sent.answer_p50,
        answer_p99: sent.answer_p99,
        rss: subject.memory()?.resident,
        others: others.as_secs_f64() / length.as_secs_f64(),
        balanced: subject.books()?.map(|(balanced, ..)| balanced),
        ..Run::default()
    }))
}
