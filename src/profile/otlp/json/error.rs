//! What is wrong with JSON that cannot be read.

/// Why JSON is not the message that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON, or a value that the field cannot have: refuse it for good.
    #[error("{place}: {reason}{}", Position(*.line, *.column))]
    Invalid {
        /// The path to the value, such as `resourceProfiles[0].resource`.
        place: String,
        /// What is there, and what should be.
        reason: String,
        /// From 1; 0 when unknown.
        line: usize,
        /// From 1, in bytes, one off at times; 0 when unknown.
        column: usize,
    },
    /// More protobuf than the limit.
    #[error(
        "the JSON is more than {max} bytes of protobuf: send less at a time or raise the limit"
    )]
    TooLarge {
        /// The bound, in bytes.
        max: u64,
    },
}

/// Reasons quote what was sent, which may be large.
const MAX_REASON: usize = 256;

struct Position(usize, usize);

// === impl JsonError ===

impl JsonError {
    /// What serde_json says about the value at `path`.
    pub(super) fn invalid(path: String, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let mut reason = error.to_string();
        let said = format!(" at line {line} column {column}");
        if let Some(length) = reason.strip_suffix(&said).map(str::len) {
            reason.truncate(length);
        }
        Self::Invalid {
            place: match path.is_empty() {
                true => "the JSON".to_owned(),
                false => path,
            },
            reason: shortened(reason),
            line,
            column,
        }
    }

    /// The decoder does not take what was written for it, which no JSON is known
    /// to cause.
    pub(super) fn undecodable(error: prost::DecodeError) -> Self {
        Self::Invalid {
            place: "the JSON".to_owned(),
            reason: error.to_string(),
            line: 0,
            column: 0,
        }
    }
}

/// The beginning and the end, where a reason says what was expected.
fn shortened(reason: String) -> String {
    if reason.len() <= MAX_REASON {
        return reason;
    }
    let head = reason.floor_char_boundary(MAX_REASON / 2);
    let tail = reason.ceil_char_boundary(reason.len() - MAX_REASON / 2);
    [&reason[..head], " … ", &reason[tail..]].concat()
}

// === impl Position ===

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1) {
            (0, _) => Ok(()),
            (line, column) => write!(f, " (line {line}, column {column})"),
        }
    }
}
