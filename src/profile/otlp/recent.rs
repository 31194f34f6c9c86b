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
use std::cell::RefCell;

/// Resources that a thread remembers.
const SLOTS: usize = 256;

/// The largest resource that is remembered, in bytes.
const LARGEST: usize = 512;

type Slot = Option<(Box<[u8]>, Labels)>;

thread_local! {
    static RECENT: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// The labels of a resource with these bytes, if it was seen lately.
pub(super) fn get(resource: &[u8]) -> Option<Labels> {
    if resource.len() > LARGEST {
        return None;
    }
    RECENT.with_borrow(|slots| {
        let (known, labels) = slots.get(place(resource))?.as_ref()?;
        (**known == *resource).then(|| labels.clone())
    })
}

/// Remembers the labels of a resource, instead of those that had its place.
pub(super) fn put(resource: &[u8], labels: &Labels) {
    if resource.len() > LARGEST {
        return;
    }
    RECENT.with_borrow_mut(|slots| {
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        slots[place(resource)] = Some((resource.into(), labels.clone()));
    });
}

/// The slot of a resource. Who shares one is read again each time, so a few
/// instructions are enough.
fn place(resource: &[u8]) -> usize {
    let (words, rest) = resource.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    let mixed = words.chain(rest).fold(0_u64, |mixed, word| {
        (mixed.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
    });
    (mixed >> 32) as usize % SLOTS
}
