use super::{add, small};
use crate::{
    r#gen::pprof::{Function, Label, Line, Profile, Sample, ValueType},
    profile::pprof::{
        Action, Checked, Rule, RuleSet, SyntheticProfile, check,
        check::is_safe,
        repair,
        walk::STRING,
        wire::{Wire, int, len, put_bytes, put_varint},
    },
};
use proptest::prelude::*;
use prost::Message;

/// Damages a profile of at least two samples, locations, functions and labels.
pub(super) type Damage = fn(&mut Profile);

/// At least one way to break each rule but `InvalidUtf8`, which prost's structs
/// cannot express.
pub(super) const DAMAGES: &[(Rule, Damage)] = &[
    (Rule::NoStrings, |p| p.string_table.clear()),
    (Rule::NoSampleTypes, |p| p.sample_type.clear()),
    (Rule::FirstString, |p| p.string_table[0] = "first".into()),
    (Rule::StringIndex, |p| p.sample_type[1].unit = -1),
    (Rule::StringIndex, |p| {
        p.sample_type[0].r#type = p.string_table.len() as i64;
    }),
    (Rule::StringIndex, |p| {
        p.period_type.get_or_insert_default().unit = i64::MIN;
    }),
    (Rule::StringIndex, |p| p.mapping[0].filename = i64::MAX),
    (Rule::StringIndex, |p| p.mapping[0].build_id = -7),
    (Rule::StringIndex, |p| p.function[1].name = -1),
    (Rule::StringIndex, |p| p.function[0].system_name = 1 << 40),
    (Rule::StringIndex, |p| {
        p.function[0].filename = p.string_table.len() as i64;
    }),
    (Rule::StringIndex, |p| p.sample[0].label[0].key = -1),
    (Rule::StringIndex, |p| p.sample[1].label[0].str = 1 << 20),
    (Rule::StringIndex, |p| p.sample[1].label[1].num_unit = -3),
    (Rule::Ids, |p| p.mapping[0].id = 7),
    (Rule::Ids, |p| p.function[1].id = 1),
    (Rule::Ids, |p| p.location.swap(0, 1)),
    (Rule::Ids, |p| p.location[0].id = 0),
    (Rule::MappingReference, |p| p.location[0].mapping_id = 2),
    (Rule::FunctionReference, |p| {
        p.location[0].line[0].function_id = p.function.len() as u64 + 1;
    }),
    (Rule::LocationReference, |p| p.sample[0].location_id[0] = 0),
    (Rule::LocationReference, |p| {
        p.sample[1].location_id[0] = p.location.len() as u64 + 1;
    }),
    (Rule::LocationReference, |p| {
        p.sample[1].location_id = vec![u64::MAX, 0];
    }),
    (Rule::LineWithoutFunction, |p| {
        p.location[1].line.push(Line::default());
    }),
    (Rule::EmptyFunction, |p| {
        p.function[1] = Function {
            id: 2,
            ..Function::default()
        };
    }),
    (Rule::EmptyFunction, |p| {
        let empty = add(p, "");
        p.function[1] = Function {
            id: 2,
            filename: empty,
            ..Function::default()
        };
    }),
    (Rule::ValueCount, |p| p.sample[0].value.push(1)),
    (Rule::ValueCount, |p| p.sample[1].value.clear()),
    (Rule::ValueCount, |p| p.sample_type.truncate(3)),
    (Rule::LabelWithoutKey, |p| {
        p.sample[0].label.push(Label {
            num: 1,
            ..Label::default()
        });
    }),
    (Rule::LabelWithoutKey, |p| {
        let empty = add(p, "");
        p.sample[0].label[0].key = empty;
    }),
    (Rule::NoPeriodType, |p| p.period_type = None),
    (Rule::EmptyTypeName, |p| {
        p.period_type = Some(ValueType::default());
    }),
    (Rule::EmptyTypeName, |p| p.sample_type[0].unit = 0),
    (Rule::EmptyTypeName, |p| {
        p.sample_type[1].r#type = add(p, "")
    }),
    (Rule::UnsafeTypeName, |p| {
        p.sample_type[0].r#type = add(p, "alloc-space");
    }),
    (Rule::UnsafeTypeName, |p| {
        p.sample_type[1].unit = add(p, "µs")
    }),
    (Rule::UnsafeTypeName, |p| {
        let unit = add(p, "a:b");
        p.period_type.get_or_insert_default().unit = unit;
    }),
    (Rule::ZeroTime, |p| p.time_nanos = 0),
    (Rule::NegativeTime, |p| p.time_nanos = -1),
    (Rule::NegativeDuration, |p| p.duration_nanos = i64::MIN),
];

/// The same profile with a string that is not UTF-8, at wire level.
pub(super) fn with_invalid_utf8(profile: &Profile) -> Vec<u8> {
    let mut encoded = profile.encode_to_vec();
    put_bytes(&mut encoded, 6, b"caf\xe9 \xff");
    encoded
}

fn checked(profile: &Profile) -> Checked {
    check(&profile.encode_to_vec()).unwrap()
}

/// The top-level fields, each with its key.
fn fields(message: &[u8]) -> Vec<(u32, &[u8])> {
    let mut wire = Wire(message);
    let mut fields = Vec::new();
    loop {
        let before = wire.0;
        let Some(key) = wire.key().unwrap() else {
            return fields;
        };
        wire.skip(key).unwrap();
        fields.push((key, &before[..before.len() - wire.0.len()]));
    }
}

#[test]
fn a_healthy_profile_breaks_no_rule() {
    let profile = SyntheticProfile::heap(3);
    let encoded = profile.encode_plain();
    let decoded = Profile::decode(encoded.as_slice()).unwrap();
    let values = decoded.sample.iter().flat_map(|s| &s.value);
    let checked = check(&encoded).unwrap();
    assert_eq!(
        checked,
        Checked {
            inflated: encoded.len() as u64,
            decoded: checked.decoded,
            samples: 564,
            rows: values.filter(|v| **v != 0).count() as u64,
            sample_types: 4,
            time_nanos: 1_750_000_000_000_000_000,
            duration_nanos: 0,
            period: 524_288,
            reads_as_zero: false,
            broken: RuleSet::EMPTY,
        }
    );
}

#[test]
fn every_damage_breaks_its_rule() {
    for seed in 0..5 {
        for (place, (rule, damage)) in DAMAGES.iter().enumerate() {
            let mut profile = small(seed);
            damage(&mut profile);
            let broken = checked(&profile).broken;
            assert!(
                broken.contains(*rule),
                "damage {place}: no {rule} in {broken}"
            );
        }
        let broken = check(&with_invalid_utf8(&small(seed))).unwrap().broken;
        assert_eq!(broken, RuleSet::from_iter([Rule::InvalidUtf8]));
    }
    let tested = DAMAGES.iter().map(|(rule, _)| *rule);
    let tested: RuleSet = tested.chain([Rule::InvalidUtf8]).collect();
    assert_eq!(tested, Rule::ALL.iter().copied().collect());
}

#[test]
fn what_a_store_bears_breaks_no_rule() {
    let harmless: &[Damage] = &[
        |p| p.sample.clear(),
        |p| p.sample[0].location_id.clear(),
        |p| p.sample[0].value[0] = -5,
        |p| p.location[0].line.clear(),
        |p| p.location[0].mapping_id = 0,
        |p| p.mapping[0].memory_limit = 0,
        |p| p.function[0].name = 0,
        |p| p.default_sample_type = 1 << 30,
        |p| p.comment = vec![-1, 1 << 30],
        |p| _ = add(p, ""),
        |p| p.time_nanos = i64::MAX,
        |p| p.period = 0,
    ];
    for (place, change) in harmless.iter().enumerate() {
        let mut profile = small(1);
        change(&mut profile);
        assert_eq!(checked(&profile).broken, RuleSet::EMPTY, "change {place}");
    }
}

#[test]
fn the_order_of_fields_does_not_matter() {
    for (rule, damage) in DAMAGES {
        let mut profile = small(4);
        damage(&mut profile);
        let encoded = profile.encode_to_vec();
        let mut fields = fields(&encoded);
        // Stable: the order within a table is its meaning.
        fields.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
        let reversed: Vec<u8> = fields
            .iter()
            .flat_map(|(_, field)| *field)
            .copied()
            .collect();
        assert_eq!(check(&reversed), check(&encoded), "{rule}");
    }
}

#[test]
fn unpacked_integers_count_as_packed_ones() {
    let profile = small(6);
    let mut encoded = Profile {
        sample: Vec::new(),
        ..profile.clone()
    }
    .encode_to_vec();
    for sample in &profile.sample {
        let mut message = Vec::new();
        for id in &sample.location_id {
            put_varint(&mut message, int(1).into());
            put_varint(&mut message, *id);
        }
        for value in &sample.value {
            put_varint(&mut message, int(2).into());
            put_varint(&mut message, *value as u64);
        }
        for label in &sample.label {
            put_bytes(&mut message, 3, &label.encode_to_vec());
        }
        put_bytes(&mut encoded, 2, &message);
    }
    let (unpacked, packed) = (check(&encoded).unwrap(), checked(&profile));
    assert_eq!(
        (unpacked.samples, unpacked.rows),
        (packed.samples, packed.rows)
    );
    assert_eq!(unpacked.broken, RuleSet::EMPTY);
}

#[test]
fn a_period_type_given_twice_is_merged() {
    let mut profile = small(1);
    let (kind, unit) = (profile.sample_type[0].r#type, profile.sample_type[0].unit);
    profile.period_type = None;
    let mut encoded = profile.encode_to_vec();
    for half in [[int(1), kind as u32], [int(2), unit as u32]] {
        assert!(!check(&encoded).unwrap().broken.is_empty());
        put_bytes(&mut encoded, 11, &half.map(|byte| byte as u8));
    }
    assert_eq!(check(&encoded).unwrap().broken, RuleSet::EMPTY);
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut encoded = small(1).encode_to_vec();
    put_bytes(&mut encoded, 99, b"\xff\xff\xff");
    // A group of 40 with a fixed64, a fixed32 and another group inside.
    put_varint(&mut encoded, 40 << 3 | 3);
    encoded.extend([0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4, 0x13, 0x14]);
    put_varint(&mut encoded, 40 << 3 | 4);
    assert_eq!(check(&encoded).unwrap().broken, RuleSet::EMPTY);
    put_varint(&mut encoded, 40 << 3 | 4);
    check(&encoded).unwrap_err();
}

#[test]
fn samples_without_a_period_are_told() {
    let mut profile = small(1);
    let (kind, unit) = (add(&mut profile, "samples"), add(&mut profile, "count"));
    profile.sample_type[1] = ValueType { r#type: kind, unit };
    assert!(!checked(&profile).reads_as_zero);
    profile.period = 0;
    assert!(checked(&profile).reads_as_zero);
}

#[test]
fn small_messages_are_charged_for_what_they_become() {
    let mut encoded = small(1).encode_to_vec();
    for _ in 0..1_000 {
        put_bytes(&mut encoded, 2, b"");
    }
    let decoded = check(&encoded).unwrap().decoded;
    assert!(decoded > 1_000 * size_of::<Sample>() as u64, "{decoded}");
}

#[test]
fn many_values_of_one_byte_are_charged_for_what_they_become() {
    let mut encoded = small(1).encode_to_vec();
    // A list that has just doubled.
    let values = vec![1; (1 << 18) + 1];
    let mut sample = Vec::new();
    put_bytes(&mut sample, 2, &values);
    put_bytes(&mut encoded, 2, &sample);
    let decoded = check(&encoded).unwrap().decoded;
    let profile = Profile::decode(encoded.as_slice()).unwrap();
    let list = &profile.sample.last().unwrap().value;
    assert!(list.capacity() > 19 * values.len() / 10);
    // While it moved it stood twice: in its new room and in half of it.
    let most = list.capacity() + list.capacity() / 2;
    assert!(decoded >= 8 * most as u64, "{decoded}");
}

#[test]
fn strings_that_are_no_utf8_are_charged_for_what_they_become() {
    let mut encoded = small(1).encode_to_vec();
    put_bytes(&mut encoded, 6, &[0xff; 100_000]);
    let decoded = check(&encoded).unwrap().decoded;
    assert!(decoded > 1_000_000, "{decoded}");
}

#[test]
fn as_many_types_as_strings_do_not_cost_their_product() {
    let count = 100_000;
    let mut profile = Profile {
        string_table: vec![String::new()],
        ..small(1)
    };
    profile.sample.clear();
    for place in 0..count {
        let kind = add(&mut profile, &format!("type-{place}"));
        profile.sample_type.push(ValueType {
            r#type: kind,
            unit: kind,
        });
    }
    let encoded = profile.encode_to_vec();
    let begin = std::time::Instant::now();
    let broken = check(&encoded).unwrap().broken;
    repair(&encoded, broken, std::time::SystemTime::now()).unwrap();
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}

/// What is broken, found without any cleverness in a decoded profile.
fn naive(profile: &Profile) -> RuleSet {
    let mut broken = RuleSet::EMPTY;
    let strings = &profile.string_table;
    let text = |index: i64| usize::try_from(index).ok().and_then(|i| strings.get(i));
    let empty = |index: i64| text(index).is_some_and(String::is_empty);
    let mut indices = Vec::new();
    for t in profile.sample_type.iter().chain(&profile.period_type) {
        indices.extend([t.r#type, t.unit]);
        for name in [t.r#type, t.unit] {
            broken.insert_if(Rule::EmptyTypeName, empty(name));
            let unsafe_name = text(name).is_some_and(|name| !is_safe(name.as_bytes()));
            broken.insert_if(Rule::UnsafeTypeName, unsafe_name);
        }
    }
    for m in &profile.mapping {
        indices.extend([m.filename, m.build_id]);
    }
    for f in &profile.function {
        indices.extend([f.name, f.system_name, f.filename]);
        let nothing = [f.name, f.system_name, f.filename].into_iter().all(empty);
        broken.insert_if(Rule::EmptyFunction, nothing && f.start_line == 0);
    }
    for sample in &profile.sample {
        let complete = sample.value.len() == profile.sample_type.len();
        broken.insert_if(Rule::ValueCount, !complete);
        for label in &sample.label {
            indices.extend([label.key, label.str, label.num_unit]);
            broken.insert_if(Rule::LabelWithoutKey, empty(label.key));
        }
    }
    let inside = |index: &i64| *index == 0 || text(*index).is_some();
    broken.insert_if(Rule::StringIndex, !indices.iter().all(inside));
    let first = strings.first().is_some_and(|first| !first.is_empty());
    broken.insert_if(Rule::FirstString, first);
    broken.insert_if(Rule::NoStrings, strings.is_empty());
    let samples = !profile.sample.is_empty();
    let types = !profile.sample_type.is_empty();
    broken.insert_if(Rule::NoSampleTypes, samples && !types);
    broken.insert_if(Rule::NoPeriodType, profile.period_type.is_none());
    broken.insert_if(Rule::ZeroTime, profile.time_nanos == 0);
    broken.insert_if(Rule::NegativeTime, profile.time_nanos < 0);
    broken.insert_if(Rule::NegativeDuration, profile.duration_nanos < 0);
    broken.insert_if(Rule::Ids, !sequential(profile.mapping.iter().map(|m| m.id)));
    broken.insert_if(
        Rule::Ids,
        !sequential(profile.location.iter().map(|l| l.id)),
    );
    broken.insert_if(
        Rule::Ids,
        !sequential(profile.function.iter().map(|f| f.id)),
    );
    if broken.contains(Rule::Ids) {
        return broken;
    }
    for location in &profile.location {
        let mapping = location.mapping_id <= profile.mapping.len() as u64;
        broken.insert_if(Rule::MappingReference, !mapping);
        for line in &location.line {
            broken.insert_if(Rule::LineWithoutFunction, line.function_id == 0);
            let function = line.function_id <= profile.function.len() as u64;
            broken.insert_if(Rule::FunctionReference, !function);
        }
    }
    for id in profile.sample.iter().flat_map(|s| &s.location_id) {
        let known = (1..=profile.location.len() as u64).contains(id);
        broken.insert_if(Rule::LocationReference, !known);
    }
    broken
}

fn sequential(ids: impl Iterator<Item = u64>) -> bool {
    ids.zip(1..).all(|(id, place)| id == place)
}

/// Bytes changed at places given as fractions of the length.
pub(super) fn mutated(encoded: &[u8], changes: &[(u16, u8)]) -> Vec<u8> {
    let mut bytes = encoded.to_vec();
    for (place, value) in changes {
        let place = usize::from(*place) * bytes.len() / (1 << 16);
        bytes[place] = *value;
    }
    bytes
}

/// A profile with several kinds of damage that can be mended.
pub(super) fn damaged(seed: u64, places: &[usize]) -> Profile {
    let repairable = |(rule, _): &&(Rule, Damage)| rule.action() == Action::Repair;
    let damages: Vec<_> = DAMAGES.iter().filter(repairable).collect();
    let mut profile = small(seed);
    for place in places {
        damages[place % damages.len()].1(&mut profile);
    }
    profile
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_agrees_with_a_decoder(
        seed in 0..4_u64,
        changes in prop::collection::vec(any::<(u16, u8)>(), 1..5),
    ) {
        let bytes = mutated(&small(seed).encode_to_vec(), &changes);
        match (check(&bytes), Profile::decode(bytes.as_slice())) {
            (Ok(checked), Ok(profile)) => {
                let naive = naive(&profile);
                for rule in naive.iter() {
                    prop_assert!(checked.broken.contains(rule), "{rule} missing: {}", checked.broken);
                }
                prop_assert_eq!(checked.samples, profile.sample.len() as u64);
                prop_assert_eq!(checked.time_nanos, profile.time_nanos);
                prop_assert_eq!(checked.duration_nanos, profile.duration_nanos);
                let values = profile.sample.iter().flat_map(|s| &s.value);
                prop_assert_eq!(checked.rows, values.filter(|v| **v != 0).count() as u64);
            }
            (Ok(checked), Err(_)) => prop_assert!(checked.broken.contains(Rule::InvalidUtf8)),
            (Err(_), decoded) => prop_assert!(decoded.is_err()),
        }
    }

    #[test]
    fn structured_damage_is_found_as_a_decoder_finds_it(
        seed in 0..4_u64,
        places in prop::collection::vec(any::<usize>(), 1..5),
    ) {
        let profile = damaged(seed, &places);
        let checked = checked(&profile);
        for rule in naive(&profile).iter() {
            prop_assert!(checked.broken.contains(rule), "{rule} missing: {}", checked.broken);
        }
    }
}

#[test]
fn keys_are_the_formats() {
    assert_eq!((STRING, len(1), int(9)), (0x32, 0x0a, 0x48));
}

#[test]
fn rules_have_distinct_public_names() {
    let mut names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Rule::ALL.len());
    let all: RuleSet = Rule::ALL.iter().copied().collect();
    assert_eq!(all.len(), Rule::ALL.len());
    assert!(all.to_string().starts_with("no_strings,no_sample_types,"));
    assert_eq!(all.fatal(), Some(Rule::NoStrings));
}
