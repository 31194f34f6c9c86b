//! The figures, as tables and as JSON.

use crate::{
    args::{Size, name},
    figures::{mb, median, ms, pair, ratio},
    measure::Spent,
    metrics::{Books, law},
    proc::Memory,
    sent::Sent,
};
use serde::Serialize;
use std::{collections::BTreeMap, thread};

/// One run. Sizes are bytes and times seconds, unless the name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) case: String,
    pub(crate) size: Size,
    /// Which of its part's cases.
    pub(crate) place: usize,
    pub(crate) round: usize,
    /// What a call says.
    pub(crate) body_bytes: usize,
    /// How long calls were made, and how long it took until all had left, too.
    pub(crate) seconds: f64,
    pub(crate) until_drained: f64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// Profiles that had left while calls were made, and in the end.
    pub(crate) in_window: u64,
    pub(crate) delivered: u64,
    /// Profiles at the far end; of OTLP nobody counts them.
    pub(crate) arrived: Option<u64>,
    pub(crate) arrived_requests: u64,
    pub(crate) arrived_bytes: u64,
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// CPUs that the relay, the agents, the far end and others kept busy while calls
    /// were made.
    pub(crate) relay_cores: f64,
    pub(crate) agents_cores: f64,
    pub(crate) sink_cores: f64,
    pub(crate) foreign_cores: f64,
    pub(crate) all_cores: f64,
    pub(crate) rss_median: u64,
    pub(crate) rss_peak: u64,
    pub(crate) anonymous_median: u64,
    /// The most since the process started.
    pub(crate) high_water: u64,
    pub(crate) open_files: usize,
    /// Until the answer.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
    /// How late the agents themselves were.
    pub(crate) lag_p99: Option<f64>,
    pub(crate) books: Vec<Books>,
    /// Warnings and errors in its log: how many, and the first.
    pub(crate) logged: usize,
    pub(crate) complaints: Vec<String>,
}

/// Everything.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    tables: Vec<Shown>,
}

/// A table, with what it is made of.
#[derive(Serialize)]
struct Shown {
    table: Table,
    /// Medians by case and size.
    medians: BTreeMap<String, Medians>,
    runs: Vec<Run>,
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Table {
    Push,
    Agents,
    Handshakes,
    Tls,
}

/// Figures by name.
type Medians = BTreeMap<&'static str, f64>;

/// So many complaints of a run are kept.
const COMPLAINTS: usize = 3;
/// So much of one is printed, in characters.
const COMPLAINT: usize = 300;
/// A helper is one thread: above this share of a CPU it is at its own limit.
const AT_LIMIT: f64 = 0.9;
/// Above this share of all CPUs there is nothing left for anybody.
const FULL: f64 = 0.95;

// === impl Run ===

impl Default for Run {
    fn default() -> Self {
        Self {
            case: String::new(),
            size: Size::Busy,
            place: 0,
            round: 0,
            body_bytes: 0,
            seconds: 0.0,
            until_drained: 0.0,
            accepted: 0,
            refused: 0,
            failed: 0,
            failure: None,
            in_window: 0,
            delivered: 0,
            arrived: None,
            arrived_requests: 0,
            arrived_bytes: 0,
            user_seconds: 0.0,
            system_seconds: 0.0,
            relay_cores: 0.0,
            agents_cores: 0.0,
            sink_cores: 0.0,
            foreign_cores: 0.0,
            all_cores: 0.0,
            rss_median: 0,
            rss_peak: 0,
            anonymous_median: 0,
            high_water: 0,
            open_files: 0,
            answer_p50: None,
            answer_p99: None,
            lag_p99: None,
            books: Vec::new(),
            logged: 0,
            complaints: Vec::new(),
        }
    }
}

impl Run {
    pub(crate) fn add_sent(&mut self, sent: &Sent) {
        self.accepted = sent.accepted;
        self.refused = sent.refused;
        self.failed = sent.failed;
        self.failure = sent.failure.clone();
        self.answer_p50 = sent.answer_p50;
        self.answer_p99 = sent.answer_p99;
        self.lag_p99 = sent.lag_p99;
    }

    /// What was used while calls were made, and until all had left.
    pub(crate) fn add_spent(&mut self, during: &Spent, spent: &Spent) {
        self.seconds = during.length;
        self.until_drained = spent.length;
        self.user_seconds = spent.subject.user.as_secs_f64();
        self.system_seconds = spent.subject.system.as_secs_f64();
        self.relay_cores = during.subject.sum().as_secs_f64() / during.length;
        self.agents_cores = during.agents.as_secs_f64() / during.length;
        self.sink_cores = during.sink.as_secs_f64() / during.length;
        self.foreign_cores = during.foreign.as_secs_f64() / during.length;
        self.all_cores = during.machine.as_secs_f64() / during.length;
    }

    pub(crate) fn add_memory(&mut self, mut samples: Vec<Memory>, high_water: u64) {
        samples.sort_by_key(|memory| memory.resident);
        let middle = samples.get(samples.len() / 2).copied().unwrap_or_default();
        self.rss_median = middle.resident;
        self.anonymous_median = middle.anonymous;
        self.rss_peak = samples.last().map_or(0, |memory| memory.resident);
        self.high_water = high_water;
    }

    pub(crate) fn add_complaints(&mut self, mut complaints: Vec<String>) {
        self.logged = complaints.len();
        complaints.truncate(COMPLAINTS);
        self.complaints = complaints;
    }

    /// Case and size, where that matters.
    fn title(&self) -> String {
        match self.body_bytes {
            0 => self.case.clone(),
            _ => format!("{}, {}", self.case, name(&self.size)),
        }
    }

    /// Accepted and never sent.
    fn lost(&self) -> i64 {
        self.accepted as i64 - self.delivered as i64
    }

    /// The figures of the table.
    fn figures(&self) -> Medians {
        let (delivered, thousands) = (self.delivered as f64, self.delivered as f64 / 1e3);
        let cpu = self.user_seconds + self.system_seconds;
        let offered = (self.accepted + self.refused + self.failed) as f64;
        let rate = self.in_window as f64 / self.seconds;
        let mut figures = Medians::from([
            ("per_second", rate),
            ("per_core", ratio(delivered, cpu)),
            ("mb_per_second", rate * self.body_bytes as f64 / 1e6),
            (
                "refused_percent",
                ratio(100.0 * self.refused as f64, offered),
            ),
            ("cpu_per_1000", ratio(cpu, thousands)),
            ("user_per_1000", ratio(self.user_seconds, thousands)),
            ("system_per_1000", ratio(self.system_seconds, thousands)),
            ("relay_cores", self.relay_cores),
            ("agents_cores", self.agents_cores),
            ("sink_cores", self.sink_cores),
            ("foreign_cores", self.foreign_cores),
            ("rss_median", self.rss_median as f64),
            ("high_water", self.high_water as f64),
            ("open_files", self.open_files as f64),
        ]);
        let known = [
            ("answer_p50", self.answer_p50),
            ("answer_p99", self.answer_p99),
            ("lag_p99", self.lag_p99),
        ];
        figures.extend(known.into_iter().filter_map(|(name, n)| Some((name, n?))));
        figures
    }

    /// All that is not as it should be, and all that says what a figure is worth.
    fn oddities(&self) -> Vec<String> {
        let mut oddities = Vec::new();
        if self.lost() != 0 {
            let (accepted, delivered) = (self.accepted, self.delivered);
            oddities.push(format!("{accepted} accepted, {delivered} sent on"));
        }
        if let Some(arrived) = self.arrived
            && arrived != self.delivered
        {
            oddities.push(format!("{} sent on, {arrived} arrived", self.delivered));
        }
        if self.failed > 0 {
            let why = self.failure.as_deref().unwrap_or_default();
            oddities.push(format!("{} failed: {why}", self.failed));
        }
        for books in self.books.iter().filter(|books| !books.balanced) {
            oddities.push(format!("the books do not balance: {books:?}"));
        }
        if let Some(first) = self.complaints.first() {
            let first: String = first.chars().take(COMPLAINT).collect();
            let count = self.logged;
            oddities.push(format!(
                "{count} warnings and errors logged, the first: {first}"
            ));
        }
        let helpers = [("agents", self.agents_cores), ("far end", self.sink_cores)];
        for (who, cores) in helpers.into_iter().filter(|(_, cores)| *cores > AT_LIMIT) {
            oddities.push(format!(
                "the {who} kept a CPU busy ({cores:.2}): the rate is the limit of that, not of the relay"
            ));
        }
        oddities
    }
}

// === impl Report ===

impl Report {
    /// Takes the runs of a table and prints it. Medians are of those during which
    /// others took no more of the CPUs than this.
    pub(crate) fn add(&mut self, table: Table, mut runs: Vec<Run>, max_foreign: Option<f64>) {
        runs.sort_by_key(|run| (run.place, run.round));
        let quiet = |run: &&Run| max_foreign.is_none_or(|most| run.foreign_cores <= most);
        let mut medians: BTreeMap<String, Medians> = BTreeMap::new();
        table.print_header();
        for of_case in runs.chunk_by(|one, other| one.place == other.place) {
            let Some(first) = of_case.first() else {
                continue;
            };
            let figures: Vec<Medians> = of_case.iter().filter(quiet).map(Run::figures).collect();
            let figures = middle(&figures);
            table.print_row(of_case, &figures);
            medians.insert(first.title(), figures);
        }
        if matches!(table, Table::Handshakes | Table::Tls) {
            print_ratios(&runs, quiet);
        }
        for run in &runs {
            for oddity in run.oddities() {
                println!("{}, round {}: {oddity}", run.title(), run.round);
            }
        }
        print_full(&runs);
        let noisy = runs.iter().filter(|run| !quiet(run)).count();
        if noisy > 0 {
            println!("{noisy} of {} runs were left out", runs.len());
        }
        self.tables.push(Shown {
            table,
            medians,
            runs,
        });
    }
}

fn middle(figures: &[Medians]) -> Medians {
    let names = figures.iter().flat_map(BTreeMap::keys).copied();
    let of = |name| {
        let figures = figures.iter();
        figures.filter_map(move |figures| figures.get(name).copied())
    };
    names
        .filter_map(|name| Some((name, median(of(name))?)))
        .collect()
}

/// What each case costs beside the first, as medians over rounds.
fn print_ratios(runs: &[Run], quiet: impl Fn(&&Run) -> bool) {
    let cpu = |run: &Run| run.figures().get("cpu_per_1000").copied();
    let firsts: Vec<&Run> = runs
        .iter()
        .filter(|run| run.place == 0 && quiet(run))
        .collect();
    for of_case in runs.chunk_by(|one, other| one.place == other.place) {
        let shares = of_case.iter().filter(&quiet).filter_map(|run| {
            let first = firsts.iter().find(|first| first.round == run.round)?;
            Some(ratio(cpu(run)?, cpu(first)?))
        });
        let (Some(run), Some(share)) = (of_case.first(), median(shares)) else {
            continue;
        };
        if let Some(first) = firsts.first()
            && run.place > 0
        {
            println!("{} to {}: {share:.2} of the CPU", run.case, first.case);
        }
    }
}

/// Of how many runs the rates say as much about the machine.
fn print_full(runs: &[Run]) {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let full = runs.iter().filter(|run| run.all_cores > FULL * cpus as f64);
    let full: Vec<f64> = full.map(|run| run.foreign_cores).collect();
    if !full.is_empty() {
        println!(
            "in {} of {} runs none of {cpus} CPUs was idle, others kept up to {:.2} busy: rates and \
             times are the machine's",
            full.len(),
            runs.len(),
            full.iter().copied().fold(0.0, f64::max),
        );
    }
}

// === impl Table ===

impl Table {
    fn print_header(self) {
        let (what, unit) = match self {
            Self::Handshakes => ("handshakes", "handshakes/CPU s"),
            Self::Push | Self::Agents | Self::Tls => ("calls", "calls/CPU s"),
        };
        println!(
            "\n{:<24} {:<5} {:>7} {:>11} {:>16} {:>8} {:>6} {:>12} {:>13} {:>13} {:>11} {:>8} {:>6} {:>15} {:>8} {:>6} {:>7}",
            "",
            "",
            "KB",
            format!("{what}/s"),
            unit,
            "MB/s",
            "CPU %",
            "CPU s/1,000",
            "user/system",
            "RSS MB",
            "answer ms",
            "refused",
            "lost",
            "agents/far end",
            "foreign",
            "files",
            "law",
        );
        println!(
            "{:<24} {:<5} {:>7} {:>11} {:>16} {:>8} {:>6} {:>12} {:>13} {:>13} {:>11} {:>8} {:>6} {:>15} {:>8} {:>6} {:>7}",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "median/most",
            "p50/p99",
            "%",
            "",
            "cores",
            "cores",
            "",
            "",
        );
    }

    fn print_row(self, runs: &[Run], figures: &Medians) {
        let figure = |name: &str| figures.get(name).copied();
        let show = |name: &str, digits: usize| match figure(name) {
            Some(value) => format!("{value:.digits$}"),
            None => "-".to_owned(),
        };
        let size = |name: &str| figure(name).map_or("-".to_owned(), |bytes| mb(bytes as u64));
        let Some(first) = runs.first() else { return };
        let passes = self != Self::Handshakes;
        let if_passing = |text: String| if passes { text } else { "-".to_owned() };
        let worst = runs.iter().map(|run| law(&run.books));
        let worst = worst.fold("-", |worst, law| match (worst, law) {
            ("BROKEN", _) => worst,
            (_, law) => law,
        });
        let percent = figure("relay_cores").map(|cores| format!("{:.1}", 100.0 * cores));
        println!(
            "{:<24} {:<5} {:>7} {:>11} {:>16} {:>8} {:>6} {:>12} {:>13} {:>13} {:>11} {:>8} {:>6} {:>15} {:>8} {:>6} {:>7}",
            first.case,
            if_passing(name(&first.size)),
            if_passing(format!("{:.1}", first.body_bytes as f64 / 1e3)),
            show("per_second", 0),
            show("per_core", 0),
            if_passing(show("mb_per_second", 1)),
            percent.unwrap_or_else(|| "-".to_owned()),
            show("cpu_per_1000", 3),
            pair(show("user_per_1000", 3), show("system_per_1000", 3)),
            pair(size("rss_median"), size("high_water")),
            pair(ms(figure("answer_p50")), ms(figure("answer_p99"))),
            show("refused_percent", 1),
            if_passing(runs.iter().map(Run::lost).sum::<i64>().to_string()),
            pair(show("agents_cores", 2), show("sink_cores", 2)),
            show("foreign_cores", 2),
            if_passing(show("open_files", 0)),
            worst,
        );
    }
}
