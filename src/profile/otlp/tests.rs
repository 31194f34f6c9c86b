use super::{Compression, Encoded, Request, Unreadable, assemble, census};
use crate::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
        profiles::v1development::{
            Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
        },
        resource::v1::Resource,
    },
    profile::{
        Labels,
        wire::{put_bytes, put_varint},
    },
};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

const MAX: u64 = 1 << 22;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn profile(value: i64) -> Profile {
    Profile {
        samples: vec![Sample {
            stack_index: 1,
            values: vec![value],
            ..Sample::default()
        }],
        ..Profile::default()
    }
}

fn resource(service: &str, profiles: i64) -> ResourceProfiles {
    ResourceProfiles {
        resource: Some(Resource {
            attributes: vec![
                attribute("service.name", text(service)),
                attribute("process.pid", Value::IntValue(7)),
                attribute("empty", text("")),
            ],
            ..Resource::default()
        }),
        scope_profiles: vec![ScopeProfiles {
            profiles: (1..=profiles).map(profile).collect(),
            ..ScopeProfiles::default()
        }],
        schema_url: "https://example.com/schema".to_owned(),
    }
}

fn request(resources: Vec<ResourceProfiles>) -> Bytes {
    let request = ExportProfilesServiceRequest {
        resource_profiles: resources,
        dictionary: Some(ProfilesDictionary {
            string_table: vec![String::new(), "service.name".to_owned(), "api".to_owned()],
            ..ProfilesDictionary::default()
        }),
    };
    request.encode_to_vec().into()
}

fn read(wire: &Bytes) -> Arc<Request> {
    Arc::new(Request::read(wire.clone(), Compression::None, MAX).unwrap())
}

/// `message` with a field that no version knows yet.
fn with_unknown(message: &[u8]) -> Vec<u8> {
    let mut out = message.to_vec();
    put_bytes(&mut out, 999, b"from the future");
    out
}

fn edited(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut edit = labels.edit();
    edit.set(name, value);
    edit.build()
}

#[test]
fn a_resource_is_a_body_with_its_string_attributes_for_labels() {
    let request = read(&request(vec![resource("api", 3), resource("web", 2)]));
    assert_eq!(request.profiles(), 5);
    let bodies = request.clone().bodies();
    let labels: Vec<String> = bodies.iter().map(|(l, _)| l.to_string()).collect();
    assert_eq!(
        labels,
        [r#"{service.name="api"}"#, r#"{service.name="web"}"#]
    );
    assert_eq!(bodies[0].1.profiles(), 3);
    let bytes: usize = bodies.iter().map(|(_, otlp)| otlp.byte_len()).sum();
    assert!(bytes.abs_diff(request.wire().len()) <= 2);
}

#[test]
fn what_nobody_edits_leaves_as_it_came() {
    let plain = request(vec![resource("api", 1), resource("web", 2)]);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let wire = compression.compress(&plain).unwrap();
        let request = Arc::new(Request::read(wire.clone(), compression, MAX).unwrap());
        assert_eq!(request.plain().unwrap(), plain);
        let bodies = request.bodies();
        let parts: Vec<_> = bodies.iter().map(|(l, o)| (l, o)).collect();
        let bytes = wire;
        assert_eq!(assemble(&parts).unwrap(), Encoded { bytes, compression });
    }
}

#[test]
fn fields_of_the_future_survive_at_every_level() {
    let mut scope = ScopeProfiles::default().encode_to_vec();
    put_bytes(&mut scope, 2, &with_unknown(&profile(5).encode_to_vec()));
    let mut one = Vec::new();
    let attributes = resource("api", 0).resource.unwrap().encode_to_vec();
    put_bytes(&mut one, 1, &with_unknown(&attributes));
    put_bytes(&mut one, 2, &with_unknown(&scope));
    let mut plain = Vec::new();
    put_bytes(&mut plain, 1, &with_unknown(&one));
    put_bytes(&mut plain, 1, &resource("web", 1).encode_to_vec());
    put_bytes(
        &mut plain,
        2,
        &with_unknown(&ProfilesDictionary::default().encode_to_vec()),
    );
    let plain = Bytes::from(with_unknown(&plain));

    let bodies = read(&plain).bodies();
    let parts: Vec<_> = bodies.iter().map(|(l, o)| (l, o)).collect();
    assert_eq!(assemble(&parts).unwrap().bytes, plain);

    // One resource taken out, the other edited: six of the eight are left.
    let labels = edited(&bodies[0].0, "service.name", "other");
    let out = assemble(&[(&labels, &bodies[0].1)]).unwrap().bytes;
    let found = out.windows(15).filter(|w| *w == b"from the future").count();
    assert_eq!(found, 6);
    let bodies = read(&out).bodies();
    assert_eq!(bodies[0].0.to_string(), r#"{service.name="other"}"#);
}

#[test]
fn an_edit_writes_the_resource_alone_and_keeps_what_is_no_label() {
    let mut one = resource("api", 1);
    let list = ArrayValue {
        values: vec![AnyValue {
            value: Some(text("x")),
        }],
    };
    let attributes = &mut one.resource.as_mut().unwrap().attributes;
    attributes.push(attribute("list", Value::ArrayValue(list)));
    attributes.push(attribute("host.name", text("a")));
    let bodies = read(&request(vec![one.clone()])).bodies();
    let mut edit = bodies[0].0.edit();
    edit.set("host.name", "")
        .set("k8s.pod.name", "pod")
        .set("__name__", "memory");
    let labels = edit.build();
    let out = assemble(&[(&labels, &bodies[0].1)]).unwrap();
    let decoded = ExportProfilesServiceRequest::decode(out.bytes.clone()).unwrap();
    let attributes = &mut one.resource.as_mut().unwrap().attributes;
    attributes.pop();
    attributes.push(attribute("k8s.pod.name", text("pod")));
    assert_eq!(decoded.resource_profiles, [one]);
    assert_eq!(decoded.dictionary.unwrap().string_table.len(), 3);
    let labels = read(&out.bytes).bodies()[0].0.to_string();
    assert_eq!(labels, r#"{k8s.pod.name="pod", service.name="api"}"#);
}

#[test]
fn attributes_by_index_are_read_and_written_inline() {
    let mut one = resource("api", 1);
    one.resource.as_mut().unwrap().attributes = vec![KeyValue {
        key: String::new(),
        key_strindex: 1,
        value: Some(AnyValue {
            value: Some(Value::StringValueStrindex(2)),
        }),
    }];
    let bodies = read(&request(vec![one])).bodies();
    assert_eq!(bodies[0].0.to_string(), r#"{service.name="api"}"#);
    let labels = edited(&bodies[0].0, "service.name", "web");
    let out = assemble(&[(&labels, &bodies[0].1)]).unwrap();
    let decoded = ExportProfilesServiceRequest::decode(out.bytes).unwrap();
    let attributes = &decoded.resource_profiles[0]
        .resource
        .as_ref()
        .unwrap()
        .attributes;
    assert_eq!(*attributes, [attribute("service.name", text("web"))]);
}

#[test]
fn a_resource_that_comes_again_shares_its_labels() {
    let labels = || {
        read(&request(vec![resource("again", 1)]))
            .bodies()
            .remove(0)
            .0
    };
    let (first, second) = (labels(), labels());
    assert_eq!(first.to_string(), r#"{service.name="again"}"#);
    assert_eq!(first.as_slice().as_ptr(), second.as_slice().as_ptr());
}

#[test]
fn what_points_into_a_dictionary_is_read_anew_each_time() {
    let labels = |name: &str| {
        let mut one = resource("", 1);
        one.resource.as_mut().unwrap().attributes = vec![KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValueStrindex(1)),
            }),
            key_strindex: 0,
        }];
        let message = ExportProfilesServiceRequest {
            resource_profiles: vec![one],
            dictionary: Some(ProfilesDictionary {
                string_table: vec![String::new(), name.to_owned()],
                ..ProfilesDictionary::default()
            }),
        };
        read(&message.encode_to_vec().into())
            .bodies()
            .remove(0)
            .0
            .to_string()
    };
    assert_eq!(labels("one"), r#"{service.name="one"}"#);
    assert_eq!(labels("two"), r#"{service.name="two"}"#);
}

#[test]
fn resources_without_profiles_are_kept_but_not_counted() {
    let plain = request(vec![
        resource("none", 0),
        resource("api", 1),
        resource("web", 1),
    ]);
    let bodies = read(&plain).bodies();
    assert_eq!(bodies.len(), 2);
    let one = assemble(&[(&bodies[1].0, &bodies[1].1)]).unwrap();
    let decoded = ExportProfilesServiceRequest::decode(one.bytes).unwrap();
    assert_eq!(decoded.resource_profiles.len(), 2);
}

/// A request with one profile of these bytes.
fn holding(profile: &[u8]) -> Bytes {
    let (mut scope, mut resource, mut request) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, profile);
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut request, 1, &resource);
    request.into()
}

fn old(profile: &[u8]) -> Option<&'static str> {
    match Request::read(holding(profile), Compression::None, MAX) {
        Err(Unreadable::OldLayout { version, .. }) => Some(version),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    }
}

/// A profile with one sample of these fields.
fn sampled(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut sample = Vec::new();
    put_varint(&mut sample, 1 << 3);
    put_varint(&mut sample, 4);
    for (number, content) in fields {
        put_bytes(&mut sample, *number, content);
    }
    let mut profile = Vec::new();
    put_bytes(&mut profile, 2, &sample);
    profile
}

#[test]
fn old_layouts_are_told_by_name() {
    // 1.9: values are field 2, attributes 3, the link 4.
    assert_eq!(old(&sampled(&[(2, &[9])])), Some("1.8 or 1.9"));
    assert_eq!(old(&sampled(&[(2, &[9]), (3, &[1])])), Some("1.8 or 1.9"));
    let times = 5u64.to_le_bytes();
    assert_eq!(old(&sampled(&[(2, &[9]), (5, &times)])), Some("1.8 or 1.9"));
    // 1.8: an id where dropped_attributes_count is now.
    let mut profile = Vec::new();
    put_bytes(&mut profile, 8, &[0; 16]);
    assert_eq!(old(&profile), Some("1.8 or 1.9"));
    // 1.7: location indices in field 3, the duration in 5.
    let mut profile = Vec::new();
    put_bytes(&mut profile, 3, &[1, 2]);
    assert_eq!(old(&profile), Some("1.4 to 1.7"));
    let profile = [&[5 << 3, 1][..]].concat();
    assert_eq!(old(&profile), Some("1.4 to 1.7"));
    // 1.3: a container with a start time.
    let profile = [&[2 << 3 | 1][..], &[0; 8]].concat();
    assert_eq!(old(&profile), Some("1.3"));
    // 1.10, with and without timestamps.
    assert_eq!(old(&sampled(&[(2, &[0]), (4, &[7])])), None);
    assert_eq!(old(&sampled(&[(5, &times)])), None);
    let message = Request::read(holding(&sampled(&[(2, &[9])])), Compression::None, MAX);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("upgrade the sender"), "{message}");
}

#[test]
fn damage_is_told_with_its_place() {
    let plain = request(vec![resource("api", 1)]);
    for cut in 1..plain.len() {
        // Whatever is cut off, nothing panics.
        let _ = Request::read(plain.slice(..cut), Compression::None, MAX);
    }
    let error = Request::read(Bytes::from_static(&[0x0a, 0x05, 1]), Compression::None, MAX);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the request is no valid protobuf: it ends in the middle of a field (at byte 1 of the \
         inflated request)"
    );
    for compression in [Compression::Gzip, Compression::Zstd] {
        let error = Request::read(plain.clone(), compression, MAX).unwrap_err();
        assert_eq!(error, Unreadable::Compressed(compression));
        let bomb = compression
            .compress(&Bytes::from(vec![0; 1 << 20]))
            .unwrap();
        assert!(bomb.len() < 1 << 15);
        let error = Request::read(bomb, compression, 1_000).unwrap_err();
        assert_eq!(error, Unreadable::TooLarge { max: 1_000 });
    }
}

#[test]
fn an_empty_request_is_a_request() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for wire in [Bytes::new(), compression.compress(&Bytes::new()).unwrap()] {
            let request = Request::read(wire, compression, MAX).unwrap();
            assert_eq!(request.profiles(), 0);
        }
    }
}

#[test]
fn the_guard_counts_what_two_bytes_become() {
    let mut scope = Vec::new();
    for _ in 0..100_000 {
        put_bytes(&mut scope, 2, b"");
    }
    let (mut resource, mut request) = (Vec::new(), Vec::new());
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut request, 1, &resource);
    let counted = census(&request).unwrap();
    assert!(counted.decoded >= 100_000 * size_of::<Profile>() as u64);
    assert_eq!(counted.messages, 100_003);
}

#[test]
fn the_guard_counts_lists_of_one() {
    // A list has room for four as soon as it has one.
    let room = 4 * (size_of::<Sample>() + size_of::<i64>()) as u64;
    let unpacked = [0x20, 1];
    for values in [&[0x22, 1, 1][..], &unpacked] {
        let (mut sample, mut scope) = (Vec::new(), Vec::new());
        put_bytes(&mut sample, 2, values);
        for _ in 0..10_000 {
            put_bytes(&mut scope, 2, &sample);
        }
        let (mut resource, mut request) = (Vec::new(), Vec::new());
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut request, 1, &resource);
        let decoded = ExportProfilesServiceRequest::decode(&*request).unwrap();
        let profile = &decoded.resource_profiles[0].scope_profiles[0].profiles[0];
        assert_eq!(profile.samples[0].values.capacity(), 4);
        assert_eq!(profile.samples.capacity(), 4);
        let counted = census(&request).unwrap().decoded;
        assert!(counted >= 10_000 * (size_of::<Profile>() as u64 + room));
    }
}

#[test]
fn a_list_that_doubles_is_charged_while_it_stands_twice() {
    let values = vec![1; (1 << 16) + 1];
    let (mut sample, mut profile) = (Vec::new(), Vec::new());
    put_bytes(&mut sample, 4, &values);
    put_bytes(&mut profile, 2, &sample);
    let plain = holding(&profile);
    let message = ExportProfilesServiceRequest::decode(plain.clone()).unwrap();
    let scope = &message.resource_profiles[0].scope_profiles[0];
    let room = scope.profiles[0].samples[0].values.capacity();
    assert!(room > 19 * values.len() / 10);
    let decoded = census(&plain).unwrap().decoded;
    assert!(decoded >= 8 * (room + room / 2) as u64, "{decoded}");
}

#[test]
fn nesting_has_an_end() {
    let mut any = Vec::new();
    for _ in 0..200 {
        let mut list = Vec::new();
        put_bytes(&mut list, 1, &any);
        any.clear();
        put_bytes(&mut any, 5, &list);
    }
    let (mut attribute, mut resource) = (Vec::new(), Vec::new());
    put_bytes(&mut attribute, 2, &any);
    put_bytes(&mut resource, 1, &attribute);
    let (mut one, mut request) = (Vec::new(), Vec::new());
    put_bytes(&mut one, 1, &resource);
    put_bytes(&mut request, 1, &one);
    assert!(matches!(census(&request), Err(Unreadable::TooDeep { .. })));
}
