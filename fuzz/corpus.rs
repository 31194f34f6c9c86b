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
        arrow::SyntheticArrow,
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
            input(&[0], &Compression::Gzip.compress(&plain).expect("memory holds it")),
        ),
        (
            "otlp_proto",
            "zstd",
            input(&[1], &Compression::Zstd.compress(&plain).expect("memory holds it")),
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
        ("arrow", "samples", input(&[0], v1.samples())),
        ("arrow", "stacks", input(&[0], v1.stacks().expect("stacks"))),
        ("arrow", "v2", input(&[0], v2.samples())),
        ("arrow", "patched", input(&[3], &[0, 1, 0, 7, 0, 4, 0, 255])),
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
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), input)?;
    }
    Ok(())
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
