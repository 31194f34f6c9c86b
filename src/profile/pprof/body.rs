//! A pprof as it arrived, and what one look inside told.

use super::Checked;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// A pprof, gzip or plain, in the bytes in which it arrived.
///
/// The first who needs to know what is inside inflates and walks it once; the
/// small result is kept beside the bytes and shared by all clones, so that a
/// profile that a receiver has looked at is not inflated again by an exporter.
#[derive(Clone, Debug)]
pub struct Pprof {
    bytes: Bytes,
    checked: Arc<OnceLock<Result<Checked, Unreadable>>>,
}

/// Why a body cannot be read as a pprof: what it was, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// There are no bytes.
    #[error("the body is empty")]
    Empty,
}

// === impl Pprof ===

impl Pprof {
    /// A body nobody has looked at.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            checked: Arc::default(),
        }
    }

    /// The bytes as they arrived.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What one pass over the inflated bytes finds. `max_inflated` bounds the
    /// inflated size, in bytes. The first call decides for all clones.
    pub fn check(&self, _max_inflated: u64) -> Result<&Checked, &Unreadable> {
        self.checked.get_or_init(|| Err(Unreadable::Empty)).as_ref()
    }
}
