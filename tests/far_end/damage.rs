//! Profiles damaged by hand: every input that was seen to end a Parca, to spoil
//! its answers or to be refused, and some that look odd and are fine.

mod cases;

use super::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use bytes::Bytes;
use prost::Message;
use std::io::Write;

/// When the base profile was made, nanoseconds since the epoch.
pub const TIME: i64 = 1_780_000_000_000_000_000;

/// What the exporter must do with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The body leaves byte for byte, and so do the labels.
    Same,
    /// It is mended by this rule, and perhaps by others too.
    Mended(&'static str),
    /// It is dropped by this rule.
    Dropped(&'static str),
}

/// One input.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is wrong with it; also the value of its label `case`.
    pub name: &'static str,
    /// The labels beside `case`.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Bytes,
    /// What must become of it.
    pub expected: Expected,
}

/// String indices of [`base`].
mod text {
    pub(super) const SAMPLES: i64 = 1;
    pub(super) const COUNT: i64 = 2;
    pub(super) const CPU: i64 = 3;
    pub(super) const NANOSECONDS: i64 = 4;
    pub(super) const MAIN: i64 = 5;
    pub(super) const WORK: i64 = 6;
    pub(super) const FILE: i64 = 7;
    pub(super) const BINARY: i64 = 8;
    pub(super) const BUILD_ID: i64 = 9;
    pub(super) const KEY: i64 = 10;
    pub(super) const VALUE: i64 = 11;
    pub(super) const LEN: i64 = 12;
}

/// A good profile: two sample types, two stacks, one with a label.
pub fn base() -> Profile {
    let strings = [
        "",
        "samples",
        "count",
        "cpu",
        "nanoseconds",
        "main.main",
        "main.work",
        "main.go",
        "/usr/bin/app",
        "0123456789abcdef0123456789abcdef01234567",
        "api",
        "query",
    ];
    let line = |function_id, line| Line { function_id, line };
    let location = |id, function_id| Location {
        id,
        mapping_id: 1,
        address: 0x1000 * id,
        line: vec![line(function_id, id as i64 * 10)],
    };
    let function = |id, name| Function {
        id,
        name,
        system_name: name,
        filename: text::FILE,
        start_line: 1,
    };
    Profile {
        sample_type: vec![
            value_type(text::SAMPLES, text::COUNT),
            value_type(text::CPU, text::NANOSECONDS),
        ],
        sample: vec![
            Sample {
                location_id: vec![2, 1],
                value: vec![3, 30_000_000],
                label: vec![Label {
                    key: text::KEY,
                    str: text::VALUE,
                    ..Label::default()
                }],
            },
            Sample {
                location_id: vec![1],
                value: vec![1, 10_000_000],
                label: Vec::new(),
            },
        ],
        mapping: vec![Mapping {
            id: 1,
            memory_start: 0x1000,
            memory_limit: 0x9000,
            filename: text::BINARY,
            build_id: text::BUILD_ID,
        }],
        location: vec![location(1, 1), location(2, 2)],
        function: vec![function(1, text::MAIN), function(2, text::WORK)],
        string_table: strings
            .iter()
            .map(|s| Bytes::from_static(s.as_bytes()))
            .collect(),
        time_nanos: TIME,
        duration_nanos: 10_000_000_000,
        period_type: Some(value_type(text::CPU, text::NANOSECONDS)),
        period: 10_000_000,
    }
}

/// All inputs.
pub fn cases() -> Vec<Case> {
    cases::all()
}

/// The base profile with one to four random bytes changed, `count` times; the
/// same ones every time.
pub fn mutants(count: usize) -> impl Iterator<Item = Bytes> {
    let plain = base().encode_to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    (0..count).map(move |_| {
        let mut mutant = plain.clone();
        for _ in 0..=random(4) {
            let at = random(mutant.len());
            mutant[at] = random(256) as u8;
        }
        mutant.into()
    })
}

/// `plain` as gzip.
pub fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("memory takes all");
    encoder.finish().expect("memory takes all").into()
}

fn value_type(kind: i64, unit: i64) -> ValueType {
    ValueType { kind, unit }
}
