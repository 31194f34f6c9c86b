//! parca-agent's Arrow: whatever comes, reading it ends with a table or an error, in
//! the memory that was counted; a table is written as what it was, and no value is
//! lost on the way to OTLP and pprof.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::profile::{
    Labels,
    arrow::{
        Arrow, SyntheticArrow, Table, constant_labels, halves, outline, overlay, select_stacks,
        stacks_request, write_v1, write_v2,
    },
    convert::{OtlpOptions, PprofOptions, RequestBuilder, arrow_to_pprof},
    pprof::summarize,
};
use std::{sync::LazyLock, time::UNIX_EPOCH};
use support::peak;

const MAX: u64 = 1 << 20;
/// What errors and a few lists take.
const SLACK: usize = 64 << 10;

/// Sound messages: samples and stacks of schema v1, and one of schema v2.
static SOUND: LazyLock<[Bytes; 3]> = LazyLock::new(|| {
    let synthetic = SyntheticArrow {
        rows: 12,
        stacks: 4,
        depth: 5,
        processes: 2,
        ..SyntheticArrow::busy(1)
    };
    let v1 = synthetic.v1().expect("a body");
    let v2 = synthetic.v2().expect("a body");
    let stacks = v1.stacks().expect("stacks").clone();
    [v1.samples().clone(), stacks, v2.samples().clone()]
});

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let message = match first & 3 {
        0 => Bytes::copy_from_slice(rest),
        which => patched(&SOUND[usize::from(which) - 1], rest),
    };
    work_on(&message);
});

/// A message with bytes replaced: three of place and one of value, again and again.
fn patched(message: &Bytes, patches: &[u8]) -> Bytes {
    let mut bytes = message.to_vec();
    for patch in patches.chunks_exact(4) {
        let place = u32::from_le_bytes([patch[0], patch[1], patch[2], 0]) as usize;
        let place = place % bytes.len();
        bytes[place] = patch[3];
    }
    bytes.into()
}

fn work_on(message: &Bytes) {
    let (told, walk) = peak(|| outline(message));
    assert!(walk <= message.len() + SLACK, "the walk took {walk} bytes");
    let [samples, stacks, _] = &*SOUND;
    let request = stacks_request(samples, MAX).expect("a request");
    let (_, taken) = peak(|| stacks_request(message, MAX));
    if let Ok(told) = told {
        let bound = told.decoded as usize + SLACK;
        assert!(taken <= bound, "{taken} bytes were taken for {told:?}");
    }
    _ = select_stacks(message, &request, MAX);
    _ = select_stacks(stacks, message, MAX);
    for body in [
        Arrow::v2(message.clone()),
        Arrow::v1(message.clone(), stacks.clone()),
        Arrow::v1(samples.clone(), message.clone()),
    ] {
        work_on_body(&body);
    }
}

fn work_on_body(body: &Arrow) {
    let Ok(decoded) = body.decoded(MAX) else {
        return;
    };
    let (labels, taken) = peak(|| constant_labels(body, MAX));
    let bound = decoded as usize + SLACK;
    assert!(
        taken <= bound,
        "{taken} bytes were taken where {decoded} were counted"
    );
    let (table, taken) = peak(|| body.decode(MAX));
    assert!(
        taken <= bound,
        "{taken} bytes were taken where {decoded} were counted"
    );
    let wanted: Labels = [("comm", "x"), ("model", "y")].into_iter().collect();
    if let Ok(changed) = overlay(body, &wanted, 2 * MAX) {
        let labels = constant_labels(&changed, 4 * MAX).expect("what was written is read");
        if changed.decode(4 * MAX).is_ok_and(|table| table.rows() > 0) {
            assert_eq!(labels.get("model"), Some("y"));
        }
    }
    let Ok(table) = table else {
        return;
    };
    let labels = labels.expect("labels of what is decoded");
    assert_eq!(labels, table.constant_labels());
    if let Ok(v2) = write_v2(&table, MAX) {
        let again = Arrow::v2(v2)
            .decode(64 * MAX)
            .expect("what was written is read");
        assert_eq!(again.rows(), table.rows());
    }
    if let Ok((samples, stacks)) = write_v1(&table, MAX) {
        let v1 = Arrow::v1(samples, stacks);
        let again = v1.decode(64 * MAX).expect("what was written is read");
        assert_eq!(again.rows(), table.rows());
        // Equal tables are written as equal bytes.
        let third = write_v1(&again, MAX).expect("it is no larger");
        let fourth = Arrow::v1(third.0.clone(), third.1.clone());
        let fourth = fourth.decode(64 * MAX).expect("what was written is read");
        assert_eq!(write_v1(&fourth, MAX).expect("it is no larger"), third);
    }
    if let Ok(Some(halves)) = halves(body, MAX) {
        let rows = halves.map(|half| half.decode(64 * MAX).expect("a half is read").rows());
        assert_eq!(rows.iter().sum::<usize>(), table.rows());
    }
    let total = total(&table);
    converts(&labels, body, total);
}

/// The sum of all values, where none of a part can be beyond 64 bits.
fn total(table: &Table) -> Option<i64> {
    let values = table.values().iter();
    let sizes = values.clone().map(|value| u128::from(value.unsigned_abs()));
    (sizes.sum::<u128>() < 1 << 62).then(|| values.sum())
}

fn converts(labels: &Labels, body: &Arrow, total: Option<i64>) {
    let table = body.decode(MAX).expect("it was before");
    let mut builder = RequestBuilder::new(OtlpOptions {
        max_bytes: MAX,
        ..OtlpOptions::default()
    });
    if builder.add_arrow(labels, table).is_ok() {
        let request = builder.finish_message();
        let scopes = request
            .resource_profiles
            .iter()
            .flat_map(|r| &r.scope_profiles);
        let samples = scopes.flat_map(|s| &s.profiles).flat_map(|p| &p.samples);
        let values = samples.flat_map(|sample| &sample.values);
        if let Some(total) = total {
            assert_eq!(values.sum::<i64>(), total, "of the values in OTLP");
        }
    }
    let table = body.decode(MAX).expect("it was before");
    let options = PprofOptions {
        received: UNIX_EPOCH,
        max_inflated: MAX,
        series_attributes: &[],
        max_series: 1,
        original_payload: false,
        gzip: false,
    };
    let Ok(converted) = arrow_to_pprof(labels, table, &options) else {
        return;
    };
    for converted in converted {
        let known = converted.pprof.check(MAX).expect("a pprof");
        assert_eq!(known.broken.iter().next(), None);
        _ = converted
            .pprof
            .read(MAX, |plain| summarize(plain).expect("a pprof"));
    }
}
