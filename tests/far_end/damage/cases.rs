//! The inputs, by what is wrong with them.

use super::{
    Case,
    Expected::{self, Dropped, Mended, Same},
    base, gzip, text, value_type,
};
use crate::far_end::pprof::{Function, Label, Line, Profile, Sample, ValueType};
use bytes::Bytes;
use prost::Message;

pub(super) fn all() -> Vec<Case> {
    [
        frames(),
        tables(),
        indices(),
        types(),
        times(),
        odd(),
        labels(),
    ]
    .concat()
}

fn raw(name: &'static str, body: impl Into<Bytes>, expected: Expected) -> Case {
    Case {
        name,
        labels: vec![("__name__", "process_cpu")],
        body: body.into(),
        expected,
    }
}

fn case(name: &'static str, expected: Expected, damage: impl FnOnce(&mut Profile)) -> Case {
    let mut profile = base();
    damage(&mut profile);
    raw(name, gzip(&profile.encode_to_vec()), expected)
}

fn add(profile: &mut Profile, text: &'static [u8]) -> i64 {
    profile.string_table.push(Bytes::from_static(text));
    profile.string_table.len() as i64 - 1
}

/// The body as a whole.
fn frames() -> Vec<Case> {
    let plain = base().encode_to_vec();
    let good = gzip(&plain);
    let mut checksum = good.to_vec();
    let end = checksum.len();
    checksum[end - 6] ^= 0xff;
    let members = [gzip(&plain[..50]), gzip(&plain[50..])].concat();
    vec![
        raw("no bytes", Bytes::new(), Dropped("unreadable")),
        raw("gzip of nothing", gzip(b""), Dropped("unreadable")),
        raw(
            "cut gzip",
            good.slice(..good.len() / 2),
            Dropped("unreadable"),
        ),
        raw("wrong checksum", checksum, Dropped("unreadable")),
        raw(
            "bytes behind gzip",
            [&good[..], b"xyz"].concat(),
            Dropped("unreadable"),
        ),
        raw("gzip in gzip", gzip(&good), Dropped("unreadable")),
        raw(
            "text",
            "heap profile: 1: 2 [3: 4] @ heap/1048576\n",
            Dropped("unreadable"),
        ),
        raw(
            "html",
            "<html><body>not found</body></html>",
            Dropped("unreadable"),
        ),
        raw(
            "cut protobuf",
            plain[..plain.len() - 3].to_vec(),
            Dropped("unreadable"),
        ),
        raw("several gzip members", members, Same),
        raw("plain", plain, Same),
        raw("gzip", good, Same),
    ]
}

/// Tables, ids and references.
fn tables() -> Vec<Case> {
    vec![
        case("no strings", Dropped("no_strings"), |p| {
            p.string_table.clear()
        }),
        case(
            "no strings but types and values",
            Dropped("no_strings"),
            |p| {
                *p = Profile {
                    sample_type: vec![ValueType::default()],
                    period_type: Some(ValueType::default()),
                    sample: vec![Sample {
                        value: vec![1],
                        ..Sample::default()
                    }],
                    ..Profile::default()
                };
            },
        ),
        case("no strings but types", Dropped("no_strings"), |p| {
            *p = Profile {
                sample_type: vec![ValueType::default()],
                period_type: Some(ValueType::default()),
                ..Profile::default()
            };
        }),
        case("no sample types", Dropped("no_sample_types"), |p| {
            p.sample_type.clear()
        }),
        case("first string", Mended("first_string"), |p| {
            p.string_table[0] = Bytes::from_static(b"x");
        }),
        case("location ids", Mended("ids"), |p| {
            p.location[1].id = 7;
            p.sample[0].location_id[0] = 7;
        }),
        case("function ids", Mended("ids"), |p| {
            p.function[1].id = 9;
            p.location[1].line[0].function_id = 9;
        }),
        case("mapping ids", Mended("ids"), |p| {
            p.mapping[0].id = 4;
            p.location.iter_mut().for_each(|l| l.mapping_id = 4);
        }),
        case("ids in another order", Mended("ids"), |p| {
            p.location.reverse()
        }),
        case("unknown mapping", Mended("mapping_reference"), |p| {
            p.location[0].mapping_id = 5
        }),
        case("unknown function", Mended("function_reference"), |p| {
            p.location[0].line[0].function_id = 5;
        }),
        case("unknown location", Mended("location_reference"), |p| {
            p.sample[0].location_id.push(5);
        }),
        case("location 0", Mended("location_reference"), |p| {
            p.sample[0].location_id.push(0)
        }),
        case(
            "line without function",
            Mended("line_without_function"),
            |p| {
                p.location[0].line[0].function_id = 0;
            },
        ),
        case(
            "second line without function",
            Mended("line_without_function"),
            |p| {
                p.location[0].line.push(Line {
                    function_id: 0,
                    line: 3,
                });
            },
        ),
        case("empty function", Mended("empty_function"), |p| {
            p.function[0] = Function {
                id: 1,
                ..Function::default()
            };
        }),
        case("too many values", Mended("value_count"), |p| {
            p.sample[0].value.push(1)
        }),
        case("too few values", Mended("value_count"), |p| {
            p.sample[0].value.pop();
        }),
        case("no values", Mended("value_count"), |p| {
            p.sample[0].value.clear()
        }),
        case("label without key", Mended("label_without_key"), |p| {
            p.sample[0].label[0].key = 0
        }),
    ]
}

/// A string index and how to set it.
type Place = (&'static str, fn(&mut Profile, i64));

/// Every string index negative, one too high, far too high.
fn indices() -> Vec<Case> {
    const PLACES: &[Place] = &[
        ("sample type", |p, at| p.sample_type[0].kind = at),
        ("sample unit", |p, at| p.sample_type[0].unit = at),
        ("period type", |p, at| {
            p.period_type = Some(value_type(at, text::NANOSECONDS))
        }),
        ("period unit", |p, at| {
            p.period_type = Some(value_type(text::CPU, at))
        }),
        ("function name", |p, at| p.function[0].name = at),
        ("function system name", |p, at| {
            p.function[0].system_name = at
        }),
        ("function filename", |p, at| p.function[0].filename = at),
        ("mapping filename", |p, at| p.mapping[0].filename = at),
        ("mapping build id", |p, at| p.mapping[0].build_id = at),
        ("label key", |p, at| p.sample[0].label[0].key = at),
        ("label str", |p, at| p.sample[0].label[0].str = at),
        ("numeric label key", |p, at| {
            p.sample[0].label[0] = Label {
                key: at,
                num: 7,
                ..Label::default()
            };
        }),
    ];
    let values = [-1, i64::MIN, text::LEN, text::LEN + 100];
    PLACES
        .iter()
        .flat_map(|(what, set)| {
            values.map(|value| {
                let name = format!("{what} at {value}").leak();
                case(name, Mended("string_index"), |p| set(p, value))
            })
        })
        .collect()
}

/// What the profile type is made of.
fn types() -> Vec<Case> {
    let mut cases = vec![
        case("no period type", Mended("no_period_type"), |p| {
            p.period_type = None
        }),
        case("empty period type", Mended("empty_type_name"), |p| {
            p.period_type = Some(ValueType::default());
        }),
        case("empty period unit", Mended("empty_type_name"), |p| {
            p.period_type = Some(value_type(text::CPU, 0));
        }),
        case("empty sample type", Mended("empty_type_name"), |p| {
            p.sample_type.iter_mut().for_each(|t| t.kind = 0);
        }),
        case("empty sample unit", Mended("empty_type_name"), |p| {
            p.sample_type.iter_mut().for_each(|t| t.unit = 0);
        }),
        case("text that is not utf-8", Mended("invalid_utf8"), |p| {
            p.function[0].name = add(p, b"caf\xe9");
        }),
        case("type that is not utf-8", Mended("invalid_utf8"), |p| {
            p.sample_type[0].kind = add(p, b"\xff");
        }),
    ];
    for odd in [
        "alloc/space",
        "a-b",
        "a.b",
        "µs",
        "100%",
        "two words",
        "a:b",
        "日本",
    ] {
        let name = format!("type {odd}").leak();
        cases.push(case(name, Mended("unsafe_type_name"), |p| {
            p.sample_type[0].kind = add(p, odd.as_bytes());
        }));
        let name = format!("unit {odd}").leak();
        cases.push(case(name, Mended("unsafe_type_name"), |p| {
            p.period_type = Some(value_type(text::CPU, add(p, odd.as_bytes())));
        }));
    }
    cases.push(case("type 1st", Same, |p| {
        p.sample_type[0].kind = add(p, b"1st")
    }));
    cases
}

fn times() -> Vec<Case> {
    vec![
        case("no time", Mended("zero_time"), |p| p.time_nanos = 0),
        case("negative time", Mended("negative_time"), |p| {
            p.time_nanos = -1
        }),
        case("negative duration", Mended("negative_duration"), |p| {
            p.duration_nanos = -1
        }),
        case("no duration", Same, |p| p.duration_nanos = 0),
        case("no period", Same, |p| p.period = 0),
    ]
}

/// Looks odd and is fine.
fn odd() -> Vec<Case> {
    let mut harmless = base().encode_to_vec();
    // default_sample_type, drop_frames, a comment and doc_url far outside the
    // table, and a field that nobody knows.
    harmless.extend([0x70, 0xf0, 0x0f, 0x38, 0xf0, 0x0f, 0x68, 0xf0, 0x0f]);
    harmless.extend([0x78, 0xf0, 0x0f]);
    harmless.extend([0xf8, 0x07, 0x01]);
    vec![
        raw(
            "harmless indices outside and an unknown field",
            gzip(&harmless),
            Same,
        ),
        case("no samples", Same, |p| p.sample.clear()),
        case("only zeros", Same, |p| {
            p.sample.iter_mut().for_each(|s| s.value = vec![0, 0])
        }),
        case("sample without locations", Same, |p| {
            p.sample[0].location_id.clear()
        }),
        case("location without lines", Same, |p| {
            p.location[0].line.clear()
        }),
        case("location without mapping", Same, |p| {
            p.location[0].mapping_id = 0
        }),
        case("function with a file only", Same, |p| {
            p.function[0].name = 0;
            p.function[0].system_name = 0;
        }),
        case("function with a start line only", Same, |p| {
            p.function[0] = Function {
                id: 1,
                start_line: 3,
                ..Function::default()
            };
        }),
        case("negative values", Same, |p| {
            p.sample[0].value = vec![-3, -30]
        }),
    ]
}

/// Labels of the series.
fn labels() -> Vec<Case> {
    let case = |name, expected, labels: &[(&'static str, &'static str)]| Case {
        name,
        labels: labels.to_vec(),
        body: gzip(&base().encode_to_vec()),
        expected,
    };
    const NAME: (&str, &str) = ("__name__", "process_cpu");
    vec![
        case("labels: none", Mended("missing_name"), &[]),
        case("labels: no name", Mended("missing_name"), &[("job", "x")]),
        case(
            "labels: name with colon",
            Mended("profile_name"),
            &[("__name__", "a:b")],
        ),
        case(
            "labels: name with dash",
            Mended("profile_name"),
            &[("__name__", "a-b")],
        ),
        case(
            "labels: name with digit",
            Mended("profile_name"),
            &[("__name__", "1st")],
        ),
        case(
            "labels: name of letters abroad",
            Mended("profile_name"),
            &[("__name__", "größe")],
        ),
        case("labels: dash", Mended("label_name"), &[NAME, ("a-b", "1")]),
        case(
            "labels: dots and slash",
            Mended("label_name"),
            &[NAME, ("k8s.io/x.y", "1")],
        ),
        case("labels: digit", Mended("label_name"), &[NAME, ("1st", "1")]),
        case("labels: emoji", Mended("label_name"), &[NAME, ("🔥", "1")]),
        case("labels: colon", Mended("label_name"), &[NAME, ("a:b", "1")]),
        case(
            "labels: same name",
            Mended("label_collision"),
            &[NAME, ("a-b", "1"), ("a_b", "2")],
        ),
        case(
            "labels: a second name",
            Mended("label_collision"),
            &[NAME, ("--name--", "1")],
        ),
        case(
            "labels: odd value",
            Same,
            &[NAME, ("job", "a\"b\\c\nd\u{1f525}")],
        ),
    ]
}
