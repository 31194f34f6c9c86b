//! What the targets share.
#![allow(dead_code, unused_imports)]

mod grow;
mod meter;

pub use self::{grow::grow, meter::peak};

/// What a target's first byte chooses: the rest as it is, or a message grown
/// from it.
pub fn message(data: &[u8]) -> Vec<u8> {
    match data {
        [first, rest @ ..] if first & 1 == 1 => grow(rest),
        [_, rest @ ..] => rest.to_vec(),
        [] => Vec::new(),
    }
}
