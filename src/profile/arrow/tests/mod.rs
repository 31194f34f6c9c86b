//! Bodies of parca-agent, made up, of its own encoder and meant to harm: what they
//! are told to be, what they say, and what is written of them.

mod bodies;
mod fixtures;
mod hostile;
mod meaning;

use super::{Arrow, Unreadable, write_v1, write_v2};
use crate::profile::Labels;

/// More than any message of tests has.
const MAX: u64 = 1 << 26;

/// A body with the labels that a profile is to have, as an exporter writes it.
fn relabelled(body: &Arrow, wanted: &Labels, max: u64) -> Result<Arrow, Unreadable> {
    let mut table = body.decode(max)?;
    table.overlay(wanted);
    match body.is_v1() {
        true => write_v1(&table, max).map(|(samples, stacks)| Arrow::v1(samples, stacks)),
        false => write_v2(&table, max).map(Arrow::v2),
    }
}
