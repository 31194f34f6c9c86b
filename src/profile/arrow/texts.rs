//! The texts of a table, each once.

use crate::profile::interned::Table;
use std::borrow::Cow;

/// Texts by place; place 0 is the empty one, which also stands for none.
#[derive(Debug)]
pub(in crate::profile) struct Texts(Table);

// === impl Texts ===

impl Texts {
    pub(super) fn new() -> Self {
        Self(Table::new(b""))
    }

    /// The place of a text. What is no UTF-8 is made it, as everywhere after
    /// Parca's own queries.
    pub(in crate::profile) fn intern(&mut self, bytes: &[u8]) -> u32 {
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => self.0.intern(text.as_bytes()),
            Cow::Owned(text) => self.0.intern(text.as_bytes()),
        }
    }

    /// The text at a place; the empty one beyond the end.
    pub(in crate::profile) fn get(&self, place: u32) -> &str {
        std::str::from_utf8(self.0.get(place)).unwrap_or_default()
    }

    /// The same texts at the same places.
    pub(super) fn copied(&self) -> Self {
        let mut copy = Self::new();
        for place in 1..self.0.len() as u32 {
            copy.0.intern(self.0.get(place));
        }
        copy
    }
}
