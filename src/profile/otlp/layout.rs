//! Recognises the layouts of before opentelemetry-proto 1.10.
//!
//! Fields were renumbered three times under the same package name and without a
//! version on the wire, and a 1.9 sample that has values only reads as a sound
//! 1.10 sample whose values are attribute indices. What can be told apart:
//!
//! | sign | layout |
//! |---|---|
//! | a `Profile` whose field 2 is a fixed64 (a `ProfileContainer`) | 1.3 |
//! | field 3 or 6 with a content, or field 5 as an integer | 1.4 to 1.7 |
//! | field 8 with a content, or field 9 as an integer | 1.8 |
//! | a `Sample` whose field 3 has a content (attribute indices) | 1.9 or older |
//! | a `Sample` with field 2 and neither values nor timestamps | 1.8 or 1.9 |
//! | a `Sample` with timestamps whose field 2 points beyond the attribute table | 1.8 or 1.9 |
//!
//! Not told apart: a 1.9 sample with timestamps and small values. The looks are
//! bounded: the first sample of a profile, and so many fields in all.

use super::Unreadable;
use crate::profile::wire::{Damage, Wire, int, len};

/// Fields looked at in one request, at most.
const MAX_LOOKS: usize = 256;

// Fields of `ScopeProfiles`.
const PROFILE: u32 = len(2);
// Fields of `Profile`.
const SAMPLE: u32 = len(2);
/// Of `ProfilesDictionary`.
const ATTRIBUTE_TABLE: u32 = len(6);

/// The keys that give a layout away.
const FIXED64_2: u32 = 2 << 3 | 1;

const CONTAINER: &str = "1.3";
const LONG_AGO: &str = "1.4 to 1.7";
const OLD: &str = "1.8 or 1.9";

/// A bounded look at samples.
pub(super) struct Layout<'a> {
    dictionary: &'a [&'a [u8]],
    looks: usize,
    attributes: Option<u64>,
}

// === impl Layout ===

impl<'a> Layout<'a> {
    /// A look at a request with this dictionary.
    pub(super) fn new(dictionary: &'a [&'a [u8]]) -> Self {
        Self {
            dictionary,
            looks: MAX_LOOKS,
            attributes: None,
        }
    }

    /// Looks at the profiles of a `ScopeProfiles`.
    pub(super) fn scope(&mut self, scope: &[u8]) -> Result<(), Unreadable> {
        let mut wire = Wire(scope);
        while let Ok(Some(key)) = wire.key() {
            if key != PROFILE {
                if wire.skip(key).is_err() {
                    break;
                }
                continue;
            }
            let Ok(profile) = wire.bytes() else { break };
            self.profile(profile)?;
            if self.looks == 0 {
                break;
            }
        }
        Ok(())
    }

    fn profile(&mut self, profile: &[u8]) -> Result<(), Unreadable> {
        let mut wire = Wire(profile);
        let mut samples = 0;
        while let Ok(Some(key)) = wire.key() {
            self.looks = self.looks.saturating_sub(1);
            if self.looks == 0 {
                break;
            }
            let (version, sign) = match key {
                FIXED64_2 => (CONTAINER, "profiles[].2 is a time"),
                _ if key == len(3) => (LONG_AGO, "profiles[].3 is a table"),
                _ if key == int(5) => (LONG_AGO, "profiles[].5 is an integer"),
                _ if key == len(6) => (LONG_AGO, "profiles[].6 has a content"),
                _ if key == len(8) => (OLD, "profiles[].8 is an id"),
                _ if key == int(9) => (OLD, "profiles[].9 is an integer"),
                SAMPLE => {
                    let Ok(sample) = wire.bytes() else { break };
                    samples += 1;
                    if samples == 1 {
                        self.sample(sample)?;
                    }
                    continue;
                }
                _ if wire.skip(key).is_err() => break,
                _ => continue,
            };
            return Err(Unreadable::OldLayout { version, sign });
        }
        Ok(())
    }

    fn sample(&mut self, sample: &[u8]) -> Result<(), Unreadable> {
        let Ok(fields) = Fields::read(sample) else {
            return Ok(());
        };
        let sign = if fields.third_has_content {
            "samples[].3 is a list"
        } else if fields.second.is_some() && !fields.fourth && !fields.fifth {
            "samples[] have neither values nor timestamps"
        } else if fields.fifth
            && !fields.fourth
            && fields.second.is_some_and(|max| max >= self.attributes())
        {
            "samples[].2 points beyond the attribute table"
        } else {
            return Ok(());
        };
        Err(Unreadable::OldLayout { version: OLD, sign })
    }

    /// The number of entries of the attribute table.
    fn attributes(&mut self) -> u64 {
        *self.attributes.get_or_insert_with(|| {
            let pieces = self.dictionary.iter();
            pieces.map(|piece| count(piece, ATTRIBUTE_TABLE)).sum()
        })
    }
}

/// What of a sample is there.
#[derive(Default)]
struct Fields {
    /// The largest integer of field 2.
    second: Option<u64>,
    third_has_content: bool,
    fourth: bool,
    fifth: bool,
}

// === impl Fields ===

impl Fields {
    fn read(sample: &[u8]) -> Result<Self, Damage> {
        let mut fields = Self::default();
        let mut wire = Wire(sample);
        while let Some(key) = wire.key()? {
            match key >> 3 {
                2 if key == len(2) => {
                    let mut packed = Wire(wire.bytes()?);
                    while !packed.0.is_empty() {
                        fields.second = fields.second.max(Some(packed.varint()?));
                    }
                    continue;
                }
                2 if key == int(2) => {
                    fields.second = fields.second.max(Some(wire.varint()?));
                    continue;
                }
                3 => fields.third_has_content = key == len(3),
                4 => fields.fourth = true,
                5 => fields.fifth = true,
                _ => {}
            }
            wire.skip(key)?;
        }
        Ok(fields)
    }
}

fn count(message: &[u8], field: u32) -> u64 {
    let mut wire = Wire(message);
    let mut found = 0;
    while let Ok(Some(key)) = wire.key() {
        found += u64::from(key == field);
        if wire.skip(key).is_err() {
            break;
        }
    }
    found
}
