//! Reads `/metrics`: fetching, parsing, quantiles and the law of the books.

use super::Result;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// One reading of `/metrics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// `queue_recovered + enqueued = sent + dropped + queue_profiles`, of one exporter.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Books {
    pub(crate) exporter: String,
    pub(crate) recovered: f64,
    pub(crate) enqueued: f64,
    pub(crate) sent: f64,
    pub(crate) dropped: f64,
    pub(crate) queued: f64,
    pub(crate) balanced: bool,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether all books balance, as tables say it.
pub(crate) fn law(books: &[Books]) -> &'static str {
    match books {
        [] => "-",
        books if books.iter().all(|books| books.balanced) => "holds",
        _ => "BROKEN",
    }
}

/// The body of an answer of status 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0, so that the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!(
            "{path} answered {}",
            head.lines().next().unwrap_or_default()
        )
        .into()),
    }
}

// === impl Metrics ===

impl Metrics {
    /// Fetches and parses.
    pub(crate) fn fetch(address: SocketAddr) -> Result<Self> {
        Ok(Self::parse(&get(address, "/metrics")?))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Sample::parse).collect())
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// The sums of a family by the values of one label.
    pub(crate) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.named(name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_default() += sample.value;
        }
        sums
    }

    /// A quantile of what a histogram saw since `earlier`, as Prometheus
    /// estimates it: evenly spread within a bucket.
    pub(crate) fn quantile(&self, earlier: &Self, histogram: &str, q: f64) -> Option<f64> {
        let name = format!("{histogram}_bucket");
        let before = earlier.by(&name, "le");
        let mut buckets: Vec<(f64, f64)> = self
            .by(&name, "le")
            .into_iter()
            .filter_map(|(le, count)| {
                let bound = le.parse().ok()?;
                Some((bound, count - before.get(&le).copied().unwrap_or_default()))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = q * buckets.last()?.1;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below {
                let within = (wanted - below) / (count - below);
                let width = if bound.is_finite() { bound - low } else { 0.0 };
                return Some(low + width * within);
            }
            (low, below) = (bound, count);
        }
        None
    }

    /// The books of all exporters.
    pub(crate) fn books(&self) -> Vec<Books> {
        let family = |name: &str| self.by(&format!("profile_relay_exporter_{name}"), "exporter");
        let (recovered, enqueued) = (
            family("queue_recovered_profiles"),
            family("enqueued_profiles_total"),
        );
        let (sent, dropped) = (
            family("sent_profiles_total"),
            family("dropped_profiles_total"),
        );
        let queued = family("queue_profiles");
        let of =
            |family: &BTreeMap<String, f64>, id: &str| family.get(id).copied().unwrap_or_default();
        queued
            .keys()
            .map(|id| {
                let mut books = Books {
                    exporter: id.clone(),
                    recovered: of(&recovered, id),
                    enqueued: of(&enqueued, id),
                    sent: of(&sent, id),
                    dropped: of(&dropped, id),
                    queued: of(&queued, id),
                    balanced: false,
                };
                books.balanced =
                    books.recovered + books.enqueued == books.sent + books.dropped + books.queued;
                books
            })
            .collect()
    }
}

// === impl Sample ===

impl Sample {
    /// `name{label="value",…} value`; `None` for comments and anything else.
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = match line.split_once('}') {
            Some(parts) => parts,
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.split("\",").filter_map(|pair| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some(Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.split_whitespace().next()?.parse().ok()?,
        })
    }
}
