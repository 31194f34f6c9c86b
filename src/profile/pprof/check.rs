//! One pass over the inflated bytes of a pprof.

/// What one pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The inflated size, in bytes.
    pub inflated: u64,
    /// Samples.
    pub samples: u64,
    /// Values that are not zero: what a store keeps a row for.
    pub rows: u64,
    /// Start of collection, nanoseconds since the epoch; 0 when absent.
    pub time_nanos: i64,
    /// Length of collection, nanoseconds; not 0 means a delta profile.
    pub duration_nanos: i64,
    /// The rules it breaks; empty means it may pass unchanged.
    pub broken: RuleSet,
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSet(u64);

/// A rule of what a store bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The time is 0.
    ZeroTime,
}

// === impl RuleSet ===

impl RuleSet {
    /// Whether no rule is broken.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
