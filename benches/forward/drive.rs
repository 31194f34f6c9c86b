//! What is run in which order, and the measurement of one run.
//!
//! In each round, and in an order of its own, each subject is run twice, as a new
//! process: with as many requests as it takes (*limit*), then with half of what it
//! delivered (*half*). At the same rate, requests are then sent straight to the
//! sink (*direct*): the difference is what the subject adds. At last the relay is
//! run with all that the Collector delivered (*full*), and with half of it (*even*).

use crate::{
    Result,
    args::{Args, Case, Coding, Protocol},
    child::Helper,
    figures::shuffle,
    generator::{Load, Order},
    metrics::Metrics,
    proc::{Cpu, Memory},
    report::{self, Report, Run},
    sent::Sent,
    sink::Arrived,
    subject::{Ready, Subject},
    template::Template,
};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// The processes of one run.
struct Stage {
    sink: Helper,
    generator: Helper,
    /// `None` when requests go straight to the sink.
    subject: Option<Ready>,
    _folder: tempfile::TempDir,
}

/// CPU times of all that is known to run.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    subject: Cpu,
    helpers: Cpu,
    machine: Duration,
}

/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(100);
/// How often somebody looks whether a queue has drained, and how long nothing may
/// arrive before it is taken for drained.
const LOOKING: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(3);
/// Before an idle subject is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Runs all cases and prints what they showed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let subjects = Subject::all(args);
    let mut report = Report::default();
    report::print_requests(args)?;
    if !args.no_idle {
        for subject in &subjects {
            report.idle.push(idle(args, subject)?);
        }
        report::print_idle(&report.idle);
    }
    report::print_header();
    for case in cases(args) {
        let plain = Template::new(case)?.plain.len();
        let mut runs = Vec::new();
        for round in 0..args.rounds {
            rehearse(args, case, &subjects, round, &mut runs)?;
        }
        report.add(args, case, plain as u64, runs);
    }
    report.print_notes();
    args.common.write(&report)
}

fn cases(args: &Args) -> Vec<Case> {
    let mut cases = Vec::new();
    for &protocol in &args.protocol {
        for &size in &args.sizes {
            for &input in &args.input {
                cases.extend(args.output.iter().map(|&output| Case {
                    size,
                    input,
                    output,
                    protocol,
                }));
            }
        }
    }
    cases
}

/// One round of a case.
fn rehearse(
    args: &Args,
    case: Case,
    subjects: &[Subject],
    round: usize,
    runs: &mut Vec<Run>,
) -> Result<()> {
    let mut order: Vec<&Subject> = subjects.iter().collect();
    shuffle(&mut order);
    let mut peer = None;
    for subject in order {
        let limit = perform(args, case, Some(subject), Load::Closed)?;
        let half = limit.delivered_rate() / 2.0;
        runs.push(limit.named(subject.name(), "limit", round));
        add_open(args, case, subject, ("half", half), round, runs)?;
        if matches!(subject, Subject::Otelcol { queue: true, .. }) {
            peer = Some(half);
        }
    }
    let relay = subjects.iter().find(|s| matches!(s, Subject::Relay(_)));
    if let (Some(half), Some(relay)) = (peer, relay) {
        add_open(args, case, relay, ("full", half * 2.0), round, runs)?;
        add_open(args, case, relay, ("even", half), round, runs)?;
    }
    Ok(())
}

/// A run at a fixed rate, and the same without the subject.
fn add_open(
    args: &Args,
    case: Case,
    subject: &Subject,
    (name, rate): (&'static str, f64),
    round: usize,
    runs: &mut Vec<Run>,
) -> Result<()> {
    let mut run = perform(args, case, Some(subject), Load::Open(rate))?;
    let direct = perform(args, case, None, Load::Open(rate))?;
    run.direct_p50 = direct.delay_p50;
    run.direct_p99 = direct.delay_p99;
    runs.push(run.named(subject.name(), name, round));
    Ok(())
}

/// What a subject costs that has nothing to do.
fn idle(args: &Args, subject: &Subject) -> Result<Run> {
    let case = Case {
        size: args.sizes.first().copied().ok_or("no size")?,
        input: Coding::None,
        output: Coding::None,
        protocol: Protocol::Grpc,
    };
    let mut stage = Stage::set(args, case, Some(subject))?;
    thread::sleep(SETTLE);
    let (clock, mut run) = (stage.clock()?, Run::default());
    let memory = stage.watch(args.window)?;
    run.add_clock(stage.clock()?.since(clock));
    run.add_memory(memory, stage.high_water()?);
    Ok(run.named(subject.name(), "idle", 0))
}

/// One run: a new process, the load for a while, until its queue has drained; then
/// the same again, measured.
fn perform(args: &Args, case: Case, subject: Option<&Subject>, load: Load) -> Result<Run> {
    let mut stage = Stage::set(args, case, subject)?;
    let warm = Order {
        load,
        length: args.warm,
    };
    let sent: Sent = stage.generator.ask(&serde_json::to_string(&warm)?)?;
    stage.drain(sent.accepted)?;
    let Arrived { .. } = stage.sink.take()?;
    let clock = stage.clock()?;
    let order = Order {
        load,
        length: args.window,
    };
    stage.generator.tell(&serde_json::to_string(&order)?)?;
    let memory = stage.watch(args.window)?;
    let in_window: u64 = stage.sink.ask("count")?;
    let seconds = clock.at.elapsed().as_secs_f64();
    let sent: Sent = stage.generator.hear()?;
    stage.drain(sent.accepted)?;
    let spent = stage.clock()?.since(clock);
    let mut run = Run {
        load: Some(load),
        seconds,
        in_window,
        ..Run::default()
    };
    run.add_clock(spent);
    run.add_memory(memory, stage.high_water()?);
    run.add_ends(&sent, &stage.sink.take()?);
    if let Some(Ready { running, .. }) = &mut stage.subject {
        running.must_run()?;
        run.books = Metrics::fetch(running.admin)?.books();
        run.add_complaints(running.complaints());
    }
    Ok(run)
}

// === impl Stage ===

impl Stage {
    fn set(args: &Args, case: Case, subject: Option<&Subject>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let role = |role: &str, more: &[String]| {
            let mut all = vec![role.to_owned()];
            all.extend_from_slice(more);
            all.extend(case.arguments());
            all
        };
        let (sink, address) = Helper::start::<SocketAddr>(role("sink", &[]))?;
        let subject = match subject {
            Some(subject) => Some(subject.start(args, case, address, folder.path())?),
            None => None,
        };
        let to = subject.as_ref().map_or(address, |ready| ready.input);
        let to = ["--to".to_owned(), to.to_string()];
        let (generator, _) = Helper::start::<String>(role("generator", &to))?;
        Ok(Self {
            sink,
            generator,
            subject,
            _folder: folder,
        })
    }

    /// Waits until as many requests arrived as were accepted, or no more do.
    fn drain(&mut self, accepted: u64) -> Result<()> {
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET {
            let arrived: u64 = self.sink.ask("count")?;
            if arrived >= accepted {
                return Ok(());
            }
            if arrived != before {
                (before, since) = (arrived, Instant::now());
            }
            thread::sleep(LOOKING);
        }
        Ok(())
    }

    /// The subject's memory over a time.
    fn watch(&mut self, length: Duration) -> Result<Vec<Memory>> {
        let (start, mut memory) = (Instant::now(), Vec::new());
        while start.elapsed() < length {
            if let Some(Ready { running, .. }) = &mut self.subject {
                running.must_run()?;
                memory.push(Memory::of(running.pid())?);
            }
            thread::sleep(SAMPLING.min(length.saturating_sub(start.elapsed())));
        }
        Ok(memory)
    }

    fn high_water(&self) -> Result<u64> {
        match &self.subject {
            Some(Ready { running, .. }) => Ok(Memory::of(running.pid())?.high_water),
            None => Ok(0),
        }
    }

    fn clock(&self) -> Result<Clock> {
        let mut helpers = Cpu::of(std::process::id())?;
        for helper in [&self.sink, &self.generator] {
            helpers = helpers.and(Cpu::of(helper.pid())?);
        }
        Ok(Clock {
            at: Instant::now(),
            subject: match &self.subject {
                Some(Ready { running, .. }) => Cpu::of(running.pid())?,
                None => Cpu::default(),
            },
            helpers,
            machine: Cpu::of_machine()?,
        })
    }
}

// === impl Clock ===

impl Clock {
    /// What was used since `earlier`.
    fn since(self, earlier: Self) -> report::Spent {
        let (subject, helpers) = (
            self.subject.since(earlier.subject),
            self.helpers.since(earlier.helpers),
        );
        let known = subject.sum() + helpers.sum();
        let machine = self.machine.saturating_sub(earlier.machine);
        report::Spent {
            subject,
            helpers,
            foreign: machine.saturating_sub(known),
            length: self.at.duration_since(earlier.at),
        }
    }
}
