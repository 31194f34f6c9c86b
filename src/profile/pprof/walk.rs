//! One walk over the inflated bytes of a pprof.
//!
//! Nothing is decoded: the walk keeps counts and extremes only, so that it does
//! not depend on the order of fields (the string table usually comes last) and
//! costs a few nanoseconds a sample.

use super::{
    Rule, RuleSet,
    wire::{Damage, Wire, int, len},
};
use std::collections::HashSet;

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

// Keys of `Profile`.
const SAMPLE_TYPE: u32 = len(1);
pub(super) const SAMPLE: u32 = len(2);
const MAPPING: u32 = len(3);
const LOCATION: u32 = len(4);
pub(super) const FUNCTION: u32 = len(5);
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
pub(super) struct Walk<'a> {
    pub(super) samples: u64,
    pub(super) rows: u64,
    pub(super) sample_types: Vec<ValueType>,
    pub(super) period_type: Option<ValueType>,
    pub(super) period: i64,
    pub(super) time_nanos: i64,
    pub(super) duration_nanos: i64,
    /// The bytes from the first string on.
    pub(super) strings_at: Option<&'a [u8]>,
    pub(super) strings: u64,
    /// Bytes of all strings.
    pub(super) string_bytes: u64,
    /// An empty string besides the first.
    pub(super) second_empty: bool,
    pub(super) mappings: u64,
    pub(super) locations: u64,
    pub(super) functions: u64,
    pub(super) lines: u64,
    pub(super) labels: u64,
    pub(super) max_string: u64,
    pub(super) max_mapping: u64,
    pub(super) max_location: u64,
    pub(super) max_function: u64,
    pub(super) fewest_values: Option<u64>,
    pub(super) most_values: u64,
    pub(super) ids: Ids,
    pub(super) broken: RuleSet,
}

/// Which tables have ids that do not count up from 1.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) mappings: bool,
    pub(super) locations: bool,
    pub(super) functions: bool,
}

/// The string indices of a type and a unit.
#[derive(Clone, Copy, Default)]
pub(super) struct ValueType {
    pub(super) kind: u64,
    pub(super) unit: u64,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// Reads one field; `false` at the end.
    #[inline(always)]
    pub(super) fn field(&mut self, wire: &mut Wire<'a>) -> Result<bool, Damage> {
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
        self.string_bytes += string.len() as u64;
    }

    #[inline(always)]
    fn utf8(&mut self, string: &[u8]) {
        if !string.is_ascii() && std::str::from_utf8(string).is_err() {
            self.broken.insert(Rule::InvalidUtf8);
        }
    }
}

/// What of a function matters.
pub(super) struct Function {
    pub(super) id: u64,
    /// Name, system name, file.
    pub(super) texts: [u64; 3],
    pub(super) start_line: u64,
}

impl Function {
    #[inline(always)]
    pub(super) fn read(message: &[u8]) -> Result<Self, Damage> {
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
pub(super) fn has_label_of(sample: &[u8], names: &HashSet<u64>) -> Result<bool, Damage> {
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
