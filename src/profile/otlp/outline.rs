//! The outer fields of a plain request, found in one shallow walk.
//!
//! Samples, stacks and tables are passed over by their lengths, apart from a
//! bounded look at the layout (see [`super::layout`]).

use super::{Unreadable, attributes, attributes::Strings, layout::Layout, room::Room};
use crate::profile::{
    Labels,
    wire::{Damage, LIST_GROWTH, Wire, len},
};
use std::ops::Range;

/// What the body of a resource takes in a pipeline beside its bytes, in bytes:
/// the profile, its ticket, its places in queues. Of six bytes on the wire.
const BODY: usize = 512;

// Fields of `ExportProfilesServiceRequest`.
const RESOURCE_PROFILES: u32 = len(1);
pub(super) const DICTIONARY: u32 = len(2);
// Fields of `ResourceProfiles`.
pub(super) const RESOURCE: u32 = len(1);
const SCOPE_PROFILES: u32 = len(2);
// Fields of `ScopeProfiles`.
const PROFILES: u32 = len(2);

/// Where things are in a plain request.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    /// The resources that have profiles, in order.
    pub(super) resources: Vec<Resource>,
    /// All other fields, whole and in order, neighbours joined: the dictionary, resources without
    /// profiles, and what a newer version may have added.
    pub(super) rest: Vec<Range<usize>>,
    /// The dictionary's contents; given several times, messages merge.
    pub(super) dictionary: Vec<Range<usize>>,
    /// Messages of type `Profile`.
    pub(super) profiles: u64,
    /// Bytes of all resources that have profiles.
    pub(super) content_len: usize,
}

/// One `ResourceProfiles`.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// Its field with key and length.
    pub(super) field: Range<usize>,
    /// Its content.
    pub(super) content: Range<usize>,
    /// Its string attributes.
    pub(super) labels: Labels,
    /// Something of it is given more than once.
    pub(super) repeated: bool,
    /// Messages of type `Profile`.
    pub(super) profiles: u64,
}

/// A walk that knows where it is.
pub(super) struct Place<'a> {
    whole: &'a [u8],
    what: &'static str,
}

// === impl Outline ===

impl Outline {
    /// Walks a plain request.
    pub(super) fn read(plain: &[u8], room: &mut Room<'_>) -> Result<Self, Unreadable> {
        let request = Place::new(plain, "the request");
        let resources = resources(plain);
        room.take(resources.saturating_mul(size_of::<Resource>() + BODY))?;
        let mut outline = Self {
            resources: Vec::with_capacity(resources),
            ..Self::default()
        };
        let mut wire = Wire(plain);
        loop {
            let begin = request.offset(wire.0);
            let Some(key) = request.check(wire.0, wire.key())? else {
                break;
            };
            if key != RESOURCE_PROFILES && key != DICTIONARY {
                request.check(wire.0, wire.other(key, 2))?;
                outline.keep(begin..request.offset(wire.0), room)?;
                continue;
            }
            let content = request.check(wire.0, wire.bytes())?;
            let end = request.offset(wire.0);
            let content = end - content.len()..end;
            if key == DICTIONARY {
                if !content.is_empty() {
                    room.take_items::<Range<usize>>(LIST_GROWTH as usize)?;
                    outline.dictionary.push(content);
                }
                outline.keep(begin..end, room)?;
                continue;
            }
            let profiles = count(plain, &content)?;
            if profiles == 0 {
                outline.keep(begin..end, room)?;
                continue;
            }
            outline.profiles += profiles;
            outline.content_len += content.len();
            outline.resources.push(Resource {
                field: begin..end,
                content,
                labels: Labels::default(),
                repeated: false,
                profiles,
            });
        }
        outline.look_inside(plain, room)?;
        Ok(outline)
    }

    /// A field that is kept whole; joined to the one before, of which there may
    /// be millions.
    fn keep(&mut self, field: Range<usize>, room: &mut Room<'_>) -> Result<(), Unreadable> {
        match self.rest.last_mut() {
            Some(last) if last.end == field.start => last.end = field.end,
            _ => {
                room.take_items::<Range<usize>>(LIST_GROWTH as usize)?;
                self.rest.push(field);
            }
        }
        Ok(())
    }

    /// What needs the dictionary, which comes last as a rule.
    fn look_inside(&mut self, plain: &[u8], room: &mut Room<'_>) -> Result<(), Unreadable> {
        let dictionary: Vec<&[u8]> = self
            .dictionary
            .iter()
            .map(|at| &plain[at.clone()])
            .collect();
        let mut strings = Strings::held_back(&dictionary);
        let mut layout = Layout::new(&dictionary);
        for resource in &mut self.resources {
            let place = Place::new(plain, "resource");
            let mut wire = Wire(&plain[resource.content.clone()]);
            let mut messages = 0;
            while let Some(key) = place.check(wire.0, wire.key())? {
                match key {
                    RESOURCE => {
                        let message = place.check(wire.0, wire.bytes())?;
                        let (labels, repeated) =
                            attributes::labels(message, &mut strings, room, &place)?;
                        messages += 1;
                        resource.labels = labels;
                        resource.repeated |= repeated || messages > 1;
                    }
                    SCOPE_PROFILES => {
                        let scope = place.check(wire.0, wire.bytes())?;
                        layout.scope(scope)?;
                    }
                    _ => place.check(wire.0, wire.skip(key))?,
                }
            }
        }
        Ok(())
    }

    /// Bytes that the outline takes beside the request.
    pub(super) fn held(&self) -> u64 {
        let labels = |resource: &Resource| {
            let labels = &resource.labels;
            labels.byte_len() + labels.len() * size_of::<crate::profile::Label>()
        };
        let resources: usize = self
            .resources
            .iter()
            .map(|resource| size_of::<Resource>() + BODY + labels(resource))
            .sum();
        (resources + self.rest.len() * size_of::<Range<usize>>()) as u64
    }
}

/// The resources of a request, as far as it can be read.
fn resources(plain: &[u8]) -> usize {
    let mut resources = 0;
    let mut wire = Wire(plain);
    while let Ok(Some(key)) = wire.key() {
        let content = match key {
            RESOURCE_PROFILES => wire.bytes().map(|content| !content.is_empty()),
            _ => wire.skip(key).map(|()| false),
        };
        match content {
            Ok(counts) => resources += usize::from(counts),
            Err(_) => break,
        }
    }
    resources
}

/// The profiles of a resource.
fn count(plain: &[u8], content: &Range<usize>) -> Result<u64, Unreadable> {
    let place = Place::new(plain, "resource_profiles");
    let mut profiles = 0;
    let mut wire = Wire(&plain[content.clone()]);
    while let Some(key) = place.check(wire.0, wire.key())? {
        if key != SCOPE_PROFILES {
            place.check(wire.0, wire.other_than(key, &[RESOURCE, len(3)]))?;
            continue;
        }
        let mut scope = Wire(place.check(wire.0, wire.bytes())?);
        while let Some(key) = place.check(scope.0, scope.key())? {
            profiles += u64::from(key == PROFILES);
            place.check(scope.0, scope.other_than(key, &[len(1), PROFILES, len(3)]))?;
        }
    }
    Ok(profiles)
}

// === impl Place ===

impl<'a> Place<'a> {
    pub(super) fn new(whole: &'a [u8], what: &'static str) -> Self {
        Self { whole, what }
    }

    /// Where `rest`, a part of the whole, begins.
    fn offset(&self, rest: &[u8]) -> usize {
        (rest.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize)
    }

    /// Says where the damage is: at the beginning of `rest`.
    pub(super) fn check<T>(&self, rest: &[u8], read: Result<T, Damage>) -> Result<T, Unreadable> {
        read.map_err(|damage| Unreadable::NotProtobuf {
            place: self.what,
            offset: self.offset(rest),
            damage,
        })
    }
}
