//! `/metrics` as numbers, and the law that they must keep.

use std::collections::{BTreeMap, BTreeSet};

/// One page.
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What became of the profiles of one exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    pub recovered: u64,
    pub enqueued: u64,
    pub sent: u64,
    pub dropped: u64,
    pub queued: u64,
}

// === impl Metrics ===

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: samples.map(Sample::parse).collect(),
            text: text.to_owned(),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all series that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let name = format!("profile_relay_{name}");
        let has = |sample: &Sample| {
            labels
                .iter()
                .all(|(name, value)| sample.labels.get(*name).map(String::as_str) == Some(value))
        };
        let fitting = self.samples.iter().filter(|s| s.name == name && has(s));
        fitting.map(|sample| sample.value as u64).sum()
    }

    /// Profiles that receivers accepted.
    pub fn accepted(&self) -> u64 {
        self.sum("receiver_accepted_profiles_total", &[])
    }

    /// Profiles that an exporter dropped for a reason.
    pub fn dropped(&self, exporter: &str, reason: &str) -> u64 {
        let labels = [("exporter", exporter), ("reason", reason)];
        self.sum("exporter_dropped_profiles_total", &labels)
    }

    pub fn books(&self, exporter: &str) -> Books {
        let labels = [("exporter", exporter)];
        let of = |name: &str| self.sum(&format!("exporter_{name}"), &labels);
        Books {
            recovered: of("queue_recovered_profiles"),
            enqueued: of("enqueued_profiles_total"),
            sent: of("sent_profiles_total"),
            dropped: of("dropped_profiles_total"),
            queued: of("queue_profiles"),
        }
    }

    /// What came in is what went out and what is left, for every exporter.
    pub fn assert_law(&self) {
        let name = "profile_relay_exporter_enqueued_profiles_total";
        let counted = self.samples.iter().filter(|s| s.name == name);
        let exporters: BTreeSet<_> = counted.map(|s| s.labels["exporter"].as_str()).collect();
        assert!(!exporters.is_empty(), "no books: {}", self.text);
        for exporter in exporters {
            let books = self.books(exporter);
            assert_eq!(
                books.recovered + books.enqueued,
                books.sent + books.dropped + books.queued,
                "{exporter}: {books:?}"
            );
        }
    }
}

// === impl Sample ===

impl Sample {
    /// `name{label="value",…} 1.5`, with or without labels.
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').expect("closed labels");
        let pairs = labels.split_terminator("\",").filter_map(|pair| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Self {
            name: name.to_owned(),
            labels: pairs.collect(),
            value: value.parse().expect("a number"),
        }
    }
}
