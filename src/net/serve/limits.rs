//! What strangers may do: bounds of connections whose clients nobody knows yet.

use crate::settings::{ByteSize, Duration, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The least that hyper reads of a head at once.
const MIN_HEADERS: u64 = 1 << 10;

/// The most: what is in a head is copied.
const MAX_HEADERS: u64 = 1 << 20;

/// What clients may do before anybody knows them, and how they may misbehave.
/// When all connections are taken, the oldest of those whose clients have sent
/// nothing that was let in makes room for the next.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct LimitsSettings {
    /// The longest that a TLS handshake may take, and then until the client has
    /// said which HTTP it speaks.
    pub handshake_timeout: Duration,
    /// How long a connection may last on which nothing was let in; `0` for no
    /// limit.
    pub stranger_timeout: Duration,
    /// The headers of one request, names and values.
    pub max_header_bytes: ByteSize,
    /// Requests of a connection that its client may cancel before their answers;
    /// who cancels more, and more than half of all, is disconnected. `0` for no
    /// limit.
    pub max_cancelled_requests: u32,
    /// Requests that a client may cancel before anybody has looked at them (rapid
    /// reset); who has more at a time is disconnected.
    pub max_pending_resets: u32,
}

// === impl LimitsSettings ===

impl Default for LimitsSettings {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            stranger_timeout: Duration::from_secs(60),
            max_header_bytes: ByteSize::new(32 << 10),
            max_cancelled_requests: 1_000,
            max_pending_resets: 20,
        }
    }
}

impl LimitsSettings {
    /// Everything that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.handshake_timeout.is_zero() {
            problems.push(Problem::new("handshake_timeout", "it must be above 0"));
        }
        if !(MIN_HEADERS..=MAX_HEADERS).contains(&self.max_header_bytes.get()) {
            problems.push(Problem::new("max_header_bytes", "write 1KiB to 1MiB"));
        }
        if self.max_pending_resets == 0 {
            problems.push(Problem::new("max_pending_resets", "it must be above 0"));
        }
        problems
    }
}
