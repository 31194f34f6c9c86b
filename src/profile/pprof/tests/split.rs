use super::{add, decoded, small, sums, text};
use crate::{
    r#gen::pprof::{Label, Profile},
    profile::pprof::{
        KeepError, RuleSet, SyntheticProfile, check, inflate, keep_sample_types, split_by_labels,
        split_by_samples,
    },
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeSet;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn types(types: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(kind, unit): &(&str, &str)| ((*kind).to_owned(), (*unit).to_owned());
    types.iter().map(owned).collect()
}

fn assert_healthy(gzip: &Bytes) {
    let inflated = inflate(gzip, u64::MAX).unwrap();
    assert_eq!(check(&inflated).unwrap().broken, RuleSet::EMPTY);
}

/// Everything but the samples and their tables.
fn frame(profile: &Profile) -> String {
    let types = profile.sample_type.iter().chain(&profile.period_type);
    let types: Vec<[String; 2]> = types
        .map(|t| [text(profile, t.r#type), text(profile, t.unit)])
        .collect();
    let comments: Vec<String> = profile.comment.iter().map(|c| text(profile, *c)).collect();
    let default = text(profile, profile.default_sample_type);
    let times = (profile.time_nanos, profile.duration_nanos, profile.period);
    let mappings = profile.mapping.len();
    format!("{types:?} {comments:?} {default} {times:?} {mappings}")
}

/// Strings that nothing refers to.
fn unused_strings(profile: &Profile) -> usize {
    let mut used = BTreeSet::from([0, profile.drop_frames, profile.keep_frames]);
    used.insert(profile.default_sample_type);
    used.extend(&profile.comment);
    let types = profile.sample_type.iter().chain(&profile.period_type);
    used.extend(types.flat_map(|t| [t.r#type, t.unit]));
    used.extend(
        profile
            .mapping
            .iter()
            .flat_map(|m| [m.filename, m.build_id]),
    );
    let functions = profile.function.iter();
    used.extend(functions.flat_map(|f| [f.name, f.system_name, f.filename]));
    let labels = profile.sample.iter().flat_map(|s| &s.label);
    used.extend(labels.flat_map(|l| [l.key, l.str, l.num_unit]));
    profile.string_table.len() - used.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_add_up_to_the_whole(seed: u64, samples in 1..80_usize, max_bytes in 1..8_000_u64) {
        let synthetic = SyntheticProfile {
            samples,
            functions: 60,
            depth: 8,
            labels: vec![("tenant".into(), 5)],
            ..SyntheticProfile::heap(seed)
        };
        let encoded = synthetic.encode_plain();
        let mut original = Profile::decode(encoded.as_slice()).unwrap();
        original.comment = vec![add(&mut original, "a comment")];
        let pieces = split_by_samples(&original.encode_to_vec(), max_bytes).unwrap();
        let decoded: Vec<Profile> = pieces.iter().map(decoded).collect();
        for (piece, profile) in pieces.iter().zip(&decoded) {
            prop_assert!(piece.len() as u64 <= max_bytes || profile.sample.len() == 1);
            prop_assert_eq!(frame(profile), frame(&original));
            prop_assert_eq!(unused_strings(profile), 0);
            assert_healthy(piece);
        }
        prop_assert_eq!(sums(&decoded), sums([&original]));
    }

    #[test]
    fn series_add_up_to_the_whole(seed in 0..50_u64, max_series in 0..8_usize) {
        let mut original = small(seed);
        let split = split_by_labels(&original.encode_to_vec(), &names(&["route", "tenant"]), max_series);
        let split = split.unwrap().unwrap();
        prop_assert!(split.series.len() <= max_series + 1);
        let (mut restored, mut distinct) = (Vec::new(), BTreeSet::new());
        for (labels, gzip) in &split.series {
            assert_healthy(gzip);
            prop_assert!(distinct.insert(labels.clone()), "{labels:?} twice");
            let mut profile = decoded(gzip);
            let promoted: Vec<Label> = labels
                .iter()
                .map(|(key, value)| Label { key: add(&mut profile, key), str: add(&mut profile, value), ..Label::default() })
                .collect();
            for sample in &mut profile.sample {
                sample.label.extend(&promoted);
            }
            restored.push(sorted_labels(profile));
        }
        original = sorted_labels(original);
        prop_assert_eq!(sums(&restored), sums([&original]));
    }
}

/// The same profile with each sample's labels in the order of their keys.
fn sorted_labels(mut profile: Profile) -> Profile {
    let strings = profile.string_table.clone();
    for sample in &mut profile.sample {
        sample
            .label
            .sort_by_key(|label| &strings[label.key as usize]);
    }
    profile
}

#[test]
fn what_fits_is_one_piece() {
    let encoded = SyntheticProfile::heap(1).encode_plain();
    assert_eq!(split_by_samples(&encoded, 1 << 20).unwrap().len(), 1);
    let pieces = split_by_samples(&encoded, 8_000).unwrap();
    let filled = pieces.iter().map(Bytes::len).sum::<usize>() * 100 / (pieces.len() * 8_000);
    assert!(filled > 50, "{} pieces, filled to {filled} %", pieces.len());
}

#[test]
fn a_profile_without_samples_is_one_piece() {
    let mut profile = small(1);
    profile.sample.clear();
    let pieces = split_by_samples(&profile.encode_to_vec(), 1).unwrap();
    assert_eq!(pieces.len(), 1);
    assert_healthy(&pieces[0]);
}

#[test]
fn without_the_labels_nothing_changes() {
    let encoded = small(1).encode_to_vec();
    let split = |names: &[String]| split_by_labels(&encoded, names, 10).unwrap();
    assert_eq!(split(&names(&["absent"])), None);
    // A string of the table, but no label's key.
    assert_eq!(split(&names(&["alloc_space"])), None);
    assert_eq!(split(&[]), None);
}

#[test]
fn beyond_the_cap_samples_keep_their_labels() {
    let profile = small(1);
    let encoded = profile.encode_to_vec();
    let whole = split_by_labels(&encoded, &names(&["tenant"]), 3)
        .unwrap()
        .unwrap();
    assert!(!whole.capped);
    assert_eq!(whole.series.len(), 3);
    let capped = split_by_labels(&encoded, &names(&["tenant"]), 1)
        .unwrap()
        .unwrap();
    assert!(capped.capped);
    assert_eq!(capped.series[0], whole.series[0]);
    let (labels, rest) = &capped.series[1];
    assert_eq!(labels, &[]);
    let rest = decoded(rest);
    for sample in &rest.sample {
        let keys: Vec<String> = sample.label.iter().map(|l| text(&rest, l.key)).collect();
        assert!(keys.contains(&"tenant".to_owned()), "{keys:?}");
    }
}

#[test]
fn numbers_and_absent_values_are_promoted_as_such() {
    let mut profile = small(1);
    profile.sample.truncate(4);
    let key = add(&mut profile, "thread");
    let empty = add(&mut profile, "");
    let label = |str, num| Label {
        key,
        str,
        num,
        num_unit: 0,
    };
    profile.sample[0].label = vec![label(0, 17), label(0, 18)];
    profile.sample[1].label = vec![label(0, -4)];
    profile.sample[2].label = vec![label(empty, 0)];
    profile.sample[3].label = vec![];
    let split = split_by_labels(&profile.encode_to_vec(), &names(&["thread"]), 9);
    let series = split.unwrap().unwrap().series;
    let labels: Vec<_> = series.iter().map(|(labels, _)| labels.clone()).collect();
    assert_eq!(
        labels,
        [
            types(&[("thread", "17")]),
            types(&[("thread", "-4")]),
            vec![]
        ]
    );
    let first = decoded(&series[0].1);
    assert_eq!(first.sample[0].label.len(), 1, "the second value stays");
    assert_eq!(decoded(&series[2].1).sample.len(), 2);
}

#[test]
fn other_sample_types_go_with_what_only_they_need() {
    let original = small(5);
    let keep = types(&[("inuse_space", "bytes"), ("absent", "count")]);
    let kept = keep_sample_types(&original.encode_to_vec(), &keep);
    let kept = kept.unwrap().unwrap();
    assert_healthy(&kept);
    let kept = decoded(&kept);
    assert_eq!(kept.sample_type.len(), 1);
    let mut expected = sums([&original]);
    expected
        .values_mut()
        .for_each(|values| *values = vec![values[3]]);
    expected.retain(|_, values| *values != [0]);
    assert!(!expected.is_empty() && expected.len() < original.sample.len());
    assert_eq!(sums([&kept]), expected);
    assert_eq!(unused_strings(&kept), 0);
}

#[test]
fn keeping_all_changes_nothing_and_keeping_none_is_an_error() {
    let encoded = small(5).encode_to_vec();
    let all = SyntheticProfile::heap(0).sample_types;
    assert_eq!(keep_sample_types(&encoded, &all), Ok(None));
    let error = keep_sample_types(&encoded, &types(&[("cpu", "nanoseconds")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "none of the sample types to keep (cpu/nanoseconds) is in the profile, which has \
         alloc_objects/count, alloc_space/bytes, inuse_objects/count, inuse_space/bytes"
    );
    let error = keep_sample_types(b"<html>", &all).unwrap_err();
    assert!(matches!(error, KeepError::Unreadable(_)));
}

#[test]
fn broken_tables_do_not_disturb() {
    for (_, damage) in super::check::DAMAGES {
        let mut profile = small(1);
        damage(&mut profile);
        let encoded = profile.encode_to_vec();
        split_by_samples(&encoded, 300).unwrap();
        split_by_labels(&encoded, &names(&["tenant"]), 2).unwrap();
        let _ = keep_sample_types(&encoded, &types(&[("inuse_space", "bytes")]));
    }
}

/// A profile of 500 samples with a megabyte of comment that gzip cannot shrink.
fn with_huge_comment() -> Vec<u8> {
    let mut profile = SyntheticProfile {
        samples: 500,
        functions: 20,
        labels: vec![("tenant".into(), 400)],
        ..SyntheticProfile::heap(1)
    };
    profile.depth = 3;
    let mut profile = Profile::decode(profile.encode_plain().as_slice()).unwrap();
    let mut state = 1_u32;
    let comment: String = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b' ' + (state >> 24) as u8 % 90)
        })
        .collect();
    profile.comment = vec![add(&mut profile, &comment)];
    profile.encode_to_vec()
}

#[test]
fn what_does_not_shrink_does_not_explode() {
    let encoded = with_huge_comment();
    let original = Profile::decode(encoded.as_slice()).unwrap();
    for max_bytes in [1, 100_000] {
        let pieces = split_by_samples(&encoded, max_bytes).unwrap();
        let total: usize = pieces.iter().map(Bytes::len).sum();
        assert!(total < 60 * encoded.len(), "{} pieces", pieces.len());
        let decoded: Vec<Profile> = pieces.iter().map(decoded).collect();
        assert_eq!(sums(&decoded), sums([&original]));
    }
    let split = split_by_labels(&encoded, &names(&["tenant"]), 1_000)
        .unwrap()
        .unwrap();
    assert!(split.capped);
    assert!(split.series.len() < 40, "{} series", split.series.len());
}
