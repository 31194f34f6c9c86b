//! parca-agent's Arrow → OTLP: the rows of a body as profiles of a request.
//!
//! Schemas v1 and v2 give the same, as they say the same. The request's layout is
//! that of opentelemetry-proto 1.10.
//!
//! | of a body | becomes |
//! |---|---|
//! | labels of a row except the three below | string attributes of the resource, under the same name and inline; rows with equal ones share a `ResourceProfiles`. No `service.name` is made up |
//! | labels `cpu`, `thread_id`, `thread_name` | string attributes of the sample, under the same name |
//! | labels of the profile that differ from those of all rows | as if they stood in every row; one that is gone is in none |
//! | producer, or `__name__` of the profile | `scope.name` |
//! | rows of one producer, sample type, period type, period and duration | one `Profile` of the resource |
//! | rows of equal stack and attributes | one `Sample`, with a value and a timestamp for each |
//! | sample type, period type, period | kept; no period type: the sample type, because an empty one breaks Parca's list of profiles |
//! | timestamp | of the value; the profile begins at the earliest of the body |
//! | duration | kept, or the time from the earliest to the latest row of the body where that is longer, since timestamps must be within it: an agent says 1 s and collects for 5 |
//! | duration 0: no delta, but a state at a time | a `Profile` for each timestamp, whose samples have none, values of equal stack and attributes added up |
//! | stack, address, line, column, function with file and start line | kept; a line without a function goes |
//! | frame type | attribute `profile.frame.type` of the location |
//! | mapping with file and build id | kept; the build id as `process.executable.build_id.gnu`, also when it is the hash of a file: Parca looks nowhere else for what it symbolises by |
//!
//! Lost: ids of stacks, whether a stack was complete, temporality (a duration says
//! as much), and columns that the relay does not know.

use super::{
    ConvertError, conventions,
    dictionary::{Dictionary, Value},
    pprof_to_otlp::RequestBuilder,
    put::{put_fixed64, put_int, put_message, put_text},
};
use crate::profile::{
    Labels,
    arrow::{self, Kind, Table},
    wire::{put_bytes, put_varint},
};
use std::collections::HashMap;

/// Labels of a row that are the sample's and not the process's.
pub(super) const SAMPLE_LABELS: [&str; 3] = ["cpu", "thread_id", "thread_name"];

/// A place that is not known yet.
const UNKNOWN: u32 = u32::MAX;

/// Rows that become a profile.
struct Group {
    /// The set of labels of the process.
    process: u32,
    /// The place of what their values are.
    kind: u32,
    rows: Vec<u32>,
}

/// Where the groups of a scope go.
struct Scope {
    labels: Labels,
    content: Vec<u8>,
    profiles: u64,
}

/// A table on its way into a dictionary.
struct Translation<'t, 'd> {
    table: &'t Table,
    dictionary: &'d mut Dictionary,
    /// Places in the dictionary by those of the table.
    texts: HashMap<u32, u32>,
    stacks: Vec<u32>,
    locations: Vec<u32>,
    functions: Vec<u32>,
    mappings: Vec<u32>,
    /// The earliest time of what is delta, and how long it lasts.
    time: u64,
    span: u64,
    max: usize,
}

// === impl RequestBuilder ===

impl RequestBuilder {
    /// Adds what parca-agent wrote, with the labels that the profile has by now, and
    /// returns how many OTLP profiles it is. On an error the request is as it was.
    pub fn add_arrow(&mut self, labels: &Labels, mut table: Table) -> Result<u64, ConvertError> {
        table.overlay(labels);
        let max = self.max_bytes();
        self.add_scopes(|dictionary| {
            let scopes = Translation::new(&table, dictionary, max as usize).scopes()?;
            Ok(scopes
                .into_iter()
                .map(|scope| (scope.labels, scope.content, scope.profiles))
                .collect())
        })
    }
}

// === impl Translation ===

impl<'t, 'd> Translation<'t, 'd> {
    fn new(table: &'t Table, dictionary: &'d mut Dictionary, max: usize) -> Self {
        let (mut first, mut last) = (i64::MAX, 0);
        for (time, kind) in table.times().iter().zip(table.kinds()) {
            if table.kind(kind).duration != 0 {
                first = first.min(*time);
                last = last.max(*time);
            }
        }
        let [stacks, locations, functions, mappings] = table.sizes();
        let unknown = |len: usize| vec![UNKNOWN; len];
        Self {
            table,
            dictionary,
            texts: HashMap::new(),
            stacks: unknown(stacks),
            locations: unknown(locations),
            functions: unknown(functions),
            mappings: unknown(mappings),
            time: instant(first),
            // The last one is within it.
            span: instant(last)
                .saturating_sub(instant(first))
                .saturating_add(1),
            max,
        }
    }

    /// The contents of scopes and whose they are, in the order of their first rows.
    fn scopes(mut self) -> Result<Vec<Scope>, ConvertError> {
        let table = self.table;
        let process = table.label_sets(|name| !SAMPLE_LABELS.contains(&name));
        let samples = table.label_sets(|name| SAMPLE_LABELS.contains(&name));
        let mut attributes = vec![None; samples.len()];
        let mut scopes: Vec<Scope> = Vec::new();
        let mut places: HashMap<(u32, u32), usize> = HashMap::new();
        let mut size = 0;
        for group in groups(table, &process.of_row) {
            let kind = *table.kind(group.kind);
            let key = (group.process, kind.producer);
            let place = match places.get(&key) {
                Some(place) => *place,
                None => {
                    let scope = self.scope(table.set_labels(&process, group.process), &kind);
                    // As much again for each of its attributes' own fields.
                    size += scope.labels.byte_len() + 16 * scope.labels.len();
                    scopes.push(scope);
                    places.insert(key, scopes.len() - 1);
                    scopes.len() - 1
                }
            };
            let scope = &mut scopes[place];
            scope.profiles += 1;
            let before = scope.content.len();
            let of_row = &samples.of_row;
            let mut rows = Vec::with_capacity(group.rows.len());
            for row in &group.rows {
                let stack = self.stack(table.stack_of()[*row as usize])?;
                rows.push((stack, of_row[*row as usize], *row));
            }
            rows.sort_unstable();
            let mut packed = Vec::new();
            for rows in rows.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
                let (stack, set, _) = rows[0];
                let at = set as usize;
                if attributes[at].is_none() {
                    attributes[at] = Some(self.attributes(&samples, set));
                }
                let set = attributes[at].as_deref().unwrap_or_default();
                let rows: Vec<u32> = rows.iter().map(|(_, _, row)| *row).collect();
                self.put_sample(&mut packed, (stack, set), &rows, &kind);
                self.fits(size + packed.len())?;
            }
            let time = match kind.duration {
                0 => group.rows.first().map(|row| table.times()[*row as usize]),
                _ => None,
            };
            put_message(&mut scope.content, 2, |out| {
                self.put_profile(out, &packed, &kind, time.map(instant));
            });
            size += scope.content.len() - before;
            self.fits(size)?;
        }
        Ok(scopes)
    }

    fn scope(&mut self, labels: Labels, kind: &Kind) -> Scope {
        let mut content = Vec::new();
        put_message(&mut content, 1, |out| {
            put_text(out, 1, self.table.text(kind.producer));
        });
        Scope {
            labels,
            content,
            profiles: 0,
        }
    }

    fn fits(&self, size: usize) -> Result<(), ConvertError> {
        let max = self.max as u64;
        match size + self.dictionary.encoded_len() > self.max {
            true => Err(ConvertError::TooLarge { max }),
            false => Ok(()),
        }
    }

    fn put_profile(&mut self, out: &mut Vec<u8>, samples: &[u8], kind: &Kind, at: Option<u64>) {
        let sample = self.texts(kind.sample);
        let period_type = match kind.period_type {
            [0, _] => sample,
            period_type => self.texts(period_type),
        };
        put_value_type(out, 1, sample);
        out.extend_from_slice(samples);
        put_fixed64(out, 3, at.unwrap_or(self.time));
        let duration = u64::try_from(kind.duration).unwrap_or(0);
        let duration = if at.is_some() {
            0
        } else {
            duration.max(self.span)
        };
        put_int(out, 4, duration);
        put_value_type(out, 5, period_type);
        put_int(out, 6, kind.period.max(0) as u64);
    }

    /// Appends the sample of a stack and of attributes, each by place.
    fn put_sample(
        &self,
        out: &mut Vec<u8>,
        (stack, attributes): (u32, &[u8]),
        rows: &[u32],
        kind: &Kind,
    ) {
        let table = self.table;
        let value = |row: &u32| table.values()[*row as usize];
        put_message(out, 2, |out| {
            put_int(out, 1, u64::from(stack));
            if !attributes.is_empty() {
                put_bytes(out, 2, attributes);
            }
            if kind.duration == 0 {
                let sum = rows.iter().map(value).fold(0, i64::saturating_add);
                put_message(out, 4, |out| put_varint(out, sum as u64));
                return;
            }
            put_message(out, 4, |out| {
                for row in rows {
                    put_varint(out, value(row) as u64);
                }
            });
            put_message(out, 5, |out| {
                for row in rows {
                    let time = instant(table.times()[*row as usize]);
                    out.extend_from_slice(&time.to_le_bytes());
                }
            });
        });
    }

    /// The packed places of the attributes of a sample.
    fn attributes(&mut self, sets: &arrow::LabelSets, set: u32) -> Vec<u8> {
        let mut places: Vec<u32> = self
            .table
            .labels_of(sets, set)
            .map(|(name, value)| {
                let key = self.dictionary.strings.intern(name.as_bytes());
                let value = Value::Text(value.as_bytes());
                self.dictionary.attribute(key, &[value], 0)
            })
            .collect();
        places.sort_unstable();
        let mut packed = Vec::with_capacity(4 * places.len());
        for place in places {
            put_varint(&mut packed, u64::from(place));
        }
        packed
    }

    fn stack(&mut self, place: u32) -> Result<u32, ConvertError> {
        let at = place as usize;
        match self.stacks.get(at) {
            Some(&UNKNOWN) => {}
            known => return Ok(known.copied().unwrap_or(0)),
        }
        let table = self.table;
        let mut packed = Vec::new();
        for location in table.frames(place) {
            if let Some(location) = self.location(location) {
                put_varint(&mut packed, u64::from(location));
            }
        }
        let mut content = Vec::with_capacity(packed.len() + 4);
        if !packed.is_empty() {
            put_bytes(&mut content, 1, &packed);
        }
        let found = self.dictionary.stacks.intern(&content);
        self.stacks[at] = found;
        self.fits(0)?;
        Ok(found)
    }

    fn location(&mut self, place: u32) -> Option<u32> {
        let at = place as usize;
        let known = *self.locations.get(at)?;
        if known != UNKNOWN {
            return Some(known);
        }
        let table = self.table;
        let location = table.location(place)?;
        let mapping = self.mapping(location.mapping);
        let mut content = Vec::with_capacity(32);
        put_int(&mut content, 1, u64::from(mapping));
        put_int(&mut content, 2, location.address);
        for line in table.lines(location).unwrap_or_default() {
            // One without a function ends some receivers.
            if let Some(function @ 1..) = self.function(line.function) {
                put_message(&mut content, 3, |out| {
                    put_int(out, 1, u64::from(function));
                    put_int(out, 2, line.line as u64);
                    put_int(out, 3, line.column);
                });
            }
        }
        let kind = table.text(location.frame_type);
        if !kind.is_empty() {
            let kind = self.attribute(conventions::FRAME_TYPE, kind);
            put_message(&mut content, 4, |out| put_varint(out, u64::from(kind)));
        }
        let found = self.dictionary.locations.intern(&content);
        self.locations[at] = found;
        Some(found)
    }

    fn function(&mut self, place: u32) -> Option<u32> {
        let at = place as usize;
        let known = *self.functions.get(at)?;
        if known != UNKNOWN {
            return Some(known);
        }
        let function = self.table.functions().get(at)?;
        let mut content = Vec::with_capacity(16);
        let texts = [function.name, function.system_name, function.filename];
        for (number, text) in (1..).zip(texts) {
            put_int(&mut content, number, u64::from(self.string(text)));
        }
        put_int(&mut content, 4, function.start_line as u64);
        let found = self.dictionary.functions.intern(&content);
        self.functions[at] = found;
        Some(found)
    }

    fn mapping(&mut self, place: u32) -> u32 {
        let at = place as usize;
        match self.mappings.get(at) {
            Some(&UNKNOWN) => {}
            known => return known.copied().unwrap_or(0),
        }
        let mapping = self.table.mapping(place);
        let mut content = Vec::with_capacity(32);
        put_int(&mut content, 1, mapping.start);
        put_int(&mut content, 2, mapping.limit);
        put_int(&mut content, 3, mapping.offset);
        put_int(&mut content, 4, u64::from(self.string(mapping.file)));
        let build_id = self.table.text(mapping.build_id);
        if !build_id.is_empty() {
            let build_id = self.attribute(conventions::BUILD_ID_GNU, build_id);
            put_message(&mut content, 5, |out| put_varint(out, u64::from(build_id)));
        }
        let found = self.dictionary.mappings.intern(&content);
        self.mappings[at] = found;
        found
    }

    fn attribute(&mut self, key: &str, value: &str) -> u32 {
        let key = self.dictionary.strings.intern(key.as_bytes());
        let value = Value::Text(value.as_bytes());
        self.dictionary.attribute(key, &[value], 0)
    }

    /// The place in the dictionary of a text of the table.
    fn string(&mut self, place: u32) -> u32 {
        let table = self.table;
        let strings = &mut self.dictionary.strings;
        *self
            .texts
            .entry(place)
            .or_insert_with(|| strings.intern(table.text(place).as_bytes()))
    }

    fn texts(&mut self, places: [u32; 2]) -> [u32; 2] {
        places.map(|place| self.string(place))
    }
}

/// The rows of each profile, in the order of the first ones.
fn groups(table: &Table, process: &[u32]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<(u32, u32, i64), usize> = HashMap::new();
    for (row, (kind, process)) in (0..).zip(table.kinds().zip(process)) {
        let time = match table.kind(kind).duration {
            0 => table.times().get(row as usize).copied().unwrap_or(0),
            _ => 0,
        };
        let place = *places.entry((*process, kind, time)).or_insert_with(|| {
            groups.push(Group {
                process: *process,
                kind,
                rows: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].rows.push(row);
    }
    groups
}

/// Nanoseconds since the epoch, which cannot be before it.
fn instant(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}

fn put_value_type(out: &mut Vec<u8>, number: u32, [kind, unit]: [u32; 2]) {
    put_message(out, number, |out| {
        put_int(out, 1, u64::from(kind));
        put_int(out, 2, u64::from(unit));
    });
}
