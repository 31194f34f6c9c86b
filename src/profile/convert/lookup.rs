//! Reads a dictionary without trusting any index.
//!
//! Index 0 means "unset" everywhere and is never looked up, so a table that lacks
//! its entry 0 does no harm; one whose entry 0 is something else is refused.

use super::ConvertError;
use crate::r#gen::opentelemetry::proto::{
    common::v1::{AnyValue, any_value::Value},
    profiles::v1development::{
        Function, KeyValueAndUnit, Link, Location, Mapping, ProfilesDictionary, Stack,
    },
};

/// A dictionary whose entries 0 are what they must be.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'d> {
    pub(super) dictionary: &'d ProfilesDictionary,
}

/// The name of a field and the index it holds.
pub(super) type Index = (&'static str, i32);

// === impl Lookup ===

impl<'d> Lookup<'d> {
    /// Looks at entries 0 only.
    pub(super) fn new(dictionary: &'d ProfilesDictionary) -> Result<Self, ConvertError> {
        let d = dictionary;
        let zeros = |id: &[u8]| id.iter().all(|byte| *byte == 0);
        let no_value = |value: &Option<AnyValue>| value.as_ref().is_none_or(|v| v.value.is_none());
        for (table, is_zero) in [
            ("mapping_table", is_default(&d.mapping_table)),
            ("location_table", is_default(&d.location_table)),
            ("function_table", is_default(&d.function_table)),
            ("string_table", is_default(&d.string_table)),
            ("stack_table", is_default(&d.stack_table)),
            (
                "link_table",
                d.link_table
                    .first()
                    .is_none_or(|link| zeros(&link.trace_id) && zeros(&link.span_id)),
            ),
            (
                "attribute_table",
                d.attribute_table.first().is_none_or(|attribute| {
                    attribute.key_strindex == 0
                        && attribute.unit_strindex == 0
                        && no_value(&attribute.value)
                }),
            ),
        ] {
            if !is_zero {
                return Err(ConvertError::ZeroEntry { table });
            }
        }
        Ok(Self { dictionary })
    }

    pub(super) fn text(self, index: Index) -> Result<&'d str, ConvertError> {
        let text = entry(&self.dictionary.string_table, "string_table", index)?;
        Ok(text.map_or("", String::as_str))
    }

    /// The index of a sample's stack, when the table has it.
    pub(super) fn has_stack(self, index: i32) -> Result<u32, ConvertError> {
        self.stack(("sample.stack_index", index))?;
        Ok(index as u32)
    }

    /// The index of a sample's link, when the table has it.
    pub(super) fn has_link(self, index: i32) -> Result<u32, ConvertError> {
        self.link(("sample.link_index", index))?;
        Ok(index as u32)
    }

    pub(super) fn stack(self, index: Index) -> Result<Option<&'d Stack>, ConvertError> {
        entry(&self.dictionary.stack_table, "stack_table", index)
    }

    pub(super) fn location(self, index: Index) -> Result<Option<&'d Location>, ConvertError> {
        entry(&self.dictionary.location_table, "location_table", index)
    }

    pub(super) fn mapping(self, index: Index) -> Result<Option<&'d Mapping>, ConvertError> {
        entry(&self.dictionary.mapping_table, "mapping_table", index)
    }

    pub(super) fn function(self, index: Index) -> Result<Option<&'d Function>, ConvertError> {
        entry(&self.dictionary.function_table, "function_table", index)
    }

    pub(super) fn link(self, index: Index) -> Result<Option<&'d Link>, ConvertError> {
        entry(&self.dictionary.link_table, "link_table", index)
    }

    pub(super) fn attribute(
        self,
        index: Index,
    ) -> Result<Option<&'d KeyValueAndUnit>, ConvertError> {
        entry(&self.dictionary.attribute_table, "attribute_table", index)
    }

    /// The key and the value of each attribute of a list.
    pub(super) fn attributes(
        self,
        field: &'static str,
        indices: &'d [i32],
    ) -> impl Iterator<Item = Result<(&'d str, &'d KeyValueAndUnit), ConvertError>> {
        indices.iter().filter_map(move |index| {
            let attribute = self.attribute((field, *index)).transpose()?;
            Some(attribute.and_then(|attribute| {
                let key = self.text(("attribute.key_strindex", attribute.key_strindex))?;
                Ok((key, attribute))
            }))
        })
    }

    /// A value that is a string, inline or of the table.
    pub(super) fn string(
        self,
        value: &'d Option<AnyValue>,
    ) -> Result<Option<&'d str>, ConvertError> {
        match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => Ok(Some(text)),
            Some(Value::StringValueStrindex(index)) => self
                .text(("any_value.string_value_strindex", *index))
                .map(Some),
            _ => Ok(None),
        }
    }
}

fn is_default<T: Default + PartialEq>(table: &[T]) -> bool {
    table.first().is_none_or(|first| *first == T::default())
}

fn entry<'t, T>(
    entries: &'t [T],
    table: &'static str,
    (field, index): Index,
) -> Result<Option<&'t T>, ConvertError> {
    if index == 0 {
        return Ok(None);
    }
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    match entries.get(place) {
        Some(entry) => Ok(Some(entry)),
        None => Err(ConvertError::Index {
            field,
            index,
            table,
            entries: entries.len(),
        }),
    }
}
