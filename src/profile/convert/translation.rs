//! One pprof written as a `ScopeProfiles` on top of a dictionary.

use super::{
    ConvertError,
    attributes::{Sets, Strings},
    conventions,
    dictionary::{Dictionary, Value, put_attribute, put_int_array},
    put::{put_fixed64, put_int, put_message, put_text, varint_len},
    rows::{Identity, Rows},
    source::{Location, Part, Source, parts},
};
use crate::{
    r#gen::pprof::{Mapping, ValueType},
    profile::{
        pprof::Unreadable,
        wire::{put_bytes, put_varint},
    },
};
use bytes::Bytes;

/// A pprof on its way into a dictionary.
pub(super) struct Translation<'s, 'd> {
    source: &'s Source<'s>,
    dictionary: &'d mut Dictionary,
    strings: Strings<'s>,
    /// Places in the dictionary by the pprof's ids; 0 for those not there yet.
    mappings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
    sets: Sets,
}

/// What a scope says beside what the pprof does.
pub(super) struct Scope<'a> {
    /// The name of the profile.
    pub(super) name: &'a str,
    /// Start of collection, nanoseconds since the epoch.
    pub(super) time: u64,
    /// The pprof itself, put on the first of its profiles.
    pub(super) payload: Option<&'a Bytes>,
    /// The bytes that the result may have.
    pub(super) max: usize,
}

/// What all profiles of a pprof have in common, encoded where it is the same.
struct Common {
    sample_types: Vec<[u32; 2]>,
    period_type: [u32; 2],
    attributes: Vec<u8>,
}

// === impl Translation ===

impl<'s, 'd> Translation<'s, 'd> {
    pub(super) fn new(source: &'s Source<'s>, dictionary: &'d mut Dictionary) -> Self {
        Self {
            source,
            dictionary,
            strings: Strings::new(source),
            mappings: vec![0; source.mappings.len() + 1],
            functions: vec![0; source.functions.len() + 1],
            locations: vec![0; source.locations.len() + 1],
            sets: Sets::new(),
        }
    }

    /// The content of a `ScopeProfiles`.
    pub(super) fn scope(mut self, scope: &Scope<'_>) -> Result<Vec<u8>, ConvertError> {
        self.tables()?;
        let rows = self.rows()?;
        let common = self.common();
        let mut out = Vec::with_capacity(256 + 8 * rows.len() * common.sample_types.len().min(4));
        put_message(&mut out, 1, |out| self.put_scope(out, scope.name));
        for place in 0..common.sample_types.len() {
            put_message(&mut out, 2, |out| {
                self.put_profile(out, place, &rows, &common, scope);
            });
            if out.len() > scope.max {
                break;
            }
        }
        Ok(out)
    }

    /// Adds what the stacks of samples refer to, in the pprof's order: the first
    /// mapping is the program.
    fn tables(&mut self) -> Result<(), Unreadable> {
        let used = self.used()?;
        let source = self.source;
        let mut mapped = vec![false; source.mappings.len() + 1];
        let locations = || used.iter().skip(1).zip(&source.locations);
        for (_, location) in locations().filter(|(used, _)| **used) {
            if let Some(mapped) = mapped.get_mut(location.mapping as usize) {
                *mapped = true;
            }
        }
        for (place, mapping) in source.mappings.iter().enumerate() {
            if mapped[place + 1] {
                self.mappings[place + 1] = self.mapping(mapping);
            }
        }
        for (place, location) in source.locations.iter().enumerate() {
            if used[place + 1] {
                self.locations[place + 1] = self.location(location)?;
            }
        }
        Ok(())
    }

    /// Which locations a sample has, by id.
    fn used(&self) -> Result<Vec<bool>, Unreadable> {
        let mut used = vec![false; self.locations.len()];
        for sample in &self.source.samples {
            parts(sample, |part| {
                if let Part::Location(id) = part
                    && let Some(used) = used.get_mut(id as usize)
                {
                    *used = true;
                }
            })?;
        }
        Ok(used)
    }

    fn mapping(&mut self, mapping: &Mapping) -> u32 {
        let mut attributes = Vec::new();
        let build_id = self.source.text(mapping.build_id);
        if let Ok(text) = std::str::from_utf8(build_id)
            && !text.is_empty()
        {
            let key = conventions::build_id_attribute(text);
            attributes.push(self.attribute(key, Value::Text(build_id)));
        }
        for (key, holds) in [
            (conventions::HAS_FUNCTIONS, mapping.has_functions),
            (conventions::HAS_FILENAMES, mapping.has_filenames),
            (conventions::HAS_LINE_NUMBERS, mapping.has_line_numbers),
            (conventions::HAS_INLINE_FRAMES, mapping.has_inline_frames),
        ] {
            if holds {
                attributes.push(self.attribute(key, Value::Bool(true)));
            }
        }
        let filename = self.strings.place(self.dictionary, mapping.filename);
        let mut content = Vec::with_capacity(64);
        put_int(&mut content, 1, mapping.memory_start);
        put_int(&mut content, 2, mapping.memory_limit);
        put_int(&mut content, 3, mapping.file_offset);
        put_int(&mut content, 4, u64::from(filename));
        put_packed(&mut content, 5, &attributes);
        self.dictionary.mappings.intern(&content)
    }

    fn location(&mut self, location: &Location<'_>) -> Result<u32, Unreadable> {
        let mapping = self.mappings.get(location.mapping as usize);
        let mut content = Vec::with_capacity(32);
        put_int(&mut content, 1, u64::from(mapping.copied().unwrap_or(0)));
        put_int(&mut content, 2, location.address);
        location.lines(|function, number, column| {
            let function = self.function(function);
            put_message(&mut content, 3, |line| {
                put_int(line, 1, u64::from(function));
                put_int(line, 2, number);
                put_int(line, 3, column);
            });
        })?;
        if location.is_folded {
            let folded = self.attribute(conventions::IS_FOLDED, Value::Bool(true));
            put_packed(&mut content, 4, &[folded]);
        }
        Ok(self.dictionary.locations.intern(&content))
    }

    fn function(&mut self, id: u64) -> u32 {
        let at = id as usize;
        let Some(function) = self.source.functions.get(at.wrapping_sub(1)) else {
            return 0;
        };
        if self.functions[at] == 0 {
            let mut content = Vec::with_capacity(16);
            let texts = [function.name, function.system_name, function.filename];
            for (number, text) in (1..).zip(texts) {
                let text = self.strings.place(self.dictionary, text);
                put_int(&mut content, number, u64::from(text));
            }
            put_int(&mut content, 4, function.start_line as u64);
            self.functions[at] = self.dictionary.functions.intern(&content);
        }
        self.functions[at]
    }

    /// Samples with equal stacks and labels added up.
    fn rows(&mut self) -> Result<Rows, Unreadable> {
        let source = self.source;
        let mut rows = Rows::new(source.sample_types.len(), source.samples.len());
        let (mut stack, mut packed, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for sample in &source.samples {
            stack.clear();
            packed.clear();
            raw.clear();
            values.clear();
            labels.clear();
            parts(sample, |part| match part {
                Part::Location(id) => {
                    let place = self.locations.get(id as usize).copied().unwrap_or(0);
                    put_varint(&mut packed, u64::from(place));
                }
                Part::Value(value) => values.push(value),
                Part::Label(label) => {
                    put_bytes(&mut raw, 3, label);
                    labels.push(label);
                }
            })?;
            if !packed.is_empty() {
                put_bytes(&mut stack, 1, &packed);
            }
            let set = match raw.is_empty() {
                true => 0,
                false => self
                    .sets
                    .place(&raw, &labels, &mut self.strings, self.dictionary)?,
            };
            let identity = Identity {
                stack: self.dictionary.stacks.intern(&stack),
                set,
                link: 0,
            };
            for (sum, value) in rows.row(identity).iter_mut().zip(&values) {
                *sum = sum.saturating_add(*value);
            }
        }
        Ok(rows)
    }

    fn common(&mut self) -> Common {
        let source = self.source;
        let period_type = source.period_type.or_else(|| default_sample_type(source));
        let mut attributes = Vec::new();
        let comments: Vec<Value<'_>> = source
            .comments
            .iter()
            .map(|index| Value::Text(source.text(*index)))
            .collect();
        if !comments.is_empty() {
            let key = self
                .dictionary
                .strings
                .intern(conventions::COMMENT.as_bytes());
            attributes.push(self.dictionary.array(key, &comments, 0));
        }
        for (key, index) in [
            (conventions::DROP_FRAMES, source.drop_frames),
            (conventions::KEEP_FRAMES, source.keep_frames),
            (conventions::DOC_URL, source.doc_url),
        ] {
            let text = source.text(index);
            if !text.is_empty() {
                attributes.push(self.attribute(key, Value::Text(text)));
            }
        }
        let mut encoded = Vec::new();
        put_packed(&mut encoded, 11, &attributes);
        Common {
            sample_types: source
                .sample_types
                .iter()
                .map(|t| self.value_type(*t))
                .collect(),
            period_type: self.value_type(period_type.unwrap_or_default()),
            attributes: encoded,
        }
    }

    fn put_scope(&self, out: &mut Vec<u8>, name: &str) {
        const ATTRIBUTES: u32 = 3;
        put_text(out, 1, name);
        let default = self.source.text(self.source.default_sample_type);
        if !default.is_empty() {
            let default = Value::Text(default);
            put_attribute(out, ATTRIBUTES, conventions::DEFAULT_SAMPLE_TYPE, default);
        }
        let types = self.source.sample_types.len() as i64;
        if types > 1 {
            put_int_array(out, ATTRIBUTES, conventions::SAMPLE_TYPE_ORDER, 0..types);
        }
    }

    fn put_profile(
        &self,
        out: &mut Vec<u8>,
        place: usize,
        rows: &Rows,
        common: &Common,
        scope: &Scope<'_>,
    ) {
        put_value_type(out, 1, common.sample_types[place]);
        let before = out.len();
        for (identity, values) in rows.iter() {
            let value = values[place];
            // Values of 0 are left out, but a sample with nothing else stays once.
            if value != 0 || (place == 0 && values.iter().all(|value| *value == 0)) {
                self.put_sample(out, identity, value);
            }
            if out.len() > scope.max {
                return;
            }
        }
        if out.len() == before {
            // Receivers refuse or ignore a profile without samples.
            let nothing = Identity {
                stack: 0,
                set: 0,
                link: 0,
            };
            self.put_sample(out, nothing, 0);
        }
        put_fixed64(out, 3, scope.time);
        put_int(out, 4, self.source.duration_nanos.max(0) as u64);
        put_value_type(out, 5, common.period_type);
        put_int(out, 6, self.source.period.max(0) as u64);
        if let Some(payload) = scope.payload.filter(|_| place == 0) {
            put_text(out, 9, conventions::PAYLOAD_PPROF);
            put_bytes(out, 10, payload);
        }
        out.extend_from_slice(&common.attributes);
    }

    #[inline]
    fn put_sample(&self, out: &mut Vec<u8>, identity: Identity, value: i64) {
        put_message(out, 2, |out| {
            put_int(out, 1, u64::from(identity.stack));
            if identity.set != 0 {
                put_bytes(out, 2, self.sets.packed(identity.set));
            }
            // A packed list of one.
            const VALUES: u8 = 4 << 3 | 2;
            out.extend_from_slice(&[VALUES, varint_len(value as u64) as u8]);
            put_varint(out, value as u64);
        });
    }

    fn value_type(&mut self, value_type: ValueType) -> [u32; 2] {
        [value_type.r#type, value_type.unit].map(|index| self.strings.place(self.dictionary, index))
    }

    fn attribute(&mut self, key: &str, value: Value<'_>) -> u32 {
        let key = self.dictionary.strings.intern(key.as_bytes());
        self.dictionary.attribute(key, &[value], 0)
    }
}

/// The sample type that is the profile's preferred one, else the first.
fn default_sample_type(source: &Source<'_>) -> Option<ValueType> {
    let default = source.text(source.default_sample_type);
    let is_default = |t: &&ValueType| !default.is_empty() && source.text(t.r#type) == default;
    let types = &source.sample_types;
    types.iter().find(is_default).or(types.first()).copied()
}

fn put_value_type(out: &mut Vec<u8>, number: u32, [kind, unit]: [u32; 2]) {
    put_message(out, number, |out| {
        put_int(out, 1, u64::from(kind));
        put_int(out, 2, u64::from(unit));
    });
}

fn put_packed(out: &mut Vec<u8>, number: u32, places: &[u32]) {
    if !places.is_empty() {
        put_message(out, number, |out| {
            for place in places {
                put_varint(out, u64::from(*place));
            }
        });
    }
}
