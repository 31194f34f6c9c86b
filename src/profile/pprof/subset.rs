//! Part of a profile's samples, with only the tables they need.

use super::inflate::compress;
use crate::r#gen::pprof::{Function, Line, Location, Profile, Sample, ValueType};
use bytes::Bytes;
use prost::Message;

/// A new profile growing out of a decoded one whose tables are mended.
///
/// Sample types, times, comments and all mappings are kept (the first mapping
/// is the program, whoever refers to it); strings, functions and locations come
/// with the samples that use them.
pub(super) struct Subset<'a> {
    source: &'a Profile,
    made: Profile,
    /// New index by old, 0 for none yet.
    strings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
}

/// The pprof (gzip level 1) of some samples of `source`.
pub(super) fn encode<'s>(source: &Profile, samples: impl Iterator<Item = &'s Sample>) -> Bytes {
    let mut subset = Subset::new(source);
    for sample in samples {
        subset.add(sample);
    }
    subset.finish()
}

// === impl Subset ===

impl<'a> Subset<'a> {
    pub(super) fn new(source: &'a Profile) -> Self {
        let mut subset = Self {
            source,
            made: Profile {
                string_table: vec![String::new()],
                time_nanos: source.time_nanos,
                duration_nanos: source.duration_nanos,
                period: source.period,
                ..Profile::default()
            },
            strings: vec![0; source.string_table.len()],
            functions: vec![0; source.function.len() + 1],
            locations: vec![0; source.location.len() + 1],
        };
        subset.made.sample_type = source
            .sample_type
            .iter()
            .map(|t| subset.value_type(t))
            .collect();
        subset.made.period_type = source.period_type.map(|t| subset.value_type(&t));
        subset.made.drop_frames = subset.string(source.drop_frames);
        subset.made.keep_frames = subset.string(source.keep_frames);
        subset.made.default_sample_type = subset.string(source.default_sample_type);
        subset.made.doc_url = subset.string(source.doc_url);
        subset.made.comment = source.comment.iter().map(|c| subset.string(*c)).collect();
        for mapping in &source.mapping {
            let mut mapping = *mapping;
            mapping.filename = subset.string(mapping.filename);
            mapping.build_id = subset.string(mapping.build_id);
            subset.made.mapping.push(mapping);
        }
        subset
    }

    /// Adds a sample whose indices are the source's.
    pub(super) fn add(&mut self, sample: &Sample) {
        let mut sample = sample.clone();
        for id in &mut sample.location_id {
            *id = self.location(*id);
        }
        for label in &mut sample.label {
            label.key = self.string(label.key);
            label.str = self.string(label.str);
            label.num_unit = self.string(label.num_unit);
        }
        self.made.sample.push(sample);
    }

    /// The pprof, gzip level 1.
    pub(super) fn finish(self) -> Bytes {
        compress(&self.made.encode_to_vec())
    }

    fn value_type(&mut self, value_type: &ValueType) -> ValueType {
        ValueType {
            r#type: self.string(value_type.r#type),
            unit: self.string(value_type.unit),
        }
    }

    /// The index of a string that the source has at `index`; an index outside
    /// its table is that of the empty string.
    fn string(&mut self, index: i64) -> i64 {
        let place = usize::try_from(index).unwrap_or_default();
        let Some(text) = self.source.string_table.get(place) else {
            return 0;
        };
        if self.strings[place] == 0 && !text.is_empty() {
            self.strings[place] = self.made.string_table.len() as u32;
            self.made.string_table.push(text.clone());
        }
        i64::from(self.strings[place])
    }

    fn location(&mut self, id: u64) -> u64 {
        let place = id as usize;
        let Some(location) = self.source.location.get(place.wrapping_sub(1)) else {
            return 0;
        };
        if self.locations[place] == 0 {
            let line = location.line.iter().map(|line| Line {
                function_id: self.function(line.function_id),
                ..*line
            });
            let line = line.collect();
            let location = Location {
                id: self.made.location.len() as u64 + 1,
                line,
                ..*location
            };
            self.made.location.push(location);
            self.locations[place] = self.made.location.len() as u32;
        }
        u64::from(self.locations[place])
    }

    fn function(&mut self, id: u64) -> u64 {
        let place = id as usize;
        let Some(function) = self.source.function.get(place.wrapping_sub(1)) else {
            return 0;
        };
        if self.functions[place] == 0 {
            let function = Function {
                id: self.made.function.len() as u64 + 1,
                name: self.string(function.name),
                system_name: self.string(function.system_name),
                filename: self.string(function.filename),
                start_line: function.start_line,
            };
            self.made.function.push(function);
            self.functions[place] = self.made.function.len() as u32;
        }
        u64::from(self.functions[place])
    }
}
