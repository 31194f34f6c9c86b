use super::*;
use crate::r#gen::opentelemetry::proto::{
    common::v1::{AnyValue, InstrumentationScope, any_value::Value},
    profiles::v1development::{Function, Line, Stack},
    resource::v1::Resource,
};

/// What a profiler without symbols sends: it may pass.
fn native() -> (ResourceProfiles, ProfilesDictionary) {
    let strings = ["", "samples", "count", "cpu", "nanoseconds", "/bin/api"];
    let dictionary = ProfilesDictionary {
        mapping_table: vec![
            Mapping::default(),
            Mapping {
                memory_limit: 4_096,
                filename_strindex: 5,
                ..Mapping::default()
            },
        ],
        location_table: vec![
            Location::default(),
            Location {
                mapping_index: 1,
                address: 77,
                ..Location::default()
            },
        ],
        function_table: vec![Function::default()],
        link_table: vec![Link::default()],
        string_table: strings.map(str::to_owned).to_vec(),
        attribute_table: vec![KeyValueAndUnit::default()],
        stack_table: vec![
            Stack::default(),
            Stack {
                location_indices: vec![1],
            },
        ],
    };
    let value_type = |kind, unit| {
        Some(ValueType {
            type_strindex: kind,
            unit_strindex: unit,
        })
    };
    let profile = Profile {
        sample_type: value_type(1, 2),
        period_type: value_type(3, 4),
        samples: vec![Sample {
            stack_index: 1,
            values: vec![7],
            ..Sample::default()
        }],
        time_unix_nano: 1_000,
        duration_nano: 10,
        ..Profile::default()
    };
    let resource = ResourceProfiles {
        resource: Some(Resource {
            attributes: vec![attribute("service.name")],
            ..Resource::default()
        }),
        scope_profiles: vec![ScopeProfiles {
            scope: Some(InstrumentationScope::default()),
            profiles: vec![profile],
            ..ScopeProfiles::default()
        }],
        ..ResourceProfiles::default()
    };
    (resource, dictionary)
}

fn attribute(key: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("api".to_owned())),
        }),
        key_strindex: 0,
    }
}

/// A change that a resource must not pass with.
type Change = fn(&mut ResourceProfiles, &mut ProfilesDictionary);

fn profile(resource: &mut ResourceProfiles) -> &mut Profile {
    &mut resource.scope_profiles[0].profiles[0]
}

#[test]
fn what_parca_bears_passes() {
    let (resource, dictionary) = native();
    assert_eq!(check(&resource, &dictionary), Ok(()));
    let (mut resource, dictionary) = native();
    let sample = &mut profile(&mut resource).samples[0];
    sample.timestamps_unix_nano = vec![1_000, 1_010];
    sample.values.clear();
    assert_eq!(check(&resource, &dictionary), Ok(()));
}

#[test]
fn what_ends_a_parca_or_is_refused_does_not() {
    let changes: &[(&str, Change)] = &[
        ("resource", |r, _| r.resource = None),
        ("no scopes", |r, _| r.scope_profiles.clear()),
        ("scope", |r, _| r.scope_profiles[0].scope = None),
        ("scope name", |r, _| {
            let scope = r.scope_profiles[0].scope.as_mut().unwrap();
            scope.name = "1_cpu".to_owned();
        }),
        ("sample type", |r, _| profile(r).sample_type = None),
        ("period type", |r, _| profile(r).period_type = None),
        ("empty period type", |r, _| {
            profile(r).period_type = Some(ValueType::default());
        }),
        ("type beyond the table", |r, _| {
            profile(r).period_type.as_mut().unwrap().unit_strindex = 99;
        }),
        ("negative type", |r, _| {
            profile(r).sample_type.as_mut().unwrap().type_strindex = -1;
        }),
        ("type that is no word", |_, d| {
            d.string_table[3] = "c p u".to_owned()
        }),
        ("second value", |r, _| profile(r).samples[0].values.push(1)),
        ("no values", |r, _| profile(r).samples[0].values.clear()),
        ("no samples", |r, _| profile(r).samples.clear()),
        ("timestamp outside", |r, _| {
            profile(r).samples[0].timestamps_unix_nano = vec![1_011];
        }),
        ("stack beyond", |r, _| profile(r).samples[0].stack_index = 2),
        ("link beyond", |r, _| profile(r).samples[0].link_index = 1),
        ("period", |r, _| profile(r).period = -1),
        ("profile id", |r, _| {
            profile(r).profile_id = vec![0; 16].into()
        }),
        ("attribute twice", |r, _| {
            let resource = r.resource.as_mut().unwrap();
            resource.attributes.push(attribute("service.name"));
        }),
        ("attribute without key", |r, _| {
            r.resource.as_mut().unwrap().attributes[0].key.clear();
        }),
        ("lines", |_, d| {
            d.location_table[1].lines.push(Line::default())
        }),
        ("no zero entry", |_, d| d.stack_table.clear()),
        ("slot 0 of attributes", |_, d| {
            d.attribute_table[0].key_strindex = 1
        }),
        ("location beyond", |_, d| {
            d.stack_table[1].location_indices = vec![9]
        }),
        ("mapping beyond", |_, d| {
            d.location_table[1].mapping_index = -1
        }),
        ("link ids", |_, d| {
            d.link_table.push(Link {
                trace_id: vec![1].into(),
                span_id: vec![1; 8].into(),
            });
        }),
    ];
    for (name, change) in changes {
        let (mut resource, mut dictionary) = native();
        change(&mut resource, &mut dictionary);
        assert!(check(&resource, &dictionary).is_err(), "{name}");
    }
}
