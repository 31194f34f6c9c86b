//! Who is connected.

use std::{fmt, sync::Arc};

/// Who is connected: an address, or the socket's path behind `unix:`.
#[derive(Clone, Debug)]
pub struct Peer(Arc<str>);

// === impl Peer ===

impl Peer {
    pub(crate) fn new(address: &str) -> Self {
        Self(address.into())
    }

    /// The address, shared.
    pub fn address(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
