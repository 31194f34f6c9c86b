//! Schema v2: rows and their stacks in one record.

use super::{Rows, labels, locations::Locations};
use crate::profile::arrow::{
    Unreadable,
    column::{
        NONE, column, dictionary, numbers_of_each, of, text_values, texts_of_each, unexpected,
        words,
    },
    table::{Function, Line, Location, Mapping, Stack, Table},
    texts::Texts,
};
use arrow_array::{Array, ArrayRef, ListViewArray, RecordBatch, StructArray};
use std::collections::HashMap;

/// The stacks of rows, each once.
struct Stacks<'f> {
    frames: &'f [u32],
    stacks: Vec<Stack>,
    /// By id, begin and length.
    by_view: HashMap<([u8; 16], u32, u32), u32>,
    by_id: HashMap<[u8; 16], u32>,
    /// How many frames may still be compared.
    patience: usize,
}

/// The model of a decoded message.
pub(in crate::profile::arrow) fn v2(batch: &RecordBatch) -> Result<Table, Unreadable> {
    let mut texts = Texts::new();
    let rows = Rows::read(batch, "v2", &mut texts)?;
    let views: &ListViewArray = of("stacktrace", column(batch, "v2", "stacktrace")?)?;
    let (frames, values) = referred("stacktrace", views.values())?;
    let mut found = Locations::new();
    locations(of("stacktrace", &values)?, &mut texts, &mut found)?;
    let ids = column(batch, "v2", "stacktrace_id")?;
    let ids = text_values("stacktrace_id", ids)?;
    let mut stacks = Stacks::new(&frames);
    let mut stack_of = Vec::with_capacity(batch.num_rows());
    for (row, (offset, size)) in views.offsets().iter().zip(views.sizes()).enumerate() {
        let id = ids.get(row).and_then(|id| id.try_into().ok());
        let view = match views.is_valid(row) {
            true => [*offset, *size].map(|at| u32::try_from(at).unwrap_or(0)),
            false => [0, 0],
        };
        stack_of.push(stacks.place(id.unwrap_or_default(), view));
    }
    let stacks = stacks.stacks;
    Ok(Table {
        labels: labels(batch, &mut texts)?,
        texts,
        kinds: rows.kinds,
        kind_of: rows.kind_of,
        values: rows.values,
        times: rows.times,
        stack_of,
        stacks,
        frames,
        locations: found.locations,
        lines: found.lines,
        functions: found.functions,
        mappings: found.mappings,
    })
}

/// The keys and the values of a dictionary.
fn referred(name: &str, array: &dyn Array) -> Result<(Vec<u32>, ArrayRef), Unreadable> {
    dictionary(array).ok_or_else(|| unexpected(name, array))
}

/// Reads locations, each to the place that it has in its dictionary.
fn locations(
    array: &StructArray,
    texts: &mut Texts,
    found: &mut Locations,
) -> Result<(), Unreadable> {
    let address = words("address", need(array, "address")?)?;
    let len = address.len();
    let mut text = |name| texts_of_each(name, need(array, name)?, len, texts);
    let frame_type = text("frame_type")?;
    let file = text("mapping_file")?;
    let build_id = text("mapping_build_id")?;
    let views: &ListViewArray = of("lines", need(array, "lines")?)?;
    lines(of("lines", views.values())?, texts, found)?;
    let (offsets, sizes) = (views.offsets(), views.sizes());
    for (at, address) in address.into_iter().enumerate() {
        let mapping = found.mapping(Mapping {
            file: file[at],
            build_id: build_id[at],
            ..Mapping::default()
        });
        let size = |size: &i32| u32::try_from(*size).unwrap_or(0);
        found.locations.push(Location {
            address,
            frame_type: frame_type[at],
            mapping,
            begin: offsets.get(at).map_or(0, size),
            count: match views.is_valid(at) {
                true => sizes.get(at).map_or(NONE, size),
                false => NONE,
            },
        });
    }
    Ok(())
}

fn lines(array: &StructArray, texts: &mut Texts, found: &mut Locations) -> Result<(), Unreadable> {
    let line = words("line", need(array, "line")?)?;
    let column = match array.column_by_name("column") {
        Some(array) => numbers_of_each("column", array, line.len())?,
        None => vec![0; line.len()],
    };
    let (keys, values) = referred("function", need(array, "function")?)?;
    functions(of("function", &values)?, texts, found)?;
    let read = |((line, column), function): ((&u64, &i64), &u32)| Line {
        line: i64::try_from(*line).unwrap_or(i64::MAX),
        column: *column as u64,
        function: *function,
    };
    let parts = line.iter().zip(&column).zip(&keys);
    found.lines = parts.map(read).collect();
    Ok(())
}

fn functions(
    array: &StructArray,
    texts: &mut Texts,
    found: &mut Locations,
) -> Result<(), Unreadable> {
    let start_line = words("start_line", need(array, "start_line")?)?;
    // Its only name is called this.
    let len = start_line.len();
    let name = texts_of_each("system_name", need(array, "system_name")?, len, texts)?;
    let filename = texts_of_each("filename", need(array, "filename")?, len, texts)?;
    let read = |((start_line, name), filename): ((&u64, &u32), &u32)| Function {
        name: *name,
        system_name: 0,
        filename: *filename,
        start_line: i64::try_from(*start_line).unwrap_or(i64::MAX),
    };
    let parts = start_line.iter().zip(&name).zip(&filename);
    found.functions = parts.map(read).collect();
    Ok(())
}

fn need<'a>(array: &'a StructArray, column: &'static str) -> Result<&'a dyn Array, Unreadable> {
    let version = "v2";
    let found = array.column_by_name(column).map(AsRef::as_ref);
    found.ok_or(Unreadable::NoColumn { version, column })
}

// === impl Stacks ===

impl<'f> Stacks<'f> {
    fn new(frames: &'f [u32]) -> Self {
        Self {
            frames,
            stacks: vec![Stack::default()],
            by_view: HashMap::new(),
            by_id: HashMap::new(),
            patience: 16 * frames.len() + 4096,
        }
    }

    /// The place of the stack that is this part of the frames. Equal ids with
    /// different frames are told apart, because schema v1 knows only ids.
    fn place(&mut self, id: [u8; 16], view: [u32; 2]) -> u32 {
        let [begin, len] = view;
        if id == [0; 16] && len == 0 {
            return 0;
        }
        let key = (id, begin, len);
        if let Some(place) = self.by_view.get(&key) {
            return *place;
        }
        let same = self.by_id.get(&id).copied();
        let place = match same.filter(|place| self.is_equal(*place, view)) {
            Some(place) => place,
            None => self.add(id, view),
        };
        self.by_view.insert(key, place);
        place
    }

    fn add(&mut self, id: [u8; 16], [begin, len]: [u32; 2]) -> u32 {
        let place = self.stacks.len() as u32;
        let mut own = id;
        let mut salt = u128::from(place) << 96;
        while own == [0; 16] || self.by_id.contains_key(&own) {
            salt = salt.wrapping_add(1);
            own = (u128::from_be_bytes(id) ^ salt).to_be_bytes();
        }
        self.by_id.insert(own, place);
        self.stacks.push(Stack {
            id: own,
            begin,
            len,
            is_complete: true,
        });
        place
    }

    /// Whether a stack has these frames, as far as there is patience to compare.
    fn is_equal(&mut self, place: u32, [begin, len]: [u32; 2]) -> bool {
        let Some(stack) = self.stacks.get(place as usize).copied() else {
            return false;
        };
        if stack.len != len || len as usize > self.patience {
            return false;
        }
        self.patience -= len as usize;
        let part = |begin: u32| {
            self.frames
                .get(begin as usize..begin as usize + len as usize)
        };
        part(stack.begin) == part(begin)
    }
}
