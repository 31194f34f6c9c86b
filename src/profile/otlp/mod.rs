//! OTLP profiles: a request is kept in the bytes in which it arrived.
//!
//! The messages are those of opentelemetry-proto 1.10
//! (`opentelemetry/proto/profiles/v1development/profiles.proto`); a request is an
//! `ExportProfilesServiceRequest`, which has the same bytes as `ProfilesData`.
//!
//! | | works on | cost |
//! |---|---|---|
//! | [`Request::read`] | the outer fields, down to each resource's attributes and to the profiles' lengths | one walk that passes over samples and tables |
//! | [`assemble`] | whole resources and the dictionary, as bytes | nothing when all of a request leaves unedited; else one copy |
//! | [`Request::open`] | everything, after a walk that counted what decoding takes | decode |
//!
//! Invariants:
//! - Nothing is decoded, and so no unknown field is lost, unless a component asks
//!   for structure.
//! - A compressed request that nobody edits stays compressed: it is inflated once
//!   to be walked, and forgotten again.
//! - A resource cut out of its request has no meaning without the dictionary; a
//!   body therefore holds on to its request.

mod assemble;
mod attributes;
mod body;
mod compression;
mod divide;
mod guard;
pub mod json;
mod layout;
mod outline;
mod recent;
mod request;
mod room;
mod unreadable;

pub use self::{
    assemble::{Encoded, assemble, untouched},
    body::Otlp,
    compression::Compression,
    divide::halves,
    guard::{Census, census},
    request::{Opened, Request},
    unreadable::Unreadable,
};

#[cfg(test)]
mod tests;
