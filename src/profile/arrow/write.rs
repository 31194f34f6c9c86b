//! Messages out of the model, in the schemas of parca-agent, and what is common to
//! all that is written.
//!
//! The schema is declared as the agent declares it, with columns as never null that
//! hold nulls: it stands in a message of its own, so that the arrays behind it can
//! be built by the safe constructors of the `arrow` crates, which would not let
//! them.

use super::{Table, Unreadable, texts::Texts};
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions,
    RunArray, StringArray, StructArray, UInt32Array, types::Int32Type,
};
use arrow_ipc::{
    CompressionType,
    writer::{IpcWriteOptions, StreamWriter},
};
use arrow_schema::{Field, FieldRef, Schema};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

mod schema;
mod v1;
mod v2;

pub(super) use self::{
    v1::{v1, v1_stacks},
    v2::v2,
};

/// A body of schema v2, compressed with LZ4 as parca-agent does. `max` bounds what
/// its stacks take when they are written out, in bytes.
pub fn write_v2(table: &Table, max: u64) -> Result<Bytes, Unreadable> {
    v2(table, 0..table.rows() as u32, max)
}

/// The two messages of schema v1, samples and stacks. `max` bounds what stacks take
/// when they are written out, in bytes.
pub fn write_v1(table: &Table, max: u64) -> Result<(Bytes, Bytes), Unreadable> {
    v1(table, 0..table.rows() as u32, max)
}

/// What a dictionary holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DictionaryOf {
    Binary,
    Utf8,
}

/// A stream of one record.
pub(super) fn stream(
    declared: &Schema,
    batch: &RecordBatch,
    is_compressed: bool,
) -> Result<Bytes, Unreadable> {
    let compression = is_compressed.then_some(CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default().try_with_compression(compression)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), declared, options)?;
    writer.write(batch)?;
    Ok(writer.into_inner()?.into())
}

/// A record of columns without names, which are in the schema.
pub(super) fn batch(arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Unreadable> {
    let fields: Vec<FieldRef> = arrays.iter().map(nameless).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

/// A struct of children without names.
fn structure(arrays: Vec<ArrayRef>, len: usize) -> Result<ArrayRef, Unreadable> {
    let fields: Vec<FieldRef> = arrays.iter().map(nameless).collect();
    let array = StructArray::try_new_with_length(fields.into(), arrays, None, len)?;
    Ok(Arc::new(array))
}

fn nameless(array: &ArrayRef) -> FieldRef {
    Arc::new(Field::new("", array.data_type().clone(), true))
}

/// Runs of values up to these rows.
fn run_array(ends: Vec<i32>, values: &dyn Array) -> Result<ArrayRef, Unreadable> {
    let array = RunArray::<Int32Type>::try_new(&Int32Array::from(ends), values)?;
    Ok(Arc::new(array))
}

/// A dictionary in the making.
#[derive(Debug, Default)]
struct Dictionary {
    keys: Vec<Option<u32>>,
    /// By place of the text.
    known: HashMap<u32, u32>,
    values: Vec<u32>,
}

// === impl Dictionary ===

impl Dictionary {
    /// Appends a text.
    fn push(&mut self, place: u32) {
        let key = *self.known.entry(place).or_insert_with(|| {
            self.values.push(place);
            self.values.len() as u32 - 1
        });
        self.keys.push(Some(key));
    }

    /// Appends a text, null for an empty one.
    fn push_or_null(&mut self, place: u32) {
        match place {
            0 => self.keys.push(None),
            place => self.push(place),
        }
    }

    fn finish(self, texts: &Texts, of: DictionaryOf) -> Result<ArrayRef, Unreadable> {
        let values = self.values.iter().map(|place| texts.get(*place));
        let values: ArrayRef = match of {
            DictionaryOf::Binary => Arc::new(BinaryArray::from_iter_values(values)),
            DictionaryOf::Utf8 => Arc::new(StringArray::from_iter_values(values)),
        };
        let keys = UInt32Array::from(self.keys);
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }
}

/// Runs of a dictionary; empty texts are null when `may_be_null`.
fn dictionary_runs(
    runs: impl Iterator<Item = (u32, u32)>,
    texts: &Texts,
    of: DictionaryOf,
    may_be_null: bool,
) -> Result<ArrayRef, Unreadable> {
    let mut values = Dictionary::default();
    let mut ends = Vec::new();
    for (end, place) in runs {
        ends.push(end as i32);
        match may_be_null {
            true => values.push_or_null(place),
            false => values.push(place),
        }
    }
    run_array(ends, &values.finish(texts, of)?)
}

/// That stacks written out take more than is allowed.
fn check_size(inflated: u64, max: u64) -> Result<(), Unreadable> {
    // Offsets have 31 bits.
    let max = max.min(i32::MAX as u64);
    match inflated > max {
        true => Err(Unreadable::TooLarge { inflated, max }),
        false => Ok(()),
    }
}
