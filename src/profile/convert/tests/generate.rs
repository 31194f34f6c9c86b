//! Random pprofs and random OTLP.

use crate::r#gen::{
    opentelemetry::proto::{
        common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
        profiles::v1development as otlp,
    },
    pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType},
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

/// Texts of functions, files, labels.
const WORDS: [&str; 10] = [
    "",
    "main",
    "net/http.(*conn).serve",
    "größe µ",
    "/usr/bin/app",
    "tenant",
    "thread.name",
    "bytes",
    "a long text that repeats itself, a long text that repeats itself, a long text that repeats itself, and so on",
    "x",
];
const TYPES: [(&str, &str); 4] = [
    ("samples", "count"),
    ("cpu", "nanoseconds"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
];
const BUILD_IDS: [&str; 3] = [
    "",
    "8d6ef1e0cbe8c0a4a0b4a6b6ea1f9c3c5b2f0d11",
    "iOkXYCOfRbCVMQNLjzY4/-u9QCMBBEs6HcGuUqzBu/ABoT9WdTsb2frvJa8E10/N7bbDY2RwRlHDV6Nwf8h",
];

/// Healthy pprofs, small and odd.
pub(super) fn pprofs() -> impl Strategy<Value = Profile> {
    let sample = (
        vec(any::<u8>(), 0..6),
        vec(prop_oneof![Just(0_i64), -9..1_000_i64], 4),
        vec((1..WORDS.len() as i64, any::<u8>()), 0..4),
    );
    let tables = (
        vec(any::<(u8, u8, u8, u8)>(), 0..3),
        vec(any::<(u8, u8, u8, u8)>(), 1..6),
        vec(
            (any::<u8>(), any::<u16>(), vec(any::<(u8, u8, u8)>(), 0..3)),
            1..8,
        ),
    );
    let rest = (
        1..=TYPES.len(),
        vec(0..WORDS.len() as i64, 0..3),
        [
            0..WORDS.len() as i64,
            0..WORDS.len() as i64,
            0..WORDS.len() as i64,
        ],
        (1..i64::MAX, 0..1_i64 << 40, 0..1_000_000_i64),
        any::<u8>(),
    );
    (tables, vec(sample, 0..14), rest).prop_map(|(tables, samples, rest)| {
        let (types, comment, [drop_frames, keep_frames, doc_url], times, default) = rest;
        let mut profile = Profile {
            string_table: WORDS.map(str::to_owned).to_vec(),
            comment,
            drop_frames,
            keep_frames,
            doc_url,
            time_nanos: times.0,
            duration_nanos: times.1,
            period: times.2,
            ..Profile::default()
        };
        for (kind, unit) in TYPES.into_iter().take(types) {
            let sample_type = add_type(&mut profile, kind, unit);
            profile.sample_type.push(sample_type);
        }
        profile.period_type = Some(add_type(&mut profile, "space", "bytes"));
        let default = usize::from(default) % (types + 1);
        let default = profile.sample_type.get(default);
        profile.default_sample_type = default.map_or(0, |t| t.r#type);
        add_tables(&mut profile, tables);
        for (stack, value, labels) in samples {
            let sample = sample_of(&profile, stack, &value[..types], labels);
            profile.sample.push(sample);
        }
        profile
    })
}

type Tables = (
    Vec<(u8, u8, u8, u8)>,
    Vec<(u8, u8, u8, u8)>,
    Vec<(u8, u16, Vec<(u8, u8, u8)>)>,
);

fn add_text(profile: &mut Profile, text: &str) -> i64 {
    profile.string_table.push(text.to_owned());
    profile.string_table.len() as i64 - 1
}

fn add_type(profile: &mut Profile, kind: &str, unit: &str) -> ValueType {
    ValueType {
        r#type: add_text(profile, kind),
        unit: add_text(profile, unit),
    }
}

fn word(n: u8) -> i64 {
    i64::from(n) % WORDS.len() as i64
}

fn add_tables(profile: &mut Profile, (mappings, functions, locations): Tables) {
    for (place, (a, b, flags, c)) in mappings.into_iter().enumerate() {
        let build_id = BUILD_IDS[usize::from(b) % BUILD_IDS.len()];
        let mapping = Mapping {
            id: place as u64 + 1,
            memory_start: 1 + u64::from(a),
            memory_limit: 1 + u64::from(a) * 3,
            file_offset: u64::from(c) << 12,
            filename: word(c),
            build_id: match build_id {
                "" => 0,
                id => add_text(profile, id),
            },
            has_functions: flags & 1 != 0,
            has_filenames: flags & 2 != 0,
            has_line_numbers: flags & 4 != 0,
            has_inline_frames: flags & 8 != 0,
        };
        profile.mapping.push(mapping);
    }
    for (place, (name, system_name, filename, line)) in functions.into_iter().enumerate() {
        profile.function.push(Function {
            id: place as u64 + 1,
            name: word(name),
            system_name: word(system_name),
            filename: word(filename),
            start_line: i64::from(line) + 1,
        });
    }
    for (place, (a, address, lines)) in locations.into_iter().enumerate() {
        let functions = profile.function.len() as u64;
        let line = lines.into_iter().map(|(function, line, column)| Line {
            function_id: 1 + u64::from(function) % functions,
            line: i64::from(line) - 1,
            column: i64::from(column),
        });
        profile.location.push(Location {
            id: place as u64 + 1,
            mapping_id: u64::from(a) % (profile.mapping.len() as u64 + 1),
            address: u64::from(address) / 2,
            line: line.collect(),
            is_folded: address % 5 == 0,
        });
    }
}

fn sample_of(profile: &Profile, stack: Vec<u8>, value: &[i64], labels: Vec<(i64, u8)>) -> Sample {
    let locations = profile.location.len() as u64;
    let label = labels.into_iter().map(|(key, value)| match value % 2 {
        0 => Label {
            key,
            str: 1 + i64::from(value / 2) % (WORDS.len() as i64 - 1),
            ..Label::default()
        },
        // One unit for each key.
        _ => Label {
            key,
            num: i64::from(value) - 100,
            num_unit: key % 3,
            ..Label::default()
        },
    });
    Sample {
        location_id: stack
            .into_iter()
            .map(|n| 1 + u64::from(n) % locations)
            .collect(),
        value: value.to_vec(),
        label: label.collect(),
    }
}

/// A resource and its dictionary: valid tables, though not without repetition, all
/// kinds of attributes, and samples of all shapes.
pub(super) fn otlp_requests()
-> impl Strategy<Value = (otlp::ResourceProfiles, otlp::ProfilesDictionary)> {
    any_otlp(0..6)
}

/// The same with indices that may be anything.
pub(super) fn wild_otlp()
-> impl Strategy<Value = (otlp::ResourceProfiles, otlp::ProfilesDictionary)> {
    any_otlp(-1..9)
}

/// All tables have 6 entries.
fn any_otlp(
    index: std::ops::Range<i32>,
) -> impl Strategy<Value = (otlp::ResourceProfiles, otlp::ProfilesDictionary)> {
    (dictionary(index.clone()), vec(scope(index), 0..3)).prop_map(|(dictionary, scope_profiles)| {
        let resource = otlp::ResourceProfiles {
            scope_profiles,
            ..Default::default()
        };
        (resource, dictionary)
    })
}

fn dictionary(i: std::ops::Range<i32>) -> impl Strategy<Value = otlp::ProfilesDictionary> {
    let mapping = (any::<(u16, u16)>(), i.clone(), vec(i.clone(), 0..3));
    let line = (i.clone(), 0..99_i64, 0..9_i64);
    let location = (i.clone(), 0..99_u64, vec(line, 0..3), vec(i.clone(), 0..3));
    let function = ([i.clone(), i.clone(), i.clone()], 0..2_i64);
    let attribute = (i.clone(), any_value(i.clone()), i.clone());
    (
        vec(mapping, 5),
        vec(location, 5),
        vec(function, 5),
        vec(any::<([u8; 16], [u8; 8])>(), 5),
        vec(attribute, 5),
        vec(vec(i, 0..5), 5),
    )
        .prop_map(
            |(mappings, locations, functions, links, attributes, stacks)| {
                otlp::ProfilesDictionary {
                    string_table: WORDS[..6].iter().map(|w| (*w).to_owned()).collect(),
                    mapping_table: with_zero(mappings.into_iter().map(
                        |(range, file, attributes)| otlp::Mapping {
                            memory_start: range.0.into(),
                            memory_limit: range.1.into(),
                            filename_strindex: file,
                            attribute_indices: attributes,
                            ..Default::default()
                        },
                    )),
                    location_table: with_zero(locations.into_iter().map(location_of)),
                    function_table: with_zero(functions.into_iter().map(|(texts, start_line)| {
                        otlp::Function {
                            name_strindex: texts[0],
                            system_name_strindex: texts[1],
                            filename_strindex: texts[2],
                            start_line,
                        }
                    })),
                    link_table: with_zero(links.into_iter().map(|(trace_id, span_id)| {
                        otlp::Link {
                            trace_id: Bytes::copy_from_slice(&trace_id),
                            span_id: Bytes::copy_from_slice(&span_id),
                        }
                    })),
                    attribute_table: with_zero(attributes.into_iter().map(|(key, value, unit)| {
                        otlp::KeyValueAndUnit {
                            key_strindex: key,
                            value,
                            unit_strindex: unit,
                        }
                    })),
                    stack_table: with_zero(
                        stacks
                            .into_iter()
                            .map(|location_indices| otlp::Stack { location_indices }),
                    ),
                }
            },
        )
}

type LocationParts = (i32, u64, Vec<(i32, i64, i64)>, Vec<i32>);

fn location_of(
    (mapping_index, address, lines, attribute_indices): LocationParts,
) -> otlp::Location {
    let lines = lines
        .into_iter()
        .map(|(function_index, line, column)| otlp::Line {
            function_index,
            line,
            column,
        });
    otlp::Location {
        mapping_index,
        address,
        lines: lines.collect(),
        attribute_indices,
    }
}

fn with_zero<T: Default>(entries: impl Iterator<Item = T>) -> Vec<T> {
    std::iter::once(T::default()).chain(entries).collect()
}

fn any_value(i: std::ops::Range<i32>) -> impl Strategy<Value = Option<AnyValue>> {
    let text = prop::sample::select(&WORDS[..]).prop_map(|w| Value::StringValue(w.to_owned()));
    let leaf = prop_oneof![
        text,
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..5).prop_map(|b| Value::BytesValue(b.into())),
        i.clone().prop_map(Value::StringValueStrindex),
    ];
    let value = leaf.prop_recursive(2, 6, 3, move |inner| {
        let any = prop::option::of(inner).prop_map(|value| AnyValue { value });
        let pair =
            (i.clone(), prop::option::of(any.clone())).prop_map(|(key_strindex, value)| KeyValue {
                key: String::new(),
                value,
                key_strindex,
            });
        prop_oneof![
            vec(any, 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(pair, 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
    });
    prop::option::of(prop::option::of(value).prop_map(|value| AnyValue { value }))
}

fn scope(i: std::ops::Range<i32>) -> impl Strategy<Value = otlp::ScopeProfiles> {
    let pair = (i.clone(), any_value(i.clone())).prop_map(|(key_strindex, value)| KeyValue {
        key: String::new(),
        value,
        key_strindex,
    });
    let scope =
        (prop::sample::select(&WORDS[..]), vec(pair, 0..2)).prop_map(|(name, attributes)| {
            crate::r#gen::opentelemetry::proto::common::v1::InstrumentationScope {
                name: name.to_owned(),
                attributes,
                ..Default::default()
            }
        });
    (prop::option::of(scope), vec(profile(i), 0..5)).prop_map(|(scope, profiles)| {
        otlp::ScopeProfiles {
            scope,
            profiles,
            ..Default::default()
        }
    })
}

fn profile(i: std::ops::Range<i32>) -> impl Strategy<Value = otlp::Profile> {
    let sample = (
        i.clone(),
        vec(i.clone(), 0..3),
        prop_oneof![Just(0), i.clone()],
        vec(0..1_000_i64, 0..3),
        vec(1..99_u64, 0..3),
    );
    let value_type = prop::option::of((i.clone(), i.clone()));
    // Few times, so that profiles come together.
    let rest = (0..2_u64, 0..2_u64, 0..2_i64, vec(i, 0..2));
    (value_type.clone(), value_type, vec(sample, 0..6), rest).prop_map(
        |(sample_type, period_type, samples, rest)| {
            let value_type = |(type_strindex, unit_strindex)| otlp::ValueType {
                type_strindex,
                unit_strindex,
            };
            let samples = samples.into_iter().map(|sample| otlp::Sample {
                stack_index: sample.0,
                attribute_indices: sample.1,
                link_index: sample.2,
                values: sample.3,
                timestamps_unix_nano: sample.4,
            });
            otlp::Profile {
                sample_type: sample_type.map(value_type),
                period_type: period_type.map(value_type),
                samples: samples.collect(),
                time_unix_nano: rest.0,
                duration_nano: rest.1,
                period: rest.2,
                attribute_indices: rest.3,
                ..Default::default()
            }
        },
    )
}
