//! The labels of a pprof's samples as sets of attributes.
//!
//! Few samples have labels of their own: most sets come again and again, and are
//! known by their bytes.

use super::{
    dictionary::{Dictionary, Value},
    source::Source,
};
use crate::{
    r#gen::pprof::Label,
    profile::{interned::Table, pprof::Unreadable, wire::put_varint},
};
use prost::Message;

/// The places in the dictionary of the strings of a pprof.
#[derive(Debug)]
pub(super) struct Strings<'s> {
    source: &'s Source<'s>,
    /// By index; 0 for those not asked for yet.
    places: Vec<u32>,
}

/// Sets of attributes; set 0 is empty.
#[derive(Debug)]
pub(super) struct Sets {
    /// Labels as they are in the pprof.
    raw: Table,
    /// The set of each.
    of_raw: Vec<u32>,
    /// The places of attributes, sorted and packed.
    sets: Table,
}

// === impl Strings ===

impl<'s> Strings<'s> {
    /// No string is in the dictionary yet.
    pub(super) fn new(source: &'s Source<'s>) -> Self {
        Self {
            source,
            places: vec![0; source.strings.len()],
        }
    }

    /// The place of the string that the pprof has at `index`.
    #[inline]
    pub(super) fn place(&mut self, dictionary: &mut Dictionary, index: i64) -> u32 {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(place) = self.places.get_mut(at) else {
            return 0;
        };
        if *place == 0 && at > 0 {
            *place = dictionary.strings.intern(self.source.text(index));
        }
        *place
    }
}

// === impl Sets ===

impl Sets {
    /// The empty set.
    pub(super) fn new() -> Self {
        Self {
            raw: Table::new(b""),
            of_raw: vec![0],
            sets: Table::new(b""),
        }
    }

    /// The set of a sample's labels: `raw` is all of them, `labels` each.
    pub(super) fn place<'s>(
        &mut self,
        raw: &[u8],
        labels: &[&[u8]],
        strings: &mut Strings<'s>,
        dictionary: &mut Dictionary,
    ) -> Result<u32, Unreadable> {
        let at = self.raw.intern(raw) as usize;
        if let Some(set) = self.of_raw.get(at) {
            return Ok(*set);
        }
        let mut labels = decode(labels, strings, dictionary)?;
        labels.sort_by_key(|(key, _)| *key);
        let mut places: Vec<u32> = labels
            .chunk_by(|(a, _), (b, _)| a == b)
            .map(|labels| attribute(labels, strings, dictionary))
            .collect();
        // Order has no meaning.
        places.sort_unstable();
        let mut packed = Vec::with_capacity(places.len() * 2);
        for place in places {
            put_varint(&mut packed, u64::from(place));
        }
        let set = self.sets.intern(&packed);
        self.of_raw.push(set);
        Ok(set)
    }

    /// The packed places of a set's attributes.
    pub(super) fn packed(&self, set: u32) -> &[u8] {
        self.sets.get(set)
    }
}

/// Labels, each with the place of its key.
fn decode(
    labels: &[&[u8]],
    strings: &mut Strings<'_>,
    dictionary: &mut Dictionary,
) -> Result<Vec<(u32, Label)>, Unreadable> {
    let decode = |label: &&[u8]| {
        let label = Label::decode(*label).map_err(|_| Unreadable::Undecodable)?;
        Ok((strings.place(dictionary, label.key), label))
    };
    labels.iter().map(decode).collect()
}

/// The place of the attribute that the labels of one key are.
fn attribute(
    labels: &[(u32, Label)],
    strings: &mut Strings<'_>,
    dictionary: &mut Dictionary,
) -> u32 {
    let source = strings.source;
    let mut numbers = labels.iter().filter(|(_, label)| is_number(source, label));
    let unit = numbers.next().map_or(0, |(_, label)| label.num_unit);
    let others: Vec<Option<String>> = labels
        .iter()
        .map(|(_, label)| with_other_unit(source, label, unit))
        .collect();
    let values: Vec<Value<'_>> = labels
        .iter()
        .zip(&others)
        .map(|((_, label), other)| match other {
            Some(text) => Value::Text(text.as_bytes()),
            None if is_number(source, label) => Value::Int(label.num),
            None => Value::Text(source.text(label.str)),
        })
        .collect();
    let unit = strings.place(dictionary, unit);
    dictionary.attribute(labels[0].0, &values, unit)
}

/// As google/pprof reads labels: a string, else a number.
fn is_number(source: &Source<'_>, label: &Label) -> bool {
    source.text(label.str).is_empty()
}

/// An attribute has one unit: a number with another one becomes text.
fn with_other_unit(source: &Source<'_>, label: &Label, unit: i64) -> Option<String> {
    let own = source.text(label.num_unit);
    if !is_number(source, label) || own == source.text(unit) {
        return None;
    }
    // Units are short; a long one must not be written out for every number.
    let own = String::from_utf8_lossy(&own[..own.len().min(64)]);
    let text = format!("{} {own}", label.num);
    Some(text.trim_end().to_owned())
}
