//! What is read, changed and written, on made-up bodies.

use super::{
    MAX,
    meaning::{meaning, stack},
    relabelled,
};
use crate::profile::{
    Labels, NAME,
    arrow::{
        Arrow, Part, Schema, SyntheticArrow, Unreadable, constant_labels, halves, outline,
        select_stacks, stacks_request, write_v1, write_v2,
    },
};
use bytes::Bytes;
use proptest::prelude::*;

fn small() -> SyntheticArrow {
    SyntheticArrow {
        rows: 40,
        stacks: 9,
        depth: 5,
        processes: 3,
        ..SyntheticArrow::busy(1)
    }
}

fn both(synthetic: &SyntheticArrow) -> [Arrow; 2] {
    [synthetic.v1().unwrap(), synthetic.v2().unwrap()]
}

#[test]
fn a_message_says_what_it_is() {
    let [v1, v2] = both(&small());
    let stacks = v1.stacks().unwrap();
    let parts = [
        (v1.samples(), Part::V1Samples, 40),
        (v2.samples(), Part::V2, 40),
        (stacks, Part::V1Stacks, outline(stacks).unwrap().rows),
    ];
    for (message, part, rows) in parts {
        let found = outline(message).unwrap();
        assert_eq!((found.part, found.rows), (part, rows));
        assert!(found.inflated < found.decoded);
    }
    let asked = stacks_request(v1.samples(), MAX).unwrap();
    // It has none of the columns of samples.
    let error = outline(&asked).unwrap_err();
    assert!(error.to_string().contains("no column `value`"), "{error}");
    // In the place of another it is told so.
    let swapped = Arrow::v1(stacks.clone(), v1.samples().clone());
    assert!(matches!(swapped.decode(MAX), Err(Unreadable::Shape(_))));
    let wrong = Arrow::v2(v1.samples().clone());
    assert!(matches!(wrong.decode(MAX), Err(Unreadable::Shape(_))));
}

#[test]
fn v2_becomes_v1_with_every_name_label_time_and_total() {
    let synthetic = SyntheticArrow::busy(7);
    let made = meaning(&synthetic.table());
    let v2 = synthetic.v2().unwrap().decode(MAX).unwrap();
    assert_eq!(meaning(&v2), made);
    let (samples, stacks) = write_v1(&v2, MAX).unwrap();
    let v1 = Arrow::v1(samples, stacks).decode(MAX).unwrap();
    assert_eq!(meaning(&v1), made);
    let again = Arrow::v2(write_v2(&v1, MAX).unwrap());
    assert_eq!(meaning(&again.decode(MAX).unwrap()), made);
}

#[test]
fn a_message_may_lie_anywhere_in_a_request() {
    let [v1, v2] = both(&small());
    for offset in [1, 3, 4, 12] {
        let moved = |message: &Bytes| {
            let request = [&vec![0; offset][..], message].concat();
            Bytes::from(request).slice(offset..)
        };
        let stacks = moved(v1.stacks().unwrap());
        let again = Arrow::v1(moved(v1.samples()), stacks).decode(MAX).unwrap();
        assert_eq!(meaning(&again), meaning(&v1.decode(MAX).unwrap()));
        let again = Arrow::v2(moved(v2.samples())).decode(MAX).unwrap();
        assert_eq!(meaning(&again), meaning(&v2.decode(MAX).unwrap()));
    }
}

#[test]
fn a_server_gets_the_stacks_it_asks_for_in_its_order() {
    let v1 = small().v1().unwrap();
    let stacks = v1.stacks().unwrap();
    let whole = v1.decode(MAX).unwrap();
    // The samples of the second half name some of the stacks, in another order.
    let [_, half] = halves(&v1, MAX).unwrap().unwrap();
    let request = stacks_request(half.samples(), MAX).unwrap();
    let selected = select_stacks(stacks, &request, MAX).unwrap();
    assert_ne!(&selected, stacks);
    let found = Arrow::v1(half.samples().clone(), selected);
    let found = found.decode(MAX).unwrap();
    assert_eq!(meaning(&found), meaning(&whole)[20..]);
    let expected = half.decode(MAX).unwrap();
    let list = |table: &crate::profile::arrow::Table| -> Vec<String> {
        (1..table.stacks.len() as u32)
            .map(|place| stack(table, place))
            .collect()
    };
    assert_eq!(list(&found), list(&expected));
}

#[test]
fn a_stack_that_is_not_there_is_said_to_be_missing() {
    let [one, other] = [1, 2].map(|seed| SyntheticArrow { seed, ..small() }.v1().unwrap());
    let request = stacks_request(other.samples(), MAX).unwrap();
    let selected = select_stacks(one.stacks().unwrap(), &request, MAX).unwrap();
    let rows = Arrow::v1(other.samples().clone(), selected);
    let rows = meaning(&rows.decode(MAX).unwrap());
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.contains("missing stacktrace")));
}

#[test]
fn labels_are_put_over_what_rows_say_and_taken_out() {
    for body in both(&small()) {
        let has = constant_labels(&body, MAX).unwrap();
        assert_eq!(has.to_string(), r#"{node="node-1"}"#);
        let wanted = [
            (NAME, "cpu_profile"),
            ("comm", "all"),
            ("aaa", "first"),
            ("zzz", "last"),
        ];
        let wanted: Labels = wanted.into_iter().collect();
        let changed = relabelled(&body, &wanted, MAX).unwrap();
        assert_eq!(changed.schema(), body.schema());
        let constant = constant_labels(&changed, MAX).unwrap();
        assert_eq!(
            constant.to_string(),
            r#"{aaa="first", comm="all", zzz="last"}"#
        );
        let mut expected = body.decode(MAX).unwrap();
        expected.overlay(&wanted);
        let rows = meaning(&changed.decode(MAX).unwrap());
        assert_eq!(rows, meaning(&expected));
        assert!(
            rows.iter()
                .all(|row| row.contains("] cpu_profile samples/count"))
        );
        // Of the columns that vary, those that nobody asked for stay.
        assert!(
            rows.iter()
                .all(|row| row.contains("thread_id") && !row.contains("node-1"))
        );
    }
}

#[test]
fn labels_that_are_as_they_were_change_nothing() {
    for body in both(&small()) {
        let has = constant_labels(&body, MAX).unwrap();
        let same = relabelled(&body, &has, MAX).unwrap();
        assert_eq!(same.samples(), body.samples());
        assert_eq!(same.stacks(), body.stacks());
    }
}

#[test]
fn a_body_in_halves_is_the_same_rows() {
    for body in both(&SyntheticArrow::busy(3)) {
        let halves = halves(&body, MAX).unwrap().unwrap();
        let sizes = halves.each_ref().map(Arrow::byte_len);
        assert!(
            sizes.iter().all(|size| *size < body.byte_len()),
            "{sizes:?}"
        );
        let rows = halves.map(|half| {
            assert_eq!(half.schema(), body.schema());
            meaning(&half.decode(MAX).unwrap())
        });
        assert_eq!(rows.concat(), meaning(&body.decode(MAX).unwrap()));
    }
    let one = SyntheticArrow { rows: 1, ..small() };
    for body in both(&one) {
        assert!(halves(&body, MAX).unwrap().is_none());
    }
}

#[test]
fn no_rows_and_no_labels_are_no_error() {
    let none = SyntheticArrow { rows: 0, ..small() };
    for body in both(&none) {
        assert_eq!(body.decode(MAX).unwrap().rows(), 0);
        assert!(constant_labels(&body, MAX).unwrap().is_empty());
        let wanted: Labels = [("a", "b")].into_iter().collect();
        assert_eq!(
            relabelled(&body, &wanted, MAX)
                .unwrap()
                .decode(MAX)
                .unwrap()
                .rows(),
            0
        );
    }
    let mut bare = small().table();
    bare.labels.clear();
    let v2 = Arrow::v2(write_v2(&bare, MAX).unwrap());
    assert_eq!(meaning(&v2.decode(MAX).unwrap()), meaning(&bare));
    let wanted: Labels = [("a", "b")].into_iter().collect();
    let changed = relabelled(&v2, &wanted, MAX).unwrap();
    assert_eq!(constant_labels(&changed, MAX).unwrap(), wanted);
}

#[test]
fn the_schema_of_a_body_is_that_of_its_call() {
    let [v1, v2] = both(&small());
    assert_eq!((v1.schema(), v2.schema()), (Schema::V1, Schema::V2));
    // A decoder of the whole is bounded, and so is each of its parts.
    let inflated = outline(v2.samples()).unwrap().inflated;
    assert!(v2.decode(inflated).is_ok());
    let error = v2.decode(inflated - 1).unwrap_err();
    assert!(matches!(error, Unreadable::TooLarge { .. }), "{error}");
    assert_eq!(v2.decoded(inflated - 1).unwrap_err(), error);
    let samples = outline(v1.samples()).unwrap().inflated;
    let all = samples + outline(v1.stacks().unwrap()).unwrap().inflated;
    assert!(v1.decode(all).is_ok());
    assert!(matches!(
        v1.decode(all - 1),
        Err(Unreadable::TooLarge { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_written_is_read_back(
        seed: u64,
        rows in 0u32..80,
        stacks in 1u32..20,
        depth in 0u32..9,
        processes in 1u32..5,
    ) {
        let synthetic = SyntheticArrow { seed, rows, stacks, depth, processes, time: 5 };
        let made = meaning(&synthetic.table());
        for body in both(&synthetic) {
            prop_assert_eq!(&meaning(&body.decode(MAX).unwrap()), &made);
            if let Some(halves) = halves(&body, MAX).unwrap() {
                let rows = halves.map(|half| meaning(&half.decode(MAX).unwrap()));
                prop_assert_eq!(&rows.concat(), &made);
            }
        }
    }
}
