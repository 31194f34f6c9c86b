//! pprofs: what is checked can be mended, split and summed up; what was mended
//! breaks no rule, and splitting loses nothing.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::profile::pprof::{
    Pprof, check, inflate, keep_sample_types, repair, split_by_labels, split_by_samples, summarize,
    top,
};
use std::time::{Duration, UNIX_EPOCH};

const MAX: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if let Some(gzip) = data.strip_prefix(b"\0") {
        // A stream that is broken, or a bomb.
        _ = Pprof::new(Bytes::copy_from_slice(gzip)).check(MAX);
        return;
    }
    works(&support::message(data));
});

fn works(plain: &[u8]) {
    let Ok(checked) = check(plain) else {
        return;
    };
    _ = top(plain, None, 5);
    let Ok(summary) = summarize(plain) else {
        return;
    };
    assert!(summary.samples <= checked.samples);
    let received = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
    let Ok(mended) = repair(plain, checked.broken, received) else {
        return;
    };
    let mended = inflate(&mended.bytes, u64::MAX).expect("what was mended is sound");
    let again = check(&mended).expect("what was mended is checked");
    assert_eq!(again.broken.iter().next(), None);
    let totals = totals(&mended);
    let pieces = split_by_samples(&mended, mended.len() as u64 / 2).expect("it is split");
    assert_eq!(added(&pieces), totals, "the pieces of a split");
    let names = ["a".to_owned(), String::new(), "bytes".to_owned()];
    if let Ok(Some(split)) = split_by_labels(&mended, &names, 8) {
        let series: Vec<Bytes> = split.series.into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(added(&series), totals, "the series of a split");
    }
    _ = keep_sample_types(&mended, &[("cpu".to_owned(), "nanoseconds".to_owned())]);
}

/// The values of all samples, by sample type.
fn totals(plain: &[u8]) -> Vec<i64> {
    let summary = summarize(plain).expect("what was mended is summed up");
    let totals = summary.sample_types.iter();
    totals.map(|sample_type| sample_type.total).collect()
}

fn added(pieces: &[Bytes]) -> Vec<i64> {
    let mut sums = Vec::new();
    for piece in pieces {
        let plain = inflate(piece, u64::MAX).expect("a piece is sound");
        let checked = check(&plain).expect("a piece is checked");
        assert_eq!(checked.broken.iter().next(), None);
        let totals = totals(&plain);
        sums.resize(totals.len(), 0_i64);
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = sum.saturating_add(total);
        }
    }
    sums
}
