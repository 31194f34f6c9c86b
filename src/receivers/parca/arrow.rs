//! What a receiver asks about Arrow messages, without decoding their columns.

use crate::profile::{
    Labels,
    arrow::{Arrow, Schema},
};
use bytes::Bytes;

/// What an Arrow message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Samples and stacks of schema v2.
    V2,
    /// Samples of schema v1.
    Samples,
    /// Stacks of schema v1.
    Stacks,
}

/// What a look at an Arrow message told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) kind: Kind,
    pub(super) rows: u64,
}

/// STUB until `profile::arrow` has it.
pub(super) fn outline(message: &Bytes) -> Result<Outline, String> {
    let holds = |text: &[u8]| message.windows(text.len()).any(|window| window == text);
    if !message.starts_with(&[0xff; 4]) {
        return Err("the body is no Arrow IPC stream".to_owned());
    }
    let kind = if holds(b"is_complete") {
        Kind::Stacks
    } else if holds(b"\x02\0\0\0v2") {
        Kind::V2
    } else if holds(b"\x02\0\0\0v1") {
        Kind::Samples
    } else {
        return Err("the Arrow schema has no known `parca_write_schema_version`".to_owned());
    };
    Ok(Outline { kind, rows: 1 })
}

/// STUB until `profile::arrow` has it.
pub(super) fn stacks_request(samples: &Bytes) -> Result<Bytes, String> {
    Ok(samples.clone())
}

/// STUB until `profile::arrow` has it.
pub(super) fn constant_labels(arrow: &Arrow) -> Labels {
    let version = match arrow.schema() {
        Schema::V1 => "v1",
        Schema::V2 => "v2",
    };
    [("stub", version)].into_iter().collect()
}
