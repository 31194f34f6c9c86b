//! What one conversion may still write.
//!
//! A dictionary is shared: a few kilobytes can refer to the same megabyte again
//! and again. All that is written out is therefore charged, and the work that
//! writes nothing is kept in proportion to what was charged.

use super::ConvertError;

/// Bytes that may still be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    max: u64,
    left: u64,
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(max: u64) -> Self {
        Self { max, left: max }
    }

    /// What is left, in bytes.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes bytes, if they are left.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), ConvertError> {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.exceeded()),
        }
    }

    /// That it was not enough.
    pub(super) fn exceeded(&self) -> ConvertError {
        ConvertError::TooLarge { max: self.max }
    }
}
