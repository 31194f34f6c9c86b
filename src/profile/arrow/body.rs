//! The body: the messages as they arrived.

use bytes::Bytes;

/// One profile of parca-agent, in the messages in which it arrived.
#[derive(Clone, Debug)]
pub struct Arrow {
    samples: Bytes,
    stacks: Option<Bytes>,
}

/// The version that a message's schema names (`parca_write_schema_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Samples with the ids of their stacks, and a table of stacks.
    V1,
    /// Samples and stacks in one message.
    V2,
}

// === impl Arrow ===

impl Arrow {
    /// The two messages of a `Write`.
    pub fn v1(samples: Bytes, stacks: Bytes) -> Self {
        Self {
            samples,
            stacks: Some(stacks),
        }
    }

    /// The message of a `WriteArrow`.
    pub fn v2(buffer: Bytes) -> Self {
        Self {
            samples: buffer,
            stacks: None,
        }
    }

    /// By which call it came.
    pub fn schema(&self) -> Schema {
        match self.stacks {
            Some(_) => Schema::V1,
            None => Schema::V2,
        }
    }

    /// The samples, with schema v2 the whole.
    pub fn samples(&self) -> &Bytes {
        &self.samples
    }

    /// The table of stacks of schema v1.
    pub fn stacks(&self) -> Option<&Bytes> {
        self.stacks.as_ref()
    }

    /// The encoded bytes.
    pub fn byte_len(&self) -> usize {
        self.samples.len() + self.stacks.as_ref().map_or(0, Bytes::len)
    }
}
