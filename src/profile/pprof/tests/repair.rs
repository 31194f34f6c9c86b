use super::{
    check::{DAMAGES, damaged, mutated, with_invalid_utf8},
    decoded, small, stack, sums, text,
};
use crate::{
    r#gen::pprof::{Line, Profile, ValueType},
    profile::pprof::{Action, Repaired, Rule, RuleSet, SyntheticProfile, check, inflate, repair},
};
use proptest::prelude::*;
use prost::Message;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn mend(encoded: &[u8]) -> Result<Repaired, Rule> {
    let broken = check(encoded).unwrap().broken;
    repair(encoded, broken, received())
}

/// The mended profile and the rules that were applied.
fn mended(profile: &Profile) -> (Profile, RuleSet) {
    let repaired = mend(&profile.encode_to_vec()).unwrap();
    (decoded(&repaired.bytes), repaired.applied)
}

fn rules(rules: &[Rule]) -> RuleSet {
    rules.iter().copied().collect()
}

fn assert_healthy(repaired: &Repaired) {
    let inflated = inflate(&repaired.bytes, u64::MAX).unwrap();
    let checked = check(&inflated).unwrap();
    assert_eq!(checked.broken, RuleSet::EMPTY);
    assert_eq!(checked, repaired.checked);
}

#[test]
fn every_damage_is_mended_or_forces_a_drop() {
    for (place, (rule, damage)) in DAMAGES.iter().enumerate() {
        let mut profile = small(1);
        damage(&mut profile);
        match (mend(&profile.encode_to_vec()), rule.action()) {
            (Ok(repaired), Action::Repair) => {
                assert_healthy(&repaired);
                let applied = repaired.applied;
                assert!(
                    applied.contains(*rule),
                    "damage {place}: {rule} not in {applied}"
                );
            }
            (Err(forced), Action::Drop) => assert_eq!(forced, *rule),
            (result, _) => panic!("damage {place}, {rule}: {result:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mended_mutant_is_healthy(
        seed in 0..4_u64,
        changes in prop::collection::vec(any::<(u16, u8)>(), 1..5),
    ) {
        let bytes = mutated(&small(seed).encode_to_vec(), &changes);
        if let Ok(checked) = check(&bytes) && !checked.broken.is_empty() {
            match repair(&bytes, checked.broken, received()) {
                Ok(repaired) => assert_healthy(&repaired),
                Err(rule) => prop_assert_eq!(rule.action(), Action::Drop),
            }
        }
    }

    #[test]
    fn several_kinds_of_damage_are_mended_at_once(
        seed in 0..4_u64,
        places in prop::collection::vec(any::<usize>(), 1..9),
    ) {
        let repaired = mend(&damaged(seed, &places).encode_to_vec());
        assert_healthy(&repaired.unwrap());
    }
}

#[test]
fn a_large_mutant_is_mended_as_well() {
    let encoded = SyntheticProfile::heap(2).encode_plain();
    let mut mended = 0;
    for seed in 0..300_u32 {
        let place = (seed.wrapping_mul(2_654_435_761) >> 16) as u16;
        let bytes = mutated(&encoded, &[(place, seed as u8)]);
        if let Ok(checked) = check(&bytes)
            && let Ok(repaired) = repair(&bytes, checked.broken, received())
        {
            assert_healthy(&repaired);
            mended += 1;
        }
    }
    assert!(mended > 30, "{mended}");
}

#[test]
fn other_ids_keep_all_stacks() {
    let original = small(2);
    let mut shifted = original.clone();
    shifted.mapping.iter_mut().for_each(|m| m.id += 0x7f00);
    shifted.function.iter_mut().for_each(|f| f.id *= 10);
    shifted.function.reverse();
    shifted.location.iter_mut().for_each(|l| l.id += 1 << 40);
    shifted.location.rotate_left(3);
    for location in &mut shifted.location {
        location.mapping_id += 0x7f00;
        location.line.iter_mut().for_each(|l| l.function_id *= 10);
    }
    for sample in &mut shifted.sample {
        sample.location_id.iter_mut().for_each(|id| *id += 1 << 40);
    }
    let (mended, applied) = mended(&shifted);
    assert_eq!(applied, rules(&[Rule::Ids]));
    assert_eq!(sums([&mended]), sums([&original]));
}

#[test]
fn of_equal_ids_the_first_counts() {
    let mut profile = small(2);
    let name = text(&profile, profile.function[0].name);
    let id = profile.function[0].id;
    profile.function[1].id = id;
    profile.location[0].line = vec![Line {
        function_id: id,
        ..Line::default()
    }];
    let (mended, _) = mended(&profile);
    let function = mended.location[0].line[0].function_id as usize - 1;
    assert_eq!(text(&mended, mended.function[function].name), name);
}

#[test]
fn dangling_references_cost_only_themselves() {
    let original = small(3);
    let mut profile = original.clone();
    let frames = profile.sample[0].location_id.clone();
    profile.sample[0].location_id.insert(0, 0);
    profile.sample[0].location_id.push(1 << 33);
    profile.location[0].mapping_id = 9;
    profile.location[1].line.push(Line::default());
    profile.location[2].line[0].function_id = 1 << 20;
    let (mended, applied) = mended(&profile);
    assert_eq!(
        applied,
        rules(&[
            Rule::MappingReference,
            Rule::FunctionReference,
            Rule::LocationReference,
            Rule::LineWithoutFunction,
        ])
    );
    assert_eq!(mended.sample[0].location_id, frames);
    assert_eq!(mended.location[0].mapping_id, 0);
    assert_eq!(mended.location[0].address, original.location[0].address);
    assert_eq!(mended.location[1].line, original.location[1].line);
    assert_eq!(mended.location[2].line, []);
    assert_eq!(mended.sample.len(), original.sample.len());
}

#[test]
fn samples_and_labels_that_mean_nothing_are_removed() {
    let original = small(3);
    let mut profile = original.clone();
    profile.sample[4].value.pop();
    profile.sample[5].label[0].key = 0;
    let (mended, applied) = mended(&profile);
    assert_eq!(applied, rules(&[Rule::ValueCount, Rule::LabelWithoutKey]));
    assert_eq!(mended.sample.len(), original.sample.len() - 1);
    assert_eq!(mended.sample[4].label, original.sample[5].label[1..]);
}

#[test]
fn strings_become_readable() {
    let profile = small(1);
    let repaired = mend(&with_invalid_utf8(&profile)).unwrap();
    assert_healthy(&repaired);
    assert_eq!(repaired.applied, rules(&[Rule::InvalidUtf8]));
    let mended = decoded(&repaired.bytes);
    assert_eq!(mended.string_table.last().unwrap(), "caf\u{fffd} \u{fffd}");
    assert_eq!(sums([&mended]), sums([&profile]));
}

#[test]
fn types_get_names_that_can_be_queried() {
    let type_of = |profile: &Profile, t: &ValueType| {
        format!("{}/{}", text(profile, t.r#type), text(profile, t.unit))
    };
    let mut profile = small(1);
    profile.string_table.push("gc.pause-µs%".into());
    profile.sample_type[0].r#type = profile.string_table.len() as i64 - 1;
    profile.sample_type[1].unit = 0;
    profile.sample_type[2].r#type = -1;
    profile.period_type = None;
    profile.default_sample_type = profile.sample_type[3].r#type;
    let (mended, applied) = mended(&profile);
    let types = mended.sample_type.iter().map(|t| type_of(&mended, t));
    assert_eq!(
        types.collect::<Vec<_>>(),
        [
            "gc_pause__s_/count",
            "alloc_space/count",
            "unknown/count",
            "inuse_space/bytes"
        ]
    );
    let period_type = mended.period_type.unwrap();
    assert_eq!(type_of(&mended, &period_type), "inuse_space/bytes");
    assert_eq!(
        applied,
        rules(&[
            Rule::StringIndex,
            Rule::NoPeriodType,
            Rule::EmptyTypeName,
            Rule::UnsafeTypeName,
        ])
    );
}

#[test]
fn a_profile_without_any_type_gets_a_period_type() {
    let profile = Profile {
        string_table: vec![String::new()],
        time_nanos: 1,
        ..Profile::default()
    };
    let (mended, _) = mended(&profile);
    let period_type = mended.period_type.unwrap();
    assert_eq!(text(&mended, period_type.r#type), "unknown");
    assert_eq!(text(&mended, period_type.unit), "count");
}

#[test]
fn functions_without_any_text_are_named() {
    let mut profile = small(1);
    profile.function[0].start_line = 0;
    profile.function[0].name = -1;
    profile.function[0].system_name = 0;
    profile.function[0].filename = 0;
    let (mended, _) = mended(&profile);
    assert_eq!(text(&mended, mended.function[0].name), "[unknown]");
}

#[test]
fn times_are_put_right() {
    for (time, duration) in [(0, -5), (-1, i64::MIN)] {
        let mut profile = small(1);
        profile.time_nanos = time;
        profile.duration_nanos = duration;
        let (mended, _) = mended(&profile);
        assert_eq!(mended.time_nanos, 1_800_000_000_000_000_000);
        assert_eq!(mended.duration_nanos, 0);
    }
}

#[test]
fn the_first_string_is_read_as_absent() {
    let mut profile = small(1);
    let before = stack(&profile, &profile.sample[0]);
    profile.string_table[0] = "surprise".into();
    let (mended, applied) = mended(&profile);
    assert_eq!(applied, rules(&[Rule::FirstString]));
    assert_eq!(stack(&mended, &mended.sample[0]), before);
}
