//! Mends what can be mended of a pprof that breaks a rule.
//!
//! Only here is a profile decoded for the sake of its health, so a healthy one
//! never pays. The result is checked again: what leaves breaks no rule, whatever
//! came in. Decoding and encoding anew loses fields that this version of the
//! format does not know; that is the price of a repair.

use super::{
    Checked, Rule, RuleSet,
    check::{check, is_safe},
    decode::decode,
    inflate::compress,
};
use crate::r#gen::pprof::{Function, Location, Mapping, Profile, Sample, ValueType};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// A mended pprof.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The pprof, gzip level 1.
    pub bytes: Bytes,
    /// What was mended.
    pub applied: RuleSet,
    /// What a check of the result found; it breaks no rule.
    pub checked: Checked,
}

/// What a function without any text is called.
const UNKNOWN_FUNCTION: &str = "[unknown]";
const UNKNOWN_TYPE: &str = "unknown";
const UNKNOWN_UNIT: &str = "count";

/// Mends an inflated pprof that breaks the rules `broken`; `received` stands in
/// for a missing time. The error is the rule that forces to drop it.
///
/// The profile is decoded and encoded anew: unknown fields are lost.
pub fn repair(inflated: &[u8], broken: RuleSet, received: SystemTime) -> Result<Repaired, Rule> {
    if let Some(rule) = broken.fatal() {
        return Err(rule);
    }
    // Bytes that were checked can be decoded.
    let (mut profile, mut applied) = decode(inflated).map_err(|_| Rule::NoStrings)?;
    mend_types(&mut profile, &mut applied);
    mend_times(&mut profile, received, &mut applied);
    let encoded = profile.encode_to_vec();
    match check(&encoded) {
        Err(_) => Err(Rule::NoStrings),
        Ok(checked) => match checked.broken.iter().next() {
            Some(rule) => Err(rule),
            None => Ok(Repaired {
                bytes: compress(&encoded),
                applied,
                checked,
            }),
        },
    }
}

/// Mends strings, ids, references, samples: afterwards each id is a place in a
/// table, counted from 1, and each string index is within the table.
pub(super) fn mend_tables(profile: &mut Profile, applied: &mut RuleSet) {
    match profile.string_table.first_mut() {
        Some(first) if first.is_empty() => {}
        Some(first) => {
            first.clear();
            applied.insert(Rule::FirstString);
        }
        None => profile.string_table.push(String::new()),
    }
    let mut strings = Strings {
        table: &mut profile.string_table,
        applied,
        added: HashMap::new(),
    };
    strings.mend_types(
        profile
            .sample_type
            .iter_mut()
            .chain(&mut profile.period_type),
    );
    strings.mend_mappings(&mut profile.mapping);
    strings.mend_functions(&mut profile.function);
    strings.mend_labels(&mut profile.sample);

    let mappings = Ids::renumber(profile.mapping.iter_mut().map(|m| &mut m.id), applied);
    let functions = Ids::renumber(profile.function.iter_mut().map(|f| &mut f.id), applied);
    let locations = Ids::renumber(profile.location.iter_mut().map(|l| &mut l.id), applied);
    for location in &mut profile.location {
        mend_location(location, &mappings, &functions, applied);
    }
    let types = profile.sample_type.len();
    profile.sample.retain_mut(|sample| {
        let stack = sample.location_id.len();
        sample.location_id.retain_mut(|id| locations.apply(id));
        applied.insert_if(Rule::LocationReference, sample.location_id.len() < stack);
        let complete = sample.value.len() == types;
        applied.insert_if(Rule::ValueCount, !complete);
        complete
    });
}

fn mend_location(location: &mut Location, mappings: &Ids, functions: &Ids, applied: &mut RuleSet) {
    if location.mapping_id != 0 && !mappings.apply(&mut location.mapping_id) {
        location.mapping_id = 0;
        applied.insert(Rule::MappingReference);
    }
    location.line.retain_mut(|line| {
        let none = line.function_id == 0;
        let known = !none && functions.apply(&mut line.function_id);
        applied.insert_if(Rule::LineWithoutFunction, none);
        applied.insert_if(Rule::FunctionReference, !none && !known);
        known
    });
}

/// Gives every type a name that can be queried.
fn mend_types(profile: &mut Profile, applied: &mut RuleSet) {
    let default = default_sample_type(profile);
    let mut strings = Strings {
        table: &mut profile.string_table,
        applied,
        added: HashMap::new(),
    };
    let default = default.unwrap_or_default();
    let period_type = profile.period_type.get_or_insert_with(|| {
        strings.applied.insert(Rule::NoPeriodType);
        default
    });
    if strings.is_empty(period_type.r#type) && strings.is_empty(period_type.unit) {
        strings.applied.insert(Rule::EmptyTypeName);
        *period_type = default;
    }
    for value_type in profile.sample_type.iter_mut().chain([period_type]) {
        strings.mend_name(&mut value_type.r#type, UNKNOWN_TYPE);
        strings.mend_name(&mut value_type.unit, UNKNOWN_UNIT);
    }
}

/// The sample type that is the profile's preferred one, else the first.
fn default_sample_type(profile: &Profile) -> Option<ValueType> {
    let types = &profile.sample_type;
    types
        .iter()
        .find(|t| t.r#type != 0 && t.r#type == profile.default_sample_type)
        .or(types.first())
        .copied()
}

fn mend_times(profile: &mut Profile, received: SystemTime, applied: &mut RuleSet) {
    if profile.time_nanos <= 0 {
        applied.insert_if(Rule::ZeroTime, profile.time_nanos == 0);
        applied.insert_if(Rule::NegativeTime, profile.time_nanos < 0);
        profile.time_nanos = unix_nanos(received).max(1);
    }
    if profile.duration_nanos < 0 {
        applied.insert(Rule::NegativeDuration);
        profile.duration_nanos = 0;
    }
}

fn safe_name(name: &str) -> String {
    let safe = |c: char| match c.is_ascii_alphanumeric() {
        true => c,
        false => '_',
    };
    name.chars().map(safe).collect()
}

/// Nanoseconds since the epoch; 0 before it.
pub(super) fn unix_nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A string table and what was mended about it.
struct Strings<'a> {
    table: &'a mut Vec<String>,
    applied: &'a mut RuleSet,
    /// What was added.
    added: HashMap<String, i64>,
}

/// From the ids that a table had to its places, counted from 1.
enum Ids {
    /// They count up from 1 to this.
    Sequential(u64),
    /// They do not.
    Other(HashMap<u64, u64>),
}

// === impl Strings ===

impl Strings<'_> {
    fn mend_types<'t>(&mut self, types: impl Iterator<Item = &'t mut ValueType>) {
        for value_type in types {
            self.mend_index(&mut value_type.r#type);
            self.mend_index(&mut value_type.unit);
        }
    }

    fn mend_mappings(&mut self, mappings: &mut [Mapping]) {
        for mapping in mappings {
            self.mend_index(&mut mapping.filename);
            self.mend_index(&mut mapping.build_id);
        }
    }

    fn mend_functions(&mut self, functions: &mut [Function]) {
        for function in functions {
            self.mend_index(&mut function.name);
            self.mend_index(&mut function.system_name);
            self.mend_index(&mut function.filename);
            let texts = [function.name, function.system_name, function.filename];
            if function.start_line == 0 && texts.iter().all(|index| self.is_empty(*index)) {
                self.applied.insert(Rule::EmptyFunction);
                function.name = self.intern(UNKNOWN_FUNCTION);
            }
        }
    }

    fn mend_labels(&mut self, samples: &mut [Sample]) {
        for sample in samples {
            sample.label.retain_mut(|label| {
                self.mend_index(&mut label.key);
                self.mend_index(&mut label.str);
                self.mend_index(&mut label.num_unit);
                let keyless = self.is_empty(label.key);
                self.applied.insert_if(Rule::LabelWithoutKey, keyless);
                !keyless
            });
        }
    }

    /// An index outside the table becomes that of the empty string.
    fn mend_index(&mut self, index: &mut i64) {
        let inside = usize::try_from(*index).is_ok_and(|i| i < self.table.len());
        if !inside {
            *index = 0;
            self.applied.insert(Rule::StringIndex);
        }
    }

    /// Makes the type or unit at `index` one that PromQL takes.
    fn mend_name(&mut self, index: &mut i64, otherwise: &str) {
        let (rule, name) = match self.get(*index) {
            "" => (Rule::EmptyTypeName, otherwise.to_owned()),
            name if is_safe(name.as_bytes()) => return,
            name => (Rule::UnsafeTypeName, safe_name(name)),
        };
        self.applied.insert(rule);
        *index = self.intern(&name);
    }

    fn get(&self, index: i64) -> &str {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        self.table.get(place).map_or("", String::as_str)
    }

    fn is_empty(&self, index: i64) -> bool {
        self.get(index).is_empty()
    }

    fn intern(&mut self, text: &str) -> i64 {
        if let Some(index) = self.added.get(text) {
            return *index;
        }
        let index = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.added.insert(text.to_owned(), index);
        index
    }
}

// === impl Ids ===

impl Ids {
    /// Makes the ids of a table count up from 1. Of equal ids the first counts.
    fn renumber<'i>(ids: impl Iterator<Item = &'i mut u64>, applied: &mut RuleSet) -> Self {
        let mut renumbered = Self::Sequential(0);
        for (place, id) in (1..).zip(ids) {
            renumbered = match renumbered {
                Self::Sequential(_) if *id == place => Self::Sequential(place),
                Self::Sequential(count) => Self::Other((1..=count).map(|i| (i, i)).collect()),
                other => other,
            };
            if let Self::Other(places) = &mut renumbered {
                places.entry(*id).or_insert(place);
                *id = place;
            }
        }
        applied.insert_if(Rule::Ids, matches!(renumbered, Self::Other(_)));
        renumbered
    }

    /// Makes of a reference by id one by place; whether there is such a thing.
    fn apply(&self, id: &mut u64) -> bool {
        match self {
            Self::Sequential(count) => (1..=*count).contains(id),
            Self::Other(places) => match places.get(id) {
                Some(place) if *id != 0 => {
                    *id = *place;
                    true
                }
                _ => false,
            },
        }
    }
}
