//! What is in a pprof, for people.

use super::{Unreadable, decode::decode};
use crate::r#gen::pprof::{Location, Profile, ValueType};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The most sample types and comments that are told: a few bytes name thousands.
const MOST: usize = 64;

/// The longest text that is told of each, in bytes.
const LONGEST: usize = 1 << 10;

/// What is in a pprof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Sample types with their totals, in the profile's order; the first 64.
    pub sample_types: Vec<SampleTypeTotal>,
    /// Samples.
    pub samples: u64,
    /// Locations.
    pub locations: u64,
    /// Functions.
    pub functions: u64,
    /// Mappings.
    pub mappings: u64,
    /// Start of collection, nanoseconds since the epoch; 0 when absent.
    pub time_nanos: i64,
    /// Length of collection, nanoseconds.
    pub duration_nanos: i64,
    /// Whether Parca takes it for a delta profile: the duration is not 0.
    pub is_delta: bool,
    /// The period's type, `type/unit`; `None` when absent.
    pub period_type: Option<String>,
    /// Events between samples.
    pub period: i64,
    /// The preferred sample type; `None` when absent.
    pub default_sample_type: Option<String>,
    /// Keys of the samples' string labels, by name.
    pub label_keys: Vec<LabelKey>,
    /// Comments; the first 64.
    pub comments: Vec<String>,
}

/// A sample type and the sum of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SampleTypeTotal {
    /// What is counted: `alloc_space`.
    pub r#type: String,
    /// In what: `bytes`.
    pub unit: String,
    /// The sum over all samples.
    pub total: i64,
}

/// A key of string labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LabelKey {
    /// The key.
    pub key: String,
    /// The number of distinct values.
    pub values: u64,
}

/// A function's own share of a sample type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlatValue {
    /// The function's name, or the address of a frame without one.
    pub function: String,
    /// The sum over the samples whose innermost frame it is.
    pub flat: i64,
}

/// Summarises an inflated pprof.
///
/// Of a broken one it tells what is left once its tables are mended; types and
/// times are told as they are. Texts are cut off after 1 KiB.
pub fn summarize(inflated: &[u8]) -> Result<Summary, Unreadable> {
    let (profile, _) = decode(inflated)?;
    let text = |index| clipped(&profile, index);
    let named = |index| Some(text(index)).filter(|name| !name.is_empty());
    let mut sample_types: Vec<SampleTypeTotal> = profile
        .sample_type
        .iter()
        .take(MOST)
        .map(|t| SampleTypeTotal {
            r#type: text(t.r#type),
            unit: text(t.unit),
            total: 0,
        })
        .collect();
    for sample in &profile.sample {
        for (total, value) in sample_types.iter_mut().zip(&sample.value) {
            total.total = total.total.saturating_add(*value);
        }
    }
    Ok(Summary {
        sample_types,
        samples: profile.sample.len() as u64,
        locations: profile.location.len() as u64,
        functions: profile.function.len() as u64,
        mappings: profile.mapping.len() as u64,
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        is_delta: profile.duration_nanos != 0,
        period_type: profile
            .period_type
            .map(|ValueType { r#type, unit }| format!("{}/{}", text(r#type), text(unit))),
        period: profile.period,
        default_sample_type: named(profile.default_sample_type),
        label_keys: label_keys(&profile),
        comments: profile
            .comment
            .iter()
            .take(MOST)
            .map(|c| text(*c))
            .collect(),
    })
}

/// The `n` functions with the largest flat values of an inflated pprof, largest
/// first, for the sample type named `sample_type`; without one, or when there is
/// none of that name, for the default or last sample type as `go tool pprof`
/// does.
pub fn top(
    inflated: &[u8],
    sample_type: Option<&str>,
    n: usize,
) -> Result<Vec<FlatValue>, Unreadable> {
    let (profile, _) = decode(inflated)?;
    let Some(place) = sample_type_place(&profile, sample_type) else {
        return Ok(Vec::new());
    };
    let mut by_location: HashMap<u64, i64> = HashMap::new();
    for sample in &profile.sample {
        let leaf = sample.location_id.first().copied().unwrap_or_default();
        let flat = by_location.entry(leaf).or_default();
        *flat = flat.saturating_add(sample.value[place]);
    }
    let mut by_function: HashMap<String, i64> = HashMap::new();
    for (location, value) in by_location {
        let location = profile.location.get((location as usize).wrapping_sub(1));
        let flat = by_function.entry(frame(&profile, location)).or_default();
        *flat = flat.saturating_add(value);
    }
    let mut top: Vec<FlatValue> = by_function
        .into_iter()
        .filter(|(_, flat)| *flat != 0)
        .map(|(function, flat)| FlatValue { function, flat })
        .collect();
    top.sort_by(|a, b| b.flat.cmp(&a.flat).then(a.function.cmp(&b.function)));
    top.truncate(n);
    Ok(top)
}

fn label_keys(profile: &Profile) -> Vec<LabelKey> {
    let mut keys: BTreeMap<String, HashSet<i64>> = BTreeMap::new();
    let mut names: HashMap<i64, HashSet<i64>> = HashMap::new();
    for label in profile.sample.iter().flat_map(|sample| &sample.label) {
        if label.str != 0 {
            names.entry(label.key).or_default().insert(label.str);
        }
    }
    for (key, values) in names {
        keys.entry(text(profile, key)).or_default().extend(values);
    }
    keys.into_iter()
        .map(|(key, values)| LabelKey {
            key,
            values: values.len() as u64,
        })
        .collect()
}

fn sample_type_place(profile: &Profile, name: Option<&str>) -> Option<usize> {
    let types = &profile.sample_type;
    let default = text(profile, profile.default_sample_type);
    let called = |name: &str| types.iter().position(|t| text(profile, t.r#type) == name);
    name.and_then(called)
        .or_else(|| called(&default).filter(|_| !default.is_empty()))
        .or(types.len().checked_sub(1))
}

/// What a location's innermost frame is called.
fn frame(profile: &Profile, location: Option<&Location>) -> String {
    let Some(location) = location else {
        return "(no stack)".to_owned();
    };
    let function = location.line.first().and_then(|line| {
        let place = (line.function_id as usize).wrapping_sub(1);
        profile.function.get(place)
    });
    let names = function.map(|f| [f.name, f.system_name, f.filename]);
    names
        .into_iter()
        .flatten()
        .map(|index| text(profile, index))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("{:#x}", location.address))
}

/// The beginning of a text.
fn clipped(profile: &Profile, index: i64) -> String {
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    let text = profile.string_table.get(place);
    let text = text.map(String::as_str).unwrap_or_default();
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

fn text(profile: &Profile, index: i64) -> String {
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    profile.string_table.get(place).cloned().unwrap_or_default()
}
