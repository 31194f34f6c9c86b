//! Resource attributes and labels.
//!
//! The labels of an OTLP body are the string attributes of its resource, under
//! their own names (`service.name`), so that they come back as they were. Since
//! 1.10 keys and strings may also be indices into the dictionary; both forms are
//! read, and what is written anew is written inline, because receivers before
//! 1.10 lose the other.
//!
//! | attribute | label | after an edit of labels |
//! |---|---|---|
//! | string, not empty | yes | as the label says |
//! | empty string | no | kept |
//! | number, bool, bytes, array, map | no | kept, unless there is a label of its name now |
//! | a key given twice | the first | the others go when the first changes |
//! | `__name__` | never written: it is the scope's name | |

use super::{Unreadable, outline::Place, recent, room::Room};
use crate::profile::{
    Label, Labels, LabelsBuilder, NAME,
    wire::{Damage, Wire, int, len, put_bytes},
};
use std::collections::BTreeSet;

/// The labels of a resource, at most.
const MAX_LABELS: usize = 1_000;

/// What a label takes beside its name and value, while its set grows and is
/// copied.
const LABEL: usize = 4 * size_of::<Label>();

// Fields of `Resource`.
const ATTRIBUTE: u32 = len(1);
// Fields of `KeyValue`.
const KEY: u32 = len(1);
const VALUE: u32 = len(2);
const KEY_INDEX: u32 = int(3);
// Fields of `AnyValue`.
const STRING: u32 = len(1);
const STRING_INDEX: u32 = int(8);
/// Of `ProfilesDictionary`.
const STRING_TABLE: u32 = len(5);

/// The string table of a dictionary, read when it is first asked for.
pub(super) struct Strings<'a> {
    dictionary: &'a [&'a [u8]],
    table: Option<Vec<&'a [u8]>>,
    held_back: bool,
    wanted: bool,
    /// How often a string was asked for.
    asked: u64,
}

/// An attribute that has a key.
struct Attribute<'a> {
    key: &'a str,
    /// What can be a label: a string, and not an empty one.
    value: Option<&'a str>,
}

// === impl Strings ===

impl<'a> Strings<'a> {
    /// The strings of a dictionary that came in these pieces.
    pub(super) fn new(dictionary: &'a [&'a [u8]]) -> Self {
        Self {
            dictionary,
            table: None,
            held_back: false,
            wanted: false,
            asked: 0,
        }
    }

    /// The same, whose table is not read before somebody makes room for it.
    pub(super) fn held_back(dictionary: &'a [&'a [u8]]) -> Self {
        Self {
            held_back: true,
            ..Self::new(dictionary)
        }
    }

    /// Reads the table if it was asked for and held back: it takes eight times
    /// the bytes of empty strings on the wire. Says whether it did.
    fn read_wanted(&mut self, room: &mut Room<'_>) -> Result<bool, Unreadable> {
        if !self.wanted {
            return Ok(false);
        }
        let strings: usize = self.dictionary.iter().map(|piece| count(piece)).sum();
        room.take(strings * 2 * size_of::<&[u8]>())?;
        (self.held_back, self.wanted) = (false, false);
        Ok(true)
    }

    fn get(&mut self, index: u64) -> Option<&'a str> {
        self.asked += 1;
        if self.held_back {
            self.wanted = true;
            return None;
        }
        let table = self.table.get_or_insert_with(|| read(self.dictionary));
        let text = table.get(usize::try_from(index).ok()?)?;
        std::str::from_utf8(text).ok()
    }
}

fn read<'a>(dictionary: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut table = Vec::new();
    for piece in dictionary {
        let mut wire = Wire(piece);
        while let Ok(Some(key)) = wire.key() {
            if key == STRING_TABLE {
                match wire.bytes() {
                    Ok(text) => table.push(text),
                    Err(_) => break,
                }
            } else if wire.skip(key).is_err() {
                break;
            }
        }
    }
    table
}

/// The strings in a piece of a dictionary, at most.
fn count(dictionary: &[u8]) -> usize {
    let mut strings = 0;
    let mut wire = Wire(dictionary);
    while let Ok(Some(key)) = wire.key() {
        strings += usize::from(key == STRING_TABLE);
        if wire.skip(key).is_err() {
            break;
        }
    }
    strings
}

/// The labels that the attributes of a `Resource` are, and whether one is given
/// more than once (of very many, whether that may be).
pub(super) fn labels(
    resource: &[u8],
    strings: &mut Strings<'_>,
    room: &mut Room<'_>,
    place: &Place<'_>,
) -> Result<(Labels, bool), Unreadable> {
    if let Some(labels) = recent::get(resource) {
        return Ok((labels, false));
    }
    let asked = strings.asked;
    let (labels, repeated) = read_labels(resource, strings, room, place)?;
    if strings.asked == asked && !repeated {
        recent::put(resource, &labels);
    }
    Ok((labels, repeated))
}

fn read_labels<'d>(
    resource: &[u8],
    strings: &mut Strings<'d>,
    room: &mut Room<'_>,
    place: &Place<'_>,
) -> Result<(Labels, bool), Unreadable> {
    let mut labels = LabelsBuilder::default();
    let mut others = BTreeSet::new();
    let mut repeated = false;
    let mut wire = Wire(resource);
    while let Some(key) = place.check(wire.0, wire.key())? {
        if key != ATTRIBUTE {
            place.check(wire.0, wire.skip(key))?;
            continue;
        }
        let message = place.check(wire.0, wire.bytes())?;
        let mut attribute = place.check(message, Attribute::read(message, strings))?;
        if strings.read_wanted(room)? {
            attribute = place.check(message, Attribute::read(message, strings))?;
        }
        let Some(Attribute { key, value }) = attribute else {
            continue;
        };
        repeated |= labels.get(key).is_some() || others.contains(key);
        match value {
            Some(value) if key != NAME => {
                if labels.get(key).is_some() {
                    continue;
                }
                if labels.as_slice().len() == MAX_LABELS {
                    return Err(Unreadable::TooManyAttributes { max: MAX_LABELS });
                }
                // An index of two bytes may stand for a string of megabytes.
                room.take(key.len() + value.len() + LABEL)?;
                labels.set(key, value);
            }
            _ if others.len() < MAX_LABELS => {
                others.insert(key);
            }
            _ => repeated = true,
        }
    }
    Ok((labels.build(), repeated))
}

/// The `Resource` with the string attributes that `labels` are. All else of it
/// is kept in its bytes and order.
pub(super) fn edited(
    resource: &[u8],
    strings: &mut Strings<'_>,
    labels: &Labels,
) -> Result<Vec<u8>, Damage> {
    let mut out = Vec::with_capacity(resource.len() + 64);
    let mut written = Vec::with_capacity(labels.len());
    let mut wire = Wire(resource);
    loop {
        let before = wire.0;
        let Some(key) = wire.key()? else {
            break;
        };
        let mut replaced = false;
        if key == ATTRIBUTE {
            if let Some(Attribute { key, value }) = Attribute::read(wire.bytes()?, strings)? {
                let now = labels.get(key);
                replaced = match value {
                    Some(_) => now != value || written.contains(&key),
                    None => now.is_some() && key != NAME,
                };
                if !replaced && value.is_some() {
                    written.push(key);
                }
            }
        } else {
            wire.skip(key)?;
        }
        if !replaced {
            out.extend_from_slice(&before[..before.len() - wire.0.len()]);
        }
    }
    for label in labels {
        if &*label.name != NAME && !written.contains(&&*label.name) {
            put_attribute(&mut out, &label.name, &label.value);
        }
    }
    Ok(out)
}

fn put_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 4);
    put_bytes(&mut any, STRING >> 3, value.as_bytes());
    let mut attribute = Vec::with_capacity(name.len() + any.len() + 8);
    put_bytes(&mut attribute, KEY >> 3, name.as_bytes());
    put_bytes(&mut attribute, VALUE >> 3, &any);
    put_bytes(out, ATTRIBUTE >> 3, &attribute);
}

// === impl Attribute ===

impl<'a> Attribute<'a> {
    /// `None` when it has no key.
    fn read<'d: 'a>(message: &'a [u8], strings: &mut Strings<'d>) -> Result<Option<Self>, Damage> {
        let (mut key, mut value) = (None, None);
        let mut wire = Wire(message);
        while let Some(field) = wire.key()? {
            match field {
                KEY => key = std::str::from_utf8(wire.bytes()?).ok(),
                KEY_INDEX => match wire.varint()? {
                    0 => {}
                    index => key = strings.get(index),
                },
                VALUE => value = string(wire.bytes()?, strings)?,
                _ => wire.skip(field)?,
            }
        }
        let value = value.filter(|value| !value.is_empty());
        let key = key.filter(|key| !key.is_empty());
        Ok(key.map(|key| Self { key, value }))
    }
}

/// The string that an `AnyValue` is.
fn string<'a, 'd: 'a>(
    message: &'a [u8],
    strings: &mut Strings<'d>,
) -> Result<Option<&'a str>, Damage> {
    let mut value = None;
    let mut wire = Wire(message);
    while let Some(field) = wire.key()? {
        match field {
            STRING => value = std::str::from_utf8(wire.bytes()?).ok(),
            STRING_INDEX => value = strings.get(wire.varint()?),
            _ => {
                wire.skip(field)?;
                // The last arm of a oneof counts.
                value = None;
            }
        }
    }
    Ok(value)
}
