//! What a body says, whatever its schema: rows with labels, kinds, times and
//! values, and stacks of locations, each kept once and referred to by place.
//!
//! Columns of rows stay in runs, and stacks stay views of a common list, as they
//! are in schema v2: no part is larger than what was decoded, however often it is
//! referred to. Writing stacks out may be, so writers count what they write.

use super::{
    column::{NONE, Runs},
    texts::Texts,
};
use crate::profile::{Labels, NAME};
use std::{collections::HashMap, ops::Range};

/// The columns of a body.
#[derive(Debug)]
pub struct Table {
    pub(super) texts: Texts,
    /// Sorted by name.
    pub(super) labels: Vec<LabelColumn>,
    pub(super) kinds: Vec<Kind>,
    /// Of each row its place in `kinds`.
    pub(super) kind_of: Runs<u32>,
    /// Of each row.
    pub(super) values: Vec<i64>,
    /// Of each row, nanoseconds since the epoch.
    pub(super) times: Vec<i64>,
    /// Of each row its place in `stacks`.
    pub(super) stack_of: Vec<u32>,
    /// Entry 0 is none.
    pub(super) stacks: Vec<Stack>,
    /// Places of locations, leaf first; `NONE` is no frame.
    pub(super) frames: Vec<u32>,
    pub(super) locations: Vec<Location>,
    pub(super) lines: Vec<Line>,
    pub(super) functions: Vec<Function>,
    /// Entry 0 is none.
    pub(super) mappings: Vec<Mapping>,
}

/// A label's values, as places of texts; 0 where a row does not have it.
#[derive(Clone, Debug)]
pub(in crate::profile) struct LabelColumn {
    pub(in crate::profile) name: Box<str>,
    pub(in crate::profile) values: Runs<u32>,
}

/// What a row's value is; texts by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::profile) struct Kind {
    pub(in crate::profile) producer: u32,
    /// Type and unit.
    pub(in crate::profile) sample: [u32; 2],
    /// Type and unit.
    pub(in crate::profile) period_type: [u32; 2],
    pub(in crate::profile) temporality: u32,
    pub(in crate::profile) period: i64,
    /// Nanoseconds; 0 for what is no delta.
    pub(in crate::profile) duration: i64,
}

/// A stack: a part of the list of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::profile) struct Stack {
    pub(in crate::profile) id: [u8; 16],
    pub(in crate::profile) begin: u32,
    pub(in crate::profile) len: u32,
    /// Whether its frames are known.
    pub(in crate::profile) is_complete: bool,
}

/// A place in a program; texts by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::profile) struct Location {
    pub(in crate::profile) address: u64,
    pub(in crate::profile) frame_type: u32,
    /// The place of its mapping.
    pub(in crate::profile) mapping: u32,
    /// The first line.
    pub(super) begin: u32,
    /// How many; `NONE` when the server is to find them.
    pub(super) count: u32,
}

/// A line of a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::profile) struct Line {
    pub(in crate::profile) line: i64,
    pub(in crate::profile) column: u64,
    /// Its place; `NONE` when nobody knows it.
    pub(in crate::profile) function: u32,
}

/// A function; texts by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::profile) struct Function {
    pub(in crate::profile) name: u32,
    pub(in crate::profile) system_name: u32,
    pub(in crate::profile) filename: u32,
    pub(in crate::profile) start_line: i64,
}

/// An executable; texts by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::profile) struct Mapping {
    pub(in crate::profile) start: u64,
    pub(in crate::profile) limit: u64,
    pub(in crate::profile) offset: u64,
    pub(in crate::profile) file: u32,
    pub(in crate::profile) build_id: u32,
}

/// Sets of labels that rows have.
#[derive(Debug)]
pub(in crate::profile) struct LabelSets {
    /// Of each row its place in `sets`.
    pub(in crate::profile) of_row: Vec<u32>,
    /// The set it extends, the label's column and the place of its value; set 0 is
    /// empty.
    sets: Vec<(u32, u32, u32)>,
}

// === impl Table ===

impl Table {
    /// No rows and no stacks.
    pub(super) fn empty() -> Self {
        Self {
            texts: Texts::new(),
            labels: Vec::new(),
            kinds: Vec::new(),
            kind_of: Runs::EMPTY,
            values: Vec::new(),
            times: Vec::new(),
            stack_of: Vec::new(),
            stacks: vec![Stack::default()],
            frames: Vec::new(),
            locations: Vec::new(),
            lines: Vec::new(),
            functions: Vec::new(),
            mappings: vec![Mapping::default()],
        }
    }

    /// The samples.
    pub fn rows(&self) -> usize {
        self.values.len()
    }

    /// The labels that have one value in all rows.
    pub fn constant_labels(&self) -> Labels {
        constant_labels(&self.labels, &self.texts)
    }

    /// Puts labels that differ from those that are constant into every row, over
    /// what is there, and takes out constant ones that are gone. The profile's name
    /// is the producer.
    pub fn overlay(&mut self, wanted: &Labels) {
        let rows = self.values.len() as u32;
        let constant = self.constant_labels();
        self.labels.retain(|column| {
            constant.get(&column.name).is_none() || wanted.get(&column.name).is_some()
        });
        for label in wanted {
            if &*label.name == NAME {
                let producer = self.texts.intern(label.value.as_bytes());
                self.kinds
                    .iter_mut()
                    .for_each(|kind| kind.producer = producer);
            } else if constant.get(&label.name) != Some(&*label.value) {
                let value = self.texts.intern(label.value.as_bytes());
                self.set_label(&label.name, Runs::constant(value, rows));
            }
        }
    }

    fn set_label(&mut self, name: &str, values: Runs<u32>) {
        match self
            .labels
            .binary_search_by(|column| (*column.name).cmp(name))
        {
            Ok(at) => self.labels[at].values = values,
            Err(at) => {
                let name = name.into();
                self.labels.insert(at, LabelColumn { name, values });
            }
        }
    }

    /// The text at a place.
    pub(in crate::profile) fn text(&self, place: u32) -> &str {
        self.texts.get(place)
    }

    /// The sets that the labels of rows make whose names are `wanted`.
    pub(in crate::profile) fn label_sets(&self, wanted: impl Fn(&str) -> bool) -> LabelSets {
        let mut of_row = vec![0; self.values.len()];
        let mut sets = vec![(0, 0, 0)];
        let mut known = HashMap::new();
        for (column, label) in (0..).zip(&self.labels) {
            if !wanted(&label.name) {
                continue;
            }
            for (begin, end, value) in label.values.iter().filter(|(_, _, value)| *value != 0) {
                // Rows beside each other mostly have the same labels.
                let (mut last, mut extended) = (NONE, 0);
                for set in rows_of(&mut of_row, begin..end) {
                    if *set != last {
                        last = *set;
                        let content = (last, column, value);
                        extended = *known.entry(content).or_insert_with(|| {
                            sets.push(content);
                            sets.len() as u32 - 1
                        });
                    }
                    *set = extended;
                }
            }
        }
        LabelSets { of_row, sets }
    }

    /// The column and the place of the value of each label of a set, by name from
    /// the last on.
    pub(in crate::profile) fn labels_of<'t>(
        &'t self,
        sets: &'t LabelSets,
        set: u32,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        let mut at = set;
        std::iter::from_fn(move || {
            let (next, column, value) = *sets.sets.get(at as usize).filter(|_| at != 0)?;
            at = next;
            Some((&*self.labels[column as usize].name, self.text(value)))
        })
    }

    /// The labels of a set.
    pub(in crate::profile) fn set_labels(&self, sets: &LabelSets, set: u32) -> Labels {
        let mut labels: Vec<_> = self.labels_of(sets, set).collect();
        // In order they are put together quickly.
        labels.reverse();
        labels.into_iter().collect()
    }

    /// The value of each row.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The time of each row, nanoseconds since the epoch.
    pub(in crate::profile) fn times(&self) -> &[i64] {
        &self.times
    }

    /// The place of each row's stack.
    pub(in crate::profile) fn stack_of(&self) -> &[u32] {
        &self.stack_of
    }

    /// How many stacks, locations, functions and mappings there are.
    pub(in crate::profile) fn sizes(&self) -> [usize; 4] {
        [
            self.stacks.len(),
            self.locations.len(),
            self.functions.len(),
            self.mappings.len(),
        ]
    }

    /// What the value of a row of this kind is.
    pub(in crate::profile) fn kind(&self, place: u32) -> &Kind {
        const NONE: &Kind = &Kind::NONE;
        self.kinds.get(place as usize).unwrap_or(NONE)
    }

    /// A location of a stack.
    pub(in crate::profile) fn location(&self, place: u32) -> Option<&Location> {
        self.locations.get(place as usize)
    }

    /// All functions.
    pub(in crate::profile) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The mapping of a location.
    pub(in crate::profile) fn mapping(&self, place: u32) -> Mapping {
        self.mappings
            .get(place as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The kind of each row.
    pub(in crate::profile) fn kinds(&self) -> impl Iterator<Item = u32> {
        self.kind_of.rows()
    }

    /// The locations of a stack, leaf first.
    pub(in crate::profile) fn frames(&self, stack: u32) -> impl Iterator<Item = u32> {
        self.frame_list(stack)
            .iter()
            .copied()
            .filter(|at| *at != NONE)
    }

    /// The lines of a location, inlined ones first; nothing when the server is to
    /// find them.
    pub(in crate::profile) fn lines(&self, location: &Location) -> Option<&[Line]> {
        (location.count != NONE).then(|| part(&self.lines, location.begin, location.count))
    }

    /// The function of a line, if it is known.
    pub(in crate::profile) fn function(&self, line: &Line) -> Option<&Function> {
        self.functions.get(line.function as usize)
    }

    pub(super) fn frame_list(&self, stack: u32) -> &[u32] {
        let stack = self.stacks.get(stack as usize);
        stack.map_or(&[], |stack| part(&self.frames, stack.begin, stack.len))
    }
}

#[cfg(test)]
impl Table {
    /// The texts, to add some.
    pub(in crate::profile) fn texts_mut(&mut self) -> &mut Texts {
        &mut self.texts
    }

    /// Gives each row the kind that stands at the place `of_row`.
    pub(in crate::profile) fn set_kinds(&mut self, kinds: Vec<Kind>, of_row: impl Fn(u32) -> u32) {
        self.kinds = kinds;
        self.kind_of = Runs::EMPTY;
        for row in 0..self.values.len() as u32 {
            self.kind_of.push(of_row(row), row + 1);
        }
    }
}

// === impl Kind ===

impl Kind {
    const NONE: Self = Self {
        producer: 0,
        sample: [0; 2],
        period_type: [0; 2],
        temporality: 0,
        period: 0,
        duration: 0,
    };
}

// === impl LabelSets ===

impl LabelSets {
    /// The number of sets.
    pub(in crate::profile) fn len(&self) -> usize {
        self.sets.len()
    }
}

fn rows_of(of_row: &mut [u32], rows: Range<u32>) -> &mut [u32] {
    let range = rows.start as usize..rows.end as usize;
    of_row.get_mut(range).unwrap_or_default()
}

/// A part of a list; nothing where it is beyond the end.
fn part<T>(list: &[T], begin: u32, count: u32) -> &[T] {
    let begin = begin as usize;
    list.get(begin..begin.saturating_add(count as usize))
        .unwrap_or_default()
}

/// The labels that have one value in all rows.
pub(super) fn constant_labels(labels: &[LabelColumn], texts: &Texts) -> Labels {
    let constant = labels.iter().filter_map(|column| {
        let value = texts.get(column.values.only()?);
        (!value.is_empty()).then_some((&column.name, value))
    });
    constant.collect()
}
