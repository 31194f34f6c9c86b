use super::{dictionary, profile, request, sample};
use crate::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{
            AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
            any_value::Value,
        },
        profiles::v1development::{
            Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
            ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
        },
        resource::v1::Resource,
    },
    profile::otlp::json::{JsonError, request_from_json},
};
use bytes::Bytes;

/// The value that an attribute's JSON says.
fn value(json: &str) -> Result<AnyValue, JsonError> {
    let attribute = format!(r#"{{"attributeTable":[{{"value":{json}}}]}}"#);
    Ok(dictionary(&attribute)?
        .attribute_table
        .remove(0)
        .value
        .unwrap())
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

#[test]
fn every_field_is_read() {
    let json = r#"
    {
      "resourceProfiles": [{
        "resource": {
          "attributes": [
            {"key": "service.name", "value": {"stringValue": "api"}},
            {"keyStrindex": 2, "value": {"stringValueStrindex": 1}}
          ],
          "droppedAttributesCount": 3,
          "entityRefs": [{"schemaUrl": "e", "type": "service", "idKeys": ["a", ""], "descriptionKeys": ["b"]}]
        },
        "scopeProfiles": [{
          "scope": {"name": "n", "version": "v", "attributes": [{"key": "k"}], "droppedAttributesCount": 1},
          "profiles": [{
            "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
            "samples": [{
              "stackIndex": 1, "attributeIndices": [1, 2], "linkIndex": 1,
              "values": ["9223372036854775807", "-1"],
              "timestampsUnixNano": ["1760000000000000000", "18446744073709551615"]
            }],
            "timeUnixNano": "1760000000000000000",
            "durationNano": "10000000000",
            "periodType": {"typeStrindex": 3},
            "period": "-9223372036854775808",
            "profileId": "000102030405060708090a0b0c0d0e0f",
            "droppedAttributesCount": 4294967295,
            "originalPayloadFormat": "pprof",
            "originalPayload": "H4sIAA==",
            "attributeIndices": [-2147483648, 2147483647]
          }],
          "schemaUrl": "s"
        }],
        "schemaUrl": "r"
      }],
      "dictionary": {
        "mappingTable": [{}, {"memoryStart": "1", "memoryLimit": "2", "fileOffset": "3", "filenameStrindex": 4, "attributeIndices": [5]}],
        "locationTable": [{}, {"mappingIndex": 1, "address": "2", "lines": [{"functionIndex": 1, "line": "2", "column": "3"}], "attributeIndices": [4]}],
        "functionTable": [{}, {"nameStrindex": 1, "systemNameStrindex": 2, "filenameStrindex": 3, "startLine": "4"}],
        "linkTable": [{}, {"traceId": "0102030405060708090A0B0C0D0E0F10", "spanId": "0102030405060708"}],
        "stringTable": ["", "a", "ü\n\u00fc\ud83d\ude00"],
        "attributeTable": [{}, {"keyStrindex": 1, "value": {"boolValue": true}, "unitStrindex": 2}],
        "stackTable": [{}, {"locationIndices": [1, 0]}]
      }
    }"#;
    let key_value = |key: &str, value: Option<Value>| KeyValue {
        key: key.to_owned(),
        value: value.map(any),
        key_strindex: 0,
    };
    let resource = Resource {
        attributes: vec![
            key_value("service.name", Some(Value::StringValue("api".into()))),
            KeyValue {
                key_strindex: 2,
                ..key_value("", Some(Value::StringValueStrindex(1)))
            },
        ],
        dropped_attributes_count: 3,
        entity_refs: vec![EntityRef {
            schema_url: "e".into(),
            r#type: "service".into(),
            id_keys: vec!["a".into(), String::new()],
            description_keys: vec!["b".into()],
        }],
    };
    let profile = Profile {
        sample_type: Some(ValueType {
            type_strindex: 1,
            unit_strindex: 2,
        }),
        samples: vec![Sample {
            stack_index: 1,
            attribute_indices: vec![1, 2],
            link_index: 1,
            values: vec![i64::MAX, -1],
            timestamps_unix_nano: vec![1_760_000_000_000_000_000, u64::MAX],
        }],
        time_unix_nano: 1_760_000_000_000_000_000,
        duration_nano: 10_000_000_000,
        period_type: Some(ValueType {
            type_strindex: 3,
            unit_strindex: 0,
        }),
        period: i64::MIN,
        profile_id: Bytes::from_iter(0..16),
        dropped_attributes_count: u32::MAX,
        original_payload_format: "pprof".into(),
        original_payload: Bytes::from_static(&[31, 139, 8, 0]),
        attribute_indices: vec![i32::MIN, i32::MAX],
    };
    let dictionary = ProfilesDictionary {
        mapping_table: vec![
            Mapping::default(),
            Mapping {
                memory_start: 1,
                memory_limit: 2,
                file_offset: 3,
                filename_strindex: 4,
                attribute_indices: vec![5],
            },
        ],
        location_table: vec![
            Location::default(),
            Location {
                mapping_index: 1,
                address: 2,
                lines: vec![Line {
                    function_index: 1,
                    line: 2,
                    column: 3,
                }],
                attribute_indices: vec![4],
            },
        ],
        function_table: vec![
            Function::default(),
            Function {
                name_strindex: 1,
                system_name_strindex: 2,
                filename_strindex: 3,
                start_line: 4,
            },
        ],
        link_table: vec![
            Link::default(),
            Link {
                trace_id: Bytes::from_iter(1..17),
                span_id: Bytes::from_iter(1..9),
            },
        ],
        string_table: vec![String::new(), "a".into(), "ü\nü😀".into()],
        attribute_table: vec![
            KeyValueAndUnit::default(),
            KeyValueAndUnit {
                key_strindex: 1,
                value: Some(any(Value::BoolValue(true))),
                unit_strindex: 2,
            },
        ],
        stack_table: vec![
            Stack::default(),
            Stack {
                location_indices: vec![1, 0],
            },
        ],
    };
    let expected = ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(resource),
            scope_profiles: vec![ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: "n".into(),
                    version: "v".into(),
                    attributes: vec![key_value("k", None)],
                    dropped_attributes_count: 1,
                }),
                profiles: vec![profile],
                schema_url: "s".into(),
            }],
            schema_url: "r".into(),
        }],
        dictionary: Some(dictionary),
    };
    assert_eq!(request(json), Ok(expected));
}

#[test]
fn what_is_left_out_or_null_is_the_default() {
    for json in [
        "{}",
        " { } ",
        r#"{"resourceProfiles":[],"dictionary":null}"#,
    ] {
        let read = request_from_json(json.as_bytes(), 0);
        assert_eq!(read, Ok(Bytes::new()), "{json}");
    }
    let nulls = r#"{"sampleType":null,"samples":null,"timeUnixNano":null,"durationNano":null,
        "periodType":null,"period":null,"profileId":null,"droppedAttributesCount":null,
        "originalPayloadFormat":null,"originalPayload":null,"attributeIndices":null}"#;
    assert_eq!(profile(nulls), Ok(Profile::default()));
    assert_eq!(profile("{}"), Ok(Profile::default()));
    let value = value(r#"{"stringValue":null,"intValue":"0","arrayValue":null}"#);
    assert_eq!(value, Ok(any(Value::IntValue(0))));
}

#[test]
fn a_default_that_is_said_is_not_written() {
    let json = br#"{"resourceProfiles":[{"schemaUrl":"","scopeProfiles":[]}]}"#;
    let read = request_from_json(json, u64::MAX);
    assert_eq!(read, Ok(Bytes::from_static(&[10, 0])));
}

#[test]
fn integers_are_numbers_or_strings() {
    for json in [
        r#"{"values":["1","2"]}"#,
        r#"{"values":[1,2]}"#,
        r#"{"values":[1.0,2e0]}"#,
        r#"{"values":["1.0","0.2e1"]}"#,
    ] {
        assert_eq!(sample(json).unwrap().values, [1, 2], "{json}");
    }
    let indices = sample(r#"{"attributeIndices":["7",8]}"#).unwrap();
    assert_eq!(indices.attribute_indices, [7, 8]);
    let extremes = r#"{"values":[9223372036854775807,-9223372036854775808],
        "timestampsUnixNano":[18446744073709551615,0]}"#;
    let extremes = sample(extremes).unwrap();
    assert_eq!(extremes.values, [i64::MAX, i64::MIN]);
    assert_eq!(extremes.timestamps_unix_nano, [u64::MAX, 0]);
}

#[test]
fn ids_are_hex_or_base64() {
    let id = Bytes::from_iter(0xf0..=0xff);
    for text in [
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF",
        "8PHy8/T19vf4+fr7/P3+/w==",
        "8PHy8/T19vf4+fr7/P3+/w",
        "8PHy8_T19vf4-fr7_P3-_w==",
        "8PHy8_T19vf4-fr7_P3-_w",
    ] {
        let read = profile(&format!(r#"{{"profileId":"{text}"}}"#)).unwrap();
        assert_eq!(read.profile_id, id, "{text}");
        let link = format!(r#"{{"linkTable":[{{"traceId":"{text}","spanId":""}}]}}"#);
        let read = dictionary(&link).unwrap();
        assert_eq!(read.link_table[0].trace_id, id, "{text}");
        assert_eq!(read.link_table[0].span_id, Bytes::new());
    }
    for text in ["0102030405060708", "AQIDBAUGBwg=", "AQIDBAUGBwg"] {
        let read = dictionary(&format!(r#"{{"linkTable":[{{"spanId":"{text}"}}]}}"#)).unwrap();
        assert_eq!(read.link_table[0].span_id, Bytes::from_iter(1..9), "{text}");
    }
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    for (text, bytes) in [
        ("", &[][..]),
        ("+/8=", &[0xfb, 0xff]),
        ("+/8", &[0xfb, 0xff]),
        ("-_8=", &[0xfb, 0xff]),
        ("-_8", &[0xfb, 0xff]),
        (r"\u002b\/8\u003d", &[0xfb, 0xff]),
        ("00000000", &[0xd3, 0x4d, 0x34, 0xd3, 0x4d, 0x34]),
    ] {
        let json = format!(r#"{{"bytesValue":"{text}"}}"#);
        let expected = any(Value::BytesValue(Bytes::copy_from_slice(bytes)));
        assert_eq!(value(&json), Ok(expected), "{text}");
        let payload = profile(&format!(r#"{{"originalPayload":"{text}"}}"#)).unwrap();
        assert_eq!(payload.original_payload, bytes, "{text}");
    }
}

#[test]
fn each_kind_of_value_is_read() {
    let text = |text: &str| any(Value::StringValue(text.to_owned()));
    let map = KeyValueList {
        values: vec![KeyValue {
            key: "k".to_owned(),
            value: Some(any(Value::IntValue(-5))),
            key_strindex: 0,
        }],
    };
    let array = ArrayValue {
        values: vec![text("a"), AnyValue::default(), text("")],
    };
    for (json, expected) in [
        ("{}", AnyValue::default()),
        (r#"{"stringValue":""}"#, text("")),
        (
            r#"{"stringValueStrindex":0}"#,
            any(Value::StringValueStrindex(0)),
        ),
        (
            r#"{"stringValueStrindex":7}"#,
            any(Value::StringValueStrindex(7)),
        ),
        (r#"{"boolValue":false}"#, any(Value::BoolValue(false))),
        (r#"{"intValue":"0"}"#, any(Value::IntValue(0))),
        (r#"{"intValue":-12}"#, any(Value::IntValue(-12))),
        (r#"{"doubleValue":0}"#, any(Value::DoubleValue(0.0))),
        (r#"{"doubleValue":-3}"#, any(Value::DoubleValue(-3.0))),
        (r#"{"doubleValue":"1.5e3"}"#, any(Value::DoubleValue(1.5e3))),
        (
            r#"{"doubleValue":"-Infinity"}"#,
            any(Value::DoubleValue(f64::NEG_INFINITY)),
        ),
        (r#"{"bytesValue":""}"#, any(Value::BytesValue(Bytes::new()))),
        (
            r#"{"arrayValue":{}}"#,
            any(Value::ArrayValue(ArrayValue::default())),
        ),
        (
            r#"{"arrayValue":{"values":[{"stringValue":"a"},{},{"stringValue":""}]}}"#,
            any(Value::ArrayValue(array)),
        ),
        (
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"-5"}}]}}"#,
            any(Value::KvlistValue(map)),
        ),
    ] {
        assert_eq!(value(json), Ok(expected), "{json}");
    }
    match value(r#"{"doubleValue":"NaN"}"#).unwrap().value {
        Some(Value::DoubleValue(number)) => assert!(number.is_nan()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let json = format!(
        r#"{{"a":{deep},"resource_profiles":[1],"resourceProfiles":[{{"b":{{"c":[null,true]}},
        "schemaUrl":"s","scope_profiles":"x"}}],"d":"\u0000"}}"#
    );
    let read = request(&json).unwrap();
    assert_eq!(read.resource_profiles[0].schema_url, "s");
    assert_eq!(read.resource_profiles[0].scope_profiles, []);
}

#[test]
fn fields_come_in_any_order() {
    let read = sample(r#"{"values":[1],"linkIndex":2,"attributeIndices":[3],"stackIndex":4}"#);
    let expected = Sample {
        stack_index: 4,
        attribute_indices: vec![3],
        link_index: 2,
        values: vec![1],
        timestamps_unix_nano: vec![],
    };
    assert_eq!(read, Ok(expected));
}

#[test]
fn lengths_of_all_sizes_are_written() {
    for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
        let text = "x".repeat(length);
        let read = dictionary(&format!(r#"{{"stringTable":["","{text}","y"]}}"#)).unwrap();
        assert_eq!(read.string_table, ["", &text, "y"]);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let sample = |json: &str| {
        format!(
            "{{\"resourceProfiles\":[{{\"scopeProfiles\":[{{\"profiles\":[{{}},{{}},{{}},\n\
             {{\"samples\":[{json}]}}]}}]}}]}}"
        )
    };
    let value =
        |json: &str| format!(r#"{{"dictionary":{{"attributeTable":[{{"value":{json}}}]}}}}"#);
    let in_sample = "resourceProfiles[0].scopeProfiles[0].profiles[3].samples[0]";
    let in_value = "dictionary.attributeTable[0].value";
    let cases = [
        (
            sample(r#"{"values":["1","x"]}"#),
            format!(
                "{in_sample}.values[1]: invalid value: string \"x\", expected an integer of 64 \
                 bits, as a number or a string (line 2, column 30)"
            ),
        ),
        (
            sample(r#"{"values":[9223372036854775808]}"#),
            format!("{in_sample}.values[0]: invalid value: integer `9223372036854775808`"),
        ),
        (
            sample(r#"{"values":[1.5]}"#),
            format!("{in_sample}.values[0]: invalid value: floating point `1.5`"),
        ),
        (
            sample(r#"{"values":[null]}"#),
            format!("{in_sample}.values[0]: invalid type: null, expected an integer"),
        ),
        (
            sample(r#"{"values":["inf"]}"#),
            format!("{in_sample}.values[0]: invalid value: string \"inf\""),
        ),
        (
            sample(r#"{"values":[""]}"#),
            format!("{in_sample}.values[0]: invalid value: string \"\""),
        ),
        (
            sample(r#"{"timestampsUnixNano":["-1"]}"#),
            format!(
                "{in_sample}.timestampsUnixNano[0]: invalid value: string \"-1\", expected an \
                 integer of 64 bits from 0"
            ),
        ),
        (
            sample(r#"{"timestampsUnixNano":[18446744073709551616]}"#),
            format!("{in_sample}.timestampsUnixNano[0]: invalid value: floating point"),
        ),
        (
            sample(r#"{"stackIndex":2147483648}"#),
            format!(
                "{in_sample}.stackIndex: invalid value: integer `2147483648`, expected an integer of 32 bits"
            ),
        ),
        (
            sample(r#"{"stackIndex":true}"#),
            format!("{in_sample}.stackIndex: invalid type: boolean `true`"),
        ),
        (
            sample(r#"{"values":{}}"#),
            format!("{in_sample}.values: invalid type: map, expected a list"),
        ),
        (
            sample("7"),
            format!("{in_sample}: invalid type: integer `7`, expected an object (Sample)"),
        ),
        (
            sample("null"),
            format!("{in_sample}: invalid type: null, expected an object (Sample)"),
        ),
        (
            sample(r#"{"values":[1 2]}"#),
            format!("{in_sample}.values[1]: expected `,` or `]`"),
        ),
        (
            sample(r#"{"linkIndex":1,"linkIndex":2}"#),
            format!("{in_sample}.linkIndex: duplicate field `linkIndex`"),
        ),
        (
            value(r#"{"intValue":1,"stringValue":"a"}"#),
            format!("{in_value}.stringValue: excludes `intValue`, which came before"),
        ),
        (
            value(r#"{"boolValue":"true"}"#),
            format!("{in_value}.boolValue: invalid value: string \"true\", expected true or false"),
        ),
        (
            value(r#"{"bytesValue":"a"}"#),
            format!("{in_value}.bytesValue: invalid value: string \"a\", expected base64"),
        ),
        (
            value(r#"{"bytesValue":"+_8="}"#),
            format!("{in_value}.bytesValue: invalid value: string \"+_8=\", expected base64"),
        ),
        (
            value(r#"{"stringValue":1}"#),
            format!("{in_value}.stringValue: invalid type: integer `1`, expected a string"),
        ),
        (
            value(r#"{"stringValue":"\ud800"}"#),
            format!("{in_value}.stringValue: "),
        ),
        (
            value(r#"{"doubleValue":"nan"}"#),
            format!("{in_value}.doubleValue: invalid value: string \"nan\", expected a number"),
        ),
        (
            value(r#"{"doubleValue":"1e999"}"#),
            format!("{in_value}.doubleValue: invalid value: string \"1e999\""),
        ),
        (
            r#"{"dictionary":{"linkTable":[{"traceId":"0102"}]}}"#.to_owned(),
            "dictionary.linkTable[0].traceId: invalid value: string \"0102\", expected 32 hex \
             digits or 16 bytes as base64"
                .to_owned(),
        ),
        (
            r#"{"dictionary":{"linkTable":[{"spanId":"010203040506070g"}]}}"#.to_owned(),
            "dictionary.linkTable[0].spanId: invalid value".to_owned(),
        ),
        (
            "[]".to_owned(),
            "the JSON: invalid type: sequence, expected an object (ExportProfilesServiceRequest)"
                .to_owned(),
        ),
        (
            "{} {}".to_owned(),
            "the JSON: trailing characters (line 1, column 4)".to_owned(),
        ),
        (
            String::new(),
            "the JSON: EOF while parsing a value".to_owned(),
        ),
    ];
    for (json, expected) in cases {
        let error = request(&json).expect_err(&json).to_string();
        assert!(error.starts_with(&expected), "{json}\n{error}\n{expected}");
    }
    let error = request_from_json(b"{\"dictionary\":{\"stringTable\":[\"\xff\"]}}", 99);
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("dictionary.stringTable[0]: invalid unicode"),
        "{error}"
    );
}
