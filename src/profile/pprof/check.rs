//! Whether a store bears a pprof, judged from one walk over its inflated bytes.

use super::{
    Rule, RuleSet, Unreadable,
    unreadable::explain,
    walk::{FUNCTION, Function, SAMPLE, Walk, has_label_of, strings},
    wire::{Damage, LIST_FIRST, LIST_GROWTH, Wire},
};
use crate::r#gen::pprof;
use std::collections::{HashMap, HashSet};

/// What one pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The inflated size, in bytes.
    pub inflated: u64,
    /// About what repairing, splitting or summarising takes in memory, in bytes:
    /// to be charged before. Small messages decode to many times their size.
    pub decoded: u64,
    /// Samples.
    pub samples: u64,
    /// Values that are not zero: what a store keeps a row for.
    pub rows: u64,
    /// The number of sample types.
    pub sample_types: u32,
    /// Start of collection, nanoseconds since the epoch; 0 when absent.
    pub time_nanos: i64,
    /// Length of collection, nanoseconds; not 0 means a delta profile.
    pub duration_nanos: i64,
    /// Events between samples; 0 when absent.
    pub period: i64,
    /// Sample type `samples/count` without a period: Parca shows value times
    /// period, so this reads as 0 there. No rule; worth a word to the user.
    pub reads_as_zero: bool,
    /// The rules it breaks; empty means it may pass unchanged.
    pub broken: RuleSet,
}

/// Checks an inflated pprof in one pass, without decoding it.
pub fn check(inflated: &[u8]) -> Result<Checked, Unreadable> {
    if inflated.is_empty() {
        return Err(Unreadable::Empty);
    }
    let mut walk = Walk::default();
    let mut wire = Wire(inflated);
    let mut begin = inflated.len();
    let walked = loop {
        match walk.field(&mut wire) {
            Ok(true) => begin = wire.0.len(),
            Ok(false) => break Ok(()),
            Err(damage) => break Err(damage),
        }
    };
    match walked.and_then(|()| walk.finish(inflated)) {
        Ok(checked) => Ok(checked),
        Err(damage) => Err(explain(inflated, inflated.len() - begin, damage)),
    }
}

/// Whether `text` can be the type or the unit of a PromQL metric name.
pub(super) fn is_safe(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// Judges what the walk recorded.
    fn finish(mut self, inflated: &'a [u8]) -> Result<Checked, Damage> {
        let reads_as_zero = self.types() && self.period == 0;
        if self.second_empty {
            self.empty_names(inflated)?;
        }
        let types = self.sample_types.len() as u64;
        let ids = &self.ids;
        let values_differ = self.most_values != types || self.fewest_values != Some(types);
        for (rule, broken) in [
            (Rule::NoStrings, self.strings == 0),
            (Rule::NoSampleTypes, self.samples > 0 && types == 0),
            (Rule::ValueCount, self.samples > 0 && values_differ),
            (
                Rule::StringIndex,
                self.max_string > 0 && self.max_string >= self.strings,
            ),
            (Rule::Ids, ids.mappings || ids.locations || ids.functions),
            // With other ids than 1, 2, … only a decoder can tell.
            (
                Rule::MappingReference,
                !ids.mappings && self.max_mapping > self.mappings,
            ),
            (
                Rule::FunctionReference,
                !ids.functions && self.max_function > self.functions,
            ),
            (
                Rule::LocationReference,
                !ids.locations && self.max_location > self.locations,
            ),
            (Rule::NoPeriodType, self.period_type.is_none()),
            (Rule::ZeroTime, self.time_nanos == 0),
            (Rule::NegativeTime, self.time_nanos < 0),
            (Rule::NegativeDuration, self.duration_nanos < 0),
        ] {
            self.broken.insert_if(rule, broken);
        }
        Ok(Checked {
            inflated: inflated.len() as u64,
            decoded: self.decoded(inflated.len()),
            samples: self.samples,
            rows: self.rows,
            sample_types: u32::try_from(types).unwrap_or(u32::MAX),
            time_nanos: self.time_nanos,
            duration_nanos: self.duration_nanos,
            period: self.period,
            reads_as_zero,
            broken: self.broken,
        })
    }

    fn decoded(&self, inflated: usize) -> u64 {
        let size = |count: u64, room: u64, one: usize| count.saturating_mul(room * one as u64);
        // Of messages within messages each may have just begun its list.
        let nested = LIST_FIRST.max(LIST_GROWTH);
        // Packed integers have a byte each at least; a decoded one has eight.
        let integers = (inflated as u64).saturating_sub(self.string_bytes);
        // A byte that is no UTF-8 becomes three, first in a copy of all.
        let text = match self.broken.contains(Rule::InvalidUtf8) {
            true => size(self.string_bytes, 2, 8).saturating_add(2 * integers),
            false => self.string_bytes,
        };
        size(integers, LIST_GROWTH, size_of::<u64>())
            .saturating_add(text)
            .saturating_add(size(self.samples, LIST_GROWTH, size_of::<pprof::Sample>()))
            .saturating_add(size(self.labels, nested, size_of::<pprof::Label>()))
            .saturating_add(size(
                self.mappings,
                LIST_GROWTH,
                size_of::<pprof::Mapping>(),
            ))
            .saturating_add(size(
                self.locations,
                LIST_GROWTH,
                size_of::<pprof::Location>(),
            ))
            .saturating_add(size(self.lines, nested, size_of::<pprof::Line>()))
            .saturating_add(size(
                self.functions,
                LIST_GROWTH,
                size_of::<pprof::Function>(),
            ))
            .saturating_add(size(self.strings, LIST_GROWTH, size_of::<String>()))
    }

    /// Judges the names of types; whether one of them is `samples/count`.
    fn types(&mut self) -> bool {
        let types = self.sample_types.iter().chain(&self.period_type);
        let mut wanted: Vec<u64> = types.flat_map(|t| [t.kind, t.unit]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        // Both in order: as many sample types as strings must not cost their product.
        let mut names: HashMap<u64, &[u8]> = HashMap::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        let table = strings(self.strings_at.unwrap_or_default());
        for (index, string) in (0..).zip(table) {
            if wanted.next_if_eq(&index).is_some() {
                names.insert(index, string);
            }
            if wanted.peek().is_none() {
                break;
            }
        }
        let name = |index: u64| names.get(&index).copied().unwrap_or_default();
        let types = self.sample_types.iter().chain(&self.period_type);
        for text in types.flat_map(|t| [name(t.kind), name(t.unit)]) {
            self.broken.insert_if(Rule::EmptyTypeName, text.is_empty());
            self.broken.insert_if(Rule::UnsafeTypeName, !is_safe(text));
        }
        let mut types = self.sample_types.iter();
        types.any(|t| name(t.kind) == b"samples" && name(t.unit) == b"count")
    }

    /// With several empty strings an index other than 0 may mean nothing, too.
    #[cold]
    fn empty_names(&mut self, inflated: &[u8]) -> Result<(), Damage> {
        let empty: HashSet<u64> = strings(inflated)
            .zip(0..)
            .filter(|(string, _)| string.is_empty())
            .map(|(_, index)| index)
            .collect();
        let mut wire = Wire(inflated);
        while let Some(key) = wire.key()? {
            match key {
                FUNCTION => {
                    let function = Function::read(wire.bytes()?)?;
                    let nothing = function.start_line == 0
                        && function.texts.iter().all(|text| empty.contains(text));
                    self.broken.insert_if(Rule::EmptyFunction, nothing);
                }
                SAMPLE => {
                    let nothing = has_label_of(wire.bytes()?, &empty)?;
                    self.broken.insert_if(Rule::LabelWithoutKey, nothing);
                }
                _ => wire.skip(key)?,
            }
        }
        Ok(())
    }
}
