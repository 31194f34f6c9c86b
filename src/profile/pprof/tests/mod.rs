//! Tests of the pprof codec, by module; what they share is here.

mod check;
mod fixtures;
mod inflate;
mod repair;
mod split;
mod summary;
mod write;

use super::{SyntheticProfile, inflate as inflate_body};
use crate::r#gen::pprof::{Label, Profile, Sample};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;

/// A small healthy profile with string and numeric labels.
fn small(seed: u64) -> Profile {
    let synthetic = SyntheticProfile {
        samples: 12,
        functions: 20,
        depth: 4,
        labels: vec![("tenant".into(), 3), ("route".into(), 2)],
        ..SyntheticProfile::heap(seed)
    };
    Profile::decode(synthetic.encode_plain().as_slice()).unwrap()
}

fn decoded(gzip: &Bytes) -> Profile {
    let inflated = inflate_body(gzip, u64::MAX).unwrap();
    Profile::decode(inflated).unwrap()
}

fn text(profile: &Profile, index: i64) -> String {
    profile.string_table[index as usize].clone()
}

/// Appends a string and returns its index.
fn add(profile: &mut Profile, text: &str) -> i64 {
    profile.string_table.push(text.to_owned());
    profile.string_table.len() as i64 - 1
}

/// A stack in words, and its labels: what ids and indices stand for.
fn stack(profile: &Profile, sample: &Sample) -> String {
    let mut words = Vec::new();
    for id in &sample.location_id {
        let location = profile.location.iter().find(|l| l.id == *id).unwrap();
        let mapping = profile.mapping.iter().find(|m| m.id == location.mapping_id);
        let mapping = mapping.map(|m| text(profile, m.filename));
        words.push(format!("{mapping:?} {:x}", location.address));
        for line in &location.line {
            let function = profile
                .function
                .iter()
                .find(|f| f.id == line.function_id)
                .unwrap();
            let texts = [function.name, function.system_name, function.filename];
            let texts = texts.map(|index| text(profile, index));
            words.push(format!("{texts:?}:{} {}", line.line, function.start_line));
        }
    }
    for label in &sample.label {
        words.push(label_words(profile, label));
    }
    words.join("\n")
}

fn label_words(profile: &Profile, label: &Label) -> String {
    let texts = [label.key, label.str, label.num_unit].map(|index| text(profile, index));
    format!("{texts:?} {}", label.num)
}

/// The values of all profiles by stack.
fn sums<'p>(profiles: impl IntoIterator<Item = &'p Profile>) -> BTreeMap<String, Vec<i64>> {
    let mut sums: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for profile in profiles {
        for sample in &profile.sample {
            let sum = sums.entry(stack(profile, sample)).or_default();
            sum.resize(sample.value.len(), 0);
            sum.iter_mut()
                .zip(&sample.value)
                .for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}
