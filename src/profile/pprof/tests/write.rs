use super::{decoded, small, sums, text};
use crate::{
    r#gen::pprof::Profile,
    profile::pprof::{
        Frame, ProfileWriter, RuleSet, SyntheticProfile, check, inflate, wire::put_bytes,
        with_comments,
    },
};
use bytes::Bytes;
use prost::Message;
use std::time::{Duration, UNIX_EPOCH};

const MAX: u64 = 1 << 20;

#[test]
fn what_is_written_is_healthy_and_shares_its_tables() {
    let time = UNIX_EPOCH + Duration::from_nanos(5);
    let types = [("cpu", "nanoseconds")];
    let mut writer = ProfileWriter::new(&types, types[0], 100, time, Duration::from_secs(2));
    let frame = Frame {
        function: "relay::run",
        system_name: "_ZN5relay3run17h0E",
        file: "src/run.rs",
        line: 12,
    };
    let other_line = Frame { line: 13, ..frame };
    writer.sample(&[frame, other_line], &[1], &[("thread", "main")]);
    writer.sample(
        &[frame, Frame::default()],
        &[2, 3],
        &[("thread", "main"), ("", "x")],
    );
    writer.sample(&[frame], &[], &[]);
    let written = writer.finish();
    let checked = check(&inflate(&written, MAX).unwrap()).unwrap();
    assert_eq!(checked.broken, RuleSet::EMPTY);
    assert_eq!((checked.samples, checked.rows), (3, 2));
    assert_eq!(
        (checked.time_nanos, checked.duration_nanos),
        (5, 2_000_000_000)
    );
    let profile = decoded(&written);
    assert_eq!((profile.location.len(), profile.function.len()), (3, 2));
    assert_eq!(text(&profile, profile.function[1].name), "[unknown]");
    let mut strings = profile.string_table.clone();
    strings.sort();
    strings.dedup();
    assert_eq!(strings.len(), profile.string_table.len());
}

#[test]
fn comments_are_appended_and_all_else_stays() {
    let mut encoded = small(1).encode_to_vec();
    let with_one = with_comments(&Bytes::from(encoded.clone()), &["one".into()], MAX).unwrap();
    encoded = with_one.to_vec();
    // A field of a later version of the format.
    put_bytes(&mut encoded, 77, b"kept");
    for original in [
        Bytes::from(encoded.clone()),
        super::super::compress(&encoded),
    ] {
        let comments = ["relay: eu-1".to_owned(), "größe".to_owned()];
        let commented = with_comments(&original, &comments, MAX).unwrap();
        assert!(commented.starts_with(&original));
        let inflated = inflate(&commented, MAX).unwrap();
        assert!(inflated.starts_with(&encoded));
        assert_eq!(check(&inflated).unwrap().broken, RuleSet::EMPTY);
        let profile = Profile::decode(inflated).unwrap();
        let texts: Vec<String> = profile.comment.iter().map(|c| text(&profile, *c)).collect();
        assert_eq!(texts, ["one", "relay: eu-1", "größe"]);
        assert_eq!(sums([&profile]), sums([&small(1)]));
    }
}

#[test]
fn no_comment_changes_nothing_and_no_profile_is_an_error() {
    let body = SyntheticProfile::heap(1).encode();
    let same = with_comments(&body, &[], MAX).unwrap();
    assert_eq!(same.as_ptr(), body.as_ptr());
    with_comments(&Bytes::from_static(b"<html>"), &["x".into()], MAX).unwrap_err();
}

#[test]
fn a_synthetic_heap_profile_has_the_size_of_a_real_one() {
    for seed in 0..3 {
        let profile = SyntheticProfile::heap(seed);
        let (gzip, plain) = (profile.encode().len(), profile.encode_plain().len());
        let locations = decoded(&profile.encode()).location.len();
        eprintln!("seed {seed}: {gzip} gzip, {plain} plain, {locations} locations");
        assert!((27_000..34_000).contains(&gzip), "{gzip} bytes gzip");
        assert!((75_000..92_000).contains(&plain), "{plain} bytes");
        assert_eq!(profile.encode(), profile.encode());
    }
    assert_ne!(
        SyntheticProfile::heap(1).encode(),
        SyntheticProfile::heap(2).encode()
    );
}
