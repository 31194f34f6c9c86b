//! The protobuf wire format, read without decoding.
//!
//! What this accepts prost decodes too, strings that are not UTF-8 aside, so
//! that a body that was walked can also be mended.

use std::fmt;

/// What is wrong with the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A field goes on after the end.
    Truncated,
    /// An integer has more than 64 bits.
    Varint,
    /// A field has number 0 or too large a one, or an unknown encoding.
    Key,
    /// A known field is encoded as something else.
    WireType,
    /// Groups are not closed in order, or are nested too deep.
    Group,
}

/// The room with which a decoded list begins, in entries.
pub(in crate::profile) const LIST_FIRST: u64 = 4;

/// The room that an entry of a list takes at most, in entries: a list grows by
/// doubling, and while it moves it stands once and twice.
pub(in crate::profile) const LIST_GROWTH: u64 = 3;

/// The unread bytes of a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::profile) struct Wire<'a>(pub(super) &'a [u8]);

/// How deep groups, which pprof does not use, may be nested.
const MAX_GROUPS: usize = 32;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LEN: u32 = 2;
const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const FIXED32: u32 = 5;

/// The key of field `number` as an integer.
pub(in crate::profile) const fn int(number: u32) -> u32 {
    number << 3 | VARINT
}

/// The key of field `number` as a string, a message or packed integers.
pub(in crate::profile) const fn len(number: u32) -> u32 {
    number << 3 | LEN
}

// === impl Wire ===

impl<'a> Wire<'a> {
    /// The next field's key; `None` at the end.
    #[inline(always)]
    pub(in crate::profile) fn key(&mut self) -> Result<Option<u32>, Damage> {
        match self.0 {
            [] => Ok(None),
            // One byte, field 1 to 15.
            [key @ 0x08..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(Some(u32::from(*key)))
            }
            _ => self.long_key().map(Some),
        }
    }

    #[cold]
    fn long_key(&mut self) -> Result<u32, Damage> {
        let key = u32::try_from(self.varint()?).map_err(|_| Damage::Key)?;
        if key >> 3 == 0 {
            return Err(Damage::Key);
        }
        Ok(key)
    }

    /// An integer; negative ones come as their two's complement.
    #[inline(always)]
    pub(in crate::profile) fn varint(&mut self) -> Result<u64, Damage> {
        match self.0 {
            [a @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*a))
            }
            [a, b @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*a & 0x7f) | u64::from(*b) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            if place == 9 && *byte > 1 {
                return Err(Damage::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(Damage::Truncated)
    }

    /// The content of a string, a message or packed integers.
    #[inline(always)]
    pub(in crate::profile) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = usize::try_from(self.varint()?).map_err(|_| Damage::Truncated)?;
        let (content, rest) = self.0.split_at_checked(length).ok_or(Damage::Truncated)?;
        self.0 = rest;
        Ok(content)
    }

    /// Passes over a field of a message whose known fields end with `known`.
    /// A known field that comes here is encoded wrongly.
    #[cold]
    pub(in crate::profile) fn other(&mut self, key: u32, known: u32) -> Result<(), Damage> {
        if key >> 3 <= known {
            return Err(Damage::WireType);
        }
        self.skip(key)
    }

    /// Passes over a field of a message whose fields with contents are `known`;
    /// a known field that is encoded otherwise is damage.
    pub(in crate::profile) fn other_than(&mut self, key: u32, known: &[u32]) -> Result<(), Damage> {
        let is_wrong = |right: &u32| right >> 3 == key >> 3 && *right != key;
        if known.iter().any(is_wrong) {
            return Err(Damage::WireType);
        }
        self.skip(key)
    }

    /// Passes over the field that began with `key`.
    pub(in crate::profile) fn skip(&mut self, key: u32) -> Result<(), Damage> {
        let mut open: Vec<u32> = Vec::new();
        let mut key = key;
        loop {
            match key & 7 {
                VARINT => _ = self.varint()?,
                LEN => _ = self.bytes()?,
                FIXED64 => self.fixed(8)?,
                FIXED32 => self.fixed(4)?,
                START_GROUP if open.len() < MAX_GROUPS => open.push(key >> 3),
                END_GROUP if open.last() == Some(&(key >> 3)) => _ = open.pop(),
                START_GROUP | END_GROUP => return Err(Damage::Group),
                _ => return Err(Damage::Key),
            }
            if open.is_empty() {
                return Ok(());
            }
            key = self.key()?.ok_or(Damage::Truncated)?;
        }
    }

    fn fixed(&mut self, width: usize) -> Result<(), Damage> {
        self.0 = self.0.get(width..).ok_or(Damage::Truncated)?;
        Ok(())
    }
}

/// Appends an integer.
pub(in crate::profile) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field with a string, a message or packed integers.
pub(in crate::profile) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_varint(out, u64::from(len(number)));
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// The bytes of a field whose content has `length` bytes.
pub(in crate::profile) fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// The bytes of an integer.
#[inline]
pub(in crate::profile) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

// === impl Damage ===

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it ends in the middle of a field",
            Self::Varint => "an integer has more than 64 bits",
            Self::Key => "a field has an impossible number or encoding",
            Self::WireType => "a field has the encoding of another type",
            Self::Group => "a group is not closed",
        })
    }
}
