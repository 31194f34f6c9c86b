//! Locations, lines, functions and mappings, each once.

use crate::profile::arrow::{
    column::NONE,
    table::{Function, Line, Location, Mapping},
};
use hashbrown::{HashTable, hash_table::Entry};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// Locations as they are collected.
#[derive(Debug)]
pub(super) struct Locations {
    pub(super) locations: Vec<Location>,
    pub(super) lines: Vec<Line>,
    pub(super) functions: Vec<Function>,
    pub(super) mappings: Vec<Mapping>,
    by_content: HashTable<(u64, u32)>,
    by_function: HashMap<Function, u32>,
    by_mapping: HashMap<Mapping, u32>,
    hasher: RandomState,
}

// === impl Locations ===

impl Locations {
    pub(super) fn new() -> Self {
        Self {
            locations: Vec::new(),
            lines: Vec::new(),
            functions: Vec::new(),
            mappings: vec![Mapping::default()],
            by_content: HashTable::new(),
            by_function: HashMap::new(),
            by_mapping: HashMap::from([(Mapping::default(), 0)]),
            hasher: RandomState::new(),
        }
    }

    /// The place of a mapping.
    pub(super) fn mapping(&mut self, mapping: Mapping) -> u32 {
        *self.by_mapping.entry(mapping).or_insert_with(|| {
            self.mappings.push(mapping);
            self.mappings.len() as u32 - 1
        })
    }

    /// The place of a function; `NONE` for one of which nothing is known.
    pub(super) fn function(&mut self, function: Function) -> u32 {
        if function == Function::default() {
            return NONE;
        }
        *self.by_function.entry(function).or_insert_with(|| {
            self.functions.push(function);
            self.functions.len() as u32 - 1
        })
    }

    /// The place of a location with these lines.
    pub(super) fn location(&mut self, mut location: Location, lines: Option<&[Line]>) -> u32 {
        location.count = lines.map_or(NONE, |lines| lines.len() as u32);
        location.begin = 0;
        let content = lines.unwrap_or_default();
        let Location {
            address,
            frame_type,
            mapping,
            count,
            ..
        } = location;
        let hash = self
            .hasher
            .hash_one((address, frame_type, mapping, count, content));
        let (locations, all) = (&self.locations, &self.lines);
        let is_it = |(had, place): &(u64, u32)| {
            *had == hash
                && locations.get(*place as usize).is_some_and(|other| {
                    let begin = other.begin as usize;
                    let same = Location { begin: 0, ..*other } == location;
                    same && all.get(begin..begin + content.len()) == Some(content)
                })
        };
        match self.by_content.entry(hash, is_it, |(hash, _)| *hash) {
            Entry::Occupied(found) => found.get().1,
            Entry::Vacant(vacant) => {
                let place = self.locations.len() as u32;
                vacant.insert((hash, place));
                location.begin = self.lines.len() as u32;
                self.lines.extend_from_slice(content);
                self.locations.push(location);
                place
            }
        }
    }
}
