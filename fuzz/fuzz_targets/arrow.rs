//! parca-agent's Arrow: whatever comes, reading it ends with a table or an error, in
//! the memory that was counted; a table is written as what it was, and no value is
//! lost on the way to OTLP and pprof. An input chooses one of these: all of them
//! after each other are a hundred times slower than reading.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::profile::{
    Labels,
    arrow::{
        Arrow, SyntheticArrow, Table, constant_labels, halves, outline, select_stacks,
        stacks_request, write_v1, write_v2,
    },
    convert::{OtlpOptions, PprofOptions, RequestBuilder, arrow_to_pprof},
    pprof::summarize,
};
use std::{sync::LazyLock, time::UNIX_EPOCH};
use support::peak;

const MAX: u64 = 256 << 10;
/// What errors and a few lists take.
const SLACK: usize = 64 << 10;

/// Sound messages.
struct Sound {
    /// Samples and stacks of schema v1, and one of schema v2.
    messages: [Bytes; 3],
    /// What is asked about the samples.
    request: Bytes,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
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
    Sound {
        request: stacks_request(v1.samples(), MAX).expect("a request"),
        messages: [v1.samples().clone(), stacks, v2.samples().clone()],
    }
});

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let message = match first & 3 {
        0 => Bytes::copy_from_slice(rest),
        which => patched(&SOUND.messages[usize::from(which) - 1], rest),
    };
    let (told, walk) = peak(|| outline(&message));
    assert!(walk <= message.len() + SLACK, "the walk took {walk} bytes");
    match first >> 2 & 7 {
        0 => converse(&message, told.map_or(0, |told| told.decoded)),
        check => check_bodies(&message, check),
    }
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

/// Each side of the conversation about stacks.
fn converse(message: &Bytes, decoded: u64) {
    let [_, stacks, _] = &SOUND.messages;
    let (_, taken) = peak(|| stacks_request(message, MAX));
    within(taken, decoded);
    _ = select_stacks(message, &SOUND.request, MAX);
    _ = select_stacks(stacks, message, MAX);
}

fn within(taken: usize, decoded: u64) {
    let bound = decoded as usize + SLACK;
    assert!(
        taken <= bound,
        "{taken} bytes were taken where {decoded} were counted"
    );
}

/// The message in each place of a body.
fn check_bodies(message: &Bytes, check: u8) {
    let [samples, stacks, _] = &SOUND.messages;
    for body in [
        Arrow::v2(message.clone()),
        Arrow::v1(message.clone(), stacks.clone()),
        Arrow::v1(samples.clone(), message.clone()),
    ] {
        let Ok(decoded) = body.decoded(MAX) else {
            continue;
        };
        let (table, taken) = peak(|| body.decode(MAX));
        within(taken, decoded);
        match (check, table) {
            (1, table) => labels(&body, table.ok(), decoded),
            (_, Err(_)) => {}
            (2, Ok(table)) => as_v2(&table),
            (3, Ok(table)) => as_v1(&table),
            (4, Ok(table)) => in_halves(&body, &table),
            (5, Ok(table)) => to_otlp(table),
            (6, Ok(table)) => to_pprof(table),
            (_, Ok(table)) => relabelled(&body, table),
        }
    }
}

fn labels(body: &Arrow, table: Option<Table>, decoded: u64) {
    let (labels, taken) = peak(|| constant_labels(body, MAX));
    within(taken, decoded);
    if let Some(table) = table {
        let labels = labels.expect("labels of what is decoded");
        assert_eq!(labels, table.constant_labels());
    }
}

fn as_v2(table: &Table) {
    if let Ok(v2) = write_v2(table, MAX) {
        let again = read(&Arrow::v2(v2));
        assert_eq!(again.rows(), table.rows());
        assert_eq!(total(&again), total(table));
    }
}

fn as_v1(table: &Table) {
    if let Ok((samples, stacks)) = write_v1(table, MAX) {
        let again = read(&Arrow::v1(samples, stacks));
        assert_eq!(again.rows(), table.rows());
        // Equal tables are written as equal bytes.
        let third = write_v1(&again, MAX).expect("it is no larger");
        let fourth = read(&Arrow::v1(third.0.clone(), third.1.clone()));
        assert_eq!(write_v1(&fourth, MAX).expect("it is no larger"), third);
    }
}

fn in_halves(body: &Arrow, table: &Table) {
    if let Ok(Some(halves)) = halves(body, MAX) {
        let rows = halves.map(|half| read(&half).rows());
        assert_eq!(rows.iter().sum::<usize>(), table.rows());
    }
}

fn relabelled(body: &Arrow, mut table: Table) {
    let wanted: Labels = [("comm", "x"), ("model", "y")].into_iter().collect();
    table.overlay(&wanted);
    let changed = match body.is_v1() {
        true => write_v1(&table, MAX).map(|(samples, stacks)| Arrow::v1(samples, stacks)),
        false => write_v2(&table, MAX).map(Arrow::v2),
    };
    if let Ok(changed) = changed
        && table.rows() > 0
    {
        let labels = constant_labels(&changed, 64 * MAX).expect("what was written is read");
        assert_eq!(labels.get("model"), Some("y"));
        assert_eq!(labels.get("comm"), Some("x"));
    }
}

/// What was written.
fn read(body: &Arrow) -> Table {
    body.decode(64 * MAX).expect("what was written is read")
}

/// The sum of all values, where none of a part can be beyond 64 bits.
fn total(table: &Table) -> Option<i64> {
    let values = table.values().iter();
    let sizes = values.clone().map(|value| u128::from(value.unsigned_abs()));
    (sizes.sum::<u128>() < 1 << 62).then(|| values.sum())
}

fn to_otlp(table: Table) {
    let (labels, total) = (table.constant_labels(), total(&table));
    let mut builder = RequestBuilder::new(OtlpOptions {
        max_bytes: MAX,
        ..OtlpOptions::default()
    });
    if builder.add_arrow(&labels, table).is_ok() {
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
}

fn to_pprof(table: Table) {
    let labels = table.constant_labels();
    let options = PprofOptions {
        received: UNIX_EPOCH,
        max_inflated: MAX,
        series_attributes: &[],
        max_series: 1,
        original_payload: false,
        gzip: false,
    };
    let Ok(converted) = arrow_to_pprof(&labels, table, &options) else {
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
