//! pprof bodies: inflating, one-pass checking, repairing, splitting,
//! summarising, writing.
//!
//! The format is google/pprof's `proto/profile.proto`.

mod body;
mod check;

pub use self::{
    body::{Pprof, Unreadable},
    check::{Checked, Rule, RuleSet},
};
