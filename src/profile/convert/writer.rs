//! Writes a pprof out of a dictionary: only what its samples refer to, in the
//! order in which they do.

use super::{
    ConvertError,
    budget::Budget,
    conventions,
    frame::Extra,
    lookup::Lookup,
    put::{put_int, put_message},
    remap::Remap,
    value::{Plain, plain},
};
use crate::{
    r#gen::opentelemetry::proto::{
        common::v1::any_value::Value,
        profiles::v1development::{Location, Mapping},
    },
    profile::{
        interned::Table,
        wire::{put_bytes, put_varint},
    },
};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

/// A pprof in the making.
pub(super) struct Writer<'d> {
    lookup: Lookup<'d>,
    /// What it may have.
    budget: Budget,
    /// Fields of the profile so far.
    out: Vec<u8>,
    strings: Table,
    /// Places of strings of the dictionary.
    places: Remap,
    functions: Remap,
    /// Functions as fields, and how many.
    function_fields: Vec<u8>,
    function_count: u32,
    locations: Remap,
    /// Indices in the dictionary, by id less one.
    location_order: Vec<u32>,
    /// The packed location ids of stacks.
    stacks: Parts,
    /// The labels that attributes are, as fields of a sample.
    attributes: Parts,
    /// The same of links.
    links: Parts,
}

/// Encoded parts of samples, by index in the dictionary.
struct Parts {
    numbers: Remap,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// What a location says about its mapping.
enum Mapped<'d> {
    /// An index in the dictionary.
    Index(i32),
    /// There is none, but the kind of frame is known.
    Kind(&'d str),
}

const LABEL: u32 = 3;
/// What a function without any text is called.
const UNKNOWN_FUNCTION: &[u8] = b"[unknown]";

// === impl Writer ===

impl<'d> Writer<'d> {
    /// A pprof of about `samples` samples, within a budget.
    pub(super) fn new(lookup: Lookup<'d>, samples: usize, budget: Budget) -> Self {
        let d = lookup.dictionary;
        let remap = |entries: usize, uses: usize| Remap::new(entries.max(1), uses);
        Self {
            lookup,
            budget,
            out: Vec::with_capacity(64 * samples.min(1 << 16)),
            strings: Table::new(b""),
            places: remap(d.string_table.len(), samples),
            functions: remap(d.function_table.len(), samples),
            function_fields: Vec::new(),
            function_count: 0,
            locations: remap(d.location_table.len(), samples),
            location_order: Vec::new(),
            stacks: Parts::new(remap(d.stack_table.len(), samples)),
            attributes: Parts::new(remap(d.attribute_table.len(), samples)),
            links: Parts::new(remap(d.link_table.len(), samples)),
        }
    }

    /// The place of a text in the string table.
    pub(super) fn text(&mut self, text: &str) -> u64 {
        u64::from(self.strings.intern(text.as_bytes()))
    }

    /// Adds a sample type or the period type.
    pub(super) fn value_type(&mut self, number: u32, [kind, unit]: [&str; 2]) {
        let (kind, unit) = (self.text(kind), self.text(unit));
        put_message(&mut self.out, number, |out| {
            put_int(out, 1, kind);
            put_int(out, 2, unit);
        });
    }

    /// Adds an integer of the profile.
    pub(super) fn int(&mut self, number: u32, value: u64) {
        put_int(&mut self.out, number, value);
    }

    /// Adds a list of integers of the profile.
    pub(super) fn ints(&mut self, number: u32, values: &[u64]) {
        if !values.is_empty() {
            put_message(&mut self.out, number, |out| {
                values.iter().for_each(|value| put_varint(out, *value));
            });
        }
    }

    /// The labels, as fields of a sample, that an attribute of all samples is.
    pub(super) fn labels(&mut self, extra: &Extra<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        put_labels(&mut self.strings, &mut out, extra);
        out
    }

    /// Adds a sample with the labels that `set`, a link and `common` are; of `set`
    /// those are left out whose key `is_left_out`.
    pub(super) fn sample(
        &mut self,
        (stack, link): (u32, u32),
        values: &[i64],
        set: &[i32],
        common: &[u8],
        is_left_out: &impl Fn(&str) -> bool,
    ) -> Result<(), ConvertError> {
        let stack = self.stack(stack)?;
        for index in set {
            self.attribute(*index, is_left_out)?;
        }
        let link = self.link(link)?;
        let (stacks, attributes, links) = (&self.stacks, &self.attributes, &self.links);
        put_message(&mut self.out, 2, |out| {
            let ids = stacks.get(stack);
            if !ids.is_empty() {
                put_bytes(out, 1, ids);
            }
            put_message(out, 2, |out| {
                values
                    .iter()
                    .for_each(|value| put_varint(out, *value as u64));
            });
            for index in set {
                out.extend_from_slice(attributes.of(*index as u32));
            }
            out.extend_from_slice(links.get(link));
            out.extend_from_slice(common);
        });
        self.fits()
    }

    /// The finished pprof, not compressed.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ConvertError> {
        let order = std::mem::take(&mut self.location_order);
        let mut locations = Vec::with_capacity(order.len());
        let mut used = BTreeSet::new();
        for index in &order {
            let location = self.location(*index)?;
            let mapped = self.mapped(location)?;
            if let Mapped::Index(index @ 1..) = mapped {
                used.insert(index);
            }
            locations.push((location, mapped));
        }
        let mut mappings: HashMap<i32, u64> = HashMap::new();
        for (id, index) in (1..).zip(used) {
            if let Some(mapping) = self.lookup.mapping(("location.mapping_index", index))? {
                self.mapping(id, mapping)?;
            }
            mappings.insert(index, id);
        }
        let mut kinds: HashMap<&str, u64> = HashMap::new();
        for (id, (location, mapped)) in (1..).zip(locations) {
            let mapping = match mapped {
                Mapped::Index(index) => mappings.get(&index).copied().unwrap_or(0),
                Mapped::Kind(kind) => match kinds.get(kind) {
                    Some(id) => *id,
                    None => {
                        let id = (mappings.len() + kinds.len() + 1) as u64;
                        self.kind_as_mapping(id, kind);
                        kinds.insert(kind, id);
                        id
                    }
                },
            };
            if let Some(location) = location {
                self.put_location(id, mapping, location)?;
            } else {
                put_message(&mut self.out, 4, |out| put_int(out, 1, id));
            }
        }
        self.fits()?;
        self.out.extend_from_slice(&self.function_fields);
        self.strings.put(&mut self.out, 6);
        Ok(self.out)
    }

    fn fits(&self) -> Result<(), ConvertError> {
        let size = self.out.len() + self.function_fields.len() + self.strings.encoded_len();
        match (size + self.stacks.bytes.len()) as u64 > self.budget.left() {
            true => Err(self.budget.exceeded()),
            false => Ok(()),
        }
    }

    /// The place of a string of the dictionary.
    fn place(&mut self, field: &'static str, index: i32) -> Result<u64, ConvertError> {
        let text = self.lookup.text((field, index))?;
        let at = index as u32;
        let mut place = self.places.get(at);
        if place == 0 && !text.is_empty() {
            place = self.strings.intern(text.as_bytes());
            self.places.set(at, place);
        }
        Ok(u64::from(place))
    }

    fn stack(&mut self, index: u32) -> Result<u32, ConvertError> {
        if let Some(number) = self.stacks.number(index) {
            return Ok(number);
        }
        let stack = self.lookup.stack(("sample.stack_index", index as i32))?;
        for index in stack.map_or(&[][..], |stack| &stack.location_indices) {
            // Bounds first: what is remembered must be within the table.
            self.lookup.location(("stack.location_indices", *index))?;
            let at = *index as u32;
            let mut id = self.locations.get(at);
            if id == 0 {
                self.location_order.push(at);
                id = self.location_order.len() as u32;
                self.locations.set(at, id);
            }
            put_varint(&mut self.stacks.bytes, u64::from(id));
        }
        Ok(self.stacks.close(index))
    }

    fn attribute(
        &mut self,
        index: i32,
        is_left_out: &impl Fn(&str) -> bool,
    ) -> Result<(), ConvertError> {
        if self.attributes.number(index as u32).is_some() {
            return Ok(());
        }
        let lookup = self.lookup;
        if let Some(attribute) = lookup.attribute(("sample.attribute_indices", index))? {
            let key = lookup.text(("attribute.key_strindex", attribute.key_strindex))?;
            if !key.is_empty() && !is_left_out(key) {
                let extra = Extra {
                    key,
                    values: plain(lookup, &attribute.value)?,
                    unit: lookup.text(("attribute.unit_strindex", attribute.unit_strindex))?,
                };
                put_labels(&mut self.strings, &mut self.attributes.bytes, &extra);
            }
        }
        self.attributes.close(index as u32);
        Ok(())
    }

    fn link(&mut self, index: u32) -> Result<u32, ConvertError> {
        if let Some(number) = self.links.number(index) {
            return Ok(number);
        }
        if let Some(link) = self.lookup.link(("sample.link_index", index as i32))? {
            for (key, id) in [("trace_id", &link.trace_id), ("span_id", &link.span_id)] {
                if id.iter().any(|byte| *byte != 0) {
                    let extra = Extra {
                        key,
                        values: vec![Plain::Text(hex(id).into())],
                        unit: "",
                    };
                    put_labels(&mut self.strings, &mut self.links.bytes, &extra);
                }
            }
        }
        Ok(self.links.close(index))
    }

    fn location(&self, index: u32) -> Result<Option<&'d Location>, ConvertError> {
        self.lookup
            .location(("stack.location_indices", index as i32))
    }

    /// The mapping of a location; a frame without one is put into one that is
    /// called after its kind, as parca-agent does with the kernel's.
    fn mapped(&self, location: Option<&'d Location>) -> Result<Mapped<'d>, ConvertError> {
        let Some(location) = location else {
            return Ok(Mapped::Index(0));
        };
        let index = location.mapping_index;
        self.lookup.mapping(("location.mapping_index", index))?;
        if index != 0 {
            return Ok(Mapped::Index(index));
        }
        let indices = limited(&location.attribute_indices);
        for attribute in self
            .lookup
            .attributes("location.attribute_indices", indices)
        {
            let (key, attribute) = attribute?;
            if key == conventions::FRAME_TYPE
                && let Some(kind) = self.lookup.string(&attribute.value)?
                && !kind.is_empty()
            {
                return Ok(Mapped::Kind(kind));
            }
        }
        Ok(Mapped::Index(0))
    }

    fn kind_as_mapping(&mut self, id: u64, kind: &str) {
        let name = match kind {
            "kernel" => self.text("[kernel.kallsyms]"),
            kind => self.text(&format!("[{kind}]")),
        };
        put_message(&mut self.out, 3, |out| {
            put_int(out, 1, id);
            put_int(out, 5, name);
        });
    }

    fn mapping(&mut self, id: u64, mapping: &'d Mapping) -> Result<(), ConvertError> {
        const BUILD_IDS: [&str; 3] = [
            conventions::BUILD_ID_HTLHASH,
            conventions::BUILD_ID_GO,
            conventions::BUILD_ID_GNU,
        ];
        const FLAGS: [&str; 4] = [
            conventions::HAS_FUNCTIONS,
            conventions::HAS_FILENAMES,
            conventions::HAS_LINE_NUMBERS,
            conventions::HAS_INLINE_FRAMES,
        ];
        let lookup = self.lookup;
        let (mut build_id, mut flags) = (None, [false; 4]);
        let indices = limited(&mapping.attribute_indices);
        for attribute in lookup.attributes("mapping.attribute_indices", indices) {
            let (key, attribute) = attribute?;
            if let Some(rank) = BUILD_IDS.iter().position(|name| *name == key) {
                let id = lookup.string(&attribute.value)?.unwrap_or_default();
                if !id.is_empty() {
                    build_id = build_id.max(Some((rank, id)));
                }
            } else if let Some(flag) = FLAGS.iter().position(|name| *name == key) {
                let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
                flags[flag] = value == Some(&Value::BoolValue(true));
            }
        }
        let filename = self.place("mapping.filename_strindex", mapping.filename_strindex)?;
        let build_id = self.text(build_id.map_or("", |(_, id)| id));
        put_message(&mut self.out, 3, |out| {
            put_int(out, 1, id);
            put_int(out, 2, mapping.memory_start);
            put_int(out, 3, mapping.memory_limit);
            put_int(out, 4, mapping.file_offset);
            put_int(out, 5, filename);
            put_int(out, 6, build_id);
            for (number, flag) in (7..).zip(flags) {
                put_int(out, number, u64::from(flag));
            }
        });
        Ok(())
    }

    fn put_location(
        &mut self,
        id: u64,
        mapping: u64,
        location: &'d Location,
    ) -> Result<(), ConvertError> {
        let mut lines = Vec::with_capacity(location.lines.len());
        for line in &location.lines {
            // A line without a function ends the server at a later query.
            if let function @ 1.. = self.function(line.function_index)? {
                lines.push((function, line));
            }
        }
        let is_folded = self.is_folded(location)?;
        put_message(&mut self.out, 4, |out| {
            put_int(out, 1, id);
            put_int(out, 2, mapping);
            put_int(out, 3, location.address);
            for (function, line) in lines {
                put_message(out, 4, |out| {
                    put_int(out, 1, u64::from(function));
                    put_int(out, 2, line.line as u64);
                    put_int(out, 3, line.column as u64);
                });
            }
            put_int(out, 5, u64::from(is_folded));
        });
        self.fits()
    }

    fn is_folded(&self, location: &'d Location) -> Result<bool, ConvertError> {
        let indices = limited(&location.attribute_indices);
        for attribute in self
            .lookup
            .attributes("location.attribute_indices", indices)
        {
            let (key, attribute) = attribute?;
            if key == conventions::IS_FOLDED {
                let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
                return Ok(value == Some(&Value::BoolValue(true)));
            }
        }
        Ok(false)
    }

    /// The id of a function; 0 when the line has none.
    fn function(&mut self, index: i32) -> Result<u32, ConvertError> {
        let Some(function) = self.lookup.function(("line.function_index", index))? else {
            return Ok(0);
        };
        let at = index as u32;
        let id = self.functions.get(at);
        if id != 0 {
            return Ok(id);
        }
        self.function_count += 1;
        let id = self.function_count;
        self.functions.set(at, id);
        let mut name = self.place("function.name_strindex", function.name_strindex)?;
        let system_name = self.place(
            "function.system_name_strindex",
            function.system_name_strindex,
        )?;
        let filename = self.place("function.filename_strindex", function.filename_strindex)?;
        if name | system_name | filename == 0 && function.start_line == 0 {
            name = u64::from(self.strings.intern(UNKNOWN_FUNCTION));
        }
        put_message(&mut self.function_fields, 5, |out| {
            put_int(out, 1, u64::from(id));
            put_int(out, 2, name);
            put_int(out, 3, system_name);
            put_int(out, 4, filename);
            put_int(out, 5, function.start_line as u64);
        });
        Ok(id)
    }
}

// === impl Parts ===

impl Parts {
    fn new(numbers: Remap) -> Self {
        Self {
            numbers,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The number of a part that is there.
    #[inline]
    fn number(&self, index: u32) -> Option<u32> {
        Some(self.numbers.get(index)).filter(|number| *number != 0)
    }

    /// What was written since the last one is the part of `index`.
    fn close(&mut self, index: u32) -> u32 {
        self.ends.push(self.bytes.len());
        let number = self.ends.len() as u32;
        self.numbers.set(index, number);
        number
    }

    #[inline]
    fn get(&self, number: u32) -> &[u8] {
        let at = number as usize;
        let end = |at: usize| self.ends.get(at).copied().unwrap_or(0);
        match at {
            0 => &[],
            1 => &self.bytes[..end(0)],
            at => &self.bytes[end(at - 2)..end(at - 1)],
        }
    }

    fn of(&self, index: u32) -> &[u8] {
        self.get(self.numbers.get(index))
    }
}

/// Appends the labels of an attribute as fields of a sample.
fn put_labels(strings: &mut Table, out: &mut Vec<u8>, extra: &Extra<'_>) {
    if extra.values.is_empty() {
        return;
    }
    let key = strings.intern(extra.key.as_bytes());
    for value in &extra.values {
        let (text, number, unit) = match value {
            Plain::Text(text) => (strings.intern(text.as_bytes()), 0, 0),
            Plain::Int(number) => (0, *number, strings.intern(extra.unit.as_bytes())),
        };
        put_message(out, LABEL, |out| {
            put_int(out, 1, u64::from(key));
            put_int(out, 2, u64::from(text));
            put_int(out, 3, number as u64);
            put_int(out, 4, u64::from(unit));
        });
    }
}

/// As many attributes as a location or a mapping may have by the default limit of
/// OpenTelemetry; what comes behind is not looked at.
fn limited(indices: &[i32]) -> &[i32] {
    &indices[..indices.len().min(128)]
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
