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
    profile::otlp::json::{
        MAX_GROWTH_FROM_JSON, MAX_GROWTH_TO_JSON, request_from_json, request_to_json,
    },
};
use bytes::Bytes;
use proptest::{collection::vec, option::of, prelude::*};
use prost::Message;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_request_survives_json(request in request()) {
        let protobuf = request.encode_to_vec();
        let json = request_to_json(&protobuf).unwrap();
        prop_assert!(json.len() <= MAX_GROWTH_TO_JSON * protobuf.len() + 2);
        let again = request_from_json(&json, u64::MAX).unwrap();
        prop_assert!(again.len() <= MAX_GROWTH_FROM_JSON * json.len());
        prop_assert_eq!(&again[..], &protobuf[..], "{}", String::from_utf8_lossy(&json));
        let tree: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let pretty = serde_json::to_vec_pretty(&tree).unwrap();
        let again = request_from_json(&pretty, u64::MAX).unwrap();
        prop_assert_eq!(&again[..], &protobuf[..]);
    }

    #[test]
    fn random_bytes_are_refused_or_read_as_prost_reads_them(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(json) = request_to_json(&bytes) {
            // prost also refuses what is wrong with a value that another one replaces.
            if let Ok(decoded) = ExportProfilesServiceRequest::decode(&*bytes) {
                prop_assert_eq!(json, request_to_json(&decoded.encode_to_vec()).unwrap());
            }
        }
    }
}

fn request() -> impl Strategy<Value = ExportProfilesServiceRequest> {
    (vec(resource_profiles(), 0..3), of(dictionary())).prop_map(
        |(resource_profiles, dictionary)| ExportProfilesServiceRequest {
            resource_profiles,
            dictionary,
        },
    )
}

fn resource_profiles() -> impl Strategy<Value = ResourceProfiles> {
    let scopes = vec(scope_profiles(), 0..3);
    (of(resource()), scopes, text()).prop_map(|(resource, scope_profiles, schema_url)| {
        ResourceProfiles {
            resource,
            scope_profiles,
            schema_url,
        }
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), texts(), texts()).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (vec(key_value(), 0..4), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

fn scope_profiles() -> impl Strategy<Value = ScopeProfiles> {
    let scope = (text(), text(), vec(key_value(), 0..2), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    (of(scope), vec(profile(), 0..3), text()).prop_map(|(scope, profiles, schema_url)| {
        ScopeProfiles {
            scope,
            profiles,
            schema_url,
        }
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let types = (of(value_type()), of(value_type()));
    let numbers = (
        any::<u64>(),
        any::<u64>(),
        any::<i64>(),
        any::<u32>(),
        indices(),
    );
    let payload = (text(), bytes(0..9));
    (types, vec(sample(), 0..5), numbers, id(16), payload).prop_map(
        |((sample_type, period_type), samples, numbers, profile_id, payload)| Profile {
            sample_type,
            samples,
            time_unix_nano: numbers.0,
            duration_nano: numbers.1,
            period_type,
            period: numbers.2,
            profile_id,
            dropped_attributes_count: numbers.3,
            original_payload_format: payload.0,
            original_payload: payload.1,
            attribute_indices: numbers.4,
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        any::<i32>(),
        indices(),
        any::<i32>(),
        vec(any::<i64>(), 0..5),
        vec(any::<u64>(), 0..5),
    )
        .prop_map(
            |(stack_index, attribute_indices, link_index, values, timestamps_unix_nano)| Sample {
                stack_index,
                attribute_indices,
                link_index,
                values,
                timestamps_unix_nano,
            },
        )
}

fn value_type() -> impl Strategy<Value = ValueType> {
    (any::<i32>(), 0..3).prop_map(|(type_strindex, unit_strindex)| ValueType {
        type_strindex,
        unit_strindex,
    })
}

fn dictionary() -> impl Strategy<Value = ProfilesDictionary> {
    let link = (id(16), id(8)).prop_map(|(trace_id, span_id)| Link { trace_id, span_id });
    let attribute = (any::<i32>(), of(value()), any::<i32>()).prop_map(
        |(key_strindex, value, unit_strindex)| KeyValueAndUnit {
            key_strindex,
            value,
            unit_strindex,
        },
    );
    let stack = indices().prop_map(|location_indices| Stack { location_indices });
    (
        vec(mapping(), 0..3),
        vec(location(), 0..3),
        vec(function(), 0..3),
        vec(link, 0..3),
        texts(),
        vec(attribute, 0..4),
        vec(stack, 0..3),
    )
        .prop_map(|tables| ProfilesDictionary {
            mapping_table: tables.0,
            location_table: tables.1,
            function_table: tables.2,
            link_table: tables.3,
            string_table: tables.4,
            attribute_table: tables.5,
            stack_table: tables.6,
        })
}

fn mapping() -> impl Strategy<Value = Mapping> {
    (any::<[u64; 3]>(), any::<i32>(), indices()).prop_map(
        |([memory_start, memory_limit, file_offset], filename_strindex, attribute_indices)| {
            Mapping {
                memory_start,
                memory_limit,
                file_offset,
                filename_strindex,
                attribute_indices,
            }
        },
    )
}

fn location() -> impl Strategy<Value = Location> {
    let line =
        (any::<i32>(), any::<i64>(), any::<i64>()).prop_map(|(function_index, line, column)| {
            Line {
                function_index,
                line,
                column,
            }
        });
    (any::<i32>(), any::<u64>(), vec(line, 0..3), indices()).prop_map(
        |(mapping_index, address, lines, attribute_indices)| Location {
            mapping_index,
            address,
            lines,
            attribute_indices,
        },
    )
}

fn function() -> impl Strategy<Value = Function> {
    (any::<[i32; 3]>(), any::<i64>()).prop_map(|(strings, start_line)| Function {
        name_strindex: strings[0],
        system_name_strindex: strings[1],
        filename_strindex: strings[2],
        start_line,
    })
}

fn key_value() -> impl Strategy<Value = KeyValue> {
    key_value_of(value().boxed())
}

fn key_value_of(value: BoxedStrategy<AnyValue>) -> impl Strategy<Value = KeyValue> {
    (text(), of(value), 0..3).prop_map(|(key, value, key_strindex)| KeyValue {
        key,
        value,
        key_strindex,
    })
}

fn value() -> impl Strategy<Value = AnyValue> {
    let any_value = |value| AnyValue { value: Some(value) };
    // A NaN of many bits is one NaN in JSON.
    let double = any::<f64>().prop_map(|value| if value.is_nan() { f64::NAN } else { value });
    let leaf = prop_oneof![
        Just(AnyValue::default()),
        text().prop_map(move |text| any_value(Value::StringValue(text))),
        any::<bool>().prop_map(move |value| any_value(Value::BoolValue(value))),
        any::<i64>().prop_map(move |value| any_value(Value::IntValue(value))),
        double.prop_map(move |value| any_value(Value::DoubleValue(value))),
        bytes(0..9).prop_map(move |bytes| any_value(Value::BytesValue(bytes))),
        any::<i32>().prop_map(move |index| any_value(Value::StringValueStrindex(index))),
    ];
    leaf.prop_recursive(4, 12, 3, move |inner| {
        let array = vec(inner.clone(), 0..3).prop_map(|values| ArrayValue { values });
        let map = vec(key_value_of(inner), 0..3).prop_map(|values| KeyValueList { values });
        prop_oneof![
            array.prop_map(move |array| any_value(Value::ArrayValue(array))),
            map.prop_map(move |map| any_value(Value::KvlistValue(map))),
        ]
    })
}

fn indices() -> impl Strategy<Value = Vec<i32>> {
    vec(any::<i32>(), 0..4)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,8}", "\\PC{0,200}"]
}

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

/// An id, or none.
fn id(length: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), bytes(length..length + 1)]
}
