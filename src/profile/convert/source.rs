//! A pprof laid out by its tables: what is needed of it is read in place, and
//! samples are left as bytes.
//!
//! It must have been checked: ids count up from 1. What is not as it should be
//! reads as absent.

use crate::{
    r#gen::pprof::{Function, Mapping, ValueType},
    profile::{
        pprof::Unreadable,
        wire::{Wire, int, len},
    },
};
use prost::Message;

/// A pprof by its tables.
#[derive(Debug, Default)]
pub(super) struct Source<'a> {
    pub(super) sample_types: Vec<ValueType>,
    pub(super) period_type: Option<ValueType>,
    pub(super) period: i64,
    pub(super) time_nanos: i64,
    pub(super) duration_nanos: i64,
    pub(super) drop_frames: i64,
    pub(super) keep_frames: i64,
    pub(super) default_sample_type: i64,
    pub(super) doc_url: i64,
    pub(super) comments: Vec<i64>,
    pub(super) strings: Vec<&'a [u8]>,
    pub(super) mappings: Vec<Mapping>,
    pub(super) functions: Vec<Function>,
    pub(super) locations: Vec<Location<'a>>,
    /// Encoded.
    pub(super) samples: Vec<&'a [u8]>,
}

/// A location whose lines are left as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Location<'a> {
    pub(super) mapping: u64,
    pub(super) address: u64,
    pub(super) is_folded: bool,
    message: &'a [u8],
}

/// One part of a sample.
pub(super) enum Part<'a> {
    /// The id of a location.
    Location(u64),
    /// A value.
    Value(i64),
    /// A label, encoded.
    Label(&'a [u8]),
}

// === impl Source ===

impl<'a> Source<'a> {
    /// Reads an inflated pprof.
    pub(super) fn read(inflated: &'a [u8]) -> Result<Self, Unreadable> {
        let mut source = Self::default();
        let mut wire = Wire(inflated);
        while let Some(key) = wire.key().map_err(undecodable)? {
            source.field(key, &mut wire)?;
        }
        Ok(source)
    }

    /// A string of the table.
    pub(super) fn text(&self, index: i64) -> &'a [u8] {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        self.strings.get(place).copied().unwrap_or_default()
    }

    #[inline]
    fn field(&mut self, key: u32, wire: &mut Wire<'a>) -> Result<(), Unreadable> {
        const SAMPLE_TYPE: u32 = len(1);
        const SAMPLE: u32 = len(2);
        const MAPPING: u32 = len(3);
        const LOCATION: u32 = len(4);
        const FUNCTION: u32 = len(5);
        const STRING: u32 = len(6);
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
        match key {
            SAMPLE => self.samples.push(bytes(wire)?),
            LOCATION => self.locations.push(Location::read(bytes(wire)?)?),
            FUNCTION => self.functions.push(message(bytes(wire)?)?),
            STRING => self.strings.push(bytes(wire)?),
            MAPPING => self.mappings.push(message(bytes(wire)?)?),
            SAMPLE_TYPE => self.sample_types.push(message(bytes(wire)?)?),
            PERIOD_TYPE => {
                // Given twice, messages merge.
                let merged = self.period_type.get_or_insert_default();
                merged.merge(bytes(wire)?).map_err(undecodable)?;
            }
            COMMENTS => {
                let mut packed = Wire(bytes(wire)?);
                while !packed.0.is_empty() {
                    self.comments.push(integer(&mut packed)?);
                }
            }
            COMMENT => self.comments.push(integer(wire)?),
            DROP_FRAMES => self.drop_frames = integer(wire)?,
            KEEP_FRAMES => self.keep_frames = integer(wire)?,
            TIME_NANOS => self.time_nanos = integer(wire)?,
            DURATION_NANOS => self.duration_nanos = integer(wire)?,
            PERIOD => self.period = integer(wire)?,
            DEFAULT_SAMPLE_TYPE => self.default_sample_type = integer(wire)?,
            DOC_URL => self.doc_url = integer(wire)?,
            _ => wire.skip(key).map_err(undecodable)?,
        }
        Ok(())
    }
}

// === impl Location ===

impl<'a> Location<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        const MAPPING_ID: u32 = int(2);
        const ADDRESS: u32 = int(3);
        const IS_FOLDED: u32 = int(5);
        let mut location = Self {
            message,
            ..Self::default()
        };
        let mut wire = Wire(message);
        while let Some(key) = wire.key().map_err(undecodable)? {
            match key {
                MAPPING_ID => location.mapping = varint(&mut wire)?,
                ADDRESS => location.address = varint(&mut wire)?,
                IS_FOLDED => location.is_folded = varint(&mut wire)? != 0,
                _ => wire.skip(key).map_err(undecodable)?,
            }
        }
        Ok(location)
    }

    /// Calls `each` with function id, line and column of each line.
    pub(super) fn lines(&self, mut each: impl FnMut(u64, u64, u64)) -> Result<(), Unreadable> {
        const LINE: u32 = len(4);
        const FUNCTION_ID: u32 = int(1);
        const NUMBER: u32 = int(2);
        const COLUMN: u32 = int(3);
        let mut wire = Wire(self.message);
        while let Some(key) = wire.key().map_err(undecodable)? {
            if key != LINE {
                wire.skip(key).map_err(undecodable)?;
                continue;
            }
            let mut line = Wire(bytes(&mut wire)?);
            let (mut function, mut number, mut column) = (0, 0, 0);
            while let Some(key) = line.key().map_err(undecodable)? {
                match key {
                    FUNCTION_ID => function = varint(&mut line)?,
                    NUMBER => number = varint(&mut line)?,
                    COLUMN => column = varint(&mut line)?,
                    _ => line.skip(key).map_err(undecodable)?,
                }
            }
            each(function, number, column);
        }
        Ok(())
    }
}

/// Calls `each` with the parts of an encoded sample, in order.
#[inline]
pub(super) fn parts<'a>(
    sample: &'a [u8],
    mut each: impl FnMut(Part<'a>),
) -> Result<(), Unreadable> {
    const LOCATION_ID: u32 = int(1);
    const LOCATION_IDS: u32 = len(1);
    const VALUE: u32 = int(2);
    const VALUES: u32 = len(2);
    const LABEL: u32 = len(3);
    let mut wire = Wire(sample);
    while let Some(key) = wire.key().map_err(undecodable)? {
        match key {
            LOCATION_IDS => {
                let mut packed = Wire(bytes(&mut wire)?);
                while !packed.0.is_empty() {
                    each(Part::Location(varint(&mut packed)?));
                }
            }
            VALUES => {
                let mut packed = Wire(bytes(&mut wire)?);
                while !packed.0.is_empty() {
                    each(Part::Value(integer(&mut packed)?));
                }
            }
            LOCATION_ID => each(Part::Location(varint(&mut wire)?)),
            VALUE => each(Part::Value(integer(&mut wire)?)),
            LABEL => each(Part::Label(bytes(&mut wire)?)),
            _ => wire.skip(key).map_err(undecodable)?,
        }
    }
    Ok(())
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(undecodable)
}

#[inline(always)]
fn bytes<'a>(wire: &mut Wire<'a>) -> Result<&'a [u8], Unreadable> {
    wire.bytes().map_err(undecodable)
}

#[inline(always)]
fn varint(wire: &mut Wire<'_>) -> Result<u64, Unreadable> {
    wire.varint().map_err(undecodable)
}

#[inline(always)]
fn integer(wire: &mut Wire<'_>) -> Result<i64, Unreadable> {
    varint(wire).map(|value| value as i64)
}

/// A check accepts nothing that cannot be read here.
#[cold]
fn undecodable<E>(_: E) -> Unreadable {
    Unreadable::Undecodable
}
