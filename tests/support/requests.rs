//! OTLP requests: a sound one, and shapes that end a Parca or are refused.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use profile_relay::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
        profiles::v1development::{
            Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile as OtlpProfile,
            ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
        },
        resource::v1::Resource,
    },
    profile::{
        Body, Profile,
        otlp::{Compression, Request},
    },
};
use prost::Message;
use std::{sync::Arc, time::SystemTime};

/// A request and what is done to it.
pub struct Shape {
    pub name: &'static str,
    pub change: fn(&mut ExportProfilesServiceRequest),
}

/// The functions of the sound request with their flat values.
pub const FLAT: [(&str, i64); 2] = [("leaf", 7), ("mid", 5)];

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a time").as_nanos() as u64
}

/// Two stacks, `leaf < mid < main` and `mid < main`, with lines.
pub fn sound(case: &str) -> ExportProfilesServiceRequest {
    let strings = [
        "",
        "samples",
        "count",
        "cpu",
        "nanoseconds",
        "leaf",
        "mid",
        "main",
        "main.c",
        "/bin/api",
    ];
    let location = |function| Location {
        mapping_index: 1,
        address: 0x1000 + function as u64,
        lines: vec![Line {
            function_index: function,
            line: 10 * i64::from(function),
            column: 0,
        }],
        ..Location::default()
    };
    let function = |name| Function {
        name_strindex: name,
        system_name_strindex: name,
        filename_strindex: 8,
        start_line: 1,
    };
    let value_type = |kind, unit| {
        Some(ValueType {
            type_strindex: kind,
            unit_strindex: unit,
        })
    };
    let sample = |stack_index, value| Sample {
        stack_index,
        values: vec![value],
        ..Sample::default()
    };
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        key_strindex: 0,
    };
    ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", "api"), attribute("case", case)],
                ..Resource::default()
            }),
            scope_profiles: vec![ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: "otlp_cpu".to_owned(),
                    ..InstrumentationScope::default()
                }),
                profiles: vec![OtlpProfile {
                    sample_type: value_type(1, 2),
                    period_type: value_type(3, 4),
                    // Parca shows counts of samples times the period.
                    period: 1,
                    samples: vec![sample(1, 7), sample(2, 5)],
                    time_unix_nano: now() - 1_000_000_000,
                    duration_nano: 1_000_000_000,
                    ..OtlpProfile::default()
                }],
                ..ScopeProfiles::default()
            }],
            ..ResourceProfiles::default()
        }],
        dictionary: Some(ProfilesDictionary {
            mapping_table: vec![
                Mapping::default(),
                Mapping {
                    memory_limit: 0x10_000,
                    filename_strindex: 9,
                    ..Mapping::default()
                },
            ],
            location_table: vec![Location::default(), location(1), location(2), location(3)],
            function_table: vec![Function::default(), function(5), function(6), function(7)],
            link_table: vec![Link::default()],
            string_table: strings.map(str::to_owned).to_vec(),
            attribute_table: vec![KeyValueAndUnit::default()],
            stack_table: vec![
                Stack::default(),
                Stack {
                    location_indices: vec![1, 2, 3],
                },
                Stack {
                    location_indices: vec![2, 3],
                },
            ],
        }),
    }
}

/// The same from a profiler that knows addresses only.
pub fn native(case: &str) -> ExportProfilesServiceRequest {
    let mut request = sound(case);
    for location in &mut dictionary(&mut request).location_table {
        location.lines.clear();
    }
    request
}

fn dictionary(request: &mut ExportProfilesServiceRequest) -> &mut ProfilesDictionary {
    request.dictionary.as_mut().expect("a dictionary")
}

fn profile(request: &mut ExportProfilesServiceRequest) -> &mut OtlpProfile {
    &mut request.resource_profiles[0].scope_profiles[0].profiles[0]
}

/// What ends a Parca when it gets it as OTLP, at once or at a query, or is refused.
pub const SHAPES: &[Shape] = &[
    shape("no resource", |r| r.resource_profiles[0].resource = None),
    shape("no scope", |r| {
        r.resource_profiles[0].scope_profiles[0].scope = None
    }),
    shape("no sample type", |r| profile(r).sample_type = None),
    shape("no period type", |r| profile(r).period_type = None),
    shape("empty period type", |r| {
        profile(r).period_type = Some(ValueType::default())
    }),
    shape("sample type beyond the table", |r| {
        profile(r).sample_type.as_mut().expect("one").type_strindex = 99;
    }),
    shape("negative period type", |r| {
        profile(r).period_type.as_mut().expect("one").unit_strindex = -1;
    }),
    shape("two values", |r| profile(r).samples[0].values = vec![3, 4]),
    shape("no value", |r| profile(r).samples[0].values.clear()),
    shape("no samples", |r| profile(r).samples.clear()),
    shape("timestamps out of range", |r| {
        profile(r).samples[0].timestamps_unix_nano = vec![1];
    }),
    shape("more timestamps than values", |r| {
        let time = profile(r).time_unix_nano;
        profile(r).samples[0].timestamps_unix_nano = vec![time, time + 1];
    }),
    shape("negative function", |r| {
        dictionary(r).location_table[1].lines = vec![Line {
            function_index: -1,
            ..Line::default()
        }];
    }),
    shape("line without a function", |r| {
        dictionary(r).location_table[1].lines = vec![Line::default()];
    }),
    shape("function beyond the table", |r| {
        dictionary(r).location_table[1].lines = vec![Line {
            function_index: 77,
            ..Line::default()
        }];
    }),
    shape("location beyond the table", |r| {
        dictionary(r).stack_table[1].location_indices = vec![99];
    }),
    shape("stack beyond the table", |r| {
        profile(r).samples[0].stack_index = 99
    }),
    shape("slot 0 of attributes in use", |r| {
        dictionary(r).attribute_table[0].key_strindex = 1;
    }),
    shape("no tables", |r| {
        r.dictionary = Some(ProfilesDictionary::default())
    }),
    shape("no dictionary", |r| r.dictionary = None),
    shape("no time", |r| profile(r).time_unix_nano = 0),
    shape("negative period", |r| profile(r).period = -5),
    shape("type with blanks", |r| {
        dictionary(r).string_table[1] = "a b".to_owned()
    }),
    shape("scope name with blanks", |r| {
        let scope = &mut r.resource_profiles[0].scope_profiles[0].scope;
        scope.as_mut().expect("one").name = "1 a/b".to_owned();
    }),
];

const fn shape(name: &'static str, change: fn(&mut ExportProfilesServiceRequest)) -> Shape {
    Shape { name, change }
}

/// The bodies of a request, as a receiver hands them over; none when it is
/// refused.
pub fn bodies(request: &ExportProfilesServiceRequest) -> Vec<Profile> {
    let wire = request.encode_to_vec().into();
    let Ok(request) = Request::read(wire, Compression::None, 1 << 24) else {
        return Vec::new();
    };
    let bodies = Arc::new(request).bodies().into_iter();
    bodies
        .map(|(labels, otlp)| Profile {
            labels,
            body: Body::Otlp(otlp),
            received: SystemTime::now(),
        })
        .collect()
}
