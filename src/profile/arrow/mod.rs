//! parca-agent's Arrow, as its `ProfileStoreService/Write` (schema v1) and
//! `WriteArrow` (schema v2) carry it.
//!
//! Each message is a whole Arrow IPC stream, with its dictionaries: nothing is
//! shared between messages. A v1 profile is two of them, the samples and the table
//! of the stacks that they name; a v2 profile is one.
//!
//! | | |
//! |---|---|
//! | [`outline`] | what a message is and what decoding it takes, without decoding |
//! | [`stacks_request`], [`select_stacks`] | both sides of the conversation about stacks |
//! | [`constant_labels`] | labels, which are columns |
//! | [`Arrow::decode`] | a [`Table`]: what it says, whatever its schema |
//! | [`Table::overlay`] | the labels that its profile has by now |
//! | [`write_v1`], [`write_v2`], [`halves`] | a table as messages, and a body in two |
//!
//! What comes in may be anything: [`outline`] counts what decoding would take by
//! what the messages declare, before anything is allocated, and everything that
//! decodes is told how much it may take.

mod body;
mod column;
mod decode;
mod halves;
mod kinds;
mod labels;
mod layout;
mod outline;
mod read;
mod stacks;
mod stream;
mod synthetic;
mod table;
mod texts;
mod unreadable;
mod write;

pub(in crate::profile) use self::table::{Kind, LabelSets, Location};
pub use self::{
    body::{Arrow, Schema},
    halves::halves,
    labels::constant_labels,
    outline::{Outline, Part, outline},
    stacks::{select_stacks, stacks_request},
    synthetic::SyntheticArrow,
    table::Table,
    unreadable::Unreadable,
    write::{write_v1, write_v2},
};

#[cfg(test)]
mod tests;
