use crate::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{AnyValue, any_value::Value},
        profiles::v1development::{
            KeyValueAndUnit, Link, Profile, ProfilesDictionary, ResourceProfiles, Sample,
            ScopeProfiles, ValueType,
        },
    },
    profile::otlp::{Unreadable, json::request_to_json},
};
use bytes::Bytes;
use prost::Message;

fn json(message: &impl Message) -> String {
    written(&message.encode_to_vec()).unwrap()
}

fn written(protobuf: &[u8]) -> Result<String, Unreadable> {
    let json = request_to_json(protobuf)?;
    Ok(String::from_utf8(json.to_vec()).unwrap())
}

/// The dictionary's field in a request.
fn in_dictionary(content: &[u8]) -> Vec<u8> {
    [&[0x12, content.len() as u8], content].concat()
}

#[test]
fn the_form_is_the_specifications() {
    let profile = Profile {
        sample_type: Some(ValueType {
            type_strindex: 1,
            unit_strindex: 0,
        }),
        samples: vec![
            Sample::default(),
            Sample {
                stack_index: 1,
                attribute_indices: vec![0, 1],
                link_index: 0,
                values: vec![0, -1],
                timestamps_unix_nano: vec![u64::MAX],
            },
        ],
        time_unix_nano: 1_760_000_000_000_000_000,
        duration_nano: 1,
        period_type: Some(ValueType::default()),
        period: -5,
        profile_id: Bytes::from_iter(0xf0..=0xff),
        dropped_attributes_count: u32::MAX,
        original_payload_format: "pprof".into(),
        original_payload: Bytes::from_static(&[0xfb, 0xff]),
        attribute_indices: vec![],
    };
    let attribute = |value| KeyValueAndUnit {
        key_strindex: 0,
        value: Some(AnyValue { value: Some(value) }),
        unit_strindex: 0,
    };
    let dictionary = ProfilesDictionary {
        link_table: vec![Link {
            trace_id: Bytes::from_iter(0..16),
            span_id: Bytes::from_iter(0..8),
        }],
        string_table: vec![String::new(), "a\"\n\u{1}ü😀".into()],
        attribute_table: vec![
            attribute(Value::StringValue(String::new())),
            attribute(Value::BoolValue(false)),
            attribute(Value::IntValue(0)),
            attribute(Value::DoubleValue(f64::NAN)),
            attribute(Value::DoubleValue(f64::INFINITY)),
            attribute(Value::DoubleValue(-0.5)),
            attribute(Value::BytesValue(Bytes::new())),
            attribute(Value::StringValueStrindex(0)),
        ],
        ..ProfilesDictionary::default()
    };
    let request = ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            scope_profiles: vec![ScopeProfiles {
                profiles: vec![profile],
                ..ScopeProfiles::default()
            }],
            ..ResourceProfiles::default()
        }],
        dictionary: Some(dictionary),
    };
    let expected = concat!(
        r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"sampleType":{"typeStrindex":1},"#,
        r#""samples":[{},{"stackIndex":1,"attributeIndices":[0,1],"values":["0","-1"],"#,
        r#""timestampsUnixNano":["18446744073709551615"]}],"timeUnixNano":"1760000000000000000","#,
        r#""durationNano":"1","periodType":{},"period":"-5","#,
        r#""profileId":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff","droppedAttributesCount":4294967295,"#,
        r#""originalPayloadFormat":"pprof","originalPayload":"+/8="}]}]}],"#,
        r#""dictionary":{"linkTable":[{"traceId":"000102030405060708090a0b0c0d0e0f","#,
        r#""spanId":"0001020304050607"}],"stringTable":["","a\"\n\u0001ü😀"],"#,
        r#""attributeTable":[{"value":{"stringValue":""}},{"value":{"boolValue":false}},"#,
        r#"{"value":{"intValue":"0"}},{"value":{"doubleValue":"NaN"}},"#,
        r#"{"value":{"doubleValue":"Infinity"}},{"value":{"doubleValue":-0.5}},"#,
        r#"{"value":{"bytesValue":""}},{"value":{"stringValueStrindex":0}}]}}"#,
    );
    assert_eq!(json(&request), expected);
    assert_eq!(json(&ExportProfilesServiceRequest::default()), "{}");
}

#[test]
fn what_other_encoders_write_is_understood() {
    // Values of a sample: packed in two pieces with another field between, and one
    // that is not packed.
    let sample = [
        0x22, 2, 1, 2, 0x08, 7, 0x22, 0, 0x22, 1, 3, 0x20, 4, 0x08, 5,
    ];
    let nested = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let profiles = nested(0x12, &nested(0x12, &sample));
    let request = nested(0x0a, &nested(0x12, &profiles));
    assert_eq!(
        written(&request).unwrap(),
        r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"samples":[{"stackIndex":5,"values":["1","2","3","4"]}]}]}]}]}"#
    );
    // A dictionary in two parts, around a resource.
    let parts = [
        &[0x12, 3, 0x2a, 1, b'a'][..],
        &[0x0a, 0],
        &[0x12, 3, 0x2a, 1, b'b'],
    ]
    .concat();
    assert_eq!(
        written(&parts).unwrap(),
        r#"{"resourceProfiles":[{}],"dictionary":{"stringTable":["a","b"]}}"#
    );
    // Unknown fields of all kinds, a group among them.
    let unknown = in_dictionary(&[
        0xa0, 6, 1, 0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xa5, 6, 1, 2, 3, 4, 0xa3, 6, 8, 1, 0xa4, 6,
        0xa2, 6, 1, 0, 0x2a, 0,
    ]);
    assert_eq!(
        written(&unknown).unwrap(),
        r#"{"dictionary":{"stringTable":[""]}}"#
    );
}

#[test]
fn the_last_arm_of_a_value_counts() {
    let value = |content: &[u8]| {
        let value = [&[0x12, content.len() as u8], content].concat();
        let attribute = [&[0x32, value.len() as u8], &*value].concat();
        let request = in_dictionary(&attribute);
        let ours = written(&request).unwrap();
        let decoded = ExportProfilesServiceRequest::decode(&*request).unwrap();
        assert_eq!(ours, json(&decoded), "as prost understands {content:?}");
        ours
    };
    let text = value(&[0x10, 1, 0x0a, 1, b'a']);
    assert!(text.contains(r#""value":{"stringValue":"a"}"#), "{text}");
    // Arrays of one and of two values around another arm, and without it.
    let (one, two) = ([0x2a, 2, 0x0a, 0], [0x2a, 4, 0x0a, 0, 0x0a, 0]);
    let replaced = value(&[&one[..], &[0x10, 1], &two].concat());
    assert!(replaced.contains(r#"{"values":[{},{}]}"#), "{replaced}");
    let merged = value(&[&one[..], &two].concat());
    assert!(merged.contains(r#"{"values":[{},{},{}]}"#), "{merged}");
}

#[test]
fn damage_is_named_with_its_place() {
    for (protobuf, expected) in [
        (
            vec![0x0a, 5, 0],
            "ExportProfilesServiceRequest is no valid protobuf: it ends in the middle of a \
             field (at byte 0 of the inflated request)",
        ),
        (
            vec![0x0a, 0, 0x10, 1],
            "ExportProfilesServiceRequest is no valid protobuf: a field has the encoding of \
             another type (at byte 2",
        ),
        (
            in_dictionary(&[0x3a, 3, 0x0a, 1, 0x80]),
            "Stack is no valid protobuf: it ends in the middle of a field (at byte 6",
        ),
        (
            in_dictionary(&[0x2a, 1, 0xff]),
            "the request cannot be decoded: a string of a ProfilesDictionary is not UTF-8",
        ),
    ] {
        let error = written(&protobuf).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}
