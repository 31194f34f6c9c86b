use super::{check::DAMAGES, small};
use crate::profile::pprof::{
    FlatValue, Frame, LabelKey, ProfileWriter, SampleTypeTotal, Summary, inflate, summarize, top,
    with_comments,
};
use prost::Message;
use std::time::{Duration, UNIX_EPOCH};

fn frame(function: &str, line: i64) -> Frame<'_> {
    Frame {
        function,
        line,
        ..Frame::default()
    }
}

/// Two sample types, three functions, one comment.
fn written() -> Vec<u8> {
    let types = [("samples", "count"), ("cpu", "nanoseconds")];
    let time = UNIX_EPOCH + Duration::from_secs(7);
    let period_type = ("cpu", "nanoseconds");
    let second = Duration::from_secs(1);
    let mut writer = ProfileWriter::new(&types, period_type, 10_000_000, time, second);
    let (main, work, wait) = (frame("main", 1), frame("work", 2), frame("wait", 3));
    writer.sample(&[work, main], &[3, 30], &[("tenant", "a"), ("zone", "x")]);
    writer.sample(&[frame("work", 4), main], &[1, 10], &[("tenant", "b")]);
    writer.sample(&[wait, work, main], &[9, 5], &[]);
    writer.sample(&[], &[1], &[]);
    let commented = with_comments(&writer.finish(), &["made here".into()], 1 << 20).unwrap();
    inflate(&commented, 1 << 20).unwrap().to_vec()
}

#[test]
fn a_summary_tells_what_is_inside() {
    let total = |kind: &str, unit: &str, total| SampleTypeTotal {
        r#type: kind.to_owned(),
        unit: unit.to_owned(),
        total,
    };
    let key = |key: &str, values| LabelKey {
        key: key.to_owned(),
        values,
    };
    assert_eq!(
        summarize(&written()).unwrap(),
        Summary {
            sample_types: vec![
                total("samples", "count", 14),
                total("cpu", "nanoseconds", 45)
            ],
            samples: 4,
            locations: 4,
            functions: 3,
            mappings: 0,
            time_nanos: 7_000_000_000,
            duration_nanos: 1_000_000_000,
            is_delta: true,
            period_type: Some("cpu/nanoseconds".to_owned()),
            period: 10_000_000,
            default_sample_type: None,
            label_keys: vec![key("tenant", 2), key("zone", 1)],
            comments: vec!["made here".to_owned()],
        }
    );
}

#[test]
fn the_top_is_by_the_innermost_frame() {
    let of = |sample_type, n| -> Vec<(String, i64)> {
        let top = top(&written(), sample_type, n).unwrap();
        let pair = |FlatValue { function, flat }| (function, flat);
        top.into_iter().map(pair).collect()
    };
    let cpu = [("work".to_owned(), 40), ("wait".to_owned(), 5)];
    assert_eq!(of(None, 9), cpu);
    assert_eq!(of(Some("cpu"), 1), cpu[..1]);
    assert_eq!(
        of(Some("samples"), 9),
        [
            ("wait".to_owned(), 9),
            ("work".to_owned(), 4),
            ("(no stack)".to_owned(), 1)
        ]
    );
}

#[test]
fn broken_profiles_are_summarised_without_panic() {
    for (_, damage) in DAMAGES {
        let mut profile = small(1);
        damage(&mut profile);
        let encoded = profile.encode_to_vec();
        summarize(&encoded).unwrap();
        top(&encoded, Some("alloc_space"), 5).unwrap();
    }
}

#[test]
fn a_few_bytes_that_stand_for_many_texts_stay_few() {
    use crate::r#gen::pprof::{Profile, ValueType};
    use prost::Message;
    let kind = ValueType { r#type: 1, unit: 1 };
    let profile = Profile {
        string_table: vec![String::new(), "ä".repeat(100_000)],
        sample_type: vec![kind; 50_000],
        comment: vec![1; 50_000],
        default_sample_type: 1,
        ..Profile::default()
    };
    let summary = summarize(&profile.encode_to_vec()).unwrap();
    assert_eq!(
        (summary.sample_types.len(), summary.comments.len()),
        (64, 64)
    );
    let longest = summary.sample_types[63].unit.len();
    assert_eq!(
        (longest, summary.default_sample_type.unwrap().len()),
        (1_024, 1_024)
    );
}
