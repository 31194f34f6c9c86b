//! The settings of a queue, in memory or on disk.

use crate::settings::{ByteSize, Duration, Id};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The bounds of the queue in front of an exporter.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct QueueSettings {
    /// The extension that keeps the queue on disk: `file_storage`, or
    /// `file_storage/name`. Without it the queue is in memory, and what waits in
    /// it is lost with the process.
    pub storage: Option<Id>,
    /// The most bytes (bodies and labels, as they arrived) that may wait or be
    /// in flight. In memory it counts against `service.memory.limit` too. On disk
    /// the files take a few segments more: those that are not wholly delivered.
    /// An exporter stores what it is given once; two exporters of a pipeline with
    /// a queue on disk store it twice.
    /// By default 64MiB in memory and 1GiB on disk.
    pub max_bytes: Option<ByteSize>,
    /// A profile that waited longer is dropped (reason `expired`). 0 means no
    /// bound. By default 1h in memory and 24h on disk.
    pub max_age: Option<Duration>,
    /// What a full queue does.
    pub on_full: OnFull,
    /// How many requests may be under way at once.
    pub num_consumers: usize,
    /// How long profiles are collected into one request before it is sent.
    /// 0 sends at once.
    pub flush_timeout: Duration,
    /// How a backlog on disk is sent.
    pub drain: DrainSettings,
}

/// How a backlog on disk is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct DrainSettings {
    /// The newest first, so that the present is seen before the past. By default
    /// the oldest are first.
    pub newest_first: bool,
    /// The most bytes a second that are read back from disk, so that a backlog
    /// does not crowd out what else uses a thin link. 0 means no bound. What
    /// never had to wait on disk is not held up by it when `newest_first` is set.
    pub max_rate: ByteSize,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The source hears a refusal that it may retry.
    #[default]
    Refuse,
    /// The oldest waiting profiles make room.
    DropOldest,
    /// What comes is dropped.
    DropNewest,
}

// === impl QueueSettings ===

impl QueueSettings {
    /// The most bytes that may wait or be in flight.
    pub fn max_bytes(&self) -> u64 {
        let default = if self.storage.is_some() {
            1 << 30
        } else {
            64 << 20
        };
        self.max_bytes.map_or(default, ByteSize::get)
    }

    /// How long a profile may wait; zero means for ever.
    pub fn max_age(&self) -> std::time::Duration {
        let default = if self.storage.is_some() { 24 } else { 1 };
        let default = std::time::Duration::from_secs(default * 3_600);
        self.max_age.map_or(default, Duration::get)
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            storage: None,
            max_bytes: None,
            max_age: None,
            on_full: OnFull::Refuse,
            num_consumers: 4,
            flush_timeout: Duration::from_secs(1),
            drain: DrainSettings::default(),
        }
    }
}
