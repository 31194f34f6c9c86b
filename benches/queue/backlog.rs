//! What a queue costs that is large: at the start, in memory, and until it is empty.

use crate::{
    Result,
    args::{Args, Kind},
    child::Helper,
    request,
    sink::Arrived,
    source::Order,
    subject::{Queue, Subject, open, send, sink},
};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How fast a queue empties.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Drain {
    /// `memory` or `disk`.
    pub(crate) queue: &'static str,
    pub(crate) round: usize,
    pub(crate) profiles: u64,
    /// Delivered, in a second.
    pub(crate) rate: f64,
    /// CPU seconds for 1,000.
    pub(crate) cpu: f64,
    /// The most resident memory since the start, in bytes.
    pub(crate) high_water: u64,
    /// Requests that arrived in another size, and requests too many.
    pub(crate) odd: u64,
    pub(crate) extra: u64,
}

/// A queue after a restart.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Backlog {
    pub(crate) profiles: u64,
    /// Files with records, and the bytes of all files.
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    /// Accepted in a second while it was filled, without a sync.
    pub(crate) fill_rate: f64,
    /// From the start of the process until all is on its books, in seconds: with an
    /// empty queue, with files that the page cache does not have, and with files
    /// that it has.
    pub(crate) up_empty: f64,
    pub(crate) up_cold: f64,
    pub(crate) up_warm: f64,
    /// Resident and anonymous memory a few seconds later, in bytes.
    pub(crate) rss_empty: u64,
    pub(crate) rss: u64,
    pub(crate) anonymous_empty: u64,
    pub(crate) anonymous: u64,
    pub(crate) drain: Drain,
}

/// Connections that fill a queue.
const FILLERS: usize = 16;
/// Before memory is looked at.
const SETTLE: Duration = Duration::from_secs(4);
/// How often a sink is asked, and for how long nothing may arrive.
const LOOKING: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(20);
/// What arrives in this time after the last was sent twice.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// Empties queues in memory and on disk, in turns.
pub(crate) fn drain(args: &Args) -> Result<Vec<Drain>> {
    let profiles = args.drain / request::BYTES as u64;
    let mut drains = Vec::new();
    for round in 0..args.rounds {
        for name in ["memory", "disk"] {
            let folder = tempfile::tempdir_in(&args.folder)?;
            let on_disk = folder.path().join("queue");
            let queue = match name {
                "memory" => Queue::Memory,
                _ => Queue::Disk {
                    folder: &on_disk,
                    fsync: true,
                },
            };
            let (mut sink, backend) = sink()?;
            let subject = started(queue, backend, folder.path())?;
            send(&mut subject.sources(FILLERS)?, Order::Until(profiles))?;
            let drain = empty(&subject, &mut sink, profiles)?;
            drains.push(Drain {
                queue: name,
                round,
                ..drain
            });
        }
    }
    Ok(drains)
}

/// Fills a queue, starts anew, and empties it.
pub(crate) fn run(args: &Args) -> Result<Backlog> {
    let profiles = args.backlog / request::BYTES as u64;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let on_disk = folder.path().join("queue");
    let queue = Queue::Disk {
        folder: &on_disk,
        fsync: false,
    };
    let (mut sink, backend) = sink()?;
    let start = || started(queue, backend, folder.path());
    let mut backlog = Backlog {
        profiles,
        ..Backlog::default()
    };
    let subject = start()?;
    thread::sleep(SETTLE);
    let memory = subject.memory()?;
    (backlog.rss_empty, backlog.anonymous_empty) = (memory.resident, memory.anonymous);
    let filling = Instant::now();
    send(&mut subject.sources(FILLERS)?, Order::Until(profiles))?;
    backlog.fill_rate = profiles as f64 / filling.elapsed().as_secs_f64();
    drop(subject);

    let beside = folder.path().join("empty");
    let beside = Queue::Disk {
        folder: &beside,
        fsync: false,
    };
    backlog.up_empty = started(beside, backend, folder.path())?.up;
    (backlog.segments, backlog.bytes) = forget(&on_disk)?;
    let subject = start()?;
    backlog.up_cold = recovered(&subject, profiles)?;
    drop(subject);
    let subject = start()?;
    backlog.up_warm = recovered(&subject, profiles)?;
    thread::sleep(SETTLE);
    let memory = subject.memory()?;
    (backlog.rss, backlog.anonymous) = (memory.resident, memory.anonymous);
    backlog.drain = empty(&subject, &mut sink, profiles)?;
    Ok(backlog)
}

fn started(queue: Queue<'_>, backend: std::net::SocketAddr, folder: &Path) -> Result<Subject> {
    let subject = Subject::start(Kind::Relay, queue, backend, folder)?;
    Ok(subject.ok_or("no relay")?)
}

/// How long the start took; all must be on the books by then.
fn recovered(subject: &Subject, profiles: u64) -> Result<f64> {
    match subject.books()? {
        Some((true, recovered, _)) if recovered == profiles => Ok(subject.up),
        books => Err(format!("{profiles} profiles were stored, the books say {books:?}").into()),
    }
}

/// Opens the sink and waits until all has arrived.
fn empty(subject: &Subject, sink: &mut Helper, profiles: u64) -> Result<Drain> {
    let cpu = subject.cpu()?;
    open(sink)?;
    let (mut before, mut since) = (0, Instant::now());
    let arrived = loop {
        let arrived: Arrived = sink.ask("count")?;
        if arrived.requests >= profiles {
            break arrived;
        }
        if arrived.requests != before {
            (before, since) = (arrived.requests, Instant::now());
        } else if since.elapsed() > QUIET {
            let complaints = subject.running.complaints();
            return Err(format!("{before} of {profiles} arrived: {complaints:?}").into());
        }
        thread::sleep(LOOKING);
    };
    thread::sleep(AFTERWARDS);
    let all: Arrived = sink.ask("count")?;
    let seconds = (arrived.last - arrived.first) as f64 / 1e9;
    let cpu = subject.cpu()?.since(cpu).sum().as_secs_f64();
    Ok(Drain {
        profiles,
        rate: profiles as f64 / seconds,
        cpu: cpu * 1e3 / profiles as f64,
        high_water: subject.memory()?.high_water,
        odd: all.odd,
        extra: all.requests - profiles,
        ..Drain::default()
    })
}

/// Takes files out of the page cache; how many segments there are, and the bytes of
/// all files.
fn forget(folder: &Path) -> Result<(u64, u64)> {
    let (mut segments, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let (more, larger) = forget(&path)?;
            (segments, bytes) = (segments + more, bytes + larger);
            continue;
        }
        let file = File::open(&path)?;
        // Only what is on the disk can be forgotten.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        bytes += file.metadata()?.len();
        segments += u64::from(path.extension().is_some_and(|end| end == "segment"));
    }
    Ok((segments, bytes))
}
