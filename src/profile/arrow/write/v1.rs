//! Schema v1: samples, and the table of the stacks that they name.

use super::{
    Dictionary, DictionaryOf, batch, check_size, dictionary_runs, run_array, schema, stream,
    structure,
};
use crate::profile::arrow::{
    Table, Unreadable,
    column::{NONE, Runs},
    table::{Line, Location, Mapping},
    texts::Texts,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int64Array, ListArray, UInt32Array,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::Field;
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

/// What a location and a line take at most, in bytes.
const LOCATION: u64 = 96;
const LINE: u64 = 64;

/// Some rows, and the stacks that they name in the order in which they do.
pub(in crate::profile::arrow) fn v1(
    table: &Table,
    rows: Range<u32>,
    max: u64,
) -> Result<(Bytes, Bytes), Unreadable> {
    let range = rows.start as usize..rows.end as usize;
    let stack_of = table.stack_of.get(range).unwrap_or_default();
    let mut order = Vec::new();
    let mut places = vec![NONE; table.stacks.len()];
    let mut keys = Runs::EMPTY;
    for (end, stack) in (1..).zip(stack_of) {
        let Some(place) = places.get_mut(*stack as usize) else {
            continue;
        };
        if *place == NONE {
            *place = order.len() as u32;
            order.push(*stack);
        }
        keys.push(*place, end);
    }
    let id = |stack: &u32| table.stacks.get(*stack as usize).map_or([0; 16], |s| s.id);
    let ids: Vec<[u8; 16]> = order.iter().map(id).collect();
    let samples = samples(table, rows, &keys, &ids)?;
    let stacks = order.iter().zip(&ids);
    let stacks = stacks.map(|(stack, id)| (id.as_slice(), Some(*stack)));
    let stacks = v1_stacks(table, stacks, max)?;
    Ok((samples, stacks))
}

/// `keys` are places in `ids`.
fn samples(
    table: &Table,
    rows: Range<u32>,
    keys: &Runs<u32>,
    ids: &[[u8; 16]],
) -> Result<Bytes, Unreadable> {
    let len = rows.len();
    let texts = &table.texts;
    let of = DictionaryOf::Binary;
    let mut arrays = Vec::with_capacity(table.labels.len() + 11);
    for label in &table.labels {
        arrays.push(dictionary_runs(
            label.values.within(rows.clone()),
            texts,
            of,
            true,
        )?);
    }
    let (ends, keys): (Vec<i32>, Vec<u32>) =
        keys.iter().map(|(_, end, key)| (end as i32, key)).unzip();
    let ids = Arc::new(BinaryArray::from_iter_values(ids));
    let ids = DictionaryArray::try_new(UInt32Array::from(keys), ids)?;
    arrays.push(run_array(ends, &ids)?);
    let range = rows.start as usize..rows.end as usize;
    let values = table.values.get(range.clone()).unwrap_or_default();
    arrays.push(Arc::new(Int64Array::from(values.to_vec())));
    let text = |of_kind: fn(&super::super::Kind) -> u32, may_be_null| {
        let runs = kind_runs(table, rows.clone(), of_kind);
        dictionary_runs(
            runs.iter().map(|(_, end, place)| (end, place)),
            texts,
            of,
            may_be_null,
        )
    };
    arrays.push(text(|kind| kind.producer, false)?);
    arrays.push(text(|kind| kind.sample[0], false)?);
    arrays.push(text(|kind| kind.sample[1], false)?);
    arrays.push(text(|kind| kind.period_type[0], false)?);
    arrays.push(text(|kind| kind.period_type[1], false)?);
    arrays.push(text(|kind| kind.temporality, true)?);
    arrays.push(number_runs(&kind_runs(table, rows.clone(), |kind| {
        kind.period
    }))?);
    arrays.push(number_runs(&kind_runs(table, rows.clone(), |kind| {
        kind.duration
    }))?);
    let mut times = Runs::EMPTY;
    for (end, time) in (1..).zip(table.times.get(range).unwrap_or_default()) {
        times.push(*time, end);
    }
    arrays.push(number_runs(&times)?);
    let names = table.labels.iter().map(|label| &*label.name);
    stream(&schema::v1_samples(names), &batch(arrays, len)?, false)
}

/// What some of the rows have of their kinds.
pub(super) fn kind_runs<T: Copy + PartialEq>(
    table: &Table,
    rows: Range<u32>,
    of_kind: impl Fn(&super::super::Kind) -> T,
) -> Runs<T> {
    let mut runs = Runs::EMPTY;
    for (end, kind) in table.kind_of.within(rows) {
        if let Some(kind) = table.kinds.get(kind as usize) {
            runs.push(of_kind(kind), end);
        }
    }
    runs
}

/// Runs of numbers.
pub(super) fn number_runs(runs: &Runs<i64>) -> Result<ArrayRef, Unreadable> {
    let (ends, values): (Vec<i32>, Vec<i64>) = runs
        .iter()
        .map(|(_, end, value)| (end as i32, value))
        .unzip();
    run_array(ends, &Int64Array::from(values))
}

/// A table of these stacks: the id of each and its place; one without a place is a
/// frame that says it is missing, as parca-agent writes for stacks that it forgot.
pub(in crate::profile::arrow) fn v1_stacks<'i>(
    table: &Table,
    stacks: impl Iterator<Item = (&'i [u8], Option<u32>)>,
    max: u64,
) -> Result<Bytes, Unreadable> {
    let mut ids = Vec::new();
    let mut complete = Vec::new();
    let mut lengths = Vec::new();
    let mut locations = Locations::new(table);
    let mut size = 0;
    for (id, stack) in stacks {
        size += id.len() as u64 + 16;
        let before = locations.addresses.len();
        match stack {
            Some(stack) => {
                for location in table.frames(stack) {
                    let Some(location) = table.locations.get(location as usize) else {
                        continue;
                    };
                    let lines = table.lines(location);
                    size += LOCATION + LINE * lines.map_or(0, <[Line]>::len) as u64;
                    check_size(size, max)?;
                    locations.push(location, lines);
                }
                let stack = table.stacks.get(stack as usize);
                complete.push(stack.is_some_and(|stack| stack.is_complete));
            }
            None => {
                size += LOCATION + LINE;
                locations.push_missing();
                complete.push(false);
            }
        }
        check_size(size, max)?;
        ids.push(id);
        lengths.push(locations.addresses.len() - before);
    }
    let len = ids.len();
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(ids)),
        Arc::new(BooleanArray::from(complete)),
        list(&lengths, locations.finish()?, None)?,
    ];
    stream(&schema::v1_stacks(), &batch(arrays, len)?, false)
}

/// Lists of these lengths.
fn list(
    lengths: &[usize],
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, Unreadable> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Ok(Arc::new(ListArray::try_new(item, offsets, values, nulls)?))
}

/// The locations of stacks, one after the other, as columns.
struct Locations<'t> {
    table: &'t Table,
    /// Texts that are not the table's.
    missing: Option<Texts>,
    addresses: Vec<u64>,
    frame_types: Runs<u32>,
    ranges: [Runs<i64>; 3],
    files: Runs<u32>,
    build_ids: Runs<u32>,
    lengths: Vec<usize>,
    known: Vec<bool>,
    lines: Lines,
}

/// Their lines.
#[derive(Default)]
struct Lines {
    lines: Vec<i64>,
    columns: Vec<u64>,
    names: Dictionary,
    system_names: Dictionary,
    filenames: Runs<u32>,
    start_lines: Vec<i64>,
}

// === impl Locations ===

impl<'t> Locations<'t> {
    fn new(table: &'t Table) -> Self {
        Self {
            table,
            missing: None,
            addresses: Vec::new(),
            frame_types: Runs::EMPTY,
            ranges: [Runs::EMPTY; 3],
            files: Runs::EMPTY,
            build_ids: Runs::EMPTY,
            lengths: Vec::new(),
            known: Vec::new(),
            lines: Lines::default(),
        }
    }

    fn push(&mut self, location: &Location, lines: Option<&[Line]>) {
        let mapping = self.table.mappings.get(location.mapping as usize);
        let mapping = mapping.copied().unwrap_or_default();
        self.push_parts(location, mapping);
        self.known.push(lines.is_some());
        let lines = lines.unwrap_or_default();
        self.lengths.push(lines.len());
        for line in lines {
            let function = self.table.function(line).copied().unwrap_or_default();
            self.lines.lines.push(line.line);
            self.lines.columns.push(line.column);
            self.lines.names.push_or_null(function.name);
            self.lines.system_names.push(function.system_name);
            let end = self.lines.lines.len() as u32;
            self.lines.filenames.push(function.filename, end);
            self.lines.start_lines.push(function.start_line);
        }
    }

    fn push_parts(&mut self, location: &Location, mapping: Mapping) {
        self.addresses.push(location.address);
        let end = self.addresses.len() as u32;
        self.frame_types.push(location.frame_type, end);
        let ranges = [mapping.start, mapping.limit, mapping.offset];
        for (runs, value) in self.ranges.iter_mut().zip(ranges) {
            runs.push(value as i64, end);
        }
        self.files.push(mapping.file, end);
        self.build_ids.push(mapping.build_id, end);
    }

    fn push_missing(&mut self) {
        self.push_parts(&Location::default(), Mapping::default());
        self.known.push(true);
        self.lengths.push(1);
        self.lines.lines.push(0);
        self.lines.columns.push(0);
        let texts = self
            .missing
            .get_or_insert_with(|| self.table.texts.copied());
        self.lines.names.push(texts.intern(b"missing stacktrace"));
        self.lines.system_names.push(0);
        self.lines.filenames.push(0, self.lines.lines.len() as u32);
        self.lines.start_lines.push(0);
    }

    fn finish(self) -> Result<ArrayRef, Unreadable> {
        let texts = self.missing.as_ref().unwrap_or(&self.table.texts);
        let text = |runs: &Runs<u32>, may_be_null| {
            let runs = runs.iter().map(|(_, end, place)| (end, place));
            dictionary_runs(runs, texts, DictionaryOf::Binary, may_be_null)
        };
        let lines = self.lines.finish(texts)?;
        let known = NullBuffer::from(self.known);
        let len = self.addresses.len();
        let [start, limit, offset] = &self.ranges;
        let arrays = vec![
            Arc::new(UInt64Array::from(self.addresses)),
            text(&self.frame_types, false)?,
            word_runs(start)?,
            word_runs(limit)?,
            word_runs(offset)?,
            text(&self.files, true)?,
            text(&self.build_ids, true)?,
            list(&self.lengths, lines, Some(known))?,
        ];
        structure(arrays, len)
    }
}

// === impl Lines ===

impl Lines {
    fn finish(self, texts: &Texts) -> Result<ArrayRef, Unreadable> {
        let of = DictionaryOf::Binary;
        let len = self.lines.len();
        let filenames = self.filenames.iter().map(|(_, end, place)| (end, place));
        let arrays = vec![
            Arc::new(Int64Array::from(self.lines)) as ArrayRef,
            Arc::new(UInt64Array::from(self.columns)),
            self.names.finish(texts, of)?,
            self.system_names.finish(texts, of)?,
            dictionary_runs(filenames, texts, of, true)?,
            Arc::new(Int64Array::from(self.start_lines)),
        ];
        structure(arrays, len)
    }
}

/// Runs of numbers that have no sign.
pub(super) fn word_runs(runs: &Runs<i64>) -> Result<ArrayRef, Unreadable> {
    let (ends, values): (Vec<i32>, Vec<u64>) = runs
        .iter()
        .map(|(_, end, value)| (end as i32, value as u64))
        .unzip();
    run_array(ends, &UInt64Array::from(values))
}
