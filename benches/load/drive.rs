//! Starts a case, lets it settle, measures it over a window and ends it.

use crate::{
    Result,
    args::Args,
    body::Stamped,
    child::Helper,
    metrics::Metrics,
    proc::{Cpu, Memory, open_files},
    report::{self, Row},
    running::Running,
    subject::Subject,
};
use profile_relay::profile::pprof::Pprof;
use serde::Deserialize;
use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Everything around a subject.
struct Stage {
    targets: Vec<Helper>,
    addresses: Vec<String>,
    sink: Helper,
    sink_address: String,
}

/// What a process of targets counted; see [`crate::targets`].
#[derive(Debug, Deserialize)]
struct Asked {
    answers: u64,
    least: u64,
    most: u64,
    connections: u64,
    refused: u64,
}

/// What the sink counted; see [`crate::sink`].
#[derive(Debug, Deserialize)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    pub(crate) message_bytes: u64,
    pub(crate) profiles: u64,
    pub(crate) altered: u64,
    pub(crate) delay_p50: Option<f64>,
    pub(crate) delay_p99: Option<f64>,
    pub(crate) delay_max: Option<f64>,
}

/// A process may have 20,000 file descriptors on many a machine; a target takes
/// one to listen and one or two for connections.
const TARGETS_PER_PROCESS: usize = 5_000;
/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(250);

/// Runs all cases and prints what they showed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let body = Stamped::new()?.whole(SystemTime::now());
    let pprof = Pprof::new(body.clone());
    let checked = pprof.check(1 << 20).map_err(Clone::clone)?;
    println!(
        "body: {} bytes gzip, {} inflated, {} samples; two profiles per target every {}; window {}",
        body.len(),
        checked.inflated,
        checked.samples,
        humantime::format_duration(args.interval),
        humantime::format_duration(args.window),
    );
    if !checked.broken.is_empty() {
        return Err(format!("the body breaks rules: {:?}", checked.broken).into());
    }
    let idle = (!args.no_idle).then_some(0);
    let mut rows: Vec<Row> = Vec::new();
    report::print_header();
    for targets in idle.into_iter().chain(args.targets.iter().copied()) {
        for subject in Subject::all() {
            if matches!(subject, Subject::Parca(_)) && targets > args.peer_max_targets {
                continue;
            }
            let row = case(args, &subject, targets)?;
            report::print_row(&row);
            rows.push(row);
        }
    }
    report::print_notes(&rows);
    args.common.write(&rows)
}

fn case(args: &Args, subject: &Subject, targets: usize) -> Result<Row> {
    let mut stage = Stage::set(args, targets)?;
    let folder = tempfile::tempdir()?;
    let mut running = subject
        .start(args, &stage.addresses, &stage.sink_address, folder.path())
        .map_err(|error| format!("{} with {targets} targets: {error}", subject.name()))?;
    thread::sleep(args.settle);
    let mut row = measure(args, &mut stage, &mut running)?;
    row.subject = subject.name();
    row.targets = targets;
    row.complaints = running.complaints();
    Ok(row)
}

fn measure(args: &Args, stage: &mut Stage, running: &mut Running) -> Result<Row> {
    let pid = running.pid();
    running.must_run()?;
    let before = Metrics::fetch(running.admin)?;
    stage.take()?;
    let (start, cpu, helpers) = (Instant::now(), Cpu::of(pid)?, stage.cpu()?);
    let mut memory = Vec::new();
    while start.elapsed() < args.window {
        memory.push(Memory::of(pid)?);
        let left = args.window.saturating_sub(start.elapsed());
        thread::sleep(SAMPLING.min(left));
    }
    let cpu = Cpu::of(pid)?.since(cpu);
    let (asked, arrived) = stage.take()?;
    let helpers = stage.cpu()?.saturating_sub(helpers);
    let seconds = start.elapsed().as_secs_f64();
    running.must_run()?;
    let after = Metrics::fetch(running.admin)?;
    let high_water = Memory::of(pid)?.high_water;
    let mut row = Row {
        seconds,
        asked: asked.answers,
        refused: asked.refused,
        least: asked.least,
        most: asked.most,
        connections: asked.connections,
        open_files: open_files(pid)?,
        user_seconds: cpu.user.as_secs_f64(),
        system_seconds: cpu.system.as_secs_f64(),
        helpers_seconds: helpers.as_secs_f64(),
        high_water,
        ..Row::default()
    };
    row.add_memory(&memory);
    row.add_arrived(&arrived);
    row.add_metrics(&before, &after);
    Ok(row)
}

// === impl Stage ===

impl Stage {
    fn set(args: &Args, targets: usize) -> Result<Self> {
        let (mut helpers, mut addresses) = (Vec::new(), Vec::with_capacity(targets));
        while addresses.len() < targets {
            let count = (targets - addresses.len())
                .min(TARGETS_PER_PROCESS)
                .to_string();
            let role = [
                "targets",
                "--count",
                &count,
                "--answer",
                args.answer.as_str(),
            ];
            let (helper, more) = Helper::start::<Vec<String>>(role)?;
            helpers.push(helper);
            addresses.extend(more);
        }
        let (sink, sink_address) = Helper::start(["sink"])?;
        Ok(Self {
            targets: helpers,
            addresses,
            sink,
            sink_address,
        })
    }

    /// What was counted at both ends since it was last asked for.
    fn take(&mut self) -> Result<(Asked, Arrived)> {
        let mut sum = Asked {
            answers: 0,
            least: if self.targets.is_empty() { 0 } else { u64::MAX },
            most: 0,
            connections: 0,
            refused: 0,
        };
        for helper in &mut self.targets {
            let asked: Asked = helper.take()?;
            sum.answers += asked.answers;
            sum.least = sum.least.min(asked.least);
            sum.most = sum.most.max(asked.most);
            sum.connections += asked.connections;
            sum.refused += asked.refused;
        }
        Ok((sum, self.sink.take()?))
    }

    /// CPU time of targets and sink.
    fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for helper in self.targets.iter().chain([&self.sink]) {
            let cpu = Cpu::of(helper.pid())?;
            sum += cpu.user + cpu.system;
        }
        Ok(sum)
    }
}
