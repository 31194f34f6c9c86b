//! The labels of resources that were seen lately.
//!
//! A sender sends the same few resources with every request. Their labels are
//! remembered by the bytes of the resource, so that they are neither read nor
//! allocated again, and all requests that wait in a queue share them.
//!
//! Each thread remembers [`SLOTS`] resources of at most [`LARGEST`] bytes, which
//! is less than a megabyte. What points into a dictionary is never remembered:
//! its bytes mean something else in the next request.

use crate::profile::Labels;
use std::{
    cell::RefCell,
    hash::{BuildHasher, RandomState},
};

/// Resources that a thread remembers.
const SLOTS: usize = 256;

/// The largest resource that is remembered, in bytes.
const LARGEST: usize = 512;

struct Recent {
    hasher: RandomState,
    slots: Vec<Option<(Box<[u8]>, Labels)>>,
}

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::new(Recent::new());
}

/// The labels of a resource with these bytes, if it was seen lately.
pub(super) fn get(resource: &[u8]) -> Option<Labels> {
    if resource.len() > LARGEST {
        return None;
    }
    RECENT.with_borrow(|recent| {
        let (known, labels) = recent.slots.get(recent.place(resource))?.as_ref()?;
        (**known == *resource).then(|| labels.clone())
    })
}

/// Remembers the labels of a resource, instead of those that had its place.
pub(super) fn put(resource: &[u8], labels: &Labels) {
    if resource.len() > LARGEST {
        return;
    }
    RECENT.with_borrow_mut(|recent| {
        if recent.slots.is_empty() {
            recent.slots.resize_with(SLOTS, || None);
        }
        let place = recent.place(resource);
        recent.slots[place] = Some((resource.into(), labels.clone()));
    });
}

// === impl Recent ===

impl Recent {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: Vec::new(),
        }
    }

    fn place(&self, resource: &[u8]) -> usize {
        self.hasher.hash_one(resource) as usize % SLOTS
    }
}
