//! pprof bodies: inflating, one-pass checking, repairing, splitting,
//! summarising, writing.
//!
//! The format is google/pprof's `proto/profile.proto`.
//!
//! | module | works on | cost |
//! |---|---|---|
//! | [`inflate()`] | the bytes that arrived | one inflate |
//! | [`check()`] | inflated bytes | one walk, nothing decoded |
//! | [`repair()`], [`split_by_samples`], [`split_by_labels`], [`keep_sample_types`], [`summarize`], [`top`] | inflated bytes | decode; the first four also encode and compress |
//!
//! [`Pprof::check`] is how everybody begins; [`Pprof::read`] lends the inflated
//! bytes to the others.

mod body;
mod check;
mod decode;
mod inflate;
mod repair;
mod rules;
mod split;
mod subset;
mod summary;
pub mod synthetic;
mod unreadable;
mod walk;
mod write;

use super::wire;

pub use self::{
    body::Pprof,
    check::{Checked, check},
    inflate::{claimed_size, compress, inflate, measure, with_inflated},
    repair::{Repaired, repair},
    rules::{Action, Rule, RuleSet},
    split::{
        KeepError, LabelSplit, Promoted, keep_sample_types, split_by_labels, split_by_samples,
    },
    summary::{FlatValue, LabelKey, SampleTypeTotal, Summary, summarize, top},
    synthetic::SyntheticProfile,
    unreadable::Unreadable,
    wire::Damage,
    write::{Frame, ProfileWriter, with_comments},
};

pub(in crate::profile) use self::decode::decode;

#[cfg(test)]
mod tests;
