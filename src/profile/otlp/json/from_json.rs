//! JSON to protobuf.
//!
//! serde_json calls back for each value, and the value is appended to the output
//! at once. A message's length is known only behind it: one byte is left free for
//! it, and the content moves when it needs more. Each byte moves at most once a
//! level.

use super::{
    JsonError, MAX_DEPTH,
    detail::Detail,
    scalar::{Scalar, Text},
    table::{Field, Kind, LEN, Label, Message},
};
use crate::profile::wire::put_varint;
use bytes::Bytes;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// The encoded `message` that `json` says, in at most `max` bytes.
pub(super) fn read(message: &'static Message, json: &[u8], max: u64) -> Result<Bytes, JsonError> {
    let max_len = usize::try_from(max).unwrap_or(usize::MAX);
    let mut writer = Writer {
        // Enough as a rule; else it doubles to what is promised, and no further.
        out: Vec::with_capacity(json.len().min(max_len)),
        max: max_len,
        ..Writer::default()
    };
    let mut json = serde_json::Deserializer::from_slice(json);
    let to = &mut writer;
    let read = Content { message, to }.deserialize(&mut json);
    match read.and_then(|()| json.end()) {
        Ok(()) => {
            writer.out.shrink_to_fit();
            Ok(writer.out.into())
        }
        Err(_) if writer.out.len() > writer.max => Err(JsonError::TooLarge { max }),
        Err(error) => Err(JsonError::invalid(writer.place(), &error)),
    }
}

/// The protobuf so far, and where in the JSON its next value is.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    max: usize,
    depth: usize,
    /// Left as it is when reading fails.
    path: Vec<Step>,
}

/// A step from a value to one within it.
enum Step {
    Field(&'static str),
    Index(usize),
}

/// The output has become too large.
#[derive(Debug, thiserror::Error)]
#[error("too large")]
struct TooLarge;

/// The fields of a message.
struct Content<'w> {
    message: &'static Message,
    to: &'w mut Writer,
}

/// The name of a field.
struct Name(&'static Message);

/// The value of a field; says whether it is more than `null`.
struct FieldValue<'w> {
    field: &'static Field,
    to: &'w mut Writer,
}

/// The values of a field that may occur many times.
struct List<'w> {
    field: &'static Field,
    to: &'w mut Writer,
}

/// One of them.
struct Element<'w> {
    field: &'static Field,
    to: &'w mut Writer,
}

// === impl Writer ===

impl Writer {
    fn key(&mut self, number: u32, wire_type: u32) {
        put_varint(&mut self.out, u64::from(number << 3 | wire_type));
    }

    /// Begins a field whose length is not known yet; `close` takes the result.
    fn open(&mut self, number: u32) -> usize {
        self.key(number, LEN);
        self.out.push(0);
        self.out.len()
    }

    fn close(&mut self, start: usize) -> Result<(), TooLarge> {
        let length = self.out.len() - start;
        let mut prefix = Vec::new();
        match u8::try_from(length) {
            Ok(short @ 0..0x80) => self.out[start - 1] = short,
            _ => {
                put_varint(&mut prefix, length as u64);
                let content = start - 1 + prefix.len();
                self.out.resize(content + length, 0);
                self.out.copy_within(start..start + length, content);
                self.out[start - 1..content].copy_from_slice(&prefix);
            }
        }
        self.check()
    }

    fn scalar(&mut self, kind: Kind, bits: u64) -> Result<(), TooLarge> {
        match kind {
            Kind::Fixed64 | Kind::Double => self.out.extend_from_slice(&bits.to_le_bytes()),
            _ => put_varint(&mut self.out, bits),
        }
        self.check()
    }

    fn check(&self) -> Result<(), TooLarge> {
        match self.out.len() > self.max {
            true => Err(TooLarge),
            false => Ok(()),
        }
    }

    /// One value of `field`, with its key.
    fn value<'de, D: Deserializer<'de>>(
        &mut self,
        field: &'static Field,
        json: D,
    ) -> Result<(), D::Error> {
        let before = self.out.len();
        match field.kind {
            Kind::Message(message) => {
                let start = self.open(field.number);
                Content { message, to: self }.deserialize(json)?;
                self.close(start).map_err(D::Error::custom)
            }
            Kind::Detail => {
                let detail = Detail::deserialize(json)?.encode();
                if let Some(any) = detail.map_err(D::Error::custom)? {
                    let start = self.open(field.number);
                    self.out.extend_from_slice(&any);
                    self.close(start).map_err(D::Error::custom)?;
                }
                Ok(())
            }
            kind @ (Kind::String | Kind::Bytes | Kind::Id(_)) => {
                let start = self.open(field.number);
                let out = &mut self.out;
                json.deserialize_str(Text { kind, out })?;
                if self.out.len() == start && field.label == Label::One {
                    self.out.truncate(before);
                }
                match self.out.len() > before {
                    true => self.close(start).map_err(D::Error::custom),
                    false => Ok(()),
                }
            }
            kind => {
                let bits = Scalar(kind).deserialize(json)?;
                if bits == 0 && field.label == Label::One {
                    return Ok(());
                }
                self.key(field.number, kind.wire_type());
                self.scalar(kind, bits).map_err(D::Error::custom)
            }
        }
    }

    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if place.is_empty() => place.push_str(name),
                Step::Field(name) => place.extend([".", name]),
                Step::Index(index) => place.push_str(&format!("[{index}]")),
            }
        }
        place
    }
}

// === impl Content ===

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.short_name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { message, to } = self;
        to.depth += 1;
        if to.depth > MAX_DEPTH {
            let reason = format_args!("messages are nested deeper than {MAX_DEPTH}");
            return Err(A::Error::custom(reason));
        }
        let mut seen = 0_u32;
        let mut arm = None;
        while let Some(name) = map.next_key_seed(Name(message))? {
            let Some(index) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = &message.fields[index];
            to.path.push(Step::Field(field.name));
            if seen & 1 << index != 0 {
                return Err(A::Error::duplicate_field(field.name));
            }
            seen |= 1 << index;
            let present = map.next_value_seed(FieldValue { field, to })?;
            let arms = present && field.label == Label::Arm;
            if let (true, Some(other)) = (arms, arm) {
                let reason = format_args!("excludes `{other}`, which came before");
                return Err(A::Error::custom(reason));
            }
            arm = if arms { Some(field.name) } else { arm };
            to.path.pop();
        }
        to.depth -= 1;
        Ok(())
    }
}

// === impl Name ===

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.by_name(name))
    }
}

// === impl FieldValue ===

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        let Self { field, to } = self;
        match field.label {
            Label::Many => json.deserialize_seq(List { field, to })?,
            Label::One | Label::Arm => to.value(field, json)?,
        }
        Ok(true)
    }
}

// === impl List ===

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, to } = self;
        let before = to.out.len();
        let start = match field.kind.is_packed() {
            true => Some(to.open(field.number)),
            false => None,
        };
        let mut count = 0;
        loop {
            to.path.push(Step::Index(count));
            if list.next_element_seed(Element { field, to })?.is_none() {
                break;
            }
            to.path.pop();
            count += 1;
        }
        to.path.pop();
        match start {
            Some(_) if count == 0 => to.out.truncate(before),
            Some(start) => to.close(start).map_err(A::Error::custom)?,
            None => {}
        }
        Ok(())
    }
}

// === impl Element ===

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Self { field, to } = self;
        if !field.kind.is_packed() {
            return to.value(field, json);
        }
        let bits = Scalar(field.kind).deserialize(json)?;
        to.scalar(field.kind, bits).map_err(D::Error::custom)
    }
}
