//! Why bytes are not what parca-agent writes.

/// Why a body is not read. None of them gets better by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// Not framed as Arrow IPC.
    #[error("the body is no Arrow IPC stream: {what} at byte {offset}")]
    NotArrow {
        /// What is wrong there.
        what: &'static str,
        /// Where in the body.
        offset: usize,
    },
    /// The messages of the stream do not make one record.
    #[error("the Arrow stream is not one record of parca-agent: {0}")]
    Shape(&'static str),
    /// A schema that the relay does not know.
    #[error(
        "the Arrow schema has `parca_write_schema_version` {found:?}, and the relay knows v1 and v2: \
         upgrade the relay, or send another version"
    )]
    Version {
        /// What it says; empty when it says nothing.
        found: String,
    },
    /// A column that there has to be.
    #[error("the Arrow schema {version} has no column `{column}`: the sender is no parca-agent")]
    NoColumn {
        /// The schema.
        version: &'static str,
        /// What is missed.
        column: &'static str,
    },
    /// A column of another type than it has.
    #[error("the Arrow column `{column}` is of type {found}, which is not read there")]
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// More than is allowed.
    #[error(
        "the Arrow body has {inflated} bytes without compression, and {max} are allowed: raise the \
         limit if this is no bomb"
    )]
    TooLarge {
        /// What it has, in bytes.
        inflated: u64,
        /// The bound, in bytes.
        max: u64,
    },
    /// The columns contradict each other or their types.
    #[error("the Arrow columns cannot be decoded: {0}")]
    Undecodable(String),
}

impl From<arrow_schema::ArrowError> for Unreadable {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Undecodable(error.to_string())
    }
}
