//! What a pprof means, whatever its ids and the order of its tables: the ruler by
//! which conversions are measured.

use crate::r#gen::pprof::{Label, Location, Profile, Sample, ValueType};
use std::collections::BTreeMap;

/// What a pprof says, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) types: Vec<String>,
    pub(super) default_sample_type: String,
    pub(super) period: (String, i64),
    pub(super) time: i64,
    pub(super) duration: i64,
    pub(super) texts: Vec<String>,
    /// The values of each stack and its labels.
    pub(super) samples: BTreeMap<String, Vec<i64>>,
}

/// What a pprof whose tables are sound means.
pub(super) fn meaning(profile: &Profile) -> Meaning {
    let mut samples: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for sample in &profile.sample {
        let is_nothing = sample.location_id.is_empty() && sample.label.is_empty();
        if is_nothing && sample.value.iter().all(|value| *value == 0) {
            continue;
        }
        let sums = samples.entry(words(profile, sample)).or_default();
        sums.resize(sample.value.len(), 0);
        for (sum, value) in sums.iter_mut().zip(&sample.value) {
            *sum += value;
        }
    }
    let comments = profile.comment.iter();
    let others = [profile.drop_frames, profile.keep_frames, profile.doc_url];
    Meaning {
        types: profile
            .sample_type
            .iter()
            .map(|t| value_type(profile, t))
            .collect(),
        default_sample_type: text(profile, profile.default_sample_type),
        period: (
            profile
                .period_type
                .map(|t| value_type(profile, &t))
                .unwrap_or_default(),
            profile.period,
        ),
        time: profile.time_nanos,
        duration: profile.duration_nanos,
        texts: comments
            .chain(&others)
            .map(|index| text(profile, *index))
            .collect(),
        samples,
    }
}

pub(super) fn text(profile: &Profile, index: i64) -> String {
    profile.string_table[index as usize].clone()
}

pub(super) fn value_type(profile: &Profile, value_type: &ValueType) -> String {
    let [kind, unit] = [value_type.r#type, value_type.unit].map(|index| text(profile, index));
    format!("{kind}/{unit}")
}

fn words(profile: &Profile, sample: &Sample) -> String {
    let mut words = stack(profile, sample);
    let mut labels: Vec<String> = sample.label.iter().map(|l| label(profile, l)).collect();
    labels.sort();
    words.extend(labels);
    words.join("\n")
}

/// The frames of a sample, leaf first, without their mappings.
pub(super) fn frames(profile: &Profile, sample: &Sample) -> Vec<String> {
    let location = |id: &u64| &profile.location[*id as usize - 1];
    let frames = sample.location_id.iter();
    frames.map(|id| lines(profile, location(id))).collect()
}

fn stack(profile: &Profile, sample: &Sample) -> Vec<String> {
    let location = |id: &u64| &profile.location[*id as usize - 1];
    let frame = |id| {
        let location = location(id);
        let mapping = mapping(profile, location.mapping_id);
        let lines = lines(profile, location);
        format!("{lines}{mapping} folded={}", location.is_folded)
    };
    sample.location_id.iter().map(frame).collect()
}

/// Address and lines of a location.
fn lines(profile: &Profile, location: &Location) -> String {
    let mut words = format!("{:#x}", location.address);
    for line in &location.line {
        let f = profile.function[line.function_id as usize - 1];
        let texts = [f.name, f.system_name, f.filename].map(|index| text(profile, index));
        words += &format!(" {texts:?} {}: {}:{}", f.start_line, line.line, line.column);
    }
    words
}

pub(super) fn mapping(profile: &Profile, id: u64) -> String {
    let Some(place) = id.checked_sub(1) else {
        return String::new();
    };
    let m = profile.mapping[place as usize];
    let range = [m.memory_start, m.memory_limit, m.file_offset];
    let flags = [
        m.has_functions,
        m.has_filenames,
        m.has_line_numbers,
        m.has_inline_frames,
    ];
    let texts = [m.filename, m.build_id].map(|index| text(profile, index));
    format!(" in {texts:?} {range:?} {flags:?}")
}

pub(super) fn label(profile: &Profile, label: &Label) -> String {
    let texts = [label.key, label.str, label.num_unit].map(|index| text(profile, index));
    format!("{texts:?} {}", label.num)
}
