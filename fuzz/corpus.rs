//! Writes the committed corpus anew: a few small inputs of each target.

use bytes::Bytes;
use profile_relay::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{
            AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
        },
        profiles::v1development::{
            Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
            ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
        },
        resource::v1::Resource,
    },
    profile::{
        arrow::{Arrow, SyntheticArrow},
        otlp::{Compression, json::request_to_json},
        pprof::SyntheticProfile,
    },
};
use prost::Message;
use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let request = request();
    let plain = Bytes::from(request.encode_to_vec());
    let json = request_to_json(&plain).expect("a sound request");
    let pprof = SyntheticProfile {
        samples: 12,
        functions: 20,
        depth: 4,
        labels: vec![("a".to_owned(), 3)],
        ..SyntheticProfile::heap(1)
    };
    let synthetic = SyntheticArrow {
        rows: 5,
        stacks: 2,
        depth: 2,
        processes: 1,
        ..SyntheticArrow::busy(1)
    };
    let v1 = synthetic.v1().expect("a body");
    let v2 = synthetic.v2().expect("a body");
    // A program of `grow`: resource, scope, profile, many equal samples.
    let grown = [
        &[0x03, 0x0b, 0x0b, 0x0b, 0x1e, 2, 1, 2, 0x05, 0x07, 40, 9][..],
        &[5; 4],
    ]
    .concat();
    for (target, name, input) in [
        ("otlp_proto", "plain", input(&[4, 0], &plain)),
        ("otlp_proto", "grown", input(&[4, 1], &grown)),
        (
            "otlp_proto",
            "gzip",
            input(
                &[0],
                &Compression::Gzip.compress(&plain).expect("memory holds it"),
            ),
        ),
        (
            "otlp_proto",
            "zstd",
            input(
                &[1],
                &Compression::Zstd.compress(&plain).expect("memory holds it"),
            ),
        ),
        ("otlp_json", "json", input(&[0], &json)),
        ("otlp_json", "forms", input(&[0], FORMS)),
        ("otlp_json", "plain", input(&[1, 0], &plain)),
        ("otlp_json", "grown", input(&[1, 1], &grown)),
        ("otlp_json", "response", input(&[3], RESPONSE)),
        ("otlp_json", "status", input(&[3], STATUS)),
        ("pprof", "plain", input(&[2], &pprof.encode_plain())),
        ("pprof", "gzip", input(&[0], &pprof.encode())),
        ("pprof", "grown", input(&[1], &grown)),
        ("convert", "otlp", input(&[0, 0], &plain)),
        ("convert", "series", input(&[4, 0], &plain)),
        ("convert", "pprof", input(&[1, 0], &pprof.encode_plain())),
        ("guard", "plain", input(&[0], &plain)),
        ("guard", "grown", input(&[1], &grown)),
        // Zeroes a piece of a segment, cuts another, changes a length and mends its
        // checksum.
        (
            "queue",
            "changed",
            input(
                &[1],
                &[
                    0, 2, 200, 0, 90, 2, 1, 44, 1, 0, 1, 6, 104, 0, 9, 1, 5, 0, 0, 0,
                ],
            ),
        ),
        (
            "queue",
            "raw",
            input(&[0, 0xc0, 64, 0], b"\x9dPRqueue\x01\0\0\0\x05\0\0\0"),
        ),
        ("guard", "pprof", input(&[0], &pprof.encode_plain())),
    ]
    .into_iter()
    .chain(arrow(&v1, &v2))
    .chain(parca_calls())
    .chain(otlp_calls())
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), input)?;
    }
    Ok(())
}

type Input = (&'static str, &'static str, Vec<u8>);

/// Whole messages, and patches of those that the target has, for all that it checks.
fn arrow(v1: &Arrow, v2: &Arrow) -> Vec<Input> {
    const CHECKS: [&str; 8] = [
        "conversation",
        "labels",
        "v2",
        "v1",
        "halves",
        "otlp",
        "pprof",
        "relabelled",
    ];
    let patches = |check: usize| (0..=2).flat_map(move |at| [40 * at, check as u8, 0, 7]);
    let checks = CHECKS.into_iter().enumerate().map(|(check, name)| {
        // A message of v2, of which some bytes are others.
        let content: Vec<u8> = patches(check).collect();
        ("arrow", name, input(&[3 | (check as u8) << 2], &content))
    });
    let samples = input(&[0], v1.samples());
    let stacks = input(&[3 << 2], v1.stacks().expect("stacks"));
    let whole = input(&[2 << 2], v2.samples());
    let messages = [("samples", samples), ("stacks", stacks), ("message", whole)];
    checks
        .chain(messages.map(|(name, input)| ("arrow", name, input)))
        .collect()
}

/// Parts of scripts (`support/script.rs`): a sound message, and the ends of a call.
const fn sound(which: u8) -> [u8; 3] {
    [2, which, 0]
}
const WHOLE: &[u8] = &[6];
const SILENCE: &[u8] = &[6 | 1 << 3];
const RESET: &[u8] = &[6 | 2 << 3];
const TRAILERS: &[u8] = &[6 | 3 << 3];

fn parca_calls() -> Vec<Input> {
    let [raw, samples, stacks, v2] = [0, 1, 2, 3].map(sound);
    let gzip = [2 | 1 << 3, 3, 0];
    let again = [&[2, 8, 0][..], &v2, WHOLE].concat();
    let file = [0x7f; 300];
    let scripts: [(&str, &[&[u8]]); 15] = [
        ("write_raw", &[&[0, 0, 0, 0], &raw, WHOLE]),
        ("write", &[&[0, 1, 0, 0], &samples, &stacks, WHOLE]),
        // In pieces of 50 bytes, with three seconds between the messages.
        (
            "slow",
            &[&[0, 1, 0, 50], &samples, &[5 | 3 << 3], &stacks, TRAILERS],
        ),
        ("silent", &[&[0, 1, 0, 0], &samples, SILENCE]),
        ("reset", &[&[0, 1, 0, 0], &samples, RESET]),
        ("write_arrow", &[&[0, 2, 0, 0], &v2, WHOLE]),
        ("gzip", &[&[0, 2, 4, 0], &gzip, WHOLE]),
        ("retries", &[&[0], &again, &again, &again]),
        (
            "patched",
            &[&[0, 2, 0, 0, 2, 3, 2, 9, 1, 0, 5, 200, 2, 0, 1], WHOLE],
        ),
        (
            "prefix",
            &[&[0, 2, 0, 0, 3, 1, 0xff, 0xff, 0xff, 0xff], SILENCE],
        ),
        (
            "grown",
            &[
                &[0, 0, 0, 0, 1, 6, 0, 0x0b, 0x0b, 0x0e, 9, 0x05, 0x05],
                WHOLE,
            ],
        ),
        // One beside the other: questions, an upload in two, the end of it.
        (
            "debuginfo",
            &[
                &[1, 3, 0, 0x80],
                &sound(4),
                WHOLE,
                &[4, 0, 0x80],
                &sound(5),
                WHOLE,
                &[5, 0, 0],
                &sound(6),
                &sound(7),
                &[4, 44, 1],
                &file,
                WHOLE,
                &[6, 0, 0],
                &sound(8),
                WHOLE,
                &[7, 0, 0],
                &sound(9),
                WHOLE,
            ],
        ),
        (
            "others",
            &[
                &[1, 8, 0, 0],
                WHOLE,
                &[9, 0, 0],
                WHOLE,
                &[10, 0, 0, 0, 0, 0],
                WHOLE,
            ],
        ),
        (
            "http1",
            &[
                &[6],
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab",
            ],
        ),
        (
            "http2",
            &[
                &[4],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            ],
        ),
    ];
    let scripts = scripts.into_iter();
    scripts
        .map(|(name, parts)| ("parca_grpc", name, parts.concat()))
        .collect()
}

fn otlp_calls() -> Vec<Input> {
    let [request, json] = [0, 1].map(sound);
    let scripts: [(&str, &[&[u8]]); 7] = [
        ("grpc", &[&[0, 0, 0, 0], &request, WHOLE]),
        ("gzip", &[&[0, 0, 4, 0, 2 | 1 << 3, 0, 0], WHOLE]),
        ("silent", &[&[0, 0, 0, 9], &request, SILENCE]),
        ("protobuf", &[&[1, 0, 16, 0, 0x42, 0, 0], WHOLE]),
        ("json", &[&[1, 1, 32, 0], &json, WHOLE, &[2, 32, 0], RESET]),
        ("announced", &[&[1, 0, 0x50, 0], &request, TRAILERS]),
        (
            "http1",
            &[
                &[5],
                b"POST /v1/profiles HTTP/1.1\r\nhost: a\r\n\
              content-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
            ],
        ),
    ];
    let scripts = scripts.into_iter();
    scripts
        .map(|(name, parts)| ("otlp_grpc", name, parts.concat()))
        .collect()
}

/// The forms that JSON has besides the one that is written.
const FORMS: &[u8] = br#"{"resourceProfiles":[{"resource":null,"scopeProfiles":[{"profiles":[
{"profileId":"8PHy8_T19vf4-fr7_P3-_w","originalPayload":"-_8","timeUnixNano":1760000000000000000,
"samples":[{"values":["1",2.0,"3e0"],"timestampsUnixNano":[0,"18446744073709551615"]}],
"unknown":{"a":[1,{}]}}]}]}],"dictionary":{"linkTable":[{"traceId":"F0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
"spanId":"AQIDBAUGBwg="}],"stringTable":["","\u00fc\ud83d\ude00"],
"attributeTable":[{"value":{"doubleValue":"-Infinity"}},{"value":{"stringValueStrindex":1}}]}}"#;

const RESPONSE: &[u8] = br#"{"partialSuccess":{"rejectedProfiles":"3","errorMessage":"no"}}"#;

const STATUS: &[u8] = br#"{"code":8,"message":"no","details":[
{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"},{"@type":"other"}]}"#;

fn input(choice: &[u8], content: &[u8]) -> Vec<u8> {
    [choice, content].concat()
}

/// A small request that has all messages.
fn request() -> ExportProfilesServiceRequest {
    let any = |value| Some(AnyValue { value: Some(value) });
    let key_value = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: any(value),
        key_strindex: 0,
    };
    let text = |text: &str| Value::StringValue(text.to_owned());
    let array = ArrayValue {
        values: any(Value::IntValue(-1)).into_iter().collect(),
    };
    let map = KeyValueList {
        values: vec![key_value("b", Value::BoolValue(true))],
    };
    let resource = Resource {
        attributes: vec![
            key_value("service.name", text("api")),
            key_value("list", Value::ArrayValue(array)),
            key_value("map", Value::KvlistValue(map)),
            KeyValue {
                key_strindex: 1,
                value: any(Value::StringValueStrindex(2)),
                ..KeyValue::default()
            },
        ],
        ..Resource::default()
    };
    let sample = |stack_index| Sample {
        stack_index,
        attribute_indices: vec![1],
        link_index: 1,
        values: vec![10, 20],
        timestamps_unix_nano: vec![1_760_000_000_000_000_000, 1_760_000_000_000_000_001],
    };
    let profile = Profile {
        sample_type: Some(ValueType {
            type_strindex: 3,
            unit_strindex: 4,
        }),
        samples: vec![sample(1), sample(2)],
        time_unix_nano: 1_760_000_000_000_000_000,
        duration_nano: 10_000_000_000,
        period_type: Some(ValueType {
            type_strindex: 3,
            unit_strindex: 4,
        }),
        period: 10_000_000,
        profile_id: Bytes::from_iter(0..16),
        original_payload_format: "pprof".to_owned(),
        original_payload: Bytes::from_static(&[0x1f, 0x8b]),
        attribute_indices: vec![1],
        ..Profile::default()
    };
    let scopes = |profiles| ScopeProfiles {
        scope: Some(InstrumentationScope {
            name: "process_cpu".to_owned(),
            ..InstrumentationScope::default()
        }),
        profiles,
        schema_url: String::new(),
    };
    let resources = |profiles| ResourceProfiles {
        resource: Some(resource.clone()),
        scope_profiles: vec![scopes(profiles)],
        schema_url: "https://opentelemetry.io/schemas/1.40.0".to_owned(),
    };
    ExportProfilesServiceRequest {
        resource_profiles: vec![
            resources(vec![profile.clone()]),
            resources(vec![profile; 2]),
        ],
        dictionary: Some(dictionary()),
    }
}

fn dictionary() -> ProfilesDictionary {
    let location = |function_index| Location {
        mapping_index: 1,
        address: 0x1000,
        lines: vec![Line {
            function_index,
            line: 7,
            column: 0,
        }],
        attribute_indices: vec![],
    };
    let strings = [
        "",
        "host.name",
        "web-1",
        "cpu",
        "nanoseconds",
        "main",
        "main.go",
        "a",
    ];
    ProfilesDictionary {
        mapping_table: vec![
            Mapping::default(),
            Mapping {
                memory_start: 0x1000,
                memory_limit: 0x2000,
                filename_strindex: 6,
                attribute_indices: vec![1],
                ..Mapping::default()
            },
        ],
        location_table: vec![Location::default(), location(1), location(0)],
        function_table: vec![
            Function::default(),
            Function {
                name_strindex: 5,
                system_name_strindex: 5,
                filename_strindex: 6,
                start_line: 3,
            },
        ],
        link_table: vec![
            Link::default(),
            Link {
                trace_id: Bytes::from_iter(1..17),
                span_id: Bytes::from_iter(1..9),
            },
        ],
        string_table: strings.map(str::to_owned).to_vec(),
        attribute_table: vec![
            KeyValueAndUnit::default(),
            KeyValueAndUnit {
                key_strindex: 7,
                value: Some(AnyValue {
                    value: Some(Value::DoubleValue(0.5)),
                }),
                unit_strindex: 4,
            },
        ],
        stack_table: [vec![], vec![1, 2], vec![2]]
            .map(|location_indices| Stack { location_indices })
            .to_vec(),
    }
}
