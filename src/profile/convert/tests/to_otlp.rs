//! What becomes of each part of a pprof in OTLP.

use super::{
    add, any, back, decoded, finished, labels,
    meaning::{label, meaning, text},
    options, received, request_of, text_value,
};
use crate::{
    r#gen::{
        opentelemetry::proto::{
            collector::profiles::v1development::ExportProfilesServiceRequest,
            common::v1::{AnyValue, ArrayValue, any_value::Value},
            profiles::v1development as otlp,
        },
        pprof::{Function, Label, Line, Mapping, Profile},
    },
    profile::{
        convert::{OtlpOptions, RequestBuilder},
        pprof::{Pprof, SyntheticProfile},
    },
};
use bytes::Bytes;
use prost::Message;

fn small() -> Profile {
    let synthetic = SyntheticProfile {
        samples: 6,
        functions: 10,
        depth: 3,
        ..SyntheticProfile::heap(1)
    };
    Profile::decode(synthetic.encode_plain().as_slice()).unwrap()
}

fn add_text(profile: &mut Profile, text: &str) -> i64 {
    profile.string_table.push(text.to_owned());
    profile.string_table.len() as i64 - 1
}

/// What an attribute of the table says.
fn attribute(request: &ExportProfilesServiceRequest, index: i32) -> (String, Value, String) {
    let dictionary = request.dictionary.as_ref().unwrap();
    let attribute = &dictionary.attribute_table[index as usize];
    let text = |index: i32| dictionary.string_table[index as usize].clone();
    let value = attribute.value.clone().unwrap().value.unwrap();
    let (key, unit) = (attribute.key_strindex, attribute.unit_strindex);
    (text(key), value, text(unit))
}

fn profiles(request: &ExportProfilesServiceRequest) -> &[otlp::Profile] {
    &request.resource_profiles[0].scope_profiles[0].profiles
}

#[test]
fn labels_become_resource_and_scope_and_nothing_is_made_up() {
    let of = labels(&[
        ("__name__", "memory"),
        ("__meta", "m"),
        ("job", "api"),
        ("service_name", "orders"),
        ("größe.x", "ü"),
    ]);
    let request = request_of(&of, &small());
    let resource = request.resource_profiles[0].resource.as_ref().unwrap();
    let attributes = &resource.attributes;
    let attributes: Vec<_> = attributes
        .iter()
        .map(|a| (a.key.as_str(), super::string(a.value.as_ref().unwrap())))
        .collect();
    let expected = [
        ("__meta", "m"),
        ("größe.x", "ü"),
        ("job", "api"),
        ("service_name", "orders"),
    ];
    assert_eq!(
        attributes,
        expected.map(|(name, value)| (name, Some(value.to_owned())))
    );
    let scope = &request.resource_profiles[0].scope_profiles[0].scope;
    assert_eq!(scope.as_ref().unwrap().name, "memory");
    assert_eq!(back(&request, &options())[0].labels, of);
}

#[test]
fn equal_labels_share_a_resource_and_each_pprof_is_a_scope() {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let of = |name, job| labels(&[("__name__", name), ("job", job)]);
    add(&mut builder, &of("memory", "a"), &small());
    add(&mut builder, &of("block", "b"), &small());
    let alone = builder.encoded_len();
    add(&mut builder, &of("mutex", "a"), &small());
    assert_eq!(builder.profiles(), 12);
    assert!(builder.encoded_len() < alone * 2, "tables are shared");
    let request = finished(builder);
    let scopes: Vec<Vec<&str>> = request
        .resource_profiles
        .iter()
        .map(|r| {
            let scopes = r.scope_profiles.iter();
            scopes
                .map(|s| s.scope.as_ref().unwrap().name.as_str())
                .collect()
        })
        .collect();
    assert_eq!(scopes, [vec!["memory", "mutex"], vec!["block"]]);
}

#[test]
fn no_labels_are_an_empty_resource_and_scope_that_are_set() {
    let request = request_of(&labels(&[]), &small());
    assert!(request.resource_profiles[0].resource.is_some());
    assert!(
        request.resource_profiles[0].scope_profiles[0]
            .scope
            .is_some()
    );
    let name = back(&request, &options())[0].labels.to_string();
    assert_eq!(name, r#"{__name__="alloc_objects"}"#);
}

#[test]
fn values_of_zero_are_left_out_and_empty_types_have_a_placeholder() {
    let mut profile = small();
    for (place, sample) in profile.sample.iter_mut().enumerate() {
        sample.value = vec![place as i64, 7, 0, 0];
    }
    profile.sample[1].value = vec![0; 4];
    let request = request_of(&labels(&[]), &profile);
    let counts: Vec<usize> = profiles(&request).iter().map(|p| p.samples.len()).collect();
    assert_eq!(
        counts,
        [5, 5, 1, 1],
        "one sample of value 0 stays, in the first"
    );
    let placeholder = otlp::Sample {
        values: vec![0],
        ..otlp::Sample::default()
    };
    assert_eq!(profiles(&request)[3].samples, [placeholder]);
    let converted = back(&request, &options());
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
}

#[test]
fn a_pprof_without_samples_is_sent_and_comes_back_without() {
    let mut profile = small();
    profile.sample.clear();
    let request = request_of(&labels(&[]), &profile);
    assert_eq!(profiles(&request).len(), 4);
    let converted = back(&request, &options());
    assert_eq!(decoded(&converted[0]).sample, []);
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
}

#[test]
fn equal_samples_are_added_up() {
    let mut profile = small();
    let mut again = profile.sample[0].clone();
    again.label.reverse();
    again.value = vec![i64::MAX, 1, 2, 3];
    profile.sample[0].value = vec![5, 1, 1, 0];
    profile.sample.truncate(1);
    profile.sample.push(again);
    let request = request_of(&labels(&[]), &profile);
    let values: Vec<i64> = profiles(&request)
        .iter()
        .map(|p| p.samples[0].values[0])
        .collect();
    assert_eq!(values, [i64::MAX, 2, 3, 3], "without wrapping around");
    assert!(profiles(&request).iter().all(|p| p.samples.len() == 1));
}

#[test]
fn labels_of_samples_become_attributes_with_units() {
    let mut profile = small();
    let [key, other, text, bytes, kb] =
        ["size", "tenant", "acme", "bytes", "kb"].map(|t| add_text(&mut profile, t));
    let number = |key, num, num_unit| Label {
        key,
        num,
        num_unit,
        ..Label::default()
    };
    let word = |key, str| Label {
        key,
        str,
        ..Label::default()
    };
    profile.sample.truncate(1);
    profile.sample[0].value = vec![1, 0, 0, 0];
    let int = |n| any(Value::IntValue(n));
    let array = |values: Vec<Option<AnyValue>>| {
        Value::ArrayValue(ArrayValue {
            values: values.into_iter().flatten().collect(),
        })
    };
    for (labels_of, key, value, unit) in [
        (
            vec![number(key, 512, bytes)],
            "size",
            Value::IntValue(512),
            "bytes",
        ),
        (vec![number(key, 0, 0)], "size", Value::IntValue(0), ""),
        (
            vec![word(other, text)],
            "tenant",
            Value::StringValue("acme".into()),
            "",
        ),
        (
            vec![number(key, 1, bytes), number(key, -2, bytes)],
            "size",
            array(vec![int(1), int(-2)]),
            "bytes",
        ),
        (
            vec![word(key, text), number(key, 3, kb)],
            "size",
            array(vec![text_value("acme"), int(3)]),
            "kb",
        ),
        (
            vec![number(key, 1, bytes), number(key, 2, kb)],
            "size",
            array(vec![int(1), text_value("2 kb")]),
            "bytes",
        ),
    ] {
        profile.sample[0].label = labels_of;
        let request = request_of(&labels(&[]), &profile);
        let indices = &profiles(&request)[0].samples[0].attribute_indices;
        assert_eq!(indices.len(), 1);
        let found = attribute(&request, indices[0]);
        assert_eq!(found, (key.to_owned(), value, unit.to_owned()));
        let back = decoded(&back(&request, &options())[0]);
        if unit != "bytes" || indices.len() == 1 {
            let words = |p: &Profile| -> Vec<String> {
                p.sample[0].label.iter().map(|l| label(p, l)).collect()
            };
            let lossy =
                |l: String| l.replace(r#"["size", "", "kb"] 2"#, r#"["size", "2 kb", ""] 0"#);
            let expected = words(&profile).into_iter();
            let is_mixed = words(&profile).len() == 2 && unit == "bytes";
            let expected: Vec<String> = match is_mixed {
                true => expected.map(lossy).collect(),
                false => expected.collect(),
            };
            assert_eq!(words(&back), expected);
        }
    }
}

#[test]
fn mappings_tell_go_and_gnu_build_ids_apart() {
    for (id, key) in [
        (
            "8d6ef1e0cbe8c0a4a0b4a6b6ea1f9c3c5b2f0d11",
            "process.executable.build_id.gnu",
        ),
        ("aa/bb-_/cc/dd", "process.executable.build_id.go"),
        ("vmlinux", "process.executable.build_id.gnu"),
    ] {
        let mut profile = small();
        profile.mapping[0].build_id = add_text(&mut profile, id);
        profile.mapping[0].has_functions = false;
        let request = request_of(&labels(&[]), &profile);
        let mapping = &request.dictionary.as_ref().unwrap().mapping_table[1];
        let found = attribute(&request, mapping.attribute_indices[0]);
        let value = Value::StringValue(id.to_owned());
        assert_eq!(found, (key.to_owned(), value, String::new()));
        assert_eq!(mapping.attribute_indices.len(), 1);
        let converted = back(&request, &options());
        assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
    }
}

#[test]
fn a_profile_without_period_type_and_time_gets_those_of_receipt() {
    let mut profile = small();
    profile.default_sample_type = profile.sample_type[2].r#type;
    for time in [0, -5] {
        profile.period_type = None;
        profile.time_nanos = time;
        profile.duration_nanos = -1;
        profile.period = -1;
        let request = request_of(&labels(&[]), &profile);
        for otlp in profiles(&request) {
            assert_eq!(otlp.time_unix_nano, 1_800_000_000_000_000_000);
            assert_eq!((otlp.duration_nano, otlp.period), (0, 0));
            assert_eq!(otlp.period_type, profiles(&request)[2].sample_type);
        }
        let converted = back(&request, &options());
        let found = meaning(&decoded(&converted[0]));
        assert_eq!(found.default_sample_type, "inuse_objects");
        assert_eq!(found.period, ("inuse_objects/count".to_owned(), 0));
    }
}

#[test]
fn scope_and_profile_follow_the_conventions_of_pprof() {
    let mut profile = small();
    profile.default_sample_type = profile.sample_type[3].r#type;
    let mut text = |t: &str| add_text(&mut profile, t);
    let (comment, again) = (vec![text("one"), text("two")], text("runtime\\..*"));
    let (keep_frames, doc_url) = (text("main"), text("https://example.com"));
    let profile = Profile {
        comment,
        drop_frames: again,
        keep_frames,
        doc_url,
        ..profile
    };
    let request = request_of(&labels(&[]), &profile);
    let scope = request.resource_profiles[0].scope_profiles[0].scope.clone();
    let attributes = scope.unwrap().attributes;
    assert_eq!(attributes[0].key, "pprof.scope.default_sample_type");
    assert_eq!(attributes[0].value, text_value("inuse_space"));
    assert_eq!(attributes[1].key, "pprof.scope.sample_type_order");
    let ints = (0..4).map(|n| AnyValue {
        value: Some(Value::IntValue(n)),
    });
    let order = Value::ArrayValue(ArrayValue {
        values: ints.collect(),
    });
    assert_eq!(attributes[1].value, any(order));
    for otlp in profiles(&request) {
        let keys = otlp.attribute_indices.iter();
        let keys: Vec<String> = keys.map(|index| attribute(&request, *index).0).collect();
        assert_eq!(
            keys,
            ["comment", "drop_frames", "keep_frames", "doc_url"]
                .map(|name| format!("pprof.profile.{name}"))
        );
    }
    let comments = attribute(&request, profiles(&request)[0].attribute_indices[0]).1;
    let texts = [text_value("one"), text_value("two")];
    let values = texts.into_iter().flatten().collect();
    assert_eq!(comments, Value::ArrayValue(ArrayValue { values }));
    let converted = back(&request, &options());
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
}

#[test]
fn one_comment_is_a_list_too() {
    let mut profile = small();
    profile.comment = vec![add_text(&mut profile, "only")];
    let request = request_of(&labels(&[]), &profile);
    let comments = attribute(&request, profiles(&request)[0].attribute_indices[0]).1;
    assert!(matches!(comments, Value::ArrayValue(array) if array.values.len() == 1));
}

#[test]
fn broken_tables_are_mended_before() {
    let mut profile = small();
    profile.location.reverse();
    profile.sample[0].location_id.push(0);
    profile.sample[1].value.pop();
    let sound = {
        let mut sound = small();
        sound.sample.remove(1);
        sound
    };
    let request = request_of(&labels(&[]), &profile);
    let converted = back(&request, &options());
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&sound));
}

#[test]
fn what_cannot_be_mended_is_an_error() {
    let mut profile = small();
    profile.sample_type.clear();
    for (plain, reason) in [
        (profile.encode_to_vec(), "samples without any sample type"),
        (b"<html>".to_vec(), "the body is HTML"),
    ] {
        let plain = Bytes::from(plain);
        let mut builder = RequestBuilder::new(OtlpOptions::default());
        let pprof = Pprof::new(plain.clone());
        let error = builder.add(&labels(&[]), received(), &pprof, &plain);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
        assert_eq!(finished(builder).resource_profiles, []);
    }
}

#[test]
fn a_finished_message_is_what_was_encoded() {
    let build = || {
        let mut builder = RequestBuilder::new(OtlpOptions::default());
        add(&mut builder, &labels(&[("job", "a")]), &small());
        builder
    };
    assert_eq!(build().finish_message(), finished(build()));
}

#[test]
fn inlined_lines_columns_and_folded_locations_survive() {
    let mut profile = small();
    let name = add_text(&mut profile, "inlined");
    let id = profile.function.len() as u64 + 1;
    profile.function.push(Function {
        id,
        name,
        system_name: name,
        ..Function::default()
    });
    let place = profile.sample[0].location_id[0] as usize - 1;
    let location = &mut profile.location[place];
    location.is_folded = true;
    location.line[0].column = 17;
    location.line.insert(
        0,
        Line {
            function_id: id,
            line: 3,
            column: 9,
        },
    );
    let converted = back(&request_of(&labels(&[]), &profile), &options());
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
}

#[test]
fn the_program_stays_the_first_mapping() {
    let mut profile = small();
    let [program, library] = ["/usr/bin/app", "/lib/libc.so"].map(|t| add_text(&mut profile, t));
    let mapping_of = |id, filename| Mapping {
        id,
        memory_start: 0x7f00_0000 - id,
        filename,
        ..Mapping::default()
    };
    profile.mapping = vec![mapping_of(1, program), mapping_of(2, library)];
    for (place, location) in profile.location.iter_mut().enumerate() {
        location.mapping_id = 2 - (place as u64 % 2);
    }
    profile.sample[0].location_id = vec![1, 2];
    let converted = decoded(&back(&request_of(&labels(&[]), &profile), &options())[0]);
    let files: Vec<String> = converted
        .mapping
        .iter()
        .map(|m| text(&converted, m.filename))
        .collect();
    assert_eq!(files, ["/usr/bin/app", "/lib/libc.so"]);
}

// --- OTLP to pprof
