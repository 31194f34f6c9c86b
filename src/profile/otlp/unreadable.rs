//! What a request is that cannot be read.

use super::Compression;
use crate::profile::wire::Damage;

/// Why bytes are no OTLP request: what they were, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// More than the limit once inflated.
    #[error(
        "the request is larger than {max} bytes once inflated: send smaller ones or raise the limit"
    )]
    TooLarge {
        /// The bound, in bytes.
        max: u64,
    },
    /// The compression that was announced does not hold.
    #[error("the request is no valid {}: it was damaged, or compressed in another way", .0.name())]
    Compressed(Compression),
    /// Not what OTLP is encoded as.
    #[error("{place} is no valid protobuf: {damage} (at byte {offset} of the inflated request)")]
    NotProtobuf {
        /// What was being read.
        place: &'static str,
        /// Where in the plain request.
        offset: usize,
        /// What is wrong there.
        damage: Damage,
    },
    /// A layout of before 1.10, which shares its names.
    #[error(
        "the request has the layout of opentelemetry-proto {version}, and 1.10 renumbered its \
         fields: upgrade the sender to opentelemetry-proto 1.10 or newer ({sign})"
    )]
    OldLayout {
        /// The releases that have it.
        version: &'static str,
        /// By what it was recognised.
        sign: &'static str,
    },
    /// Messages within messages without end.
    #[error("{place} is nested deeper than {max} levels")]
    TooDeep {
        /// What was being read.
        place: &'static str,
        /// The bound.
        max: usize,
    },
    /// An index that points nowhere.
    #[error("{table} has no entry {index}: the sender's dictionary is incomplete")]
    NoEntry {
        /// The table of the dictionary.
        table: &'static str,
        /// What was asked for.
        index: i64,
    },
    /// More string attributes than a resource may have.
    #[error("a resource has more than {max} string attributes")]
    TooManyAttributes {
        /// The bound.
        max: usize,
    },
    /// Who reads it has no memory to outline it in.
    #[error("there is no memory for the outline of the request")]
    NoMemory,
    /// The walk and the decoder disagree, on a string that is not UTF-8 as a rule.
    #[error("the request cannot be decoded: {0}")]
    Undecodable(String),
}
