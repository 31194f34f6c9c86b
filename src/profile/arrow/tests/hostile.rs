//! Bodies that are meant to harm.

use super::{MAX, relabelled};
use crate::profile::arrow::{
    Arrow, SyntheticArrow, Unreadable, constant_labels, halves, outline, select_stacks,
    stacks_request, write_v1, write_v2,
};
use bytes::Bytes;

fn small() -> SyntheticArrow {
    SyntheticArrow {
        rows: 12,
        stacks: 3,
        depth: 4,
        processes: 2,
        ..SyntheticArrow::busy(1)
    }
}

/// Does with a message whatever there is to do.
fn work_on(message: &Bytes) {
    let max = 1 << 20;
    let _ = outline(message);
    let _ = stacks_request(message, max);
    let sound = small().v1().unwrap();
    let request = stacks_request(sound.samples(), max).unwrap();
    let _ = select_stacks(message, &request, max);
    let _ = select_stacks(sound.stacks().unwrap(), message, max);
    let bodies = [
        Arrow::v2(message.clone()),
        Arrow::v1(message.clone(), sound.stacks().unwrap().clone()),
        Arrow::v1(sound.samples().clone(), message.clone()),
    ];
    let wanted = [("comm", "x")].into_iter().collect();
    for body in bodies {
        let _ = constant_labels(&body, max);
        let _ = relabelled(&body, &wanted, max);
        let _ = halves(&body, max);
        if let Ok(table) = body.decode(max) {
            let _ = write_v1(&table, max);
            let _ = write_v2(&table, max);
        }
    }
}

#[test]
fn a_byte_that_is_wrong_does_no_harm() {
    let v1 = small().v1().unwrap();
    let messages = [
        v1.samples().clone(),
        v1.stacks().unwrap().clone(),
        small().v2().unwrap().samples().clone(),
    ];
    for message in messages {
        // Not each, which takes minutes: those are the fuzzer's.
        for at in (0..message.len()).step_by(89) {
            for value in [0, 0x7f, 0xff] {
                let mut broken = message.to_vec();
                broken[at] = value;
                work_on(&broken.into());
            }
        }
    }
}

#[test]
fn a_buffer_that_ends_within_a_value_is_refused() {
    let [mut refused, mut read] = [0, 0];
    let message = small().v1().unwrap().samples().clone();
    for at in 0..message.len() {
        let mut broken = message.to_vec();
        broken[at] ^= 1;
        match constant_labels(&Arrow::v1(broken.into(), Bytes::new()), MAX) {
            Err(Unreadable::Shape("a buffer ends within a value")) => refused += 1,
            Err(_) => {}
            Ok(_) => read += 1,
        }
    }
    // Of the columns that are read, and of those that are passed over.
    assert!(refused > 50, "{refused}");
    assert!(read > 1_000, "{read}");
}

#[test]
fn a_message_that_ends_early_is_told_so() {
    let message = small().v2().unwrap().samples().clone();
    for end in (0..message.len() - 8).step_by(31) {
        let error = outline(&message.slice(..end)).unwrap_err();
        let known = matches!(error, Unreadable::NotArrow { .. } | Unreadable::Shape(_));
        assert!(known, "{end}: {error}");
        work_on(&message.slice(..end));
    }
    // The mark of the end may lack.
    assert!(outline(&message.slice(..message.len() - 8)).is_ok());
}

#[test]
fn what_a_buffer_declares_is_counted_before_it_is_believed() {
    let body = small().v2().unwrap();
    let message = body.samples();
    let sound = outline(message).unwrap();
    let mut bombs = 0;
    // The length of an LZ4 buffer stands before the frame's mark.
    for at in 8..message.len() - 4 {
        if message[at..].starts_with(&[0x04, 0x22, 0x4d, 0x18]) {
            let mut bomb = message.to_vec();
            bomb[at - 8..at].copy_from_slice(&(1_u64 << 30).to_le_bytes());
            let bomb = Arrow::v2(bomb.into());
            let told = outline(bomb.samples()).unwrap();
            assert!(told.inflated > 1 << 30, "{told:?}");
            assert!(told.inflated < sound.inflated + (1 << 30) + 64);
            let error = bomb.decode(MAX).unwrap_err();
            assert!(matches!(error, Unreadable::TooLarge { .. }), "{error}");
            bombs += 1;
        }
    }
    assert!(bombs > 3, "{bombs}");
}

#[test]
fn a_version_that_nobody_knows_is_named() {
    let message = small().v2().unwrap().samples().clone();
    let key = b"parca_write_schema_version";
    let places: Vec<usize> = (0..message.len() - key.len())
        .filter(|at| message[*at..].starts_with(key))
        .collect();
    assert_eq!(places.len(), 1);
    let mut unknown = message.to_vec();
    unknown[places[0]] = b'P';
    let error = outline(&unknown.into()).unwrap_err();
    assert_eq!(
        error,
        Unreadable::Version {
            found: String::new()
        }
    );
}

#[test]
fn stacks_that_lie_over_each_other_are_not_written_out_without_end() {
    let mut table = SyntheticArrow {
        rows: 4_000,
        stacks: 4_000,
        depth: 5,
        ..SyntheticArrow::busy(1)
    }
    .table();
    let all = table.frames.len() as u32;
    for (begin, stack) in (0..).zip(&mut table.stacks) {
        (stack.begin, stack.len) = (begin, all - begin);
    }
    // 40 million frames in a body of 20,000.
    for error in [
        write_v1(&table, MAX).unwrap_err(),
        write_v2(&table, MAX).unwrap_err(),
    ] {
        assert!(matches!(error, Unreadable::TooLarge { .. }), "{error}");
    }
}
