//! What nobody sends by mistake.

use super::{MAX, assert_healthy, labels, options, received, rules};
use crate::{
    r#gen::opentelemetry::proto::{
        common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
        profiles::v1development as otlp,
    },
    profile::{
        convert::{ConvertError, OtlpOptions, PprofOptions, RequestBuilder, to_pprof},
        pprof::{Pprof, SyntheticProfile},
    },
};
use bytes::Bytes;
use prost::Message;
use std::time::{Duration, Instant};

/// A dictionary with one entry of everything, and a profile that uses it.
fn tiny() -> (otlp::ResourceProfiles, otlp::ProfilesDictionary) {
    let dictionary = otlp::ProfilesDictionary {
        string_table: vec![String::new(), "x".to_owned()],
        mapping_table: vec![otlp::Mapping::default(); 2],
        function_table: vec![
            otlp::Function::default(),
            otlp::Function {
                name_strindex: 1,
                ..Default::default()
            },
        ],
        location_table: vec![
            otlp::Location::default(),
            otlp::Location {
                mapping_index: 1,
                lines: vec![otlp::Line {
                    function_index: 1,
                    ..Default::default()
                }],
                ..Default::default()
            },
        ],
        link_table: vec![otlp::Link::default(); 2],
        attribute_table: vec![
            otlp::KeyValueAndUnit::default(),
            otlp::KeyValueAndUnit {
                key_strindex: 1,
                value: Some(AnyValue {
                    value: Some(Value::StringValueStrindex(1)),
                }),
                unit_strindex: 1,
            },
        ],
        stack_table: vec![
            otlp::Stack::default(),
            otlp::Stack {
                location_indices: vec![1],
            },
        ],
    };
    let profile = otlp::Profile {
        sample_type: Some(otlp::ValueType::default()),
        period_type: Some(otlp::ValueType::default()),
        attribute_indices: vec![1],
        samples: vec![otlp::Sample {
            stack_index: 1,
            attribute_indices: vec![1],
            link_index: 1,
            values: vec![1],
            ..Default::default()
        }],
        ..Default::default()
    };
    let scope = otlp::ScopeProfiles {
        profiles: vec![profile],
        ..Default::default()
    };
    let resource = otlp::ResourceProfiles {
        scope_profiles: vec![scope],
        ..Default::default()
    };
    (resource, dictionary)
}

fn profile(resource: &mut otlp::ResourceProfiles) -> &mut otlp::Profile {
    &mut resource.scope_profiles[0].profiles[0]
}

/// Every field that is an index, and the table it points into.
type Field = (
    &'static str,
    &'static str,
    fn(&mut otlp::ResourceProfiles, &mut otlp::ProfilesDictionary, i32),
);

const FIELDS: &[Field] = &[
    ("value_type.type_strindex", "string_table", |r, _, i| {
        profile(r).sample_type.as_mut().unwrap().type_strindex = i;
    }),
    ("value_type.unit_strindex", "string_table", |r, _, i| {
        profile(r).period_type.as_mut().unwrap().unit_strindex = i;
    }),
    ("profile.attribute_indices", "attribute_table", |r, _, i| {
        profile(r).attribute_indices[0] = i;
    }),
    ("sample.stack_index", "stack_table", |r, _, i| {
        profile(r).samples[0].stack_index = i;
    }),
    ("sample.attribute_indices", "attribute_table", |r, _, i| {
        profile(r).samples[0].attribute_indices[0] = i;
    }),
    ("sample.link_index", "link_table", |r, _, i| {
        profile(r).samples[0].link_index = i;
    }),
    ("stack.location_indices", "location_table", |_, d, i| {
        d.stack_table[1].location_indices[0] = i;
    }),
    ("location.mapping_index", "mapping_table", |_, d, i| {
        d.location_table[1].mapping_index = i;
    }),
    (
        "location.attribute_indices",
        "attribute_table",
        |_, d, i| {
            d.location_table[1].attribute_indices = vec![i];
        },
    ),
    ("line.function_index", "function_table", |_, d, i| {
        d.location_table[1].lines[0].function_index = i;
    }),
    ("function.name_strindex", "string_table", |_, d, i| {
        d.function_table[1].name_strindex = i;
    }),
    (
        "function.system_name_strindex",
        "string_table",
        |_, d, i| {
            d.function_table[1].system_name_strindex = i;
        },
    ),
    ("function.filename_strindex", "string_table", |_, d, i| {
        d.function_table[1].filename_strindex = i;
    }),
    ("mapping.filename_strindex", "string_table", |_, d, i| {
        d.mapping_table[1].filename_strindex = i;
    }),
    ("mapping.attribute_indices", "attribute_table", |_, d, i| {
        d.mapping_table[1].attribute_indices = vec![i];
    }),
    ("attribute.key_strindex", "string_table", |_, d, i| {
        d.attribute_table[1].key_strindex = i;
    }),
    ("attribute.unit_strindex", "string_table", |_, d, i| {
        d.attribute_table[1].unit_strindex = i;
    }),
    (
        "any_value.string_value_strindex",
        "string_table",
        |_, d, i| {
            let value = Some(Value::StringValueStrindex(i));
            d.attribute_table[1].value = Some(AnyValue { value });
        },
    ),
    ("key_value.key_strindex", "string_table", |r, _, i| {
        let attribute = KeyValue {
            key_strindex: i,
            ..Default::default()
        };
        r.scope_profiles[0].scope = Some(InstrumentationScope {
            attributes: vec![attribute],
            ..Default::default()
        });
    }),
];

#[test]
fn every_index_that_is_wrong_is_named() {
    let (resource, dictionary) = tiny();
    let names = ["x".to_owned()];
    for listed in [&[][..], &names] {
        let options = PprofOptions {
            series_attributes: listed,
            ..options()
        };
        to_pprof(&labels(&[]), &resource, &dictionary, &options).unwrap();
        for (field, table, set) in FIELDS {
            for index in [-1, 2, i32::MAX, i32::MIN] {
                let (mut resource, mut dictionary) = tiny();
                set(&mut resource, &mut dictionary, index);
                let error = to_pprof(&labels(&[]), &resource, &dictionary, &options).unwrap_err();
                let expected = format!("{field} is {index}, but {table} has 2 entries: ");
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
        }
    }
}

#[test]
fn tables_that_begin_with_an_entry_are_refused() {
    type Edit = fn(&mut otlp::ProfilesDictionary);
    let edits: [(&str, Edit); 7] = [
        ("mapping_table", |d| d.mapping_table[0].memory_start = 1),
        ("location_table", |d| d.location_table[0].address = 1),
        ("function_table", |d| d.function_table[0].name_strindex = 1),
        ("link_table", |d| {
            d.link_table[0].span_id = Bytes::from_static(b"x")
        }),
        ("string_table", |d| d.string_table[0] = "x".into()),
        ("attribute_table", |d| d.attribute_table[0].key_strindex = 1),
        ("stack_table", |d| {
            d.stack_table[0].location_indices = vec![0]
        }),
    ];
    for (table, edit) in edits {
        let (resource, mut dictionary) = tiny();
        edit(&mut dictionary);
        let error = to_pprof(&labels(&[]), &resource, &dictionary, &options()).unwrap_err();
        assert_eq!(error, ConvertError::ZeroEntry { table });
    }
    // What the Collector makes of entry 0 is no entry.
    let (resource, mut dictionary) = tiny();
    dictionary.attribute_table[0].value = Some(AnyValue::default());
    dictionary.link_table[0].trace_id = Bytes::from_static(&[0; 16]);
    to_pprof(&labels(&[]), &resource, &dictionary, &options()).unwrap();
}

#[test]
fn tables_without_entries_mean_that_nothing_is_set() {
    let (mut resource, _) = tiny();
    *profile(&mut resource) = otlp::Profile {
        samples: vec![otlp::Sample {
            values: vec![3],
            ..Default::default()
        }],
        ..Default::default()
    };
    let empty = otlp::ProfilesDictionary::default();
    let converted = to_pprof(&labels(&[]), &resource, &empty, &options()).unwrap();
    assert_healthy(&converted[0]);
    let checked = converted[0].pprof.check(MAX).unwrap();
    assert_eq!(checked.rows, 1, "its value counts all the same");
}

/// Converts within 8 MB, which must be quick and fail.
fn assert_refused(resource: &otlp::ResourceProfiles, dictionary: &otlp::ProfilesDictionary) {
    let names = ["x".to_owned()];
    for listed in [&[][..], &names] {
        let options = PprofOptions {
            max_inflated: 8 << 20,
            max_series: 1_000,
            series_attributes: listed,
            original_payload: true,
            ..options()
        };
        let start = Instant::now();
        let of = labels(&[("job", &"j".repeat(1_000))]);
        let result = to_pprof(&of, resource, dictionary, &options);
        let max = 8 << 20;
        assert_eq!(result.err(), Some(ConvertError::TooLarge { max }));
        // Seconds even where nothing is optimised.
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_long_stack_that_thousands_of_samples_have_is_refused() {
    let (mut resource, mut dictionary) = tiny();
    dictionary.stack_table[1].location_indices = vec![1; 100_000];
    dictionary.link_table.resize(10_000, otlp::Link::default());
    let sample = profile(&mut resource).samples[0].clone();
    profile(&mut resource).samples = (0..10_000)
        .map(|link_index| otlp::Sample {
            link_index,
            ..sample.clone()
        })
        .collect();
    assert_refused(&resource, &dictionary);
}

#[test]
fn a_long_attribute_that_thousands_of_sets_have_is_refused() {
    let (mut resource, mut dictionary) = tiny();
    dictionary.string_table.push("y".to_owned());
    let long = |n: usize| {
        let value = AnyValue {
            value: Some(Value::IntValue(7)),
        };
        let values = vec![value; n];
        Some(AnyValue {
            value: Some(Value::ArrayValue(ArrayValue { values })),
        })
    };
    let attribute = |value| otlp::KeyValueAndUnit {
        key_strindex: 2,
        value,
        unit_strindex: 0,
    };
    dictionary.attribute_table = vec![otlp::KeyValueAndUnit::default()];
    dictionary.attribute_table.push(attribute(long(100_000)));
    dictionary
        .attribute_table
        .extend(vec![attribute(long(1)); 10_000]);
    let sample = profile(&mut resource).samples[0].clone();
    profile(&mut resource).samples = (2..10_000)
        .map(|index| otlp::Sample {
            attribute_indices: vec![1, index],
            ..sample.clone()
        })
        .collect();
    assert_refused(&resource, &dictionary);
}

#[test]
fn attributes_of_a_scope_with_thousands_of_profiles_are_refused() {
    let (mut resource, dictionary) = tiny();
    let attributes = (0..10_000).map(|n| KeyValue {
        key: format!("key {n}"),
        value: Some(AnyValue {
            value: Some(Value::IntValue(n)),
        }),
        key_strindex: 0,
    });
    resource.scope_profiles[0].scope = Some(InstrumentationScope {
        attributes: attributes.collect(),
        ..Default::default()
    });
    let profiles = (1..20_000).map(|time_unix_nano| otlp::Profile {
        time_unix_nano,
        ..Default::default()
    });
    resource.scope_profiles[0].profiles = profiles.collect();
    assert_refused(&resource, &dictionary);
}

#[test]
fn a_huge_dictionary_does_not_slow_down_thousands_of_small_profiles() {
    let (mut resource, mut dictionary) = tiny();
    dictionary.string_table.resize(1 << 20, String::new());
    dictionary
        .location_table
        .resize(1 << 18, otlp::Location::default());
    let one = profile(&mut resource).clone();
    resource.scope_profiles[0].profiles = (1..2_000)
        .map(|time_unix_nano| otlp::Profile {
            time_unix_nano,
            ..one.clone()
        })
        .collect();
    let start = Instant::now();
    let converted = to_pprof(&labels(&[]), &resource, &dictionary, &options()).unwrap();
    assert_eq!(converted.len(), 1_999);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn mutants_of_a_pprof_do_no_harm() {
    let synthetic = SyntheticProfile {
        samples: 6,
        functions: 8,
        depth: 3,
        labels: vec![("tenant".into(), 3)],
        ..SyntheticProfile::heap(1)
    };
    let good = synthetic.encode_plain();
    let mut state = 1_u64;
    let mut random = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % bound
    };
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let (mut added, mut refused) = (0, 0);
    for n in 0..4_000 {
        let mut mutant = good.clone();
        for _ in 0..1 + random(4) {
            let at = random(mutant.len());
            mutant[at] = random(256) as u8;
        }
        let plain = Bytes::from(mutant);
        let of = labels(&[("n", &(n % 7).to_string())]);
        let pprof = Pprof::new(plain.clone());
        match builder.add(&of, received(), &pprof, &plain) {
            Ok(profiles) => added += profiles,
            Err(_) => refused += 1,
        }
    }
    assert!(added > 1_000 && refused > 100, "{added} and {refused}");
    assert_eq!(builder.profiles(), added);
    let encoded = builder.finish();
    let judged = opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest::decode(encoded.as_ref()).unwrap();
    let broken: std::collections::BTreeSet<_> = rules::broken(&judged).into_iter().collect();
    assert_eq!(broken, Default::default());
}

#[test]
fn a_pprof_whose_every_type_repeats_every_label_is_refused() {
    use crate::r#gen::pprof::{Label, Profile, Sample, ValueType};
    let count = 3_000;
    let mut profile = Profile {
        string_table: (0..count)
            .map(|n| if n == 0 { String::new() } else { n.to_string() })
            .collect(),
        ..Profile::default()
    };
    profile.sample_type = (1..count)
        .map(|r#type| ValueType { r#type, unit: 1 })
        .collect();
    let label = (1..count).map(|key| Label {
        key,
        num: 1,
        ..Label::default()
    });
    let sample = Sample {
        value: vec![1; profile.sample_type.len()],
        label: label.collect(),
        ..Sample::default()
    };
    profile.sample = vec![sample; 1];
    let plain = Bytes::from(profile.encode_to_vec());
    let mut builder = RequestBuilder::new(OtlpOptions {
        max_bytes: 1 << 20,
        ..OtlpOptions::default()
    });
    let result = builder.add(&labels(&[]), received(), &Pprof::new(plain.clone()), &plain);
    assert_eq!(result, Err(ConvertError::TooLarge { max: 1 << 20 }));
    assert!(builder.encoded_len() < 100);
}
