//! Values out of JSON that are no messages: numbers, booleans, strings, bytes.

use super::table::Kind;
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// A boolean or a number, as the bits that are encoded.
pub(super) struct Scalar(pub(super) Kind);

/// A string or bytes, and where they go.
pub(super) struct Text<'o> {
    pub(super) kind: Kind,
    pub(super) out: &'o mut Vec<u8>,
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

// === impl Scalar ===

impl Scalar {
    /// The bits of an integer that is within the field's bounds.
    fn integer(&self, value: i128) -> Option<u64> {
        match self.0 {
            Kind::Int32 => i32::try_from(value).ok().map(|v| i64::from(v) as u64),
            Kind::Int64 => i64::try_from(value).ok().map(|v| v as u64),
            Kind::Uint32 => u32::try_from(value).ok().map(u64::from),
            Kind::Uint64 | Kind::Fixed64 => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The bits of a number with a fraction or an exponent.
    fn real(&self, value: f64) -> Option<u64> {
        // Every integer field ends below it, and i128 is far above.
        const END: f64 = 18_446_744_073_709_551_616.0;
        match self.0 {
            Kind::Double => Some(value.to_bits()),
            _ if value.fract() == 0.0 && value.abs() < END => self.integer(value as i128),
            _ => None,
        }
    }

    fn text(&self, text: &str) -> Option<u64> {
        if let (false, Ok(value)) = (self.is_double(), text.parse::<i64>()) {
            return self.integer(i128::from(value));
        }
        if let (false, Ok(value)) = (self.is_double(), text.parse::<u64>()) {
            return self.integer(i128::from(value));
        }
        match text {
            "NaN" => self.real(f64::NAN),
            "Infinity" => self.real(f64::INFINITY),
            "-Infinity" => self.real(f64::NEG_INFINITY),
            // What a JSON number may be made of; "inf" is Rust's own.
            _ if text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) =>
            {
                let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
                value.and_then(|value| self.real(value))
            }
            _ => None,
        }
    }

    fn is_double(&self) -> bool {
        matches!(self.0, Kind::Double)
    }
}

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<u64, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Scalar {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Bool => "true or false",
            Kind::Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Kind::Int32 => "an integer of 32 bits",
            Kind::Uint32 => "an integer of 32 bits from 0",
            Kind::Int64 => "an integer of 64 bits, as a number or a string",
            _ => "an integer of 64 bits from 0, as a number or a string",
        })
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<u64, E> {
        match self.0 {
            Kind::Bool => Ok(u64::from(value)),
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        let bits = match self.is_double() {
            true => self.real(value as f64),
            false => self.integer(i128::from(value)),
        };
        bits.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        let bits = match self.is_double() {
            true => self.real(value as f64),
            false => self.integer(i128::from(value)),
        };
        bits.ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        let bits = self.real(value);
        bits.ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let bits = self.text(text);
        bits.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

// === impl Text ===

impl Text<'_> {
    /// Appends what the text stands for; `None` when it stands for nothing.
    fn append(&mut self, text: &str) -> Option<()> {
        match self.kind {
            Kind::Id(_) if text.is_empty() => Some(()),
            Kind::Id(bytes) if text.len() == 2 * bytes => self.append_hex(text),
            Kind::Id(bytes) => {
                let start = self.out.len();
                self.append_base64(text)?;
                (self.out.len() - start == bytes).then_some(())
            }
            Kind::Bytes => self.append_base64(text),
            _ => {
                self.out.extend_from_slice(text.as_bytes());
                Some(())
            }
        }
    }

    fn append_hex(&mut self, text: &str) -> Option<()> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        for pair in text.as_bytes().chunks_exact(2) {
            let byte = digit(pair[0])? << 4 | digit(pair[1])?;
            self.out.push(byte as u8);
        }
        Some(())
    }

    fn append_base64(&mut self, text: &str) -> Option<()> {
        let engine = match text.contains(['-', '_']) {
            true => &BASE64URL,
            false => &BASE64,
        };
        engine.decode_vec(text, self.out).ok()
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Id(bytes) => write!(f, "{} hex digits or {bytes} bytes as base64", 2 * bytes),
            Kind::Bytes => f.write_str("base64"),
            _ => f.write_str("a string"),
        }
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.append(text) {
            Some(()) => Ok(()),
            None => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}
