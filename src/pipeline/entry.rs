//! Where receivers hand their batches in.

use super::Refusal;
use crate::profile::Batch;

/// A receiver's way into its pipelines; cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry {}

// === impl Entry ===

impl Entry {
    /// Hands a batch to every pipeline of this receiver: all of them take it, or
    /// none does.
    pub async fn offer(&self, _batch: Batch) -> Result<(), Refusal> {
        Ok(())
    }
}
