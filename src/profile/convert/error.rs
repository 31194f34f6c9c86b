//! Why a profile was not converted.

use crate::profile::{
    arrow,
    pprof::{Rule, Unreadable},
};

/// Why a profile was not converted. None of them gets better by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The body is no pprof.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The body is not what parca-agent writes.
    #[error(transparent)]
    Arrow(#[from] arrow::Unreadable),
    /// A pprof breaks a rule that cannot be mended.
    #[error("{}", .0.describe())]
    Broken(Rule),
    /// The result would be larger than allowed.
    #[error("the converted profile has more than {max} bytes: raise the limit if this is no bomb")]
    TooLarge {
        /// The bound, in bytes.
        max: u64,
    },
    /// An index into the dictionary is negative or beyond its table.
    #[error(
        "{field} is {index}, but {table} has {entries} entries: the sender's dictionary is broken, or its layout is older than OTLP 1.10"
    )]
    Index {
        /// The message and its field: `sample.stack_index`.
        field: &'static str,
        /// What it says.
        index: i32,
        /// The table it points into.
        table: &'static str,
        /// How many entries that has.
        entries: usize,
    },
    /// A table does not begin with the zero value.
    #[error(
        "entry 0 of {table} is not the zero value, which OTLP asks for: its sender counts from 0 where others mean \"unset\", upgrade it"
    )]
    ZeroEntry {
        /// The table.
        table: &'static str,
    },
}
