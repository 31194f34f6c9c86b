use super::{
    MAX, add, back, decoded, finished, labels,
    meaning::{label, mapping, meaning, text},
    options, received, request_of,
};
use crate::{
    r#gen::{
        opentelemetry::proto::{
            collector::profiles::v1development::ExportProfilesServiceRequest,
            common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
            profiles::v1development as otlp,
        },
        pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType},
    },
    profile::{
        convert::{OtlpOptions, PprofOptions, RequestBuilder, to_pprof},
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

fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn string(text: &str) -> Option<AnyValue> {
    any(Value::StringValue(text.to_owned()))
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

// --- pprof to OTLP

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
            array(vec![string("acme"), int(3)]),
            "kb",
        ),
        (
            vec![number(key, 1, bytes), number(key, 2, kb)],
            "size",
            array(vec![int(1), string("2 kb")]),
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
    assert_eq!(attributes[0].value, string("inuse_space"));
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
    let texts = [string("one"), string("two")];
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

/// A resource with one scope, and the tables of a small program: stack 1 is
/// `leaf` called by `main`, stack 2 `main`.
struct Maker {
    dictionary: otlp::ProfilesDictionary,
    scope: otlp::ScopeProfiles,
}

impl Maker {
    fn new() -> Self {
        let mut maker = Self {
            dictionary: otlp::ProfilesDictionary {
                string_table: vec![String::new()],
                mapping_table: vec![Default::default()],
                attribute_table: vec![Default::default()],
                link_table: vec![Default::default()],
                ..Default::default()
            },
            scope: otlp::ScopeProfiles::default(),
        };
        let [main, leaf] = ["main", "leaf"].map(|name| maker.string(name));
        let function = |name_strindex| otlp::Function {
            name_strindex,
            ..Default::default()
        };
        maker.dictionary.function_table = vec![function(0), function(main), function(leaf)];
        let location = |function_index| otlp::Location {
            address: 0x10 * function_index as u64,
            lines: vec![otlp::Line {
                function_index,
                line: 4,
                column: 2,
            }],
            ..Default::default()
        };
        maker.dictionary.location_table = vec![Default::default(), location(1), location(2)];
        let stack = |location_indices: &[i32]| otlp::Stack {
            location_indices: location_indices.to_vec(),
        };
        maker.dictionary.stack_table = vec![stack(&[]), stack(&[2, 1]), stack(&[1])];
        maker
    }

    fn string(&mut self, text: &str) -> i32 {
        let table = &mut self.dictionary.string_table;
        table.push(text.to_owned());
        table.len() as i32 - 1
    }

    fn attribute(&mut self, key: &str, value: Option<AnyValue>, unit: &str) -> i32 {
        let key_strindex = self.string(key);
        let unit_strindex = self.string(unit);
        self.dictionary.attribute_table.push(otlp::KeyValueAndUnit {
            key_strindex,
            value,
            unit_strindex,
        });
        self.dictionary.attribute_table.len() as i32 - 1
    }

    fn profile(
        &mut self,
        kind: &str,
        unit: &str,
        samples: Vec<otlp::Sample>,
    ) -> &mut otlp::Profile {
        let sample_type = Some(otlp::ValueType {
            type_strindex: self.string(kind),
            unit_strindex: self.string(unit),
        });
        self.scope.profiles.push(otlp::Profile {
            sample_type,
            samples,
            time_unix_nano: 1_000,
            ..Default::default()
        });
        self.scope.profiles.last_mut().unwrap()
    }

    fn scope(&mut self) -> &mut InstrumentationScope {
        self.scope.scope.get_or_insert_default()
    }

    fn convert(&self, options: &PprofOptions<'_>) -> Vec<(String, Profile)> {
        let resource = otlp::ResourceProfiles {
            scope_profiles: vec![self.scope.clone()],
            ..Default::default()
        };
        let of = labels(&[("job", "api")]);
        let converted = to_pprof(&of, &resource, &self.dictionary, options).unwrap();
        converted.iter().for_each(super::assert_healthy);
        converted
            .iter()
            .map(|c| (c.labels.to_string(), decoded(c)))
            .collect()
    }

    fn one(&self) -> Profile {
        let mut converted = self.convert(&options());
        assert_eq!(converted.len(), 1);
        converted.remove(0).1
    }
}

fn sample(stack_index: i32, values: &[i64], times: &[u64]) -> otlp::Sample {
    otlp::Sample {
        stack_index,
        values: values.to_vec(),
        timestamps_unix_nano: times.to_vec(),
        ..Default::default()
    }
}

fn values(profile: &Profile) -> Vec<&[i64]> {
    profile.sample.iter().map(|s| s.value.as_slice()).collect()
}

/// The labels of all samples, in words.
fn words(profile: &Profile) -> Vec<Vec<String>> {
    let words = |s: &Sample| s.label.iter().map(|l| label(profile, l)).collect();
    profile.sample.iter().map(words).collect()
}

#[test]
fn samples_of_all_shapes_are_added_up() {
    let mut maker = Maker::new();
    maker.profile(
        "cpu",
        "nanoseconds",
        vec![
            sample(1, &[5], &[]),
            sample(2, &[], &[1_000, 1_001, 1_002]),
            sample(1, &[2, 3], &[1_000, 1_001]),
            sample(1, &[10, 20], &[]),
        ],
    );
    assert_eq!(values(&maker.one()), [&[40], &[3]]);
}

#[test]
fn profiles_of_one_pprof_come_together_in_order() {
    let mut maker = Maker::new();
    maker.profile("inuse_space", "bytes", vec![sample(1, &[4], &[])]);
    maker.profile(
        "alloc_space",
        "bytes",
        vec![sample(1, &[8], &[]), sample(2, &[1], &[])],
    );
    let types = |profile: &Profile| meaning(profile).types;
    let together = maker.one();
    assert_eq!(types(&together), ["inuse_space/bytes", "alloc_space/bytes"]);
    assert_eq!(values(&together), [&[4, 8][..], &[0, 1]]);
    let order = [1, 0].map(|n| AnyValue {
        value: Some(Value::IntValue(n)),
    });
    maker.scope().attributes.push(KeyValue {
        key: "pprof.scope.sample_type_order".into(),
        value: any(Value::ArrayValue(ArrayValue {
            values: order.to_vec(),
        })),
        key_strindex: 0,
    });
    let together = maker.one();
    assert_eq!(types(&together), ["alloc_space/bytes", "inuse_space/bytes"]);
    assert_eq!(values(&together), [&[8, 4][..], &[1, 0]]);
}

#[test]
fn profiles_that_differ_are_pprofs_of_their_own() {
    let edits: [fn(&mut otlp::Profile); 5] = [
        |p| p.time_unix_nano += 1,
        |p| p.duration_nano += 1,
        |p| p.period += 1,
        |p| p.sample_type = None,
        |p| {
            p.period_type = Some(otlp::ValueType {
                type_strindex: 1,
                unit_strindex: 1,
            });
        },
    ];
    for (place, edit) in edits.into_iter().enumerate() {
        let mut maker = Maker::new();
        maker.profile("a", "count", vec![sample(1, &[1], &[])]);
        maker.profile("b", "count", vec![sample(1, &[2], &[])]);
        edit(&mut maker.scope.profiles[1]);
        // Another sample type alone keeps them together.
        assert_eq!(
            maker.convert(&options()).len(),
            2 - usize::from(place == 3),
            "{place}"
        );
    }
    let mut maker = Maker::new();
    for n in 1..4 {
        maker.profile("a", "count", vec![sample(1, &[n], &[])]);
        maker.scope.profiles.last_mut().unwrap().sample_type = Some(otlp::ValueType {
            type_strindex: 1,
            unit_strindex: 2,
        });
    }
    let converted = maker.convert(&options());
    let values: Vec<_> = converted.iter().map(|(_, p)| values(p)).collect();
    assert_eq!(values, [[[1]], [[2]], [[3]]], "a type that comes again");
}

#[test]
fn too_many_sample_types_are_several_pprofs() {
    let mut maker = Maker::new();
    for n in 0..70 {
        maker.profile(&format!("t{n}"), "count", vec![sample(1, &[n], &[])]);
    }
    let converted = maker.convert(&options());
    let widths: Vec<usize> = converted.iter().map(|(_, p)| p.sample_type.len()).collect();
    assert_eq!(widths, [32, 32, 6]);
}

#[test]
fn attributes_of_samples_become_labels() {
    let mut maker = Maker::new();
    let indexed = maker.string("indexed");
    let list = Value::ArrayValue(ArrayValue {
        values: [string("x"), any(Value::IntValue(2)), string("")]
            .into_iter()
            .flatten()
            .collect(),
    });
    let attribute_indices = vec![
        maker.attribute("thread", string("worker"), ""),
        maker.attribute("size", any(Value::IntValue(512)), "bytes"),
        maker.attribute("ok", any(Value::BoolValue(true)), ""),
        maker.attribute("ratio", any(Value::DoubleValue(0.5)), ""),
        maker.attribute("nan", any(Value::DoubleValue(f64::NAN)), ""),
        maker.attribute(
            "raw",
            any(Value::BytesValue(Bytes::from_static(b"\xff\x00"))),
            "",
        ),
        maker.attribute("several", any(list.clone()), ""),
        maker.attribute("by index", any(Value::StringValueStrindex(indexed)), ""),
        maker.attribute("empty", string(""), ""),
        maker.attribute("nothing", None, ""),
        maker.attribute("", string("no key"), ""),
        0,
    ];
    let nested = AnyValue { value: Some(list) };
    let values = vec![nested];
    let nested = any(Value::ArrayValue(ArrayValue { values }));
    let nested = maker.attribute("nested", nested, "");
    let mut of = sample(1, &[1], &[]);
    of.attribute_indices = attribute_indices;
    of.attribute_indices.push(nested);
    maker.profile("cpu", "count", vec![of]);
    assert_eq!(
        words(&maker.one())[0],
        [
            r#"["thread", "worker", ""] 0"#,
            r#"["size", "", "bytes"] 512"#,
            r#"["ok", "true", ""] 0"#,
            r#"["ratio", "0.5", ""] 0"#,
            r#"["nan", "NaN", ""] 0"#,
            r#"["raw", "/wA=", ""] 0"#,
            r#"["several", "x", ""] 0"#,
            r#"["several", "", ""] 2"#,
            r#"["by index", "indexed", ""] 0"#,
            r#"["nested", "[\"x\",2,\"\"]", ""] 0"#,
        ]
    );
}

#[test]
fn samples_with_the_same_set_of_attributes_are_the_same() {
    let mut maker = Maker::new();
    let (a, b) = (
        maker.attribute("a", string("1"), ""),
        maker.attribute("b", string("2"), ""),
    );
    let mut first = sample(1, &[1], &[]);
    let mut second = sample(1, &[2], &[]);
    first.attribute_indices = vec![a, b];
    second.attribute_indices = vec![b, a, b];
    let third = sample(1, &[4], &[]);
    maker.profile("cpu", "count", vec![first, second, third]);
    assert_eq!(values(&maker.one()), [&[3], &[4]]);
}

#[test]
fn links_become_labels() {
    let mut maker = Maker::new();
    maker.dictionary.link_table.push(otlp::Link {
        trace_id: Bytes::from_static(&[0xab; 16]),
        span_id: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 0xff]),
    });
    let mut linked = sample(1, &[1], &[]);
    linked.link_index = 1;
    maker.profile("cpu", "count", vec![linked, sample(1, &[2], &[])]);
    let words = words(&maker.one());
    let trace = format!(r#"["trace_id", "{}", ""] 0"#, "ab".repeat(16));
    let span = r#"["span_id", "01020304050607ff", ""] 0"#.to_owned();
    assert_eq!(words, [vec![trace, span], vec![]]);
}

#[test]
fn listed_attributes_become_series() {
    let mut maker = Maker::new();
    let (a, b) = (
        maker.attribute("container.id", string("a"), ""),
        maker.attribute("container.id", string(" b "), ""),
    );
    let pid = maker.attribute("process.pid", any(Value::IntValue(7)), "");
    let other = maker.attribute("thread", string("t"), "");
    let with = |stack, value, attributes: &[i32]| otlp::Sample {
        attribute_indices: attributes.to_vec(),
        ..sample(stack, &[value], &[])
    };
    let samples = vec![
        with(1, 1, &[a, other]),
        with(1, 2, &[b]),
        with(2, 4, &[a, pid]),
        with(2, 8, &[other]),
        with(2, 16, &[a]),
    ];
    maker.profile("cpu", "count", samples);
    let names = ["container.id", "process.pid", "job"].map(str::to_owned);
    let convert = |max_series| {
        let options = PprofOptions {
            series_attributes: &names,
            max_series,
            ..options()
        };
        let converted = maker.convert(&options);
        let told = converted.iter().map(|(labels, p)| {
            let sum: i64 = p.sample.iter().map(|s| s.value[0]).sum();
            (
                labels.replace(r#"__name__="cpu", "#, ""),
                sum,
                words(p).concat().len(),
            )
        });
        told.collect::<Vec<_>>()
    };
    let series = |labels: &str, sum, words| (format!("{{{labels}job=\"api\"}}"), sum, words);
    assert_eq!(
        convert(9),
        [
            series("", 8, 1),
            series("container.id=\"a\", ", 17, 1),
            series("container.id=\"b\", ", 2, 0),
            (
                r#"{container.id="a", job="api", process.pid="7"}"#.to_owned(),
                4,
                0
            ),
        ]
    );
    assert_eq!(
        convert(1),
        [series("", 14, 4), series("container.id=\"a\", ", 17, 1)],
        "beyond the cap samples keep their attributes"
    );
}

#[test]
fn later_attributes_win_as_in_parca() {
    let mut maker = Maker::new();
    let [of_sample, of_profile] =
        ["sample", "profile"].map(|of| maker.attribute("who", string(of), ""));
    let only = maker.attribute("only", string("sample"), "");
    let mut of = sample(1, &[1], &[]);
    of.attribute_indices = vec![of_sample, only];
    maker.profile("cpu", "count", vec![of]).attribute_indices = vec![of_profile];
    assert_eq!(
        words(&maker.one())[0],
        [r#"["only", "sample", ""] 0"#, r#"["who", "profile", ""] 0"#]
    );
    let who = maker.string("who");
    maker.scope().attributes.push(KeyValue {
        key: String::new(),
        key_strindex: who,
        value: string("scope"),
    });
    assert_eq!(words(&maker.one())[0][1], r#"["who", "scope", ""] 0"#);
    let names = ["who".to_owned()];
    let listed = PprofOptions {
        series_attributes: &names,
        ..options()
    };
    let (labels, profile) = maker.convert(&listed).remove(0);
    assert_eq!(labels, r#"{__name__="cpu", job="api", who="scope"}"#);
    assert_eq!(words(&profile)[0], [r#"["only", "sample", ""] 0"#]);
}

#[test]
fn names_and_types_are_such_that_queries_take_them() {
    for (scope, kind, name, types) in [
        (
            "go.opentelemetry.io/ebpf-profiler",
            "cpu",
            "go_opentelemetry_io_ebpf_profiler",
            "cpu/count",
        ),
        ("", "alloc-space", "alloc_space", "alloc_space/count"),
        ("", "", "unknown", "unknown/count"),
        ("9p", "größe", "_9p", "gr__e/count"),
    ] {
        let mut maker = Maker::new();
        maker.scope().name = scope.to_owned();
        maker.profile(kind, "", vec![sample(1, &[1], &[])]);
        let (labels, profile) = maker.convert(&options()).remove(0);
        assert_eq!(labels, format!(r#"{{__name__="{name}", job="api"}}"#));
        let meaning = meaning(&profile);
        assert_eq!(meaning.types, [types]);
        assert_eq!(meaning.period.0, types, "no period type");
    }
}

#[test]
fn the_default_sample_type_names_what_has_no_name() {
    let mut maker = Maker::new();
    maker.profile("alloc_space", "bytes", vec![sample(1, &[1], &[])]);
    maker.profile("inuse_space", "bytes", vec![sample(1, &[1], &[])]);
    maker.scope().attributes.push(KeyValue {
        key: "pprof.scope.default_sample_type".into(),
        value: string("inuse_space"),
        key_strindex: 0,
    });
    let (labels, profile) = maker.convert(&options()).remove(0);
    assert_eq!(labels, r#"{__name__="inuse_space", job="api"}"#);
    assert_eq!(text(&profile, profile.default_sample_type), "inuse_space");
    assert_eq!(meaning(&profile).period.0, "inuse_space/bytes");
}

#[test]
fn a_time_is_found_wherever_there_is_one() {
    for (time, times, expected) in [
        (5, &[7_u64, 9][..], 5),
        (0, &[9, 0, 7], 7),
        (0, &[], 1_800_000_000_000_000_000),
        (u64::MAX, &[u64::MAX, 3], 3),
    ] {
        let mut maker = Maker::new();
        maker
            .profile("cpu", "count", vec![sample(1, &[], times)])
            .time_unix_nano = time;
        assert_eq!(maker.one().time_nanos, expected);
    }
    let mut maker = Maker::new();
    maker.profile("cpu", "count", vec![]).duration_nano = u64::MAX;
    assert_eq!(maker.one().duration_nanos, i64::MAX);
}

#[test]
fn mappings_and_kinds_of_frames() {
    let mut maker = Maker::new();
    let attributes = vec![
        maker.attribute("process.executable.build_id.htlhash", string("hash"), ""),
        maker.attribute("process.executable.build_id.gnu", string("gnu"), ""),
        maker.attribute("process.executable.build_id.go", string("go/x"), ""),
        maker.attribute(
            "pprof.mapping.has_filenames",
            any(Value::BoolValue(true)),
            "",
        ),
        maker.attribute(
            "pprof.mapping.has_functions",
            any(Value::BoolValue(false)),
            "",
        ),
    ];
    let filename_strindex = maker.string("/bin/app");
    maker.dictionary.mapping_table.push(otlp::Mapping {
        memory_start: 1,
        memory_limit: 2,
        file_offset: 3,
        filename_strindex,
        attribute_indices: attributes,
    });
    let kernel = maker.attribute("profile.frame.type", string("kernel"), "");
    let python = maker.attribute("profile.frame.type", string("cpython"), "");
    let location = |mapping_index, attribute: i32| otlp::Location {
        mapping_index,
        address: 1,
        attribute_indices: vec![attribute],
        ..Default::default()
    };
    let table = &mut maker.dictionary.location_table;
    table.extend([
        location(0, python),
        location(1, kernel),
        location(0, kernel),
        location(0, python),
    ]);
    maker.dictionary.stack_table.push(otlp::Stack {
        location_indices: vec![3, 4, 5, 6, 0],
    });
    maker.profile("cpu", "count", vec![sample(3, &[1], &[])]);
    let profile = maker.one();
    let stack = profile.sample[0].location_id.iter();
    let mappings: Vec<String> = stack
        .map(|id| mapping(&profile, profile.location[*id as usize - 1].mapping_id))
        .collect();
    let no_flags = "[false, false, false, false]";
    assert_eq!(
        mappings,
        [
            format!(r#" in ["[cpython]", ""] [0, 0, 0] {no_flags}"#),
            r#" in ["/bin/app", "gnu"] [1, 2, 3] [false, true, false, false]"#.to_owned(),
            format!(r#" in ["[kernel.kallsyms]", ""] [0, 0, 0] {no_flags}"#),
            format!(r#" in ["[cpython]", ""] [0, 0, 0] {no_flags}"#),
            String::new(),
        ]
    );
    assert_eq!(profile.mapping.len(), 3);
    assert_eq!(text(&profile, profile.mapping[0].filename), "/bin/app");
}

#[test]
fn lines_without_functions_go_and_empty_functions_get_a_name() {
    let mut maker = Maker::new();
    maker
        .dictionary
        .function_table
        .push(otlp::Function::default());
    let line = |function_index| otlp::Line {
        function_index,
        line: 1,
        column: 0,
    };
    maker.dictionary.location_table[1].lines = vec![line(0), line(3)];
    maker.profile("cpu", "count", vec![sample(2, &[1], &[])]);
    let profile = maker.one();
    assert_eq!(profile.location[0].line.len(), 1);
    assert_eq!(text(&profile, profile.function[0].name), "[unknown]");
}

#[test]
fn only_what_samples_use_is_written() {
    let mut maker = Maker::new();
    maker.profile("cpu", "count", vec![sample(2, &[1], &[])]);
    let Profile {
        location, function, ..
    } = maker.one();
    let line = vec![Line {
        function_id: 1,
        line: 4,
        column: 2,
    }];
    let expected = Location {
        id: 1,
        address: 0x10,
        line,
        ..Location::default()
    };
    assert_eq!(location, [expected]);
    assert_eq!(function.len(), 1);
}

#[test]
fn a_type_that_no_index_names_is_unknown() {
    let mut maker = Maker::new();
    maker
        .profile("cpu", "count", vec![sample(1, &[1], &[])])
        .sample_type = None;
    let profile = maker.one();
    assert_eq!(meaning(&profile).types, ["unknown/count"]);
    let type_of = |t: ValueType| [t.r#type, t.unit].map(|index| text(&profile, index));
    assert_eq!(type_of(profile.period_type.unwrap()), ["unknown", "count"]);
    assert!(profile.encoded_len() < MAX as usize);
}
