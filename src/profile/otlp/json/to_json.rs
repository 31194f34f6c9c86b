//! Protobuf to JSON.
//!
//! A message is walked twice: once to find where its fields begin and end, and
//! once for each of them, in the order of the table. Encoders write a field's
//! occurrences one after the other, so each byte is passed over twice a level.

use super::{
    MAX_DEPTH, Unreadable, detail,
    table::{Field, Kind, LEN, Label, MAX_FIELDS, Message},
};
use crate::profile::wire::{Damage, Wire};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::borrow::Cow;

/// The JSON of an encoded `message`.
pub(super) fn write(message: &'static Message, protobuf: &[u8]) -> Result<Bytes, Unreadable> {
    let mut writer = Writer {
        out: Vec::with_capacity(2 * protobuf.len()),
        whole: protobuf,
        depth: 0,
        merged: 0,
    };
    writer.message(message, protobuf)?;
    writer.out.shrink_to_fit();
    Ok(writer.out.into())
}

/// The JSON so far.
struct Writer<'a> {
    out: Vec<u8>,
    whole: &'a [u8],
    depth: usize,
    /// Bytes that were copied to merge the parts of messages.
    merged: usize,
}

/// Where a field is within its message: the keys of its first and its last
/// occurrence, and the end of that. Nowhere when it ends at 0.
#[derive(Clone, Copy, Default)]
struct Place {
    first: usize,
    last: usize,
    end: usize,
}

type Places = [Place; MAX_FIELDS];

// === impl Writer ===

impl Writer<'_> {
    fn message(&mut self, message: &'static Message, content: &[u8]) -> Result<(), Unreadable> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unreadable::TooDeep {
                place: message.short_name(),
                max: MAX_DEPTH,
            });
        }
        let places = self.places(message, content)?;
        self.out.push(b'{');
        let start = self.out.len();
        for (field, place) in message.fields.iter().zip(&places) {
            let before = self.out.len();
            if place.end == 0 {
                continue;
            }
            if before > start {
                self.out.push(b',');
            }
            self.out.push(b'"');
            self.out.extend_from_slice(field.name.as_bytes());
            self.out.extend_from_slice(b"\":");
            if !self.field(message, field, *place, content)? {
                self.out.truncate(before);
            }
        }
        self.out.push(b'}');
        self.depth -= 1;
        Ok(())
    }

    /// Where the fields are; all their keys and lengths are sound then.
    fn places(&self, message: &'static Message, content: &[u8]) -> Result<Places, Unreadable> {
        let mut places = Places::default();
        let mut wire = Wire(content);
        let mut at = 0;
        let walked = loop {
            let key = match wire.key() {
                Ok(Some(key)) => key,
                Ok(None) => break Ok(()),
                Err(damage) => break Err(damage),
            };
            let known = message.by_number(key >> 3);
            if known.is_some_and(|index| !message.fields[index].may_have(key & 7)) {
                break Err(Damage::WireType);
            }
            if let Err(damage) = wire.skip(key) {
                break Err(damage);
            }
            let end = content.len() - wire.0.len();
            if let Some(place) = known.and_then(|index| places.get_mut(index)) {
                place.first = if place.end == 0 { at } else { place.first };
                place.last = at;
                place.end = end;
            }
            at = end;
        };
        walked.map_err(|damage| self.damaged(message, &content[at..], damage))?;
        keep_last_arm(message, &mut places);
        Ok(places)
    }

    /// Writes the value of a field; says whether there was any to write.
    fn field(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        place: Place,
        content: &[u8],
    ) -> Result<bool, Unreadable> {
        match (field.label, field.kind) {
            (Label::Many, _) => self.list(message, field, &content[place.first..place.end]),
            (Label::One | Label::Arm, Kind::Message(inner)) => {
                let parts = &content[place.first..place.end];
                let merged = self.merge(message, field, parts)?;
                self.message(inner, &merged)?;
                Ok(true)
            }
            (label, kind) => {
                let mut wire = Wire(&content[place.last..]);
                let read = wire.key().and_then(|_| Value::read(kind, &mut wire));
                let value = read.map_err(|damage| self.damaged(message, wire.0, damage))?;
                if label == Label::One && value.is_default() {
                    return Ok(false);
                }
                self.value(message, kind, value)
            }
        }
    }

    fn list(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        content: &[u8],
    ) -> Result<bool, Unreadable> {
        self.out.push(b'[');
        let start = self.out.len();
        let mut wire = Wire(content);
        while let Some(key) = self.sound(message, &mut wire, Wire::key)? {
            if key >> 3 != field.number {
                self.sound(message, &mut wire, |wire| wire.skip(key))?;
            } else if field.kind.is_packed() && key & 7 == LEN {
                let mut packed = Wire(self.sound(message, &mut wire, Wire::bytes)?);
                while !packed.0.is_empty() {
                    self.element(message, field, &mut packed, start)?;
                }
            } else {
                self.element(message, field, &mut wire, start)?;
            }
        }
        self.out.push(b']');
        Ok(self.out.len() > start + 1)
    }

    fn element(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        wire: &mut Wire<'_>,
        start: usize,
    ) -> Result<(), Unreadable> {
        let before = self.out.len();
        if before > start {
            self.out.push(b',');
        }
        let value = self.sound(message, wire, |wire| Value::read(field.kind, wire))?;
        if !self.value(message, field.kind, value)? {
            self.out.truncate(before);
        }
        Ok(())
    }

    /// The content of a message that may have come in several parts, which
    /// follow each other in what decoders make of it.
    fn merge<'c>(
        &mut self,
        message: &'static Message,
        field: &'static Field,
        content: &'c [u8],
    ) -> Result<Cow<'c, [u8]>, Unreadable> {
        let mut merged: Option<Cow<'c, [u8]>> = None;
        let mut wire = Wire(content);
        while let Some(key) = self.sound(message, &mut wire, Wire::key)? {
            if key >> 3 != field.number {
                self.sound(message, &mut wire, |wire| wire.skip(key))?;
                continue;
            }
            let part = self.sound(message, &mut wire, Wire::bytes)?;
            match &mut merged {
                None => merged = Some(Cow::Borrowed(part)),
                Some(merged) => {
                    self.merged += match merged {
                        Cow::Borrowed(first) => first.len() + part.len(),
                        Cow::Owned(_) => part.len(),
                    };
                    merged.to_mut().extend_from_slice(part);
                }
            }
        }
        // Parts within parts would be copied once a level, and all at a time.
        if self.merged > 2 * self.whole.len() {
            let reason = format!("{} comes in too many parts", field.name);
            return Err(Unreadable::Undecodable(reason));
        }
        Ok(merged.unwrap_or_default())
    }

    /// Writes one value; says whether it can be said in JSON.
    fn value(
        &mut self,
        message: &'static Message,
        kind: Kind,
        value: Value<'_>,
    ) -> Result<bool, Unreadable> {
        match (value, kind) {
            (Value::Bits(bits), _) => self.scalar(kind, bits),
            (Value::Bytes(bytes), Kind::String) => {
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    let name = message.short_name();
                    Unreadable::Undecodable(format!("a string of a {name} is not UTF-8"))
                })?;
                self.json(text);
            }
            (Value::Bytes(bytes), Kind::Id(_)) => {
                self.out.push(b'"');
                self.out.extend(bytes.iter().flat_map(|byte| {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    [
                        DIGITS[usize::from(byte >> 4)],
                        DIGITS[usize::from(byte & 15)],
                    ]
                }));
                self.out.push(b'"');
            }
            (Value::Bytes(bytes), Kind::Message(inner)) => self.message(inner, bytes)?,
            (Value::Bytes(bytes), Kind::Detail) => {
                let Some(json) = detail::to_json(bytes) else {
                    return Ok(false);
                };
                self.out.extend_from_slice(json.as_bytes());
            }
            (Value::Bytes(bytes), _) => self.base64(bytes),
        }
        Ok(true)
    }

    fn scalar(&mut self, kind: Kind, bits: u64) {
        match kind {
            Kind::Bool => self.json(&(bits != 0)),
            Kind::Int32 => self.json(&(bits as i32)),
            Kind::Uint32 => self.json(&(bits as u32)),
            Kind::Double => self.double(f64::from_bits(bits)),
            kind => {
                self.out.push(b'"');
                match kind {
                    Kind::Int64 => self.json(&(bits as i64)),
                    _ => self.json(&bits),
                }
                self.out.push(b'"');
            }
        }
    }

    fn double(&mut self, value: f64) {
        match value {
            _ if value.is_nan() => self.json("NaN"),
            f64::INFINITY => self.json("Infinity"),
            f64::NEG_INFINITY => self.json("-Infinity"),
            _ => self.json(&value),
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        // Four characters for three bytes, the last ones padded.
        self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
        self.out.truncate(start + written.unwrap_or_default());
        self.out.push(b'"');
    }

    /// Writes what serde_json can write without fail: numbers, booleans, strings.
    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        _ = serde_json::to_writer(&mut self.out, value);
    }

    /// The next piece of a message, or where it is damaged.
    fn sound<'c, T>(
        &self,
        message: &'static Message,
        wire: &mut Wire<'c>,
        read: impl FnOnce(&mut Wire<'c>) -> Result<T, Damage>,
    ) -> Result<T, Unreadable> {
        let at = wire.0;
        read(wire).map_err(|damage| self.damaged(message, at, damage))
    }

    fn damaged(&self, message: &'static Message, at: &[u8], damage: Damage) -> Unreadable {
        // A part of the whole, unless it was merged.
        let offset = (at.as_ptr() as usize).wrapping_sub(self.whole.as_ptr() as usize);
        Unreadable::NotProtobuf {
            place: message.short_name(),
            offset: if offset <= self.whole.len() {
                offset
            } else {
                0
            },
            damage,
        }
    }
}

/// Of a `oneof` the last arm counts, and of that what follows the others.
fn keep_last_arm(message: &'static Message, places: &mut Places) {
    let arms = |index: usize| message.fields[index].label == Label::Arm;
    let fields = 0..message.fields.len();
    let Some(winner) = fields
        .clone()
        .filter(|i| arms(*i))
        .max_by_key(|i| places[*i].end)
    else {
        return;
    };
    for index in fields.filter(|index| arms(*index) && *index != winner) {
        places[winner].first = places[winner].first.max(places[index].last);
        places[index] = Place::default();
    }
}

// === impl Field ===

impl Field {
    /// Whether it may be encoded so.
    fn may_have(&self, wire_type: u32) -> bool {
        let packed = self.label == Label::Many && self.kind.is_packed();
        wire_type == self.kind.wire_type() || packed && wire_type == LEN
    }
}

/// One value on the wire.
enum Value<'a> {
    Bits(u64),
    Bytes(&'a [u8]),
}

// === impl Value ===

impl<'a> Value<'a> {
    fn read(kind: Kind, wire: &mut Wire<'a>) -> Result<Self, Damage> {
        match kind {
            Kind::Fixed64 | Kind::Double => {
                let (bytes, rest) = wire.0.split_first_chunk().ok_or(Damage::Truncated)?;
                wire.0 = rest;
                Ok(Self::Bits(u64::from_le_bytes(*bytes)))
            }
            _ if kind.is_packed() => wire.varint().map(Self::Bits),
            _ => wire.bytes().map(Self::Bytes),
        }
    }

    fn is_default(&self) -> bool {
        match self {
            Self::Bits(bits) => *bits == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}
