//! Schema v2: rows and their stacks in one record.

use super::{
    Dictionary, DictionaryOf, batch, check_size, dictionary_runs, run_array, schema, stream,
    structure,
    v1::{kind_runs, number_runs, word_runs},
};
use crate::profile::arrow::{Kind, Location, Table, Unreadable, column::NONE, table::Line};
use arrow_array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListViewArray, StringArray,
    StringViewArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_schema::Field;
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

/// What a frame, a location and a line take at most, in bytes.
const FRAME: u64 = 4;
const LOCATION: u64 = 64;
const LINE: u64 = 32;

/// Some rows, with the stacks that they need.
pub(in crate::profile::arrow) fn v2(
    table: &Table,
    rows: Range<u32>,
    max: u64,
) -> Result<Bytes, Unreadable> {
    let len = rows.len();
    let texts = &table.texts;
    let labels: Result<Vec<ArrayRef>, _> = table
        .labels
        .iter()
        .map(|label| {
            let runs = label.values.within(rows.clone());
            dictionary_runs(runs, texts, DictionaryOf::Utf8, true)
        })
        .collect();
    let range = rows.start as usize..rows.end as usize;
    let stack_of = table.stack_of.get(range.clone()).unwrap_or_default();
    let ids = stack_of.iter().flat_map(|stack| {
        let stack = table.stacks.get(*stack as usize);
        stack.map_or([0; 16], |stack| stack.id)
    });
    let ids = Buffer::from(ids.collect::<Vec<u8>>());
    let values = table.values.get(range.clone()).unwrap_or_default();
    let times = table.times.get(range).unwrap_or_default();
    let times = TimestampNanosecondArray::from(times.to_vec()).with_timezone("UTC");
    let text = |of_kind: fn(&Kind) -> u32, may_be_null| {
        plain_runs(table, rows.clone(), of_kind, may_be_null)
    };
    let arrays = vec![
        structure(labels?, len)?,
        stacks(table, stack_of, max)?,
        Arc::new(FixedSizeBinaryArray::try_new(16, ids, None)?),
        Arc::new(Int64Array::from(values.to_vec())),
        text(|kind| kind.producer, false)?,
        text(|kind| kind.sample[0], false)?,
        text(|kind| kind.sample[1], false)?,
        text(|kind| kind.period_type[0], false)?,
        text(|kind| kind.period_type[1], false)?,
        text(|kind| kind.temporality, true)?,
        number_runs(&kind_runs(table, rows.clone(), |kind| kind.period))?,
        word_runs(&kind_runs(table, rows.clone(), |kind| kind.duration))?,
        Arc::new(times),
    ];
    let names = table.labels.iter().map(|label| &*label.name);
    stream(&schema::v2(names), &batch(arrays, len)?, true)
}

/// Runs of plain texts.
fn plain_runs(
    table: &Table,
    rows: Range<u32>,
    of_kind: impl Fn(&Kind) -> u32,
    may_be_null: bool,
) -> Result<ArrayRef, Unreadable> {
    let runs = kind_runs(table, rows, of_kind);
    let (ends, places): (Vec<i32>, Vec<u32>) = runs
        .iter()
        .map(|(_, end, place)| (end as i32, place))
        .unzip();
    let value = |place: &u32| (*place != 0 || !may_be_null).then(|| table.text(*place));
    let values: StringArray = places.iter().map(value).collect();
    run_array(ends, &values)
}

/// Views of a list of frames, which equal stacks share.
fn stacks(table: &Table, stack_of: &[u32], max: u64) -> Result<ArrayRef, Unreadable> {
    let mut views = vec![None; table.stacks.len()];
    let mut frames = Vec::new();
    let mut locations = Locations::new(table);
    let (mut offsets, mut sizes, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for stack in stack_of {
        let Some(view) = views.get_mut(*stack as usize) else {
            continue;
        };
        let [offset, size] = match view {
            Some(view) => *view,
            None => {
                let begin = frames.len();
                for location in table.frames(*stack) {
                    if let Some(key) = locations.key(location) {
                        frames.push(key);
                    }
                }
                check_size(frames.len() as u64 * FRAME + locations.size, max)?;
                *view.insert([begin as i32, (frames.len() - begin) as i32])
            }
        };
        offsets.push(offset);
        sizes.push(size);
        known.push(*stack != 0);
    }
    let values = DictionaryArray::try_new(UInt32Array::from(frames), locations.finish()?)?;
    views_of(offsets, sizes, Arc::new(values), known)
}

fn views_of(
    offsets: Vec<i32>,
    sizes: Vec<i32>,
    values: ArrayRef,
    known: Vec<bool>,
) -> Result<ArrayRef, Unreadable> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    let nulls = known.contains(&false).then(|| NullBuffer::from(known));
    let array = ListViewArray::try_new(item, offsets.into(), sizes.into(), values, nulls)?;
    Ok(Arc::new(array))
}

/// The locations that stacks have, each once, as columns.
struct Locations<'t> {
    table: &'t Table,
    /// By place in the table; `NONE` for those not there yet.
    keys: Vec<u32>,
    addresses: Vec<u64>,
    frame_types: Dictionary,
    files: Dictionary,
    build_ids: Dictionary,
    offsets: Vec<i32>,
    sizes: Vec<i32>,
    known: Vec<bool>,
    lines: Lines<'t>,
    size: u64,
}

/// Their lines.
struct Lines<'t> {
    table: &'t Table,
    lines: Vec<u64>,
    columns: Vec<u64>,
    keys: Vec<Option<u32>>,
    /// By place in the table; `NONE` for those not there yet.
    functions: Vec<u32>,
    order: Vec<u32>,
}

// === impl Locations ===

impl<'t> Locations<'t> {
    fn new(table: &'t Table) -> Self {
        Self {
            table,
            keys: vec![NONE; table.locations.len()],
            addresses: Vec::new(),
            frame_types: Dictionary::default(),
            files: Dictionary::default(),
            build_ids: Dictionary::default(),
            offsets: Vec::new(),
            sizes: Vec::new(),
            known: Vec::new(),
            lines: Lines {
                table,
                lines: Vec::new(),
                columns: Vec::new(),
                keys: Vec::new(),
                functions: vec![NONE; table.functions.len()],
                order: Vec::new(),
            },
            size: 0,
        }
    }

    /// The key of a location, which is added when it is new.
    fn key(&mut self, place: u32) -> Option<u32> {
        let location = self.table.locations.get(place as usize)?;
        let key = self.keys.get_mut(place as usize)?;
        if *key == NONE {
            *key = self.addresses.len() as u32;
            let key = *key;
            self.push(location);
            return Some(key);
        }
        Some(*key)
    }

    fn push(&mut self, location: &Location) {
        let mapping = self.table.mappings.get(location.mapping as usize);
        let mapping = mapping.copied().unwrap_or_default();
        self.addresses.push(location.address);
        self.frame_types.push_or_null(location.frame_type);
        self.files.push_or_null(mapping.file);
        self.build_ids.push_or_null(mapping.build_id);
        let lines = self.table.lines(location);
        self.known.push(lines.is_some());
        let lines = lines.unwrap_or_default();
        self.offsets.push(self.lines.lines.len() as i32);
        self.sizes.push(lines.len() as i32);
        self.size += LOCATION + LINE * lines.len() as u64;
        lines.iter().for_each(|line| self.lines.push(line));
    }

    fn finish(self) -> Result<ArrayRef, Unreadable> {
        let texts = &self.table.texts;
        let of = DictionaryOf::Utf8;
        let len = self.addresses.len();
        let lines = self.lines.finish()?;
        let arrays = vec![
            Arc::new(UInt64Array::from(self.addresses)) as ArrayRef,
            self.frame_types.finish(texts, of)?,
            self.files.finish(texts, of)?,
            self.build_ids.finish(texts, of)?,
            views_of(self.offsets, self.sizes, lines, self.known)?,
        ];
        structure(arrays, len)
    }
}

// === impl Lines ===

impl Lines<'_> {
    fn push(&mut self, line: &Line) {
        self.lines.push(u64::try_from(line.line).unwrap_or(0));
        self.columns.push(line.column);
        let key = self.functions.get_mut(line.function as usize).map(|key| {
            if *key == NONE {
                *key = self.order.len() as u32;
                self.order.push(line.function);
            }
            *key
        });
        self.keys.push(key);
    }

    fn finish(self) -> Result<ArrayRef, Unreadable> {
        let len = self.lines.len();
        let functions = functions(self.table, &self.order)?;
        let keys = UInt32Array::from(self.keys);
        let arrays = vec![
            Arc::new(UInt64Array::from(self.lines)) as ArrayRef,
            Arc::new(UInt64Array::from(self.columns)),
            Arc::new(DictionaryArray::try_new(keys, functions)?),
        ];
        structure(arrays, len)
    }
}

fn functions(table: &Table, order: &[u32]) -> Result<ArrayRef, Unreadable> {
    let mut filenames = Dictionary::default();
    let mut start_lines = Vec::with_capacity(order.len());
    let mut names = Vec::with_capacity(order.len());
    for place in order {
        let function = table.functions.get(*place as usize);
        let function = function.copied().unwrap_or_default();
        filenames.push_or_null(function.filename);
        start_lines.push(u64::try_from(function.start_line).unwrap_or(0));
        // There is one name: the one that people read.
        let name = match function.name {
            0 => function.system_name,
            name => name,
        };
        names.push((name != 0).then(|| table.text(name)));
    }
    let arrays = vec![
        Arc::new(StringViewArray::from_iter(names)) as ArrayRef,
        filenames.finish(&table.texts, DictionaryOf::Utf8)?,
        Arc::new(UInt64Array::from(start_lines)),
    ];
    structure(arrays, order.len())
}
