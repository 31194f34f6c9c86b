//! The signals that matter.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that matter; caught from when it is made.
pub(super) struct Signals {
    /// The end.
    pub(super) stop: Stop,
    /// A reload.
    pub(super) hangup: Signal,
}

/// The signals that ask the process to end.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

// === impl Signals ===

impl Signals {
    /// Catches signals from now on; must be called within a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

// === impl Stop ===

impl Stop {
    /// Resolves at the next signal that asks the process to end.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
