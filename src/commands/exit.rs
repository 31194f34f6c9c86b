//! How a command ends.

use std::process::ExitCode;

/// The exit codes that scripts and service managers rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// Anything else: 1.
    Failed,
    /// The configuration or an argument is bad, nothing was bound: 2.
    BadConfiguration,
    /// An address cannot be bound or storage cannot be opened: 3.
    CannotBind,
}

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::BadConfiguration => 2,
            Exit::CannotBind => 3,
        })
    }
}
