//! The figures of a case: a line of the table, and objects of the JSON.

use crate::{
    Result,
    args::{Args, Case, Coding, Protocol},
    figures::{mb, median, pair, ratio},
    generator::Load,
    metrics::{Books, law},
    proc::{Cpu, Memory},
    sent::Sent,
    sink::Arrived,
    template::Template,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// One run. Sizes are bytes and times seconds, unless the name says otherwise.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) subject: &'static str,
    /// `limit`, `half`, `full`, `even` or `idle`.
    pub(crate) name: &'static str,
    pub(crate) round: usize,
    pub(crate) load: Option<Load>,
    /// How long requests were sent.
    pub(crate) seconds: f64,
    /// How long it took until all of them had arrived, too.
    pub(crate) until_drained: f64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// Requests that arrived while others were sent, and until all had.
    pub(crate) in_window: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_bytes: u64,
    /// Of the delivered, those in other bytes; of those, whether the last says the
    /// same; those that nobody can read.
    pub(crate) altered: u64,
    pub(crate) says_the_same: Option<bool>,
    pub(crate) unknown: u64,
    pub(crate) looked_at: u64,
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// CPU time of generator, sink and driver.
    pub(crate) helpers_seconds: f64,
    /// CPUs that other processes kept busy.
    pub(crate) foreign_cores: f64,
    pub(crate) rss_median: u64,
    pub(crate) rss_peak: u64,
    pub(crate) anonymous_median: u64,
    /// The most since the process started.
    pub(crate) high_water: u64,
    /// From sending to arrival.
    pub(crate) delay_p50: Option<f64>,
    pub(crate) delay_p99: Option<f64>,
    pub(crate) delay_max: Option<f64>,
    /// The same without the subject, at the same rate.
    pub(crate) direct_p50: Option<f64>,
    pub(crate) direct_p99: Option<f64>,
    /// From sending to the answer.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
    /// How late the generator itself was.
    pub(crate) lag_p99: Option<f64>,
    pub(crate) books: Vec<Books>,
    /// Warnings and errors in its log: how many, and the first.
    pub(crate) logged: usize,
    pub(crate) complaints: Vec<String>,
}

/// What a run used.
pub(crate) struct Spent {
    pub(crate) subject: Cpu,
    pub(crate) helpers: Cpu,
    pub(crate) foreign: Duration,
    pub(crate) length: Duration,
}

/// Everything.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    pub(crate) idle: Vec<Run>,
    pub(crate) cases: Vec<Shown>,
}

/// A case with all its runs.
#[derive(Serialize)]
pub(crate) struct Shown {
    case: Case,
    /// Bytes of the request before compression.
    plain_bytes: u64,
    /// Medians by subject and by name of the run.
    medians: BTreeMap<&'static str, BTreeMap<&'static str, Medians>>,
    runs: Vec<Run>,
}

/// Figures by name.
type Medians = BTreeMap<&'static str, f64>;

/// The relay's rows, and those that it is compared with.
const RELAY: &str = "relay";
const PEERS: [&str; 2] = ["otelcol", "otelcol, no queue"];
/// So many complaints of a run are kept.
const COMPLAINTS: usize = 3;
/// So much of one is printed, in characters.
const COMPLAINT: usize = 300;

// === impl Run ===

impl Run {
    pub(crate) fn named(self, subject: &'static str, name: &'static str, round: usize) -> Self {
        Self {
            subject,
            name,
            round,
            ..self
        }
    }

    pub(crate) fn add_clock(&mut self, spent: Spent) {
        self.until_drained = spent.length.as_secs_f64();
        self.user_seconds = spent.subject.user.as_secs_f64();
        self.system_seconds = spent.subject.system.as_secs_f64();
        self.helpers_seconds = spent.helpers.sum().as_secs_f64();
        self.foreign_cores = spent.foreign.as_secs_f64() / self.until_drained;
    }

    pub(crate) fn add_memory(&mut self, mut samples: Vec<Memory>, high_water: u64) {
        samples.sort_by_key(|memory| memory.resident);
        let middle = samples.get(samples.len() / 2).copied().unwrap_or_default();
        self.rss_median = middle.resident;
        self.anonymous_median = middle.anonymous;
        self.rss_peak = samples.last().map_or(0, |memory| memory.resident);
        self.high_water = high_water;
    }

    pub(crate) fn add_ends(&mut self, sent: &Sent, arrived: &Arrived) {
        self.accepted = sent.accepted;
        self.refused = sent.refused;
        self.failed = sent.failed;
        self.failure = sent.failure.clone();
        self.answer_p50 = sent.answer_p50;
        self.answer_p99 = sent.answer_p99;
        self.lag_p99 = sent.lag_p99;
        self.delivered = arrived.requests;
        self.delivered_bytes = arrived.bytes;
        self.altered = arrived.altered;
        self.says_the_same = arrived.says_the_same;
        self.unknown = arrived.unknown;
        self.looked_at = arrived.looked_at;
        self.delay_p50 = arrived.delay_p50;
        self.delay_p99 = arrived.delay_p99;
        self.delay_max = arrived.delay_max;
    }

    pub(crate) fn add_complaints(&mut self, mut complaints: Vec<String>) {
        self.logged = complaints.len();
        complaints.truncate(COMPLAINTS);
        self.complaints = complaints;
    }

    /// Requests that arrived in a second.
    pub(crate) fn delivered_rate(&self) -> f64 {
        self.in_window as f64 / self.seconds
    }

    /// What is divided or subtracted: the figures of the table.
    fn figures(&self, plain_bytes: u64) -> Medians {
        let thousands = self.delivered as f64 / 1e3;
        let gigabytes = (self.delivered * plain_bytes) as f64 / 1e9;
        let cpu = self.user_seconds + self.system_seconds;
        let offered = (self.accepted + self.refused + self.failed) as f64;
        let rate = self.delivered_rate();
        let mut figures = Medians::from([
            ("requests_per_second", rate),
            ("mb_per_second", rate * plain_bytes as f64 / 1e6),
            (
                "refused_percent",
                ratio(100.0 * self.refused as f64, offered),
            ),
            ("cpu_per_1000", ratio(cpu, thousands)),
            ("user_per_1000", ratio(self.user_seconds, thousands)),
            ("system_per_1000", ratio(self.system_seconds, thousands)),
            ("cpu_per_gb", ratio(cpu, gigabytes)),
            ("helpers_per_1000", ratio(self.helpers_seconds, thousands)),
            ("foreign_cores", self.foreign_cores),
            ("rss_median", self.rss_median as f64),
            ("high_water", self.high_water as f64),
        ]);
        let difference = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
        let known = [
            ("delay_p50", self.delay_p50),
            ("delay_p99", self.delay_p99),
            ("direct_p50", self.direct_p50),
            ("direct_p99", self.direct_p99),
            ("added_p50", difference(self.delay_p50, self.direct_p50)),
            ("added_p99", difference(self.delay_p99, self.direct_p99)),
            ("answer_p50", self.answer_p50),
            ("answer_p99", self.answer_p99),
            ("lag_p99", self.lag_p99),
        ];
        figures.extend(known.into_iter().filter_map(|(name, n)| Some((name, n?))));
        figures
    }

    /// Whether what arrived is what was sent: `bytes`, `message`, or not.
    fn fidelity(&self) -> &'static str {
        match (self.altered, self.says_the_same) {
            (0, _) if self.delivered > 0 => "bytes",
            (_, Some(true)) if self.unknown == 0 => "message",
            (_, None) => "-",
            _ => "BROKEN",
        }
    }

    fn law(&self) -> &'static str {
        law(&self.books)
    }
}

// === impl Report ===

impl Report {
    /// Takes the runs of a case and prints its rows.
    pub(crate) fn add(&mut self, args: &Args, case: Case, plain_bytes: u64, runs: Vec<Run>) {
        let quiet = |run: &&Run| {
            args.max_foreign
                .is_none_or(|most| run.foreign_cores <= most)
        };
        let mut medians: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for run in &runs {
            let same = |other: &&Run| other.subject == run.subject && other.name == run.name;
            let figures = runs.iter().filter(same).filter(quiet);
            let figures: Vec<Medians> = figures.map(|run| run.figures(plain_bytes)).collect();
            let of_subject = medians.entry(run.subject).or_default();
            of_subject.insert(run.name, middle(&figures));
        }
        let shown = Shown {
            case,
            plain_bytes,
            medians,
            runs,
        };
        shown.print();
        self.cases.push(shown);
    }

    /// What does not fit into the table, and the ratios of the subjects.
    pub(crate) fn print_notes(&self) {
        println!();
        for shown in &self.cases {
            shown
                .runs
                .iter()
                .for_each(|run| print_oddities(shown.case, run));
        }
        for shown in &self.cases {
            shown.print_ratios();
        }
    }
}

fn middle(figures: &[Medians]) -> Medians {
    let names = figures.iter().flat_map(BTreeMap::keys).copied();
    let of = |name| {
        figures
            .iter()
            .filter_map(move |figures| figures.get(name).copied())
    };
    names
        .filter_map(|name| Some((name, median(of(name))?)))
        .collect()
}

fn print_oddities(case: Case, run: &Run) {
    let mut oddities = Vec::new();
    if run.delivered != run.accepted {
        let (accepted, delivered) = (run.accepted, run.delivered);
        oddities.push(format!("{accepted} accepted, {delivered} delivered"));
    }
    if run.failed > 0 {
        let why = run.failure.as_deref().unwrap_or_default();
        oddities.push(format!("{} failed: {why}", run.failed));
    }
    if run.unknown > 0 {
        oddities.push(format!("{} cannot be read", run.unknown));
    }
    for books in run.books.iter().filter(|books| !books.balanced) {
        oddities.push(format!("the books do not balance: {books:?}"));
    }
    if let Some(first) = run.complaints.first() {
        let first: String = first.chars().take(COMPLAINT).collect();
        let count = run.logged;
        oddities.push(format!(
            "{count} warnings and errors logged, the first: {first}"
        ));
    }
    for oddity in oddities {
        let (subject, name, round) = (run.subject, run.name, run.round);
        println!("{case}, {subject}, {name}, round {round}: {oddity}");
    }
}

// === impl Shown ===

impl Shown {
    fn figure(&self, subject: &str, name: &str, figure: &str) -> f64 {
        let figures = self.medians.get(subject).and_then(|runs| runs.get(name));
        let figure = figures.and_then(|figures| figures.get(figure));
        figure.copied().unwrap_or(f64::NAN)
    }

    fn print(&self) {
        for subject in self.medians.keys() {
            self.print_row(subject, "limit", "half");
        }
        if self
            .medians
            .get(RELAY)
            .is_some_and(|runs| runs.contains_key("even"))
        {
            self.print_row(RELAY, "full", "even");
        }
    }

    /// A row of a run with much to do and one with half of it.
    fn print_row(&self, subject: &str, limit: &str, open: &str) {
        let show = |run: &str, figure: &str, digits: usize| {
            let value = self.figure(subject, run, figure);
            match value.is_finite() {
                true => format!("{value:.digits$}"),
                false => "-".to_owned(),
            }
        };
        let both = |figure, digits| pair(show(limit, figure, digits), show(open, figure, digits));
        let times = |stem: &str| {
            let time = |q| {
                let value = self.figure(subject, open, &format!("{stem}_{q}"));
                value.is_finite().then_some(value)
            };
            pair(milliseconds(time("p50")), milliseconds(time("p99")))
        };
        let rss = |run: &str, figure| {
            let value = self.figure(subject, run, figure);
            if value.is_finite() {
                mb(value as u64)
            } else {
                "-".into()
            }
        };
        let worst = |of: fn(&Run) -> &'static str, good: &[&str]| {
            let runs = self.runs.iter().filter(|run| run.subject == subject);
            let runs = runs.filter(|run| run.name == limit || run.name == open);
            let first = runs.clone().next().map_or("-", of);
            runs.map(of)
                .find(|word| !good.contains(word))
                .unwrap_or(first)
        };
        let name = match open {
            "even" => format!("{subject}, even"),
            _ => subject.to_owned(),
        };
        println!(
            "{:<20} {:<17} {:>15} {:>11} {:>7} {:>15} {:>13} {:>11} {:>13} {:>13} {:>13} {:>13} {:>7} {:>6} {:>11}",
            self.case.to_string(),
            name,
            both("requests_per_second", 0),
            both("mb_per_second", 0),
            show(limit, "refused_percent", 1),
            both("cpu_per_1000", 3),
            pair(
                show(open, "user_per_1000", 3),
                show(open, "system_per_1000", 3)
            ),
            both("cpu_per_gb", 2),
            pair(rss(open, "rss_median"), rss(limit, "high_water")),
            times("added"),
            times("direct"),
            times("answer"),
            worst(Run::fidelity, &["bytes", "message", "-"]),
            worst(Run::law, &["holds", "-"]),
            both("foreign_cores", 2),
        );
    }

    fn print_ratios(&self) {
        let known = |subject: &&&str| self.medians.contains_key(**subject);
        if !known(&&RELAY) {
            return;
        }
        for peer in PEERS.iter().filter(known) {
            let times = |figure: &str, run: &str, other: &str| {
                let (relay, peer) = (
                    self.figure(RELAY, run, figure),
                    self.figure(peer, other, figure),
                );
                format!("1/{:.1}", ratio(peer, relay))
            };
            println!(
                "{}, relay to {peer}: CPU {} at the limit, {} at half; RSS {} at the limit, {} at \
                 half; with the same requests CPU {} and {}, RSS {} and {}; requests/s at the \
                 limit {:.2}",
                self.case,
                times("cpu_per_1000", "limit", "limit"),
                times("cpu_per_1000", "half", "half"),
                times("high_water", "limit", "limit"),
                times("rss_median", "half", "half"),
                times("cpu_per_1000", "full", "limit"),
                times("cpu_per_1000", "even", "half"),
                times("high_water", "full", "limit"),
                times("rss_median", "even", "half"),
                ratio(
                    self.figure(RELAY, "limit", "requests_per_second"),
                    self.figure(peer, "limit", "requests_per_second"),
                ),
            );
        }
    }
}

/// With two decimals: what the relay adds is below one.
fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or("-".into(), |seconds| format!("{:.2}", seconds * 1e3))
}

/// What is sent.
pub(crate) fn print_requests(args: &Args) -> Result<()> {
    for &size in &args.sizes {
        let of = |input| {
            Template::new(Case {
                size,
                input,
                output: Coding::None,
                protocol: Protocol::Grpc,
            })
        };
        let (plain, gzip) = (of(Coding::None)?, of(Coding::Gzip)?);
        let shape = size.shape();
        let request = crate::request::request(size, [0; 16])?;
        let tables = request.dictionary.unwrap_or_default();
        println!(
            "{size}: {} bytes, {} gzip; {} resources, {} profiles, {} samples; {} strings, \
             {} functions, {} locations, {} stacks",
            plain.wire.len(),
            gzip.wire.len(),
            shape.resources,
            shape.profiles,
            shape.samples,
            tables.string_table.len(),
            tables.function_table.len(),
            tables.location_table.len(),
            tables.stack_table.len(),
        );
    }
    Ok(())
}

/// What subjects cost that have nothing to do.
pub(crate) fn print_idle(runs: &[Run]) {
    println!();
    for run in runs {
        println!(
            "{} idle: {:.3} CPU s in {:.1} s, RSS {} MB, of it {} anonymous",
            run.subject,
            run.user_seconds + run.system_seconds,
            run.until_drained,
            mb(run.rss_median),
            mb(run.anonymous_median),
        );
    }
}

/// The head of the table.
pub(crate) fn print_header() {
    println!(
        "\n{:<20} {:<17} {:>15} {:>11} {:>7} {:>15} {:>13} {:>11} {:>13} {:>13} {:>13} {:>13} {:>7} {:>6} {:>11}",
        "",
        "",
        "requests/s",
        "MB/s",
        "refused",
        "CPU s/1,000",
        "of it, half",
        "CPU s/GB",
        "RSS MB",
        "added ms",
        "direct ms",
        "answer ms",
        "",
        "",
        "foreign",
    );
    println!(
        "{:<20} {:<17} {:>15} {:>11} {:>7} {:>15} {:>13} {:>11} {:>13} {:>13} {:>13} {:>13} {:>7} {:>6} {:>11}",
        "",
        "",
        "limit/half",
        "limit/half",
        "%",
        "limit/half",
        "user/system",
        "limit/half",
        "half/limit",
        "p50/p99",
        "p50/p99",
        "p50/p99",
        "same",
        "law",
        "cores",
    );
}
