//! A pprof as it arrived, and what one look inside told.

use super::{Checked, Unreadable, check::check, inflate};
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

// === impl Pprof ===

impl Pprof {
    /// A body nobody has looked at.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            checked: Arc::default(),
        }
    }

    /// A body that was just made or mended, and what is known of it.
    pub fn known(bytes: Bytes, checked: Checked) -> Self {
        Self {
            bytes,
            checked: Arc::new(OnceLock::from(Ok(checked))),
        }
    }

    /// The bytes as they arrived.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What one pass over the inflated bytes finds. `max_inflated` bounds the
    /// inflated size, in bytes. The first call decides for all clones.
    pub fn check(&self, max_inflated: u64) -> Result<&Checked, &Unreadable> {
        self.checked
            .get_or_init(|| inflate::with_inflated(&self.bytes, max_inflated, check).flatten())
            .as_ref()
    }

    /// What [`Pprof::check`] told, if it has been asked.
    pub fn checked(&self) -> Option<&Checked> {
        self.checked.get()?.as_ref().ok()
    }

    /// The inflated size in bytes, as far as it is known without inflating: the
    /// end of a gzip stream may lie.
    pub fn claimed_size(&self) -> u64 {
        match self.checked() {
            Some(checked) => checked.inflated,
            None if self.bytes.starts_with(&[0x1f, 0x8b]) => {
                inflate::claimed_size(&self.bytes).into()
            }
            None => self.bytes.len() as u64,
        }
    }

    /// Calls `work` with the inflated bytes, which live in a buffer that this
    /// thread uses again. `max_inflated` bounds the inflated size, in bytes.
    pub fn read<T>(
        &self,
        max_inflated: u64,
        work: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Unreadable> {
        inflate::with_inflated(&self.bytes, max_inflated, work)
    }
}
