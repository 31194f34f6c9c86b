use super::{
    MAX, add, back, decoded, finished,
    generate::{otlp_requests, pprofs, wild_otlp},
    labels,
    meaning::{frames, meaning, value_type},
    options, received, request_of,
};
use crate::{
    r#gen::{opentelemetry::proto::profiles::v1development as otlp, pprof::Profile},
    profile::{
        convert::{ConvertError, OtlpOptions, RequestBuilder, to_pprof},
        pprof::{Pprof, SyntheticProfile},
    },
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pprof_comes_back_as_it_was(profile in pprofs()) {
        let of = labels(&[("__name__", "memory"), ("job", "api"), ("service.name", "orders")]);
        let converted = back(&request_of(&of, &profile), &options());
        prop_assert_eq!(converted.len(), 1);
        prop_assert_eq!(&converted[0].labels, &of);
        prop_assert_eq!(converted[0].profiles, profile.sample_type.len() as u64);
        prop_assert_eq!(meaning(&decoded(&converted[0])), meaning(&profile));
    }

    #[test]
    fn many_share_a_dictionary(profiles in proptest::collection::vec((pprofs(), 0..3_usize), 1..6)) {
        let mut builder = RequestBuilder::new(OtlpOptions::default());
        let jobs = ["a", "b", "c"];
        let mut expected = BTreeMap::new();
        for (place, (profile, job)) in profiles.iter().enumerate() {
            let name = format!("profile_{place}");
            let of = labels(&[("__name__", &name), ("job", jobs[*job])]);
            let added = add(&mut builder, &of, profile);
            prop_assert_eq!(added, profile.sample_type.len() as u64);
            expected.insert(of, meaning(profile));
        }
        let request = finished(builder);
        prop_assert!(request.resource_profiles.len() <= jobs.len());
        let converted = back(&request, &options());
        let found: BTreeMap<_, _> = converted
            .iter()
            .map(|converted| (converted.labels.clone(), meaning(&decoded(converted))))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_refused_pprof_leaves_nothing_behind((first, second) in (pprofs(), pprofs()), same: bool) {
        let of = labels(&[("__name__", "cpu"), ("job", "a")]);
        let mut builder = RequestBuilder::new(OtlpOptions::default());
        add(&mut builder, &of, &first);
        let max_bytes = builder.encoded_len() as u64;
        let alone = finished(builder);
        let mut tight = RequestBuilder::new(OtlpOptions { max_bytes, ..OtlpOptions::default() });
        add(&mut tight, &of, &first);
        let plain = Bytes::from(second.encode_to_vec());
        let other = labels(&[("job", if same { "a" } else { "b" })]);
        let error = tight.add(&other, received(), &Pprof::new(plain.clone()), &plain);
        prop_assert_eq!(error, Err(ConvertError::TooLarge { max: max_bytes }));
        prop_assert_eq!(finished(tight), alone);
    }

    #[test]
    fn totals_by_stack_and_type_survive((resource, dictionary) in otlp_requests()) {
        let of = labels(&[("job", "api")]);
        let converted = to_pprof(&of, &resource, &dictionary, &options()).unwrap();
        let mut found = BTreeMap::new();
        for converted in &converted {
            super::assert_healthy(converted);
            add_sums(&decoded(converted), &mut found);
        }
        prop_assert_eq!(found, sums(&resource, &dictionary));
        let profiles: usize = resource.scope_profiles.iter().map(|s| s.profiles.len()).sum();
        prop_assert_eq!(converted.iter().map(|c| c.profiles).sum::<u64>(), profiles as u64);
    }

    #[test]
    fn series_add_up_to_the_whole((resource, dictionary) in otlp_requests(), max_series in 0..4_usize) {
        let names = ["main".to_owned(), "tenant".to_owned(), "/usr/bin/app".to_owned()];
        let options = super::PprofOptions { series_attributes: &names, max_series, ..options() };
        let of = labels(&[("main", "of the resource")]);
        let converted = to_pprof(&of, &resource, &dictionary, &options).unwrap();
        let mut found = BTreeMap::new();
        for converted in &converted {
            super::assert_healthy(converted);
            prop_assert_eq!(converted.labels.get("main"), Some("of the resource"));
            add_sums(&decoded(converted), &mut found);
        }
        prop_assert_eq!(found, sums(&resource, &dictionary));
    }

    #[test]
    fn no_index_makes_it_panic((resource, dictionary) in wild_otlp(), max_inflated in 0..4_000_u64) {
        for max_inflated in [max_inflated, MAX] {
            let options = super::PprofOptions { max_inflated, ..options() };
            for converted in to_pprof(&labels(&[]), &resource, &dictionary, &options).into_iter().flatten() {
                super::assert_healthy(&converted);
            }
        }
    }
}

type Sums = BTreeMap<(String, Vec<String>), i64>;

/// Adds what each stack has of each sample type, as far as it is not 0.
fn add_sums(profile: &Profile, sums: &mut Sums) {
    for sample in &profile.sample {
        for (kind, value) in profile.sample_type.iter().zip(&sample.value) {
            if *value != 0 {
                let key = (value_type(profile, kind), frames(profile, sample));
                *sums.entry(key).or_default() += value;
            }
        }
    }
}

/// The same of OTLP, computed from the messages.
fn sums(resource: &otlp::ResourceProfiles, dictionary: &otlp::ProfilesDictionary) -> Sums {
    let text = |index: i32| dictionary.string_table[index as usize].as_str();
    let safe = |text: &str, otherwise: &str| match text {
        "" => otherwise.to_owned(),
        text => text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_"),
    };
    let mut sums = Sums::new();
    for profile in resource.scope_profiles.iter().flat_map(|s| &s.profiles) {
        let kind = profile.sample_type.unwrap_or_default();
        let kind = format!(
            "{}/{}",
            safe(text(kind.type_strindex), "unknown"),
            safe(text(kind.unit_strindex), "count")
        );
        for sample in &profile.samples {
            let value = match sample.values.len() {
                0 => sample.timestamps_unix_nano.len() as i64,
                _ => sample.values.iter().sum(),
            };
            if value == 0 {
                continue;
            }
            let stack = &dictionary.stack_table[sample.stack_index as usize];
            let frames = stack.location_indices.iter().map(|index| {
                let location = &dictionary.location_table[*index as usize];
                let mut words = format!("{:#x}", location.address);
                for line in location.lines.iter().filter(|l| l.function_index != 0) {
                    let function = dictionary.function_table[line.function_index as usize];
                    let mut texts = [
                        function.name_strindex,
                        function.system_name_strindex,
                        function.filename_strindex,
                    ]
                    .map(text);
                    if texts == [""; 3] && function.start_line == 0 {
                        texts[0] = "[unknown]";
                    }
                    words += &format!(
                        " {texts:?} {}: {}:{}",
                        function.start_line, line.line, line.column
                    );
                }
                words
            });
            *sums.entry((kind.clone(), frames.collect())).or_default() += value;
        }
    }
    sums
}

#[test]
fn a_real_heap_profile_comes_back_compressed_too() {
    let synthetic = SyntheticProfile {
        labels: vec![("tenant".into(), 5), ("route".into(), 3)],
        ..SyntheticProfile::heap(3)
    };
    let gzip = Pprof::new(synthetic.encode());
    let of = labels(&[("__name__", "memory"), ("instance", "a:1")]);
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let added = gzip.read(MAX, |plain| builder.add(&of, received(), &gzip, plain));
    assert_eq!(added.unwrap(), Ok(4));
    let options = super::PprofOptions {
        gzip: true,
        ..options()
    };
    let converted = back(&finished(builder), &options);
    assert!(converted[0].pprof.bytes().starts_with(&[0x1f, 0x8b]));
    let original = gzip
        .read(MAX, |plain| Profile::decode(plain))
        .unwrap()
        .unwrap();
    assert_eq!(meaning(&decoded(&converted[0])), meaning(&original));
    assert_eq!(converted.len(), 1);
}
