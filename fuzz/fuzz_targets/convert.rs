//! pprof ⇄ OTLP: what leaves is valid and within the limits, and what went one
//! way and back has the same totals.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::profile::{
    Labels,
    convert::{Converted, OriginalPayload, OtlpOptions, PprofOptions, RequestBuilder, to_pprof},
    otlp::{Compression, Request, census},
    pprof::{Pprof, check, inflate, repair, summarize},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use support::peak;

const MAX: u64 = 1 << 20;
const SLACK: u64 = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let plain = Bytes::from(support::message(rest));
    match first & 1 {
        0 => _ = from_otlp(&plain, first & 2 != 0, first & 4 != 0),
        _ => from_pprof(&plain, first & 2 != 0),
    }
});

fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

/// The pprofs of a request; `None` when it is refused.
fn from_otlp(plain: &Bytes, original_payload: bool, series: bool) -> Option<Vec<Converted>> {
    let request = Request::read(plain.clone(), Compression::None, u64::MAX).ok()?;
    let census = census(plain).ok()?;
    let series_attributes = match series {
        true => vec!["a".to_owned(), "host.name".to_owned()],
        false => vec![],
    };
    let options = PprofOptions {
        received: received(),
        max_inflated: MAX,
        series_attributes: &series_attributes,
        max_series: 4,
        original_payload,
        gzip: false,
    };
    let mut all = Vec::new();
    for (labels, otlp) in Arc::new(request).bodies() {
        let (resource, dictionary) = otlp.decode().ok()?;
        let (converted, taken) = peak(|| to_pprof(&labels, &resource, &dictionary, &options));
        let bound = 4 * (census.decoded + plain.len() as u64) + 8 * MAX + SLACK;
        assert!(taken as u64 <= bound, "{taken} bytes of {bound}");
        let converted = converted.ok()?;
        let profiles: u64 = converted.iter().map(|converted| converted.profiles).sum();
        assert_eq!(profiles, otlp.profiles());
        for converted in &converted {
            sound(&converted.pprof);
        }
        all.extend(converted);
    }
    Some(all)
}

fn sound(pprof: &Pprof) {
    let plain = inflate(pprof.bytes(), MAX).expect("it is within the limit");
    let checked = check(&plain).expect("what was made is a pprof");
    assert_eq!(checked.broken.iter().next(), None);
}

fn from_pprof(plain: &Bytes, keep: bool) {
    let Ok(checked) = check(plain) else {
        return;
    };
    let Ok(mended) = repair(plain, checked.broken, received()) else {
        return;
    };
    let options = OtlpOptions {
        original_payload: match keep {
            true => OriginalPayload::Keep,
            false => OriginalPayload::None,
        },
        max_bytes: MAX,
    };
    let pprof = Pprof::new(plain.clone());
    let mut builder = RequestBuilder::new(options);
    let labels = Labels::default();
    let (added, taken) = peak(|| builder.add(&labels, received(), &pprof, plain));
    let bound = 4 * checked.decoded + 4 * MAX + SLACK;
    assert!(taken as u64 <= bound, "{taken} bytes of {bound}");
    let Ok(profiles) = added else {
        return;
    };
    let request = builder.finish();
    assert!(request.len() as u64 <= MAX);
    let Some(converted) = from_otlp(&request, false, false) else {
        // Stacks are written once in OTLP and once for each sample in a pprof.
        return;
    };
    let back: u64 = converted.iter().map(|converted| converted.profiles).sum();
    assert_eq!(back, profiles);
    let before = totals(&inflate(&mended.bytes, u64::MAX).expect("it was mended"));
    let mut after = Vec::new();
    for converted in converted {
        after.extend(totals(
            &inflate(converted.pprof.bytes(), MAX).expect("it is sound"),
        ));
    }
    // What saturates depends on the order.
    let small = |totals: &[i64]| totals.iter().all(|total| total.unsigned_abs() < 1 << 50);
    if small(&before) && small(&after) {
        assert_eq!(after, before);
    }
}

/// The values of all samples, by sample type.
fn totals(plain: &[u8]) -> Vec<i64> {
    let summary = summarize(plain).expect("it is sound");
    let totals = summary.sample_types.iter();
    totals.map(|sample_type| sample_type.total).collect()
}
