//! One pass over the inflated bytes of a pprof.
//!
//! Nothing is decoded: the walk keeps counts and extremes only, so that it does
//! not depend on the order of fields (the string table usually comes last) and
//! costs a few nanoseconds a sample. Types are looked up in the string table
//! afterwards; only a table with more than one empty string costs a second pass.

use super::{
    Rule, RuleSet, Unreadable, inflate,
    wire::{Damage, Wire, int, len},
};
use crate::r#gen::pprof;
use std::collections::HashSet;

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
        Err(damage) => Err(inflate::explain(inflated, inflated.len() - begin, damage)),
    }
}

/// The entries of the string table of a profile that was walked before.
pub(super) fn strings(inflated: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut wire = Wire(inflated);
    std::iter::from_fn(move || {
        while let Ok(Some(key)) = wire.key() {
            if key == STRING {
                return wire.bytes().ok();
            }
            wire.skip(key).ok()?;
        }
        None
    })
}

/// Whether `text` can be the type or the unit of a PromQL metric name.
pub(super) fn is_safe(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

// Keys of `Profile`.
const SAMPLE_TYPE: u32 = len(1);
const SAMPLE: u32 = len(2);
const MAPPING: u32 = len(3);
const LOCATION: u32 = len(4);
const FUNCTION: u32 = len(5);
/// A string of the table.
pub(super) const STRING: u32 = len(6);
const DROP_FRAMES: u32 = int(7);
const KEEP_FRAMES: u32 = int(8);
const TIME_NANOS: u32 = int(9);
const DURATION_NANOS: u32 = int(10);
const PERIOD_TYPE: u32 = len(11);
const PERIOD: u32 = int(12);
const COMMENT: u32 = int(13);
const COMMENTS: u32 = len(13);
const DEFAULT_SAMPLE_TYPE: u32 = int(14);
const DOC_URL: u32 = int(15);
const LAST: u32 = 15;

/// Counts and extremes. String indices and references are kept as unsigned
/// maxima: a negative index is above every table.
#[derive(Default)]
struct Walk<'a> {
    samples: u64,
    rows: u64,
    sample_types: Vec<ValueType>,
    period_type: Option<ValueType>,
    period: i64,
    time_nanos: i64,
    duration_nanos: i64,
    /// The bytes from the first string on.
    strings_at: Option<&'a [u8]>,
    strings: u64,
    /// An empty string besides the first.
    second_empty: bool,
    mappings: u64,
    locations: u64,
    functions: u64,
    lines: u64,
    labels: u64,
    max_string: u64,
    max_mapping: u64,
    max_location: u64,
    max_function: u64,
    fewest_values: Option<u64>,
    most_values: u64,
    ids: Ids,
    broken: RuleSet,
}

/// Which tables have ids that do not count up from 1.
#[derive(Default)]
struct Ids {
    mappings: bool,
    locations: bool,
    functions: bool,
}

/// The string indices of a type and a unit.
#[derive(Clone, Copy, Default)]
struct ValueType {
    kind: u64,
    unit: u64,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// Reads one field; `false` at the end.
    #[inline(always)]
    fn field(&mut self, wire: &mut Wire<'a>) -> Result<bool, Damage> {
        let before = wire.0;
        let Some(key) = wire.key()? else {
            return Ok(false);
        };
        match key {
            SAMPLE => self.sample(wire.bytes()?)?,
            LOCATION => self.location(wire.bytes()?)?,
            FUNCTION => self.function(wire.bytes()?)?,
            STRING => {
                self.strings_at.get_or_insert(before);
                self.string(wire.bytes()?);
            }
            MAPPING => self.mapping(wire.bytes()?)?,
            SAMPLE_TYPE => {
                let mut value_type = ValueType::default();
                self.value_type(wire.bytes()?, &mut value_type)?;
                self.sample_types.push(value_type);
            }
            PERIOD_TYPE => {
                // Given twice, messages merge.
                let mut value_type = self.period_type.unwrap_or_default();
                self.value_type(wire.bytes()?, &mut value_type)?;
                self.period_type = Some(value_type);
            }
            TIME_NANOS => self.time_nanos = wire.varint()? as i64,
            DURATION_NANOS => self.duration_nanos = wire.varint()? as i64,
            PERIOD => self.period = wire.varint()? as i64,
            DROP_FRAMES | KEEP_FRAMES | COMMENT | DEFAULT_SAMPLE_TYPE | DOC_URL => {
                wire.varint()?;
            }
            COMMENTS => {
                let mut packed = Wire(wire.bytes()?);
                while !packed.0.is_empty() {
                    packed.varint()?;
                }
            }
            _ => wire.other(key, LAST)?,
        }
        Ok(true)
    }

    fn sample(&mut self, message: &[u8]) -> Result<(), Damage> {
        const LOCATION_ID: u32 = int(1);
        const LOCATION_IDS: u32 = len(1);
        const VALUE: u32 = int(2);
        const VALUES: u32 = len(2);
        const LABEL: u32 = len(3);
        let mut wire = Wire(message);
        let (mut values, mut rows) = (0, 0);
        while let Some(key) = wire.key()? {
            match key {
                LOCATION_IDS => self.packed_locations(wire.bytes()?)?,
                LOCATION_ID => {
                    let place = wire.varint()?.wrapping_sub(1);
                    self.last_location(place);
                }
                VALUES => {
                    let mut packed = Wire(wire.bytes()?);
                    while !packed.0.is_empty() {
                        rows += u64::from(packed.varint()? != 0);
                        values += 1;
                    }
                }
                VALUE => {
                    rows += u64::from(wire.varint()? != 0);
                    values += 1;
                }
                LABEL => self.label(wire.bytes()?)?,
                _ => wire.other(key, LABEL >> 3)?,
            }
        }
        self.samples += 1;
        self.rows += rows;
        self.most_values = self.most_values.max(values);
        self.fewest_values = Some(self.fewest_values.map_or(values, |few| few.min(values)));
        Ok(())
    }

    /// Most bytes of many profiles are here.
    #[inline(always)]
    fn packed_locations(&mut self, packed: &[u8]) -> Result<(), Damage> {
        let mut wire = Wire(packed);
        let mut last = 0;
        while !wire.0.is_empty() {
            // Less one, 0 is above all others.
            last = last.max(wire.varint()?.wrapping_sub(1));
        }
        if !packed.is_empty() {
            self.last_location(last);
        }
        Ok(())
    }

    /// Records the place in the table that a sample's location id means.
    #[inline(always)]
    fn last_location(&mut self, place: u64) {
        self.broken
            .insert_if(Rule::LocationReference, place == u64::MAX);
        self.max_location = self.max_location.max(place.wrapping_add(1));
    }

    fn label(&mut self, message: &[u8]) -> Result<(), Damage> {
        const KEY: u32 = int(1);
        const STR: u32 = int(2);
        const NUM: u32 = int(3);
        const NUM_UNIT: u32 = int(4);
        let mut wire = Wire(message);
        let mut name = 0;
        while let Some(key) = wire.key()? {
            match key {
                KEY => name = self.index(&mut wire)?,
                STR | NUM_UNIT => _ = self.index(&mut wire)?,
                NUM => _ = wire.varint()?,
                _ => wire.other(key, NUM_UNIT >> 3)?,
            }
        }
        self.labels += 1;
        self.broken.insert_if(Rule::LabelWithoutKey, name == 0);
        Ok(())
    }

    fn mapping(&mut self, message: &[u8]) -> Result<(), Damage> {
        const ID: u32 = int(1);
        const START: u32 = int(2);
        const FILENAME: u32 = int(5);
        const BUILD_ID: u32 = int(6);
        const HAS_INLINE_FRAMES: u32 = int(10);
        let mut wire = Wire(message);
        let mut id = 0;
        while let Some(key) = wire.key()? {
            match key {
                ID => id = wire.varint()?,
                FILENAME | BUILD_ID => _ = self.index(&mut wire)?,
                START..=HAS_INLINE_FRAMES if key & 7 == 0 => _ = wire.varint()?,
                _ => wire.other(key, HAS_INLINE_FRAMES >> 3)?,
            }
        }
        self.mappings += 1;
        self.ids.mappings |= id != self.mappings;
        Ok(())
    }

    fn location(&mut self, message: &[u8]) -> Result<(), Damage> {
        const ID: u32 = int(1);
        const MAPPING_ID: u32 = int(2);
        const ADDRESS: u32 = int(3);
        const LINE: u32 = len(4);
        const IS_FOLDED: u32 = int(5);
        let mut wire = Wire(message);
        let (mut id, mut mapping) = (0, 0);
        while let Some(key) = wire.key()? {
            match key {
                ID => id = wire.varint()?,
                MAPPING_ID => mapping = wire.varint()?,
                ADDRESS | IS_FOLDED => _ = wire.varint()?,
                LINE => self.line(wire.bytes()?)?,
                _ => wire.other(key, IS_FOLDED >> 3)?,
            }
        }
        self.locations += 1;
        self.ids.locations |= id != self.locations;
        self.max_mapping = self.max_mapping.max(mapping);
        Ok(())
    }

    #[inline(always)]
    fn line(&mut self, message: &[u8]) -> Result<(), Damage> {
        const FUNCTION_ID: u32 = int(1);
        const LINE: u32 = int(2);
        const COLUMN: u32 = int(3);
        let mut wire = Wire(message);
        let mut function = 0;
        while let Some(key) = wire.key()? {
            match key {
                FUNCTION_ID => function = wire.varint()?,
                LINE | COLUMN => _ = wire.varint()?,
                _ => wire.other(key, COLUMN >> 3)?,
            }
        }
        self.lines += 1;
        self.max_function = self.max_function.max(function);
        self.broken
            .insert_if(Rule::LineWithoutFunction, function == 0);
        Ok(())
    }

    fn function(&mut self, message: &[u8]) -> Result<(), Damage> {
        let function = Function::read(message)?;
        let [name, system_name, filename] = function.texts;
        self.max_string = self.max_string.max(name).max(system_name).max(filename);
        self.functions += 1;
        self.ids.functions |= function.id != self.functions;
        let all = name | system_name | filename | function.start_line;
        self.broken.insert_if(Rule::EmptyFunction, all == 0);
        Ok(())
    }

    fn value_type(&mut self, message: &[u8], into: &mut ValueType) -> Result<(), Damage> {
        const TYPE: u32 = int(1);
        const UNIT: u32 = int(2);
        let mut wire = Wire(message);
        while let Some(key) = wire.key()? {
            match key {
                TYPE => into.kind = self.index(&mut wire)?,
                UNIT => into.unit = self.index(&mut wire)?,
                _ => wire.other(key, UNIT >> 3)?,
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn index(&mut self, wire: &mut Wire<'_>) -> Result<u64, Damage> {
        let index = wire.varint()?;
        self.max_string = self.max_string.max(index);
        Ok(index)
    }

    #[inline(always)]
    fn string(&mut self, string: &[u8]) {
        self.utf8(string);
        let first = self.strings == 0;
        self.broken
            .insert_if(Rule::FirstString, first && !string.is_empty());
        self.second_empty |= !first && string.is_empty();
        self.strings += 1;
    }

    #[inline(always)]
    fn utf8(&mut self, string: &[u8]) {
        if !string.is_ascii() && std::str::from_utf8(string).is_err() {
            self.broken.insert(Rule::InvalidUtf8);
        }
    }

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
        let size = |count: u64, one: usize| count.saturating_mul(one as u64);
        // Packed integers have a byte each at least; a decoded one has eight.
        size(inflated as u64, size_of::<u64>())
            .saturating_add(size(self.samples, size_of::<pprof::Sample>()))
            .saturating_add(size(self.labels, size_of::<pprof::Label>()))
            .saturating_add(size(self.mappings, size_of::<pprof::Mapping>()))
            .saturating_add(size(self.locations, size_of::<pprof::Location>()))
            .saturating_add(size(self.lines, size_of::<pprof::Line>()))
            .saturating_add(size(self.functions, size_of::<pprof::Function>()))
            .saturating_add(size(self.strings, size_of::<String>()))
    }

    /// Judges the names of types; whether one of them is `samples/count`.
    fn types(&mut self) -> bool {
        let types = self.sample_types.iter().chain(&self.period_type);
        let wanted: Vec<u64> = types.flat_map(|t| [t.kind, t.unit]).collect();
        let last = wanted.iter().copied().filter(|i| *i < self.strings).max();
        let mut found: Vec<&[u8]> = vec![b""; wanted.len()];
        for (index, string) in strings(self.strings_at.unwrap_or_default()).enumerate() {
            let index = index as u64;
            if Some(index) > last {
                break;
            }
            for (place, wanted) in wanted.iter().enumerate() {
                if *wanted == index {
                    found[place] = string;
                }
            }
        }
        let empty = found.iter().any(|text| text.is_empty());
        let unsafe_name = !found.iter().all(|text| is_safe(text));
        self.broken.insert_if(Rule::EmptyTypeName, empty);
        self.broken.insert_if(Rule::UnsafeTypeName, unsafe_name);
        found
            .chunks_exact(2)
            .take(self.sample_types.len())
            .any(|pair| pair == [b"samples".as_slice(), b"count"])
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

/// What of a function matters.
struct Function {
    id: u64,
    /// Name, system name, file.
    texts: [u64; 3],
    start_line: u64,
}

impl Function {
    #[inline(always)]
    fn read(message: &[u8]) -> Result<Self, Damage> {
        const ID: u32 = int(1);
        const NAME: u32 = int(2);
        const SYSTEM_NAME: u32 = int(3);
        const FILENAME: u32 = int(4);
        const START_LINE: u32 = int(5);
        let mut wire = Wire(message);
        let (mut id, mut texts, mut start_line) = (0, [0; 3], 0);
        while let Some(key) = wire.key()? {
            match key {
                ID => id = wire.varint()?,
                NAME => texts[0] = wire.varint()?,
                SYSTEM_NAME => texts[1] = wire.varint()?,
                FILENAME => texts[2] = wire.varint()?,
                START_LINE => start_line = wire.varint()?,
                _ => wire.other(key, START_LINE >> 3)?,
            }
        }
        Ok(Self {
            id,
            texts,
            start_line,
        })
    }
}

/// Whether a label of the sample has one of the keys `names`.
fn has_label_of(sample: &[u8], names: &HashSet<u64>) -> Result<bool, Damage> {
    let mut wire = Wire(sample);
    let mut found = false;
    while let Some(key) = wire.key()? {
        if key != len(3) {
            wire.skip(key)?;
            continue;
        }
        let mut label = Wire(wire.bytes()?);
        let mut name = 0;
        while let Some(key) = label.key()? {
            match key == int(1) {
                true => name = label.varint()?,
                false => label.skip(key)?,
            }
        }
        found |= names.contains(&name);
    }
    Ok(found)
}
