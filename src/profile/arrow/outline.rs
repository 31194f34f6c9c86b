//! What a message is, without decoding a column.

use super::{
    Arrow, Schema, Table, Unreadable,
    decode::decode,
    read::{self, LABEL_PREFIX, LABELS},
    stream::Stream,
};
use bytes::Bytes;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Which message of which schema.
    pub part: Part,
    /// Samples, or stacks of a table of them.
    pub rows: u64,
    /// The bytes of schema and columns when they are not compressed: what a limit on
    /// inflated bytes is about, here and everywhere in this module.
    pub inflated: u64,
    /// The bytes that decoding takes, of everything: arrays, and the [`Table`] that
    /// is made of them.
    pub decoded: u64,
}

/// A message of parca-agent's protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The samples of schema v1, which name stacks by id.
    V1Samples,
    /// The stacks of schema v1.
    V1Stacks,
    /// All of schema v2.
    V2,
}

/// The key of the schema's metadata that names its version.
pub(super) const VERSION_KEY: &str = "parca_write_schema_version";

/// The columns of samples that are read, beside labels; `temporality` may lack.
const SAMPLES: [&str; 10] = [
    "stacktrace_id",
    "value",
    "producer",
    "sample_type",
    "sample_unit",
    "period_type",
    "period_unit",
    "period",
    "duration",
    "timestamp",
];
const STACKS: [&str; 2] = ["stacktrace_id", "locations"];

/// What a message is, and what decoding it takes. It must have the columns that it
/// is to have; further ones are no error.
pub fn outline(message: &Bytes) -> Result<Outline, Unreadable> {
    let stream = Stream::walk(message)?;
    let part = part(&stream)?;
    Ok(Outline {
        part,
        rows: stream.census.rows,
        inflated: stream.census.inflated(),
        decoded: stream.census.decoded(),
    })
}

fn part(stream: &Stream<'_>) -> Result<Part, Unreadable> {
    let has = |name: &str| stream.columns().any(|column| column == name);
    let found = stream.metadata(VERSION_KEY).unwrap_or_default();
    let (part, version, columns) = match found {
        "v1" if has("locations") => (Part::V1Stacks, "v1", STACKS.as_slice()),
        "v1" => (Part::V1Samples, "v1", SAMPLES.as_slice()),
        "v2" => (Part::V2, "v2", SAMPLES.as_slice()),
        _ => {
            let found = found.chars().take(32).collect();
            return Err(Unreadable::Version { found });
        }
    };
    let further = if part == Part::V2 {
        ["labels", "stacktrace"].as_slice()
    } else {
        &[]
    };
    match columns.iter().chain(further).find(|name| !has(name)) {
        Some(column) => Err(Unreadable::NoColumn { version, column }),
        None => Ok(part),
    }
}

/// Walks a message that has to be of a kind, of no more than `max` inflated bytes.
pub(super) fn open<'m>(
    message: &'m Bytes,
    expected: Part,
    max: u64,
) -> Result<Stream<'m>, Unreadable> {
    let stream = Stream::walk(message)?;
    if part(&stream)? != expected {
        return Err(Unreadable::Shape(
            "it is another message than is expected here",
        ));
    }
    within(&stream, max)?;
    Ok(stream)
}

/// Whether a message has no more than `max` inflated bytes.
pub(super) fn within(stream: &Stream<'_>, max: u64) -> Result<(), Unreadable> {
    let inflated = stream.census.inflated();
    match inflated > max {
        true => Err(Unreadable::TooLarge { inflated, max }),
        false => Ok(()),
    }
}

/// Whether a column of samples holds labels.
pub(super) fn is_labels(name: &str) -> bool {
    name == LABELS || name.starts_with(LABEL_PREFIX)
}

/// Whether a column of samples is read.
fn is_read(name: &str) -> bool {
    is_labels(name) || name == "temporality" || name == "stacktrace" || SAMPLES.contains(&name)
}

// === impl Arrow ===

impl Arrow {
    /// The bytes that [`Arrow::decode`] takes, those that arrived not included: to be
    /// charged before. `max` bounds its inflated bytes.
    pub fn decoded(&self, max: u64) -> Result<u64, Unreadable> {
        let samples = Stream::walk(self.samples())?;
        within(&samples, max)?;
        let mut decoded = samples.census.decoded();
        if let Some(stacks) = self.stacks() {
            let stacks = Stream::walk(stacks)?;
            within(&stacks, max - samples.census.inflated())?;
            decoded = decoded.saturating_add(stacks.census.decoded());
        }
        Ok(decoded)
    }

    /// What it says. `max` bounds its inflated bytes; [`Arrow::decoded`] is what
    /// decoding takes. Columns that the relay does not know are left out.
    pub fn decode(&self, max: u64) -> Result<Table, Unreadable> {
        match (self.schema(), self.stacks()) {
            (Schema::V1, Some(stacks)) => {
                let stream = open(self.samples(), Part::V1Samples, max)?;
                let left = max - stream.census.inflated();
                let table = open(stacks, Part::V1Stacks, left)?;
                let samples = decode(self.samples(), &stream, is_read)?;
                let is_read = |name: &str| STACKS.contains(&name) || name == "is_complete";
                let stacks = decode(stacks, &table, is_read)?;
                read::v1(&samples, &stacks)
            }
            _ => {
                let stream = open(self.samples(), Part::V2, max)?;
                read::v2(&decode(self.samples(), &stream, is_read)?)
            }
        }
    }
}
