//! parca-agent's Arrow, as its `ProfileStoreService/Write` (schema v1) and
//! `WriteArrow` (schema v2) carry it.
//!
//! Each message is a whole Arrow IPC stream, with its dictionaries: nothing is
//! shared between messages. A v1 profile is two of them, the samples and the table
//! of the stacks that they name; a v2 profile is one.

mod body;

pub use self::body::{Arrow, Schema};
