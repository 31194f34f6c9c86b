//! Encodes pprofs from scratch, and adds comments to encoded ones.

use super::{
    Unreadable,
    inflate::{GZIP, compress, with_inflated},
    repair::unix_nanos,
    walk::strings,
    wire::{int, put_bytes, put_varint},
};
use crate::r#gen::pprof::{Function, Label, Line, Location, Profile, Sample, ValueType};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// One frame of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame<'a> {
    /// The name for people.
    pub function: &'a str,
    /// The linker's name; may be empty.
    pub system_name: &'a str,
    /// The source file; may be empty.
    pub file: &'a str,
    /// The line in it; 0 when unknown.
    pub line: i64,
}

/// A pprof in the making: interns strings, functions and locations.
#[derive(Debug)]
pub struct ProfileWriter {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// By name, system name and file.
    functions: HashMap<[i64; 3], u64>,
    /// By function and line.
    locations: HashMap<(u64, i64), u64>,
}

// === impl ProfileWriter ===

impl ProfileWriter {
    /// A profile without samples. Types are (type, unit).
    pub fn new(
        sample_types: &[(&str, &str)],
        period_type: (&str, &str),
        period: i64,
        time: SystemTime,
        duration: Duration,
    ) -> Self {
        let mut writer = Self {
            profile: Profile {
                string_table: vec![String::new()],
                time_nanos: unix_nanos(time),
                duration_nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
                period,
                ..Profile::default()
            },
            strings: HashMap::from([(String::new(), 0)]),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        for sample_type in sample_types {
            let sample_type = writer.value_type(*sample_type);
            writer.profile.sample_type.push(sample_type);
        }
        writer.profile.period_type = Some(writer.value_type(period_type));
        writer
    }

    /// Adds a sample: `stack` innermost first, one value for each sample type,
    /// and string labels. Missing values are 0, superfluous ones are left out;
    /// a frame without any text is called `[unknown]`.
    pub fn sample(&mut self, stack: &[Frame<'_>], values: &[i64], labels: &[(&str, &str)]) {
        let location_id = stack.iter().map(|frame| self.location(frame)).collect();
        let mut value = values.to_vec();
        value.resize(self.profile.sample_type.len(), 0);
        let labels = labels.iter().filter(|(key, _)| !key.is_empty());
        let label = labels
            .map(|(key, value)| Label {
                key: self.string(key),
                str: self.string(value),
                ..Label::default()
            })
            .collect();
        self.profile.sample.push(Sample {
            location_id,
            value,
            label,
        });
    }

    /// The pprof, gzip level 1.
    pub fn finish(self) -> Bytes {
        compress(&self.profile.encode_to_vec())
    }

    /// The profile as messages, for what the writer has no words for.
    pub(super) fn into_profile(self) -> Profile {
        self.profile
    }

    pub(super) fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, (kind, unit): (&str, &str)) -> ValueType {
        ValueType {
            r#type: self.string(kind),
            unit: self.string(unit),
        }
    }

    fn location(&mut self, frame: &Frame<'_>) -> u64 {
        let function = self.function(frame);
        let locations = &mut self.profile.location;
        *self
            .locations
            .entry((function, frame.line))
            .or_insert_with(|| {
                let id = locations.len() as u64 + 1;
                locations.push(Location {
                    id,
                    line: vec![Line {
                        function_id: function,
                        line: frame.line,
                        column: 0,
                    }],
                    ..Location::default()
                });
                id
            })
    }

    fn function(&mut self, frame: &Frame<'_>) -> u64 {
        let nothing = [frame.function, frame.system_name, frame.file]
            .concat()
            .is_empty();
        let name = self.string(if nothing { "[unknown]" } else { frame.function });
        let system_name = self.string(frame.system_name);
        let filename = self.string(frame.file);
        let functions = &mut self.profile.function;
        *self
            .functions
            .entry([name, system_name, filename])
            .or_insert_with(|| {
                let id = functions.len() as u64 + 1;
                functions.push(Function {
                    id,
                    name,
                    system_name,
                    filename,
                    start_line: 0,
                });
                id
            })
    }
}

/// Appends comments to a pprof, gzip or plain, whose own bytes stay as they are:
/// concatenated messages merge, and so do concatenated gzip members. Unknown
/// fields survive. `max_inflated` bounds the inflated size, in bytes.
///
/// Readers that know one gzip member only see the profile without the comments.
pub fn with_comments(
    bytes: &Bytes,
    comments: &[String],
    max_inflated: u64,
) -> Result<Bytes, Unreadable> {
    const COMMENT: u32 = 13;
    const STRING: u32 = 6;
    if comments.is_empty() {
        return Ok(bytes.clone());
    }
    let checked = with_inflated(bytes, max_inflated, |inflated| {
        super::check(inflated).map(|_| strings(inflated).count())
    });
    let mut index = checked.flatten()? as u64;
    let mut appended = Vec::new();
    if index == 0 {
        put_bytes(&mut appended, STRING, b"");
        index = 1;
    }
    for comment in comments {
        put_bytes(&mut appended, STRING, comment.as_bytes());
        put_varint(&mut appended, u64::from(int(COMMENT)));
        put_varint(&mut appended, index);
        index += 1;
    }
    let appended = match bytes.starts_with(GZIP) {
        true => compress(&appended),
        false => Bytes::from(appended),
    };
    Ok([bytes.as_ref(), &appended].concat().into())
}
