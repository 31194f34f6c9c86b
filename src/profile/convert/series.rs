//! Attributes that become labels of a series: one pprof for each combination of
//! their values.

use super::{
    ConvertError,
    lookup::Lookup,
    value::{Plain, plain},
};
use crate::profile::{Labels, interned::Table};
use std::{collections::HashMap, rc::Rc};

/// Which attributes of samples become labels.
pub(super) struct Promotion<'a> {
    /// Those that the resource does not have already.
    names: Vec<&'a str>,
    max: usize,
}

/// The series of a group.
#[derive(Debug, Default)]
pub(super) struct Division<'a> {
    /// The labels of each; the first is of those that have none of the attributes.
    pub(super) series: Vec<Vec<(&'a str, String)>>,
    /// The series of each set of attributes.
    pub(super) of_set: Vec<usize>,
    /// Whether there would have been more than allowed.
    pub(super) capped: bool,
}

/// Sets of attributes that samples have; set 0 is empty.
pub(super) struct Sets {
    table: Table,
    pub(super) indices: Vec<Vec<i32>>,
    scratch: (Vec<i32>, Vec<u8>),
}

// === impl Promotion ===

impl<'a> Promotion<'a> {
    /// The attributes `names`, of which at most `max` combinations are promoted.
    /// What the resource says wins.
    pub(super) fn new(names: &'a [String], max: usize, resource: &Labels) -> Self {
        let names = names.iter().map(String::as_str);
        let names = names.filter(|name| resource.get(name).is_none());
        Self {
            names: names.collect(),
            max,
        }
    }

    /// The place of a name in the list.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        self.names.iter().position(|name| *name == key)
    }

    /// Divides sets of attributes. `fixed` are keys whose value is that of the
    /// whole profile.
    pub(super) fn divide(
        &self,
        lookup: Lookup<'_>,
        sets: &Sets,
        is_fixed: impl Fn(&str) -> bool,
    ) -> Result<Division<'a>, ConvertError> {
        let mut division = Division {
            series: vec![Vec::new()],
            of_set: Vec::with_capacity(sets.indices.len()),
            capped: false,
        };
        if self.names.is_empty() {
            division.of_set.resize(sets.indices.len(), 0);
            return Ok(division);
        }
        let mut places: HashMap<Vec<Option<Rc<str>>>, usize> = HashMap::new();
        let mut promoted: HashMap<i32, Option<(usize, Rc<str>)>> = HashMap::new();
        for set in &sets.indices {
            let mut values = vec![None; self.names.len()];
            for index in set {
                let found = match promoted.get(index) {
                    Some(found) => found,
                    None => {
                        let found = self.promoted(lookup, *index, &is_fixed)?;
                        promoted.entry(*index).or_insert(found)
                    }
                };
                if let Some((place, text)) = found {
                    values[*place] = Some(text.clone());
                }
            }
            let place = match places.get(&values) {
                _ if values.iter().all(Option::is_none) => 0,
                Some(place) => *place,
                None if division.series.len() <= self.max => {
                    let labels = self.names.iter().zip(&values);
                    let labels = labels
                        .filter_map(|(name, value)| Some((*name, value.as_deref()?.to_owned())));
                    division.series.push(labels.collect());
                    places.insert(values, division.series.len() - 1);
                    division.series.len() - 1
                }
                None => {
                    division.capped = true;
                    0
                }
            };
            division.of_set.push(place);
        }
        Ok(division)
    }

    /// Which label an attribute becomes, and its value.
    fn promoted(
        &self,
        lookup: Lookup<'_>,
        index: i32,
        is_fixed: impl Fn(&str) -> bool,
    ) -> Result<Option<(usize, Rc<str>)>, ConvertError> {
        let Some(attribute) = lookup.attribute(("sample.attribute_indices", index))? else {
            return Ok(None);
        };
        let key = lookup.text(("attribute.key_strindex", attribute.key_strindex))?;
        let Some(place) = self.place(key).filter(|_| !is_fixed(key)) else {
            return Ok(None);
        };
        let text = text(&plain(lookup, &attribute.value)?);
        Ok(text.map(|text| (place, text.into())))
    }
}

/// A label's value: the first that is not blank.
pub(super) fn text(values: &[Plain<'_>]) -> Option<String> {
    values.iter().find_map(|value| match value {
        Plain::Int(number) => Some(number.to_string()),
        Plain::Text(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
    })
}

// === impl Sets ===

impl Sets {
    /// The empty set.
    pub(super) fn new() -> Self {
        Self {
            table: Table::new(b""),
            indices: vec![Vec::new()],
            scratch: (Vec::new(), Vec::new()),
        }
    }

    /// The set of these attributes, whatever their order.
    pub(super) fn place(&mut self, indices: &[i32]) -> u32 {
        if indices.is_empty() {
            return 0;
        }
        let (sorted, bytes) = &mut self.scratch;
        sorted.clear();
        sorted.extend(indices.iter().filter(|index| **index != 0));
        sorted.sort_unstable();
        sorted.dedup();
        bytes.clear();
        for index in &*sorted {
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        let place = self.table.intern(bytes);
        if place as usize == self.indices.len() {
            self.indices.push(sorted.clone());
        }
        place
    }
}
