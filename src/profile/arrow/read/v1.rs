//! Schema v1: samples in one message, the stacks they refer to in another.

use super::{Rows, labels, locations::Locations};
use crate::profile::{
    arrow::{
        Unreadable,
        column::{column, id_runs, numbers_of_each, of, text_values, texts_of_each, words},
        table::{Function, Line, Location, Mapping, Stack, Table},
        texts::Texts,
    },
    interned,
};
use arrow_array::{Array, BooleanArray, ListArray, RecordBatch, StructArray};

/// The children of a struct by name.
struct Children<'a> {
    array: &'a StructArray,
}

/// What is read for each location.
struct Parts {
    address: Vec<u64>,
    frame_type: Vec<u32>,
    ranges: [Vec<i64>; 3],
    file: Vec<u32>,
    build_id: Vec<u32>,
}

/// The model of two decoded messages.
pub(in crate::profile::arrow) fn v1(
    samples: &RecordBatch,
    stacks: &RecordBatch,
) -> Result<Table, Unreadable> {
    let mut texts = Texts::new();
    let rows = Rows::read(samples, "v1", &mut texts)?;
    let mut ids = interned::Table::new(b"");
    let id = column(samples, "v1", "stacktrace_id")?;
    let stack_of = id_runs("stacktrace_id", id, &mut ids)?;
    let mut stack_of: Vec<u32> = stack_of.rows().collect();
    stack_of.resize(rows.values.len(), 0);
    let sampled = ids.len();
    let mut found: Vec<Stack> = (0..sampled as u32)
        .map(|place| Stack {
            id: uuid(ids.get(place)),
            ..Stack::default()
        })
        .collect();
    let mut frames = Vec::new();
    let locations = read_stacks(
        stacks,
        &mut texts,
        &mut frames,
        |id, begin, len, is_complete| {
            let place = ids.intern(id) as usize;
            if let Some(stack) = found.get_mut(place).filter(|_| place > 0) {
                (stack.begin, stack.len, stack.is_complete) = (begin, len, is_complete);
            }
        },
    )?;
    Ok(Table {
        labels: labels(samples, &mut texts)?,
        texts,
        kinds: rows.kinds,
        kind_of: rows.kind_of,
        values: rows.values,
        times: rows.times,
        stack_of,
        stacks: found,
        frames,
        locations: locations.locations,
        lines: locations.lines,
        functions: locations.functions,
        mappings: locations.mappings,
    })
}

/// The model of a table of stacks alone, without rows, and the id of each of its
/// stacks from 1 on.
pub(in crate::profile::arrow) fn stacks(
    batch: &RecordBatch,
) -> Result<(Table, Vec<Vec<u8>>), Unreadable> {
    let mut table = Table::empty();
    let mut ids = Vec::new();
    let stacks = &mut table.stacks;
    let locations = read_stacks(
        batch,
        &mut table.texts,
        &mut table.frames,
        |id, begin, len, is_complete| {
            ids.push(id.to_vec());
            stacks.push(Stack {
                id: uuid(id),
                begin,
                len,
                is_complete,
            });
        },
    )?;
    table.locations = locations.locations;
    table.lines = locations.lines;
    table.functions = locations.functions;
    table.mappings = locations.mappings;
    Ok((table, ids))
}

/// Reads a table of stacks; `each` is told id, begin and length in `frames`, and
/// whether the stack is complete.
fn read_stacks(
    batch: &RecordBatch,
    texts: &mut Texts,
    frames: &mut Vec<u32>,
    mut each: impl FnMut(&[u8], u32, u32, bool),
) -> Result<Locations, Unreadable> {
    let ids = text_values("stacktrace_id", column(batch, "v1", "stacktrace_id")?)?;
    let complete: Option<&BooleanArray> = batch
        .column_by_name("is_complete")
        .and_then(|array| array.as_any().downcast_ref());
    let lists: &ListArray = of("locations", column(batch, "v1", "locations")?)?;
    let mut found = Locations::new();
    *frames = locations(of("locations", lists.values())?, texts, &mut found)?;
    let offsets = lists.value_offsets();
    for (row, bounds) in offsets.windows(2).enumerate() {
        let [begin, end] = [bounds[0], bounds[1]].map(|at| u32::try_from(at).unwrap_or(0));
        let len = match lists.is_valid(row) {
            true => end.saturating_sub(begin),
            false => 0,
        };
        let is_complete =
            complete.is_none_or(|complete| complete.is_valid(row) && complete.value(row));
        each(ids.get(row).unwrap_or_default(), begin, len, is_complete);
    }
    Ok(found)
}

/// The place of each location of a list.
fn locations(
    array: &StructArray,
    texts: &mut Texts,
    found: &mut Locations,
) -> Result<Vec<u32>, Unreadable> {
    let parts = Parts::read(&Children { array }, texts)?;
    let lists = Children { array }.need("lines")?;
    let lists: &ListArray = of("lines", lists)?;
    let lines = lines(of("lines", lists.values())?, texts, found)?;
    let offsets = lists.value_offsets();
    let mut places = Vec::with_capacity(array.len());
    for (at, address) in parts.address.iter().enumerate() {
        let bounds = [offsets.get(at), offsets.get(at + 1)];
        let [begin, end] = bounds.map(|at| at.map_or(0, |at| usize::try_from(*at).unwrap_or(0)));
        let own = lists.is_valid(at).then(|| lines.get(begin..end)).flatten();
        let mapping = found.mapping(parts.mapping(at));
        let location = Location {
            address: *address,
            frame_type: parts.frame_type[at],
            mapping,
            ..Location::default()
        };
        places.push(found.location(location, own));
    }
    Ok(places)
}

fn lines(
    array: &StructArray,
    texts: &mut Texts,
    found: &mut Locations,
) -> Result<Vec<Line>, Unreadable> {
    let children = Children { array };
    let line = words("line", children.need("line")?)?;
    let column = children.numbers("column", line.len())?;
    let name = children.texts("function_name", line.len(), texts)?;
    let system_name = children.texts("function_system_name", line.len(), texts)?;
    let filename = children.texts("function_filename", line.len(), texts)?;
    let start_line = children.numbers("function_start_line", line.len())?;
    let read = |at: usize| Line {
        line: line[at] as i64,
        column: column[at] as u64,
        function: found.function(Function {
            name: name[at],
            system_name: system_name[at],
            filename: filename[at],
            start_line: start_line[at],
        }),
    };
    Ok((0..line.len()).map(read).collect())
}

/// An id of 16 bytes; of another length, what stands in for it.
fn uuid(id: &[u8]) -> [u8; 16] {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let fnv = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    match id.try_into() {
        Ok(id) => id,
        Err(_) if id.is_empty() => [0; 16],
        Err(_) => id.iter().fold(BASIS, fnv).to_be_bytes(),
    }
}

// === impl Children ===

impl<'a> Children<'a> {
    fn need(&self, name: &'static str) -> Result<&'a dyn Array, Unreadable> {
        let found = self.array.column_by_name(name);
        let version = "v1";
        let column = name;
        found
            .map(AsRef::as_ref)
            .ok_or(Unreadable::NoColumn { version, column })
    }

    /// The place of the text of each element; 0 of a column that is not there.
    fn texts(&self, name: &str, len: usize, texts: &mut Texts) -> Result<Vec<u32>, Unreadable> {
        match self.array.column_by_name(name) {
            Some(array) => texts_of_each(name, array, len, texts),
            None => Ok(vec![0; len]),
        }
    }

    /// The number of each element; 0 of a column that is not there.
    fn numbers(&self, name: &str, len: usize) -> Result<Vec<i64>, Unreadable> {
        match self.array.column_by_name(name) {
            Some(array) => numbers_of_each(name, array, len),
            None => Ok(vec![0; len]),
        }
    }
}

// === impl Parts ===

impl Parts {
    fn read(children: &Children<'_>, texts: &mut Texts) -> Result<Self, Unreadable> {
        let address = words("address", children.need("address")?)?;
        let len = address.len();
        Ok(Self {
            frame_type: children.texts("frame_type", len, texts)?,
            ranges: [
                children.numbers("mapping_start", len)?,
                children.numbers("mapping_limit", len)?,
                children.numbers("mapping_offset", len)?,
            ],
            file: children.texts("mapping_file", len, texts)?,
            build_id: children.texts("mapping_build_id", len, texts)?,
            address,
        })
    }

    fn mapping(&self, at: usize) -> Mapping {
        let [start, limit, offset] = [0, 1, 2].map(|range: usize| self.ranges[range][at] as u64);
        Mapping {
            start,
            limit,
            offset,
            file: self.file[at],
            build_id: self.build_id[at],
        }
    }
}
