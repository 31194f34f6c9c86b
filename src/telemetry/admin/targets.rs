//! `/metrics/targets`: figures of each target in Prometheus text 0.0.4.
//!
//! They are kept out of the registry: tens of thousands of series would cost
//! memory all the time and make `/metrics` slow. Each target becomes one compact
//! row when somebody asks, and the text is made from the rows while it is sent.

use super::{AdminState, reply};
use crate::{
    profile::NAME,
    telemetry::{
        metrics::Format,
        status::{Health, Status, TargetStatus},
    },
};
use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures_util::stream;
use std::{
    convert::Infallible,
    fmt::{self, Write},
    time::SystemTime,
};

/// The size at which a piece of the text is sent.
const PIECE: usize = 32 * 1024;

/// What one target shows.
#[derive(Debug, PartialEq)]
struct Row {
    /// `receiver="…",job="…",…`: unique among rows.
    labels: Box<str>,
    up: Option<bool>,
    timestamp: Option<f64>,
    duration: Option<f64>,
    size: Option<u64>,
    /// Scrapes that succeeded, failed, did not take place.
    scrapes: [u64; 3],
}

/// One metric, and how a row's samples of it are written.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    write: fn(&Row, &str, &mut String) -> fmt::Result,
}

/// The text in pieces, family by family.
struct Pieces {
    rows: Vec<Row>,
    family: usize,
    row: usize,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "profile_relay_target_up",
        kind: "gauge",
        help: "Whether the last scrape of the target succeeded.",
        write: |row, name, text| row.gauge(name, row.up.map(u8::from), text),
    },
    Family {
        name: "profile_relay_target_last_scrape_timestamp_seconds",
        kind: "gauge",
        help: "When the last scrape of the target ended.",
        write: |row, name, text| row.gauge(name, row.timestamp, text),
    },
    Family {
        name: "profile_relay_target_last_scrape_duration_seconds",
        kind: "gauge",
        help: "How long the last scrape of the target took.",
        write: |row, name, text| row.gauge(name, row.duration, text),
    },
    Family {
        name: "profile_relay_target_last_scrape_size_bytes",
        kind: "gauge",
        help: "The size of the last good scrape's body, as received.",
        write: |row, name, text| row.gauge(name, row.size, text),
    },
    Family {
        name: "profile_relay_target_scrapes_total",
        kind: "counter",
        help: "Scrapes of the target by outcome: ok, failed, or skipped because the one before was still running.",
        write: Row::outcomes,
    },
];

pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    reply::from_view(move || {
        let pieces = Pieces {
            rows: rows(&state.status),
            family: 0,
            row: 0,
        };
        let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
        reply::with_type(Format::Text.content_type(), body)
    })
    .await
}

/// The rows of all targets that are scraped, sorted; of two with the same
/// labels one is left, because Prometheus refuses a page that has both.
fn rows(status: &Status) -> Vec<Row> {
    let mut rows = Vec::new();
    status.each_target(&mut |target| {
        if target.health != Health::Dropped {
            rows.push(Row::new(&target));
        }
    });
    rows.sort_unstable_by(|a: &Row, b| a.labels.cmp(&b.labels));
    rows.dedup_by(|a, b| a.labels == b.labels);
    rows
}

// === impl Row ===

impl Row {
    fn new(target: &TargetStatus) -> Self {
        let label = |name: &str| target.labels.get(name).map(String::as_str);
        let mut labels = String::new();
        for (name, value) in [
            ("receiver", Some(target.receiver.as_str())),
            ("job", Some(target.job.as_str())),
            ("instance", label("instance")),
            ("url", Some(target.url.as_str())),
            ("profile", label(NAME)),
        ] {
            let Some(value) = value else { continue };
            if !labels.is_empty() {
                labels.push(',');
            }
            labels.push_str(name);
            labels.push_str("=\"");
            push_escaped(value, &mut labels);
            labels.push('"');
        }
        let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        Self {
            labels: labels.into(),
            up: match target.health {
                Health::Up => Some(true),
                Health::Down => Some(false),
                Health::Unknown | Health::Dropped => None,
            },
            timestamp: target
                .last_scrape
                .and_then(since_epoch)
                .map(|since| since.as_secs_f64()),
            duration: target.last_duration_seconds,
            size: target.last_size_bytes,
            scrapes: [
                target.scrapes_ok,
                target.scrapes_failed,
                target.scrapes_skipped,
            ],
        }
    }

    fn gauge(
        &self,
        name: &str,
        value: Option<impl fmt::Display>,
        text: &mut String,
    ) -> fmt::Result {
        match value {
            Some(value) => writeln!(text, "{name}{{{}}} {value}", self.labels),
            None => Ok(()),
        }
    }

    fn outcomes(&self, name: &str, text: &mut String) -> fmt::Result {
        for (outcome, count) in ["ok", "failed", "skipped"].iter().zip(self.scrapes) {
            writeln!(
                text,
                "{name}{{{},outcome=\"{outcome}\"}} {count}",
                self.labels
            )?;
        }
        Ok(())
    }
}

fn push_escaped(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

// === impl Pieces ===

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut text = String::with_capacity(PIECE + 1024);
        while text.len() < PIECE {
            let Some(family) = FAMILIES.get(self.family) else {
                break;
            };
            let name = family.name;
            if self.row == 0 {
                let (help, kind) = (family.help, family.kind);
                // Writing to a String cannot fail.
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
            match self.rows.get(self.row) {
                Some(row) => {
                    let _ = (family.write)(row, name, &mut text);
                    self.row += 1;
                }
                None => {
                    self.family += 1;
                    self.row = 0;
                }
            }
        }
        (!text.is_empty()).then(|| text.into())
    }
}
