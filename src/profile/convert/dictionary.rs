//! The tables that all profiles of a request share, as they grow.

use super::put::{field_len, put_arm, put_int, put_message};
use crate::profile::{interned::Table, wire::put_bytes};

/// A dictionary in the making. Entry 0 of each table is its zero value.
#[derive(Debug)]
pub(super) struct Dictionary {
    pub(super) mappings: Table,
    pub(super) locations: Table,
    pub(super) functions: Table,
    links: Table,
    pub(super) strings: Table,
    pub(super) attributes: Table,
    pub(super) stacks: Table,
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
}

/// How long the tables were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark([usize; 7]);

// === impl Dictionary ===

impl Dictionary {
    /// Zero values only.
    pub(super) fn new() -> Self {
        // Receivers check the length of ids even of the link that is none.
        let mut link = Vec::with_capacity(28);
        put_bytes(&mut link, 1, &[0; 16]);
        put_bytes(&mut link, 2, &[0; 8]);
        Self {
            mappings: Table::new(b""),
            locations: Table::new(b""),
            functions: Table::new(b""),
            links: Table::new(&link),
            strings: Table::new(b""),
            attributes: Table::new(b""),
            stacks: Table::new(b""),
        }
    }

    /// An attribute's place. `key` and `unit` are strings of the table; several
    /// values are an array.
    pub(super) fn attribute(&mut self, key: u32, values: &[Value<'_>], unit: u32) -> u32 {
        let [value] = values else {
            return self.array(key, values, unit);
        };
        let mut content = Vec::with_capacity(64);
        put_int(&mut content, 1, u64::from(key));
        put_message(&mut content, 2, |any| value.put(any));
        put_int(&mut content, 3, u64::from(unit));
        self.attributes.intern(&content)
    }

    /// The place of an attribute that is an array, however many values it has.
    pub(super) fn array(&mut self, key: u32, values: &[Value<'_>], unit: u32) -> u32 {
        let mut content = Vec::with_capacity(64);
        put_int(&mut content, 1, u64::from(key));
        put_message(&mut content, 2, |any| {
            put_array(any, values.iter().copied())
        });
        put_int(&mut content, 3, u64::from(unit));
        self.attributes.intern(&content)
    }

    /// The bytes of the encoded message, without key and length.
    pub(super) fn encoded_len(&self) -> usize {
        self.tables().iter().map(|table| table.encoded_len()).sum()
    }

    /// Appends the dictionary as field `number`.
    pub(super) fn put(&self, out: &mut Vec<u8>, number: u32) {
        out.reserve(field_len(self.encoded_len()));
        put_message(out, number, |out| {
            for (table, number) in self.tables().into_iter().zip(1..) {
                table.put(out, number);
            }
        });
    }

    /// Where the tables end now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.tables().map(Table::len))
    }

    /// Forgets what was added since the mark.
    pub(super) fn cut(&mut self, mark: Mark) {
        for (table, len) in self.tables_mut().into_iter().zip(mark.0) {
            table.cut(len);
        }
    }

    /// In the order of their field numbers in `ProfilesDictionary`, from 1 on.
    fn tables(&self) -> [&Table; 7] {
        [
            &self.mappings,
            &self.locations,
            &self.functions,
            &self.links,
            &self.strings,
            &self.attributes,
            &self.stacks,
        ]
    }

    fn tables_mut(&mut self) -> [&mut Table; 7] {
        [
            &mut self.mappings,
            &mut self.locations,
            &mut self.functions,
            &mut self.links,
            &mut self.strings,
            &mut self.attributes,
            &mut self.stacks,
        ]
    }
}

// === impl Value ===

impl Value<'_> {
    /// Writes the arm of an `AnyValue`.
    fn put(self, any: &mut Vec<u8>) {
        match self {
            Self::Text(text) => put_bytes(any, 1, text),
            Self::Bool(value) => put_arm(any, 2, u64::from(value)),
            Self::Int(value) => put_arm(any, 3, value as u64),
        }
    }
}

/// Writes the array arm of an `AnyValue`.
fn put_array<'v>(any: &mut Vec<u8>, values: impl Iterator<Item = Value<'v>>) {
    put_message(any, 5, |array| {
        for value in values {
            put_message(array, 1, |any| value.put(any));
        }
    });
}

/// Appends an attribute as resources and scopes have it, key and value inline:
/// receivers before 1.10 lose what is an index.
pub(super) fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: Value<'_>) {
    put_message(out, number, |out| {
        put_bytes(out, 1, key.as_bytes());
        put_message(out, 2, |any| value.put(any));
    });
}

/// The same with an array of integers.
pub(super) fn put_int_array(
    out: &mut Vec<u8>,
    number: u32,
    key: &str,
    values: impl Iterator<Item = i64>,
) {
    put_message(out, number, |out| {
        put_bytes(out, 1, key.as_bytes());
        put_message(out, 2, |any| put_array(any, values.map(Value::Int)));
    });
}
