//! The measurement of one run: new processes, the load for a while until the relay's
//! queue is empty, then the same again, measured.

use crate::{
    Result,
    agents::{Load, Order},
    args::{Args, Far, Size, Way, Work},
    body::Body,
    child::Helper,
    metrics::{Books, Metrics},
    proc::{Cpu, Memory, open_files},
    report::Run,
    sent::Sent,
    sink::Arrived,
    subject::{Around, Subject},
};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The name of its rows.
    pub(crate) name: String,
    pub(crate) way: Way,
    pub(crate) size: Size,
    pub(crate) load: Load,
    pub(crate) around: Around,
    pub(crate) warm: Duration,
    pub(crate) window: Duration,
}

/// The processes of one run.
struct Stage {
    sink: Helper,
    agents: Helper,
    subject: Subject,
    _folder: tempfile::TempDir,
}

/// CPU times of all that is known to run.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    subject: Cpu,
    agents: Cpu,
    sink: Cpu,
    driver: Cpu,
    machine: Duration,
}

/// What was used between two readings.
pub(crate) struct Spent {
    pub(crate) length: f64,
    pub(crate) subject: Cpu,
    pub(crate) agents: Duration,
    pub(crate) sink: Duration,
    /// By other processes.
    pub(crate) foreign: Duration,
    /// By all.
    pub(crate) machine: Duration,
}

/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(100);
/// How often somebody looks whether a queue has drained, and how long nothing may
/// leave before it is taken for stuck.
const LOOKING: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_secs(5);

// === impl Case ===

impl Case {
    /// What agents do in it.
    pub(crate) fn work(&self) -> Work {
        Work {
            call: self.way.call(),
            size: self.size,
        }
    }

    /// Runs it once.
    pub(crate) fn perform(&self, args: &Args) -> Result<Run> {
        let helper = |arguments| Helper::start::<String>(arguments).map(|(helper, _)| helper);
        let mut stage = Stage::set(args, &self.around, |to| {
            let (to, count) = (to.to_string(), self.around.connections.to_string());
            let mut arguments = ["agents", "--to", &to, "--count", &count]
                .map(str::to_owned)
                .to_vec();
            arguments.extend(self.work().arguments());
            arguments.extend(self.around.inward.arguments());
            helper(arguments)
        })?;
        let order = |length| {
            let load = self.load;
            serde_json::to_string(&Order { load, length })
        };
        let Sent { .. } = stage.agents.ask(&order(self.warm)?)?;
        let before = stage.drain()?;
        let Arrived { .. } = stage.sink.take()?;
        let clock = stage.clock()?;
        stage.agents.tell(&order(self.window)?)?;
        let memory = stage.watch(self.window)?;
        let in_window = sent_on(&stage.books()?) - before;
        let during = stage.clock()?.since(&clock);
        let open_files = open_files(stage.subject.running.pid())?;
        let sent = stage.agents.hear()?;
        let after = stage.drain()?;
        let spent = stage.clock()?.since(&clock);
        let arrived: Arrived = stage.sink.take()?;
        let mut run = Run {
            body_bytes: Body::new(self.work())?.len(),
            in_window,
            delivered: after - before,
            arrived: (self.around.far != Far::Otlp).then_some(arrived.profiles),
            arrived_requests: arrived.requests,
            arrived_bytes: arrived.bytes,
            open_files,
            ..Run::default()
        };
        run.add_sent(&sent);
        stage.finish(&mut run, during, &spent, memory)?;
        Ok(run)
    }

    /// The same with clients that connect and leave.
    pub(crate) fn perform_handshakes(&self, args: &Args) -> Result<Run> {
        let mut stage = Stage::set(args, &self.around, |to| {
            let mut arguments = vec!["handshakes".to_owned(), "--to".to_owned(), to.to_string()];
            arguments.extend(self.around.inward.arguments());
            Ok(Helper::start::<String>(arguments)?.0)
        })?;
        let Sent { .. } = stage.agents.ask(&serde_json::to_string(&self.warm)?)?;
        let clock = stage.clock()?;
        let window = serde_json::to_string(&self.window)?;
        stage.agents.tell(&window)?;
        let memory = stage.watch(self.window)?;
        let during = stage.clock()?.since(&clock);
        let sent: Sent = stage.agents.hear()?;
        let spent = stage.clock()?.since(&clock);
        let mut run = Run {
            in_window: sent.accepted,
            delivered: sent.accepted,
            ..Run::default()
        };
        run.add_sent(&sent);
        stage.finish(&mut run, during, &spent, memory)?;
        Ok(run)
    }
}

/// Profiles that were sent since the start.
fn sent_on(books: &[Books]) -> u64 {
    books.iter().map(|books| books.sent).sum::<f64>() as u64
}

// === impl Stage ===

impl Stage {
    fn set(
        args: &Args,
        around: &Around,
        agents: impl FnOnce(SocketAddr) -> Result<Helper>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let far = crate::args::name(&around.far);
        let mut arguments = ["sink", "--far", &far].map(str::to_owned).to_vec();
        arguments.extend(around.outward.arguments());
        let (sink, address) = Helper::start::<SocketAddr>(arguments)?;
        let subject = Subject::start(args, around, address, folder.path())?;
        Ok(Self {
            sink,
            agents: agents(subject.input)?,
            subject,
            _folder: folder,
        })
    }

    fn books(&self) -> Result<Vec<Books>> {
        Ok(Metrics::fetch(self.subject.running.admin)?.books())
    }

    /// Waits until nothing waits, or no more leaves; how many were sent since the
    /// start.
    fn drain(&mut self) -> Result<u64> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            self.subject.running.must_run()?;
            let books = self.books()?;
            let sent = sent_on(&books);
            let empty = books.iter().all(|books| books.queued <= 0.0);
            if empty || (sent == before && since.elapsed() > QUIET) {
                return Ok(sent);
            }
            if sent != before {
                (before, since) = (sent, Instant::now());
            }
            thread::sleep(LOOKING);
        }
    }

    /// The relay's memory over a time.
    fn watch(&mut self, length: Duration) -> Result<Vec<Memory>> {
        let (start, mut memory) = (Instant::now(), Vec::new());
        while start.elapsed() < length {
            self.subject.running.must_run()?;
            memory.push(Memory::of(self.subject.running.pid())?);
            thread::sleep(SAMPLING.min(length.saturating_sub(start.elapsed())));
        }
        Ok(memory)
    }

    fn finish(
        &mut self,
        run: &mut Run,
        during: Spent,
        spent: &Spent,
        memory: Vec<Memory>,
    ) -> Result<()> {
        let running = &mut self.subject.running;
        running.must_run()?;
        let high_water = Memory::of(running.pid())?.high_water;
        run.add_spent(&during, spent);
        run.add_memory(memory, high_water);
        run.add_complaints(running.complaints());
        run.books = self.books()?;
        Ok(())
    }

    fn clock(&self) -> Result<Clock> {
        Ok(Clock {
            at: Instant::now(),
            subject: Cpu::of(self.subject.running.pid())?,
            agents: Cpu::of(self.agents.pid())?,
            sink: Cpu::of(self.sink.pid())?,
            driver: Cpu::of(std::process::id())?,
            machine: Cpu::of_machine()?,
        })
    }
}

// === impl Clock ===

impl Clock {
    /// What was used since `earlier`.
    fn since(self, earlier: &Self) -> Spent {
        let subject = self.subject.since(earlier.subject);
        let agents = self.agents.since(earlier.agents).sum();
        let sink = self.sink.since(earlier.sink).sum();
        let driver = self.driver.since(earlier.driver).sum();
        let machine = self.machine.saturating_sub(earlier.machine);
        let known = subject.sum() + agents + sink + driver;
        Spent {
            length: self.at.duration_since(earlier.at).as_secs_f64(),
            subject,
            agents,
            sink,
            foreign: machine.saturating_sub(known),
            machine,
        }
    }
}
