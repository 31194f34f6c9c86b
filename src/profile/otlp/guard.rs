//! The guard before every decode: what will it take?
//!
//! An empty message is two bytes on the wire and up to 176 in memory, and a
//! thousandth of that compressed. So the wire is walked first, without building
//! anything, and what decoding would allocate is counted, to be charged to the
//! process's memory before it happens.

use super::{Unreadable, outline::Place};
use crate::{
    r#gen::opentelemetry::proto::{
        common::v1::{AnyValue, EntityRef, KeyValue},
        profiles::v1development::{
            Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ResourceProfiles,
            Sample, ScopeProfiles, Stack,
        },
    },
    profile::wire::{LIST_FIRST, LIST_GROWTH, Wire, len},
};

/// Messages within messages, at most; prost's own limit is 100.
const MAX_DEPTH: usize = 64;

/// What a walk over all of a request counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// What decoding allocates at most, in bytes.
    pub decoded: u64,
    /// Messages of any kind.
    pub messages: u64,
    /// Messages of type `Sample`.
    pub samples: u64,
}

/// What kind a field's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    ResourceProfiles,
    Resource,
    EntityRef,
    ScopeProfiles,
    Scope,
    Profile,
    Sample,
    Dictionary,
    Mapping,
    Location,
    Line,
    Function,
    Link,
    Attribute,
    Stack,
    KeyValue,
    AnyValue,
    Array,
    Map,
    ValueType,
    /// A string in a list of strings.
    ListedText,
    /// A string or bytes.
    Text,
    /// Packed integers, of so many bytes each in memory.
    Integers(u64),
    /// Packed 64-bit numbers of fixed width.
    Fixed,
    /// Nothing that is kept.
    Unknown,
}

/// Counts what decoding a plain request takes, by walking all of it.
///
/// # Errors
///
/// When it is no protobuf, or messages are nested too deep.
pub fn census(plain: &[u8]) -> Result<Census, Unreadable> {
    let mut census = Census::default();
    let place = Place::new(plain, "the request");
    census.message(Kind::Request, plain, &place, 0)?;
    Ok(census)
}

// === impl Census ===

impl Census {
    fn message(
        &mut self,
        kind: Kind,
        content: &[u8],
        place: &Place<'_>,
        depth: usize,
    ) -> Result<(), Unreadable> {
        if depth > MAX_DEPTH {
            return Err(Unreadable::TooDeep {
                place: "an attribute's value",
                max: MAX_DEPTH,
            });
        }
        self.messages += 1;
        self.samples += u64::from(kind == Kind::Sample);
        // By field, whether its list has begun.
        let mut begun = 0_u32;
        let mut wire = Wire(content);
        while let Some(key) = place.check(wire.0, wire.key())? {
            let number = key >> 3;
            let kind = kind.field(number);
            let bit = 1_u32.checked_shl(number).unwrap_or(0);
            let first = begun & bit == 0;
            begun |= bit;
            if key != len(number) {
                place.check(wire.0, wire.skip(key))?;
                // An integer of a list that is not packed.
                if let Kind::Integers(_) | Kind::Fixed = kind {
                    self.take(8 * if first { LIST_FIRST } else { LIST_GROWTH });
                }
                continue;
            }
            let content = place.check(wire.0, wire.bytes())?;
            self.take(kind.entry(first));
            match kind {
                Kind::Unknown => {}
                Kind::Text | Kind::ListedText => self.take(content.len() as u64),
                Kind::Integers(size) => self.take(content.len() as u64 * size * LIST_GROWTH),
                Kind::Fixed => self.take(content.len() as u64 * LIST_GROWTH),
                _ => self.message(kind, content, place, depth + 1)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) {
        self.decoded = self.decoded.saturating_add(bytes);
    }
}

// === impl Kind ===

impl Kind {
    /// What the content of a field of this message is.
    fn field(self, number: u32) -> Self {
        match (self, number) {
            (Self::Request, 1) => Self::ResourceProfiles,
            (Self::Request, 2) => Self::Dictionary,
            (Self::ResourceProfiles, 1) => Self::Resource,
            (Self::ResourceProfiles, 2) => Self::ScopeProfiles,
            (Self::Resource, 1) | (Self::Scope, 3) | (Self::Map, 1) => Self::KeyValue,
            (Self::Resource, 3) => Self::EntityRef,
            (Self::EntityRef, 3 | 4) => Self::ListedText,
            (Self::ScopeProfiles, 1) => Self::Scope,
            (Self::ScopeProfiles, 2) => Self::Profile,
            (Self::Profile, 1 | 5) => Self::ValueType,
            (Self::Profile, 2) => Self::Sample,
            (Self::Profile, 11) | (Self::Sample, 2) => Self::Integers(4),
            (Self::Sample, 4) => Self::Integers(8),
            (Self::Sample, 5) => Self::Fixed,
            (Self::Dictionary, 1) => Self::Mapping,
            (Self::Dictionary, 2) => Self::Location,
            (Self::Dictionary, 3) => Self::Function,
            (Self::Dictionary, 4) => Self::Link,
            (Self::Dictionary, 5) => Self::ListedText,
            (Self::Dictionary, 6) => Self::Attribute,
            (Self::Dictionary, 7) => Self::Stack,
            (Self::Mapping, 5) | (Self::Location, 4) | (Self::Stack, 1) => Self::Integers(4),
            (Self::Location, 3) => Self::Line,
            (Self::KeyValue | Self::Attribute, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::Map,
            (Self::ResourceProfiles | Self::ScopeProfiles, 3)
            | (Self::EntityRef | Self::Scope | Self::Link, 1 | 2)
            | (Self::Profile, 7 | 9 | 10)
            | (Self::KeyValue, 1)
            | (Self::AnyValue, 1 | 7) => Self::Text,
            _ => Self::Unknown,
        }
    }

    /// What one of them takes in the list it stands in.
    fn entry(self, first: bool) -> u64 {
        let room = if first { LIST_FIRST } else { LIST_GROWTH };
        let size = match self {
            Self::ResourceProfiles => size_of::<ResourceProfiles>(),
            Self::EntityRef => size_of::<EntityRef>(),
            Self::ScopeProfiles => size_of::<ScopeProfiles>(),
            Self::Profile => size_of::<Profile>(),
            Self::Sample => size_of::<Sample>(),
            Self::Mapping => size_of::<Mapping>(),
            Self::Location => size_of::<Location>(),
            Self::Line => size_of::<Line>(),
            Self::Function => size_of::<Function>(),
            Self::Link => size_of::<Link>(),
            Self::Attribute => size_of::<KeyValueAndUnit>(),
            Self::Stack => size_of::<Stack>(),
            Self::KeyValue => size_of::<KeyValue>(),
            Self::AnyValue => size_of::<AnyValue>(),
            Self::ListedText => size_of::<String>(),
            // What follows is counted by its bytes.
            Self::Integers(_) | Self::Fixed if first => 8,
            // An allocation is no smaller than 16.
            Self::Text => return 16,
            _ => 0,
        };
        size as u64 * room
    }
}
