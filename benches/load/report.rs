//! The figures of a case: a line of the table, and an object of the JSON.

use crate::{
    drive::Arrived,
    figures::{mb, ms, pair, ratio},
    metrics::{Books, Metrics, law},
    proc::Memory,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// One subject with one number of targets, over one window. Sizes are bytes and
/// times seconds, unless the name says otherwise.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: &'static str,
    pub(crate) targets: usize,
    pub(crate) seconds: f64,
    /// Answers that targets gave.
    pub(crate) asked: u64,
    /// Questions for anything but the two profiles.
    pub(crate) refused: u64,
    /// The fewest and the most answers that one target gave, of both profiles.
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// Profiles that arrived.
    pub(crate) delivered: u64,
    /// Of these, those with another body than the target gave.
    pub(crate) altered: u64,
    pub(crate) requests: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// CPU time of targets and sink.
    pub(crate) helpers_seconds: f64,
    /// User and system time for 1,000 profiles that arrived.
    pub(crate) cpu_per_1000: Option<f64>,
    pub(crate) rss_mean: u64,
    pub(crate) rss_peak: u64,
    pub(crate) anonymous_mean: u64,
    /// The most since the process started.
    pub(crate) high_water: u64,
    pub(crate) connections: u64,
    pub(crate) open_files: usize,
    /// Scrapes by outcome; empty where the subject does not say.
    pub(crate) scrapes: BTreeMap<String, f64>,
    pub(crate) scrape_p50: Option<f64>,
    pub(crate) scrape_p99: Option<f64>,
    pub(crate) delivery_p50: Option<f64>,
    pub(crate) delivery_p99: Option<f64>,
    pub(crate) delivery_max: Option<f64>,
    pub(crate) books: Vec<Books>,
    /// Warnings and errors in its log.
    pub(crate) complaints: Vec<String>,
}

const SCRAPES: &str = "profile_relay_scrapes_total";
/// So many complaints of a case are printed; the JSON has all.
const SHOWN: usize = 3;
const DURATION: &str = "profile_relay_scrape_duration_seconds";

// === impl Row ===

impl Row {
    pub(crate) fn add_memory(&mut self, samples: &[Memory]) {
        let count = samples.len().max(1) as u64;
        let mean = |of: fn(&Memory) -> u64| samples.iter().map(of).sum::<u64>() / count;
        self.rss_mean = mean(|memory| memory.resident);
        self.anonymous_mean = mean(|memory| memory.anonymous);
        let resident = samples.iter().map(|memory| memory.resident);
        self.rss_peak = resident.max().unwrap_or_default();
    }

    pub(crate) fn add_arrived(&mut self, arrived: &Arrived) {
        self.delivered = arrived.profiles;
        self.altered = arrived.altered;
        self.requests = arrived.requests;
        self.sent_bytes = arrived.message_bytes;
        self.delivery_p50 = arrived.delay_p50;
        self.delivery_p99 = arrived.delay_p99;
        self.delivery_max = arrived.delay_max;
        let cpu = self.user_seconds + self.system_seconds;
        let thousands = self.delivered as f64 / 1e3;
        self.cpu_per_1000 = (self.delivered > 0).then(|| cpu / thousands);
    }

    pub(crate) fn add_metrics(&mut self, before: &Metrics, after: &Metrics) {
        let earlier = before.by(SCRAPES, "outcome");
        self.scrapes = after.by(SCRAPES, "outcome");
        for (outcome, count) in &mut self.scrapes {
            *count -= earlier.get(outcome).copied().unwrap_or_default();
        }
        self.scrape_p50 = after.quantile(before, DURATION, 0.5);
        self.scrape_p99 = after.quantile(before, DURATION, 0.99);
        self.books = after.books();
    }

    /// Scrapes that took place and brought nothing.
    fn failed(&self) -> f64 {
        self.count(|outcome| outcome != "ok" && !outcome.starts_with("skipped"))
    }

    /// Scrapes that did not take place.
    fn skipped(&self) -> f64 {
        self.count(|outcome| outcome.starts_with("skipped"))
    }

    fn count(&self, which: impl Fn(&str) -> bool) -> f64 {
        let scrapes = self.scrapes.iter();
        scrapes
            .filter(|(outcome, _)| which(outcome))
            .map(|(_, n)| n)
            .sum()
    }

    fn law(&self) -> &'static str {
        law(&self.books)
    }
}

/// The head of the table.
pub(crate) fn print_header() {
    println!(
        "\n{:<7}{:>8} {:>16} {:>6} {:>6} {:>18} {:>15} {:>6} {:>6} {:>11} {:>13} {:>13} {:>7} {:>7}",
        "",
        "",
        "profiles/s",
        "CPU",
        "CPU s",
        "of it user/system",
        "RSS mean/peak",
        "anon",
        "HWM",
        "failed/",
        "scrape ms",
        "delivery ms",
        "reqs/s",
        "law"
    );
    println!(
        "{:<7}{:>8} {:>16} {:>6} {:>6} {:>18} {:>15} {:>6} {:>6} {:>11} {:>13} {:>13} {:>7} {:>7}",
        "",
        "targets",
        "asked/delivered",
        "%",
        "/1,000",
        "/1,000",
        "MB",
        "MB",
        "MB",
        "skipped",
        "p50/p99",
        "p50/p99",
        "",
        ""
    );
}

/// One line of the table.
pub(crate) fn print_row(row: &Row) {
    let rate = |count: u64| format!("{:.1}", count as f64 / row.seconds);
    let share = |seconds: f64| match row.delivered {
        0 => "-".to_owned(),
        profiles => format!("{:.3}", seconds * 1e3 / profiles as f64),
    };
    let cpu = row.user_seconds + row.system_seconds;
    let known = !row.scrapes.is_empty();
    let scrapes = |count: f64| if known { count.to_string() } else { "-".into() };
    println!(
        "{:<7}{:>8} {:>16} {:>6.1} {:>6} {:>18} {:>15} {:>6} {:>6} {:>11} {:>13} {:>13} {:>7} {:>7}",
        row.subject,
        row.targets,
        pair(rate(row.asked), rate(row.delivered)),
        100.0 * cpu / row.seconds,
        share(cpu),
        pair(share(row.user_seconds), share(row.system_seconds)),
        pair(mb(row.rss_mean), mb(row.rss_peak)),
        mb(row.anonymous_mean),
        mb(row.high_water),
        pair(scrapes(row.failed()), scrapes(row.skipped())),
        pair(ms(row.scrape_p50), ms(row.scrape_p99)),
        pair(ms(row.delivery_p50), ms(row.delivery_p99)),
        rate(row.requests),
        row.law(),
    );
}

/// What does not fit into the table, and the ratios of the two subjects.
pub(crate) fn print_notes(rows: &[Row]) {
    println!();
    for row in rows {
        println!(
            "{} {}: answers of a target {} to {}, {} connections, {} open files, {} altered, \
             {} asked in vain, {} bytes sent, delivery at most {:.1} ms, helpers {:.3} CPU s per \
             1,000, {} warnings and errors logged",
            row.subject,
            row.targets,
            row.least,
            row.most,
            row.connections,
            row.open_files,
            row.altered,
            row.refused,
            row.sent_bytes,
            row.delivery_max.unwrap_or_default() * 1e3,
            row.helpers_seconds * 1e3 / row.delivered.max(1) as f64,
            row.complaints.len(),
        );
        let bad = row
            .scrapes
            .iter()
            .filter(|(name, n)| *name != "ok" && **n > 0.0);
        for (outcome, count) in bad {
            println!("  scrapes {outcome}: {count}");
        }
        for books in row.books.iter().filter(|books| !books.balanced) {
            println!("  the books do not balance: {books:?}");
        }
        for line in row.complaints.iter().take(SHOWN) {
            println!("  {line}");
        }
    }
    let relays = rows.iter().filter(|row| row.subject == "relay");
    for relay in relays {
        let same = |row: &&Row| row.subject == "parca" && row.targets == relay.targets;
        let Some(parca) = rows.iter().find(same) else {
            continue;
        };
        println!(
            "relay/parca at {} targets: CPU per 1,000 {:.3}, RSS {:.3}, anonymous {:.3}",
            relay.targets,
            ratio(
                relay.cpu_per_1000.unwrap_or(f64::NAN),
                parca.cpu_per_1000.unwrap_or_default()
            ),
            ratio(relay.rss_mean as f64, parca.rss_mean as f64),
            ratio(relay.anonymous_mean as f64, parca.anonymous_mean as f64),
        );
    }
}
