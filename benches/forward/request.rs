//! The requests: their shapes, and how they are made up.
//!
//! The shapes are those of requests made of captured Go profiles: one dictionary
//! without duplicates and orphans, each sample type a profile of its own, stacks
//! that come again with other values. Functions and stacks come from
//! [`SyntheticProfile`]; equal sizes make equal bytes.

use crate::{Result, args::Size};
use bytes::Bytes;
use profile_relay::{
    r#gen::{
        opentelemetry::proto::{
            collector::profiles::v1development::ExportProfilesServiceRequest,
            common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
            profiles::v1development::{
                Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile,
                ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
            },
            resource::v1::Resource,
        },
        pprof,
    },
    profile::pprof::SyntheticProfile,
};
use prost::Message;
use std::{collections::HashMap, time::Duration};

/// How much of everything a request has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) resources: usize,
    pub(crate) profiles: usize,
    pub(crate) samples: usize,
    /// Distinct stacks.
    stacks: usize,
    /// Functions that stacks are walks through.
    functions: usize,
    /// The mean depth of stacks.
    depth: usize,
}

/// What a resource is asked for, as (scope, type, unit); one with `n` profiles has
/// the first `n`.
const KINDS: [(&str, &str, &str); 12] = [
    ("memory", "alloc_objects", "count"),
    ("memory", "alloc_space", "bytes"),
    ("memory", "inuse_objects", "count"),
    ("memory", "inuse_space", "bytes"),
    ("goroutine", "goroutine", "count"),
    ("process_cpu", "samples", "count"),
    ("process_cpu", "cpu", "nanoseconds"),
    ("mutex", "contentions", "count"),
    ("mutex", "delay", "nanoseconds"),
    ("block", "contentions", "count"),
    ("block", "delay", "nanoseconds"),
    ("wall", "wall", "nanoseconds"),
];
/// Programs of the made-up host.
const PROGRAMS: [&str; 8] = [
    "orders", "checkout", "ledger", "gateway", "search", "mailer", "indexer", "billing",
];
/// Values that the samples' one attribute has.
const THREADS: usize = 24;
const TIME: u64 = 1_750_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// splitmix64.
struct Random(u64);

/// A dictionary in the making.
struct Tables {
    dictionary: ProfilesDictionary,
    strings: HashMap<String, i32>,
}

// === impl Size ===

impl Size {
    /// Its shape.
    pub(crate) fn shape(self) -> Shape {
        let shape = |resources, profiles, samples, stacks, functions, depth| Shape {
            resources,
            profiles,
            samples,
            stacks,
            functions,
            depth,
        };
        match self {
            Self::Kb32 => shape(11, 55, 333, 112, 300, 6),
            Self::Kb52 => shape(1, 1, 121, 119, 600, 20),
            Self::Kb256 => shape(52, 384, 8_640, 548, 1_400, 14),
            Self::Mb2 => shape(159, 1_002, 138_451, 3_980, 2_300, 25),
        }
    }
}

/// A request whose first profile has the id `id`.
pub(crate) fn request(size: Size, id: [u8; 16]) -> Result<ExportProfilesServiceRequest> {
    let shape = size.shape();
    let mut random = Random(shape.samples as u64);
    let mut tables = Tables::new();
    tables.add_stacks(&shape)?;
    let threads = tables.add_threads();
    let kinds: Vec<ValueType> = KINDS
        .iter()
        .map(|(_, kind, unit)| ValueType {
            type_strindex: tables.string(kind),
            unit_strindex: tables.string(unit),
        })
        .collect();
    let (mut resource_profiles, mut profiles, mut samples) = (Vec::new(), 0, 0);
    let mut stack = 0;
    for resource in 0..shape.resources {
        let mut scopes: Vec<ScopeProfiles> = Vec::new();
        let until = shape.profiles * (resource + 1) / shape.resources;
        for (kind, profile) in (profiles..until).enumerate() {
            let kind = kind % KINDS.len();
            let until = shape.samples * (profile + 1) / shape.profiles;
            let of =
                (samples..until).map(|at| sample(at, &mut stack, &shape, threads, &mut random));
            let profile = Profile {
                sample_type: Some(kinds[kind]),
                samples: of.collect(),
                time_unix_nano: TIME + random.below(10 * SECOND),
                duration_nano: 10 * SECOND,
                period_type: Some(kinds[kind]),
                period: 524_288,
                profile_id: match profile {
                    0 => Bytes::copy_from_slice(&id),
                    _ => Bytes::new(),
                },
                ..Profile::default()
            };
            samples = until;
            let name = KINDS[kind].0;
            match scopes.last_mut().filter(|scope| is_named(scope, name)) {
                Some(scope) => scope.profiles.push(profile),
                None => scopes.push(made_up_scope(name, profile)),
            }
        }
        profiles = until;
        resource_profiles.push(ResourceProfiles {
            resource: Some(made_up_resource(resource, &mut random)),
            scope_profiles: scopes,
            schema_url: String::new(),
        });
    }
    Ok(ExportProfilesServiceRequest {
        resource_profiles,
        dictionary: Some(tables.dictionary),
    })
}

/// Sample `at` of the request: stacks one after another, as those who walk tables
/// write them, with gaps once each was there.
fn sample(
    at: usize,
    stack: &mut usize,
    shape: &Shape,
    threads: i32,
    random: &mut Random,
) -> Sample {
    let gap = match at < shape.stacks {
        true => 0,
        false => random.rare(16) as usize,
    };
    *stack = (*stack + 1 + gap) % shape.stacks;
    let thread = threads + random.rare(THREADS as u64) as i32;
    Sample {
        stack_index: 1 + *stack as i32,
        attribute_indices: vec![thread],
        values: vec![random.value()],
        ..Sample::default()
    }
}

/// A pod, as an agent on its host describes it.
fn made_up_resource(at: usize, random: &mut Random) -> Resource {
    let program = PROGRAMS[at % PROGRAMS.len()];
    let hash = format!("{:016x}", random.next());
    let pod = format!("{program}-{}-{}", &hash[..10], &hash[10..15]);
    let container = format!("{:016x}{:016x}", random.next(), random.next());
    let text = |text: &str| Value::StringValue(text.to_owned());
    let attributes = [
        ("service.name", text(program)),
        ("service.namespace", text("shop")),
        ("k8s.namespace.name", text("shop-production")),
        ("k8s.pod.name", text(&pod)),
        ("k8s.node.name", text("worker-07.eu-central.example")),
        ("container.id", text(&container)),
        ("host.arch", text("amd64")),
        ("process.pid", Value::IntValue(1_000 + at as i64 * 37)),
    ];
    let attribute = |(key, value): (&str, Value)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    };
    Resource {
        attributes: attributes.map(attribute).to_vec(),
        ..Resource::default()
    }
}

fn made_up_scope(name: &str, profile: Profile) -> ScopeProfiles {
    ScopeProfiles {
        scope: Some(InstrumentationScope {
            name: name.to_owned(),
            version: "1.4.2".to_owned(),
            ..InstrumentationScope::default()
        }),
        profiles: vec![profile],
        schema_url: String::new(),
    }
}

fn is_named(scope: &ScopeProfiles, name: &str) -> bool {
    scope.scope.as_ref().is_some_and(|scope| scope.name == name)
}

// === impl Tables ===

impl Tables {
    /// The zero values that entries 0 are.
    fn new() -> Self {
        let mut tables = Self {
            dictionary: ProfilesDictionary {
                mapping_table: vec![Mapping::default()],
                location_table: vec![Location::default()],
                function_table: vec![Function::default()],
                link_table: vec![Link {
                    trace_id: Bytes::from_static(&[0; 16]),
                    span_id: Bytes::from_static(&[0; 8]),
                }],
                string_table: Vec::new(),
                attribute_table: vec![KeyValueAndUnit::default()],
                stack_table: vec![Stack::default()],
            },
            strings: HashMap::new(),
        };
        tables.string("");
        tables
    }

    fn string(&mut self, text: &str) -> i32 {
        if let Some(at) = self.strings.get(text) {
            return *at;
        }
        let at = self.dictionary.string_table.len() as i32;
        self.dictionary.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), at);
        at
    }

    fn attribute(&mut self, key: &str, value: &str) -> i32 {
        let value = Value::StringValue(value.to_owned());
        let attribute = KeyValueAndUnit {
            key_strindex: self.string(key),
            value: Some(AnyValue { value: Some(value) }),
            unit_strindex: 0,
        };
        self.dictionary.attribute_table.push(attribute);
        self.dictionary.attribute_table.len() as i32 - 1
    }

    /// Stacks, and the locations, functions and mappings below them.
    fn add_stacks(&mut self, shape: &Shape) -> Result<()> {
        let source = SyntheticProfile {
            seed: shape.stacks as u64,
            samples: 3 * shape.stacks,
            functions: shape.functions,
            depth: shape.depth,
            time: Duration::ZERO,
            ..SyntheticProfile::heap(0)
        };
        let source = pprof::Profile::decode(&source.encode_plain()[..])?;
        for (at, program) in PROGRAMS.iter().enumerate() {
            let id = format!("{:040x}", 0x9e37_79b9_7f4a_7c15_u128 << at);
            let build_id = self.attribute("process.executable.build_id.gnu", &id);
            let mapping = Mapping {
                memory_start: 0x40_0000,
                memory_limit: 0x240_0000,
                file_offset: 0,
                filename_strindex: self.string(&format!("/usr/local/bin/{program}")),
                attribute_indices: vec![build_id],
            };
            self.dictionary.mapping_table.push(mapping);
        }
        let (mut stacks, mut places) = (HashMap::new(), HashMap::new());
        for sample in &source.sample {
            if stacks.len() == shape.stacks {
                break;
            }
            if stacks.insert(&sample.location_id, ()).is_some() {
                continue;
            }
            let mut location_indices = Vec::with_capacity(sample.location_id.len());
            for id in &sample.location_id {
                let place = match places.get(id) {
                    Some(place) => *place,
                    None => self.add_location(&source, *id)?,
                };
                places.insert(*id, place);
                location_indices.push(place);
            }
            self.dictionary.stack_table.push(Stack { location_indices });
        }
        match stacks.len() == shape.stacks {
            true => Ok(()),
            false => Err(format!("only {} stacks", stacks.len()).into()),
        }
    }

    /// The place of a location of `source`, whose ids are places counted from 1.
    fn add_location(&mut self, source: &pprof::Profile, id: u64) -> Result<i32> {
        let location = source.location.get(id as usize - 1).ok_or("no location")?;
        let line = location.line.first().ok_or("a location without a line")?;
        let function = source.function.get(line.function_id as usize - 1);
        let function = function.ok_or("no function")?;
        let text = |at: i64| source.string_table.get(at as usize).ok_or("no string");
        let function = Function {
            name_strindex: self.string(text(function.name)?),
            system_name_strindex: self.string(text(function.system_name)?),
            filename_strindex: self.string(text(function.filename)?),
            start_line: 0,
        };
        // A dozen of hundreds are equal; a search is fast enough for a start.
        let functions = &mut self.dictionary.function_table;
        let known = functions.iter().position(|known| *known == function);
        let function_index = known.unwrap_or(functions.len()) as i32;
        if known.is_none() {
            functions.push(function);
        }
        let locations = &mut self.dictionary.location_table;
        locations.push(Location {
            mapping_index: 1 + (id % PROGRAMS.len() as u64) as i32,
            address: location.address,
            lines: vec![Line {
                function_index,
                line: line.line,
                column: 0,
            }],
            attribute_indices: Vec::new(),
        });
        Ok(locations.len() as i32 - 1)
    }

    /// The place of the first of [`THREADS`] attributes.
    fn add_threads(&mut self) -> i32 {
        let first = self.dictionary.attribute_table.len() as i32;
        for thread in 0..THREADS {
            self.attribute("thread.name", &format!("tokio-worker-{thread:02}"));
        }
        first
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

    /// Mostly 0, and below `bound`.
    fn rare(&mut self, bound: u64) -> u64 {
        match self.below(4) {
            0 => self.below(bound),
            _ => 0,
        }
    }

    /// From small to millions; some come again and again, as sizes of allocations do.
    fn value(&mut self) -> i64 {
        let mut source = match self.below(8) {
            0 => Self(self.next()),
            _ => Self(self.below(32)),
        };
        let magnitude = source.below(24).min(source.below(24));
        1 + source.below(1 << magnitude) as i64
    }
}
