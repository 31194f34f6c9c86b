//! All that is wrong with a configuration, for people.

use super::tree::Position;
use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Position,
    /// The key path from the top of the configuration.
    pub path: String,
    /// The reason.
    pub message: String,
    /// The way out, where it is not part of the reason.
    pub hint: Option<String>,
}

/// Findings, printed in the order of file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

// === impl Report ===

impl Report {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the findings of another report.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(f, "{}: {}: {}", finding.at, finding.path, finding.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
