//! The request: OTLP with one profile, 32 KiB in all.

use crate::Result;
use bytes::{BufMut, Bytes, BytesMut};
use profile_relay::r#gen::opentelemetry::proto::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    profiles::v1development::{
        Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
        ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
    },
    resource::v1::Resource,
};
use prost::Message;

/// The size of the message.
pub(crate) const BYTES: usize = 32 << 10;
/// Functions and stacks of the profile.
const FUNCTIONS: usize = 200;
const STACKS: usize = 150;
/// Frames of a stack.
const DEPTH: usize = 16;

/// The message with gRPC's prefix.
pub(crate) fn framed() -> Result<Bytes> {
    let message = message();
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put_slice(&message);
    Ok(framed.freeze())
}

/// As many samples as fit.
fn message() -> Vec<u8> {
    let mut profile = Profile {
        sample_type: Some(ValueType {
            type_strindex: 1,
            unit_strindex: 2,
        }),
        time_unix_nano: 1_750_000_000_000_000_000,
        duration_nano: 10_000_000_000,
        ..Profile::default()
    };
    let of = |profile: &Profile| ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(resource()),
            scope_profiles: vec![ScopeProfiles {
                profiles: vec![profile.clone()],
                ..ScopeProfiles::default()
            }],
            schema_url: String::new(),
        }],
        dictionary: Some(dictionary()),
    };
    let sample = |at: usize| Sample {
        stack_index: 1 + (at % STACKS) as i32,
        values: vec![1 + (at * 7_919 % 100_000) as i64],
        ..Sample::default()
    };
    // A sample takes at least 8 bytes, and the lengths before it grow by a few.
    while BYTES - of(&profile).encoded_len() > 20 {
        let room = BYTES - of(&profile).encoded_len();
        let at = profile.samples.len();
        profile.samples.extend((at..at + room / 20).map(sample));
    }
    of(&profile).encode_to_vec()
}

fn resource() -> Resource {
    let attributes = [
        ("service.name", "checkout"),
        ("service.namespace", "shop"),
        ("k8s.namespace.name", "shop-production"),
        ("k8s.pod.name", "checkout-5f6d7c8b9-x2x4q"),
        ("k8s.node.name", "worker-07.eu-central.example"),
    ];
    let attribute = |(key, value): (&str, &str)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        key_strindex: 0,
    };
    Resource {
        attributes: attributes.map(attribute).to_vec(),
        ..Resource::default()
    }
}

/// Tables whose entries 0 are the zero values.
fn dictionary() -> ProfilesDictionary {
    let mut strings: Vec<String> = ["", "cpu", "nanoseconds", "/srv/checkout", "/src/main.go"]
        .map(str::to_owned)
        .to_vec();
    let first = strings.len();
    strings.extend((0..FUNCTIONS).map(|at| format!("example.com/shop/checkout.(*Cart).step{at}")));
    let function = |at: usize| Function {
        name_strindex: (first + at) as i32,
        filename_strindex: 4,
        start_line: at as i64,
        ..Function::default()
    };
    let location = |at: usize| Location {
        mapping_index: 1,
        address: 0x40_0000 + 64 * at as u64,
        lines: vec![Line {
            function_index: 1 + at as i32,
            line: 1 + at as i64,
            column: 0,
        }],
        attribute_indices: Vec::new(),
    };
    let stack = |at: usize| Stack {
        location_indices: (0..DEPTH)
            .map(|depth| 1 + ((at * 31 + depth * 13) % FUNCTIONS) as i32)
            .collect(),
    };
    ProfilesDictionary {
        mapping_table: vec![
            Mapping::default(),
            Mapping {
                memory_start: 0x40_0000,
                memory_limit: 0x80_0000,
                filename_strindex: 3,
                ..Mapping::default()
            },
        ],
        location_table: with_zero((0..FUNCTIONS).map(location)),
        function_table: with_zero((0..FUNCTIONS).map(function)),
        link_table: vec![Link::default()],
        string_table: strings,
        attribute_table: vec![KeyValueAndUnit::default()],
        stack_table: with_zero((0..STACKS).map(stack)),
    }
}

fn with_zero<T: Default>(items: impl Iterator<Item = T>) -> Vec<T> {
    std::iter::once(T::default()).chain(items).collect()
}
