//! What becomes of each part of an OTLP request in pprofs.

use super::{
    MAX, any, decoded, labels,
    meaning::{label, mapping, meaning, text},
    options, text_value,
};
use crate::{
    r#gen::{
        opentelemetry::proto::{
            common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
            profiles::v1development as otlp,
        },
        pprof::{Line, Location, Profile, Sample, ValueType},
    },
    profile::convert::{PprofOptions, to_pprof},
};
use bytes::Bytes;
use prost::Message;

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
        values: [text_value("x"), any(Value::IntValue(2)), text_value("")]
            .into_iter()
            .flatten()
            .collect(),
    });
    let attribute_indices = vec![
        maker.attribute("thread", text_value("worker"), ""),
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
        maker.attribute("empty", text_value(""), ""),
        maker.attribute("nothing", None, ""),
        maker.attribute("", text_value("no key"), ""),
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
        maker.attribute("a", text_value("1"), ""),
        maker.attribute("b", text_value("2"), ""),
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
        maker.attribute("container.id", text_value("a"), ""),
        maker.attribute("container.id", text_value(" b "), ""),
    );
    let pid = maker.attribute("process.pid", any(Value::IntValue(7)), "");
    let other = maker.attribute("thread", text_value("t"), "");
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
        ["sample", "profile"].map(|of| maker.attribute("who", text_value(of), ""));
    let only = maker.attribute("only", text_value("sample"), "");
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
        value: text_value("scope"),
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
        value: text_value("inuse_space"),
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
        maker.attribute(
            "process.executable.build_id.htlhash",
            text_value("hash"),
            "",
        ),
        maker.attribute("process.executable.build_id.gnu", text_value("gnu"), ""),
        maker.attribute("process.executable.build_id.go", text_value("go/x"), ""),
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
    let kernel = maker.attribute("profile.frame.type", text_value("kernel"), "");
    let python = maker.attribute("profile.frame.type", text_value("cpython"), "");
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
