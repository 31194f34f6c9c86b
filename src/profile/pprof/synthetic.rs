//! Realistic Go-like profiles, for benches, tests and quick demos.
//!
//! Stacks are walks down a made-up call tree, so that they share their outer
//! frames and some leaves are hot, which is what the size of a real profile and
//! the speed of gzip depend on.

use super::{Frame, ProfileWriter, inflate::compress_at};
use crate::r#gen::pprof::{Label, Mapping};
use bytes::Bytes;
use flate2::Compression;
use prost::Message;
use std::time::{Duration, UNIX_EPOCH};

/// What to make up; equal values make equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticProfile {
    /// Where the randomness starts.
    pub seed: u64,
    /// Samples.
    pub samples: usize,
    /// Functions to choose from.
    pub functions: usize,
    /// The mean depth of stacks.
    pub depth: usize,
    /// Sample types as (type, unit).
    pub sample_types: Vec<(String, String)>,
    /// String labels of the samples: a key, and how many values it has.
    pub labels: Vec<(String, usize)>,
    /// Start of collection since the epoch.
    pub time: Duration,
    /// Length of collection; zero makes no delta profile.
    pub duration: Duration,
}

/// A function to call.
struct MadeUp {
    name: String,
    file: String,
    lines: i64,
    /// Places of the functions it calls.
    calls: Vec<usize>,
}

/// splitmix64.
struct Random(u64);

const MODULES: &[&str] = &[
    "runtime",
    "net/http",
    "encoding/json",
    "database/sql",
    "bytes",
    "strings",
    "compress/flate",
    "google.golang.org/grpc",
    "google.golang.org/grpc/internal/transport",
    "google.golang.org/protobuf/internal/impl",
    "github.com/prometheus/client_golang/prometheus",
    "github.com/acme/orders/internal/store",
    "github.com/acme/orders/internal/checkout",
    "github.com/acme/orders/pkg/ledger",
    "github.com/acme/platform/cache",
    "github.com/acme/platform/telemetry",
];
const TYPES: &[&str] = &[
    "Buffer", "Cache", "Client", "Codec", "Conn", "Decoder", "Encoder", "Handler", "Index",
    "Invoice", "Ledger", "Pool", "Queue", "Reader", "Registry", "Router", "Server", "Session",
    "Stream", "Writer",
];
const VERBS: &[&str] = &[
    "acquire", "append", "build", "close", "compact", "decode", "encode", "fetch", "flush", "grow",
    "load", "lookup", "marshal", "merge", "parse", "process", "read", "release", "resolve",
    "serve", "split", "store", "update", "validate", "write",
];
const NOUNS: &[&str] = &[
    "Batch", "Block", "Body", "Chunk", "Entry", "Field", "Frame", "Header", "Item", "Key", "Line",
    "Message", "Node", "Order", "Page", "Payload", "Record", "Row", "Slice", "Table", "Value",
];

// === impl SyntheticProfile ===

impl SyntheticProfile {
    /// A Go heap profile of about 30 KB gzip, 83 KB inflated, 564 samples.
    pub fn heap(seed: u64) -> Self {
        let types = [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ];
        Self {
            seed,
            samples: 564,
            functions: 600,
            depth: 15,
            sample_types: types.map(|(t, u)| (t.to_owned(), u.to_owned())).to_vec(),
            labels: Vec::new(),
            time: Duration::from_secs(1_750_000_000),
            duration: Duration::ZERO,
        }
    }

    /// The pprof, gzip at level 6, which is about as small as Go's.
    pub fn encode(&self) -> Bytes {
        compress_at(Compression::default(), &self.encode_plain())
    }

    /// The pprof, not compressed.
    pub fn encode_plain(&self) -> Vec<u8> {
        let mut random = Random(self.seed);
        let functions = self.make_up_functions(&mut random);
        let types: Vec<(&str, &str)> = self
            .sample_types
            .iter()
            .map(|(kind, unit)| (kind.as_str(), unit.as_str()))
            .collect();
        let period_type = types.last().copied().unwrap_or(("cpu", "nanoseconds"));
        let time = UNIX_EPOCH + self.time;
        let mut writer = ProfileWriter::new(&types, period_type, 524_288, time, self.duration);
        let program = writer.string("/usr/local/bin/orders");
        let build_id = writer.string("6f2b9f0c1a7d4e58b3");
        let bytes_key = writer.string("bytes");
        for _ in 0..self.samples {
            self.sample(&functions, &mut random, &mut writer);
        }
        let mut profile = writer.into_profile();
        profile.mapping.push(Mapping {
            id: 1,
            memory_start: 0x40_0000,
            memory_limit: 0x240_0000,
            filename: program,
            build_id,
            has_functions: true,
            ..Mapping::default()
        });
        for location in &mut profile.location {
            location.mapping_id = 1;
            location.address = 0x40_1000 + random.below(0x1ff_0000);
        }
        if self.sample_types.iter().any(|(_, unit)| unit == "bytes") {
            for sample in &mut profile.sample {
                let size = 16 << random.below(12);
                spread_over_sizes(&mut sample.value, size);
                sample.label.push(Label {
                    key: bytes_key,
                    num: size,
                    ..Label::default()
                });
            }
        }
        profile.encode_to_vec()
    }

    fn make_up_functions(&self, random: &mut Random) -> Vec<MadeUp> {
        let count = self.functions.max(1);
        let make_up = |place: usize| {
            let module = random.of(MODULES);
            let kind = random.of(TYPES);
            let (verb, noun) = (random.of(VERBS), random.of(NOUNS));
            let file = kind.to_lowercase();
            let (deeper, branches) = (place + 1, 1 + random.below(4));
            let calls = match count - deeper {
                0 => Vec::new(),
                left => {
                    // Mostly near ones, so that stacks get deep.
                    let reach = left.min(4 + count / 8) as u64;
                    let call = |_| deeper + random.below(reach) as usize;
                    (0..branches).map(call).collect()
                }
            };
            MadeUp {
                name: format!("{module}.(*{kind}).{verb}{noun}"),
                file: format!("/home/build/go/pkg/mod/{module}@v1.4.2/{file}.go"),
                lines: 40 + random.below(900) as i64,
                calls,
            }
        };
        (0..count).map(make_up).collect()
    }

    fn sample(&self, functions: &[MadeUp], random: &mut Random, writer: &mut ProfileWriter) {
        let depth = 1 + random.below(2 * self.depth.max(1) as u64) as usize;
        let mut stack = Vec::with_capacity(depth);
        let mut place = random.below(1 + functions.len() as u64 / 16) as usize;
        while stack.len() < depth {
            let function = &functions[place];
            // A function calls from one of its call sites.
            let site = random.skewed(function.calls.len().max(1) as u64);
            stack.push(Frame {
                function: &function.name,
                system_name: &function.name,
                file: &function.file,
                line: function.lines + 7 * site as i64,
            });
            match function.calls.get(site as usize) {
                Some(next) => place = *next,
                None => break,
            }
        }
        stack.reverse();
        let values: Vec<i64> = self.sample_types.iter().map(|_| random.value()).collect();
        let value = |(key, values): &(String, usize)| {
            let value = random.below((*values).max(1) as u64);
            (key.clone(), format!("{key}-{value}"))
        };
        let labels: Vec<(String, String)> = self.labels.iter().map(value).collect();
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        writer.sample(&stack, &values, &labels);
    }
}

/// Makes of values that are (objects, anything) ones that are (objects, space).
fn spread_over_sizes(values: &mut [i64], size: i64) {
    for pair in values.chunks_exact_mut(2) {
        pair[1] = pair[0].saturating_mul(size);
    }
}

// === impl Random ===

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// The lower, the likelier.
    fn skewed(&mut self, bound: u64) -> u64 {
        self.below(bound)
            .min(self.below(bound))
            .min(self.below(bound))
    }

    /// Half of all values are 0, the others from small to millions.
    fn value(&mut self) -> i64 {
        match self.below(2) {
            0 => 0,
            _ => {
                let magnitude = self.skewed(22);
                1 + self.below(1 << magnitude) as i64
            }
        }
    }

    fn of(&mut self, words: &'static [&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }
}
