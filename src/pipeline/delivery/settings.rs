//! The settings that every exporter has.

use crate::{
    pipeline::{Ledger, Queue, QueueSettings},
    settings::{Duration, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How profiles wait for an exporter and how often it tries.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct DeliverySettings {
    /// How long one attempt may take. A store may have kept what an attempt sent
    /// that ran out of time; trying again then stores it twice.
    pub timeout: Duration,
    /// The queue in front of the exporter.
    pub sending_queue: QueueSettings,
    /// What happens after an attempt that may succeed later.
    pub retry_on_failure: RetrySettings,
}

/// Retries: exponential backoff with full jitter.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct RetrySettings {
    /// Whether a failed attempt is repeated. When it is not, the profiles are
    /// dropped (reason `retries_exhausted`).
    pub enabled: bool,
    /// The upper bound of the wait before the second attempt.
    pub initial_interval: Duration,
    /// What the bound is multiplied by after each attempt.
    pub multiplier: f64,
    /// The highest bound of a wait.
    pub max_interval: Duration,
    /// How long a request is tried before it is dropped (reason
    /// `retries_exhausted`). 0 means until `sending_queue.max_age`.
    pub max_elapsed_time: Duration,
    /// How often an answer of unknown meaning is tried again before the request
    /// is divided to find the profile that causes it.
    pub unknown_attempts: u32,
    /// How many times a backend may end under a request before the request's
    /// profiles are tried one by one, and one that stands alone is set aside
    /// (reason `suspected_killer`). All deaths but the first count only when the
    /// backend had just answered a probe.
    pub max_deaths: u32,
}

// === impl DeliverySettings ===

impl DeliverySettings {
    /// An empty queue in memory.
    pub fn memory_queue(&self) -> Queue {
        let ledger = Ledger::new(self.sending_queue.max_bytes());
        Queue::new(self.sending_queue.clone(), ledger)
    }

    /// All that is wrong with the numbers.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                problems.push(Problem::new(path, message));
            }
        };
        let (queue, retry) = (&self.sending_queue, &self.retry_on_failure);
        require(
            !self.timeout.is_zero(),
            "timeout",
            "must be above 0: an attempt needs an end",
        );
        require(
            queue.max_bytes() > 0,
            "sending_queue.max_bytes",
            "must be above 0: an exporter without a queue cannot accept anything",
        );
        require(
            queue.num_consumers > 0,
            "sending_queue.num_consumers",
            "must be at least 1: nobody would send",
        );
        require(
            queue.storage.is_some() || queue.drain.max_rate.get() == 0,
            "sending_queue.drain.max_rate",
            "needs a queue on disk: set sending_queue.storage, or remove it",
        );
        require(
            retry.multiplier >= 1.0,
            "retry_on_failure.multiplier",
            "must be at least 1: waits may not shrink",
        );
        require(
            retry.max_interval >= retry.initial_interval,
            "retry_on_failure.max_interval",
            "must not be below initial_interval",
        );
        require(
            retry.max_deaths > 1,
            "retry_on_failure.max_deaths",
            "must be at least 2: one death proves nothing",
        );
        problems
    }
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            sending_queue: QueueSettings::default(),
            retry_on_failure: RetrySettings::default(),
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(1),
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::default(),
            unknown_attempts: 3,
            max_deaths: 3,
        }
    }
}
