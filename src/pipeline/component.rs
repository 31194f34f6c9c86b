//! What a component is to the pipeline.
//!
//! An answer travels back as a return value, and every error says what its
//! caller must do next.

use super::{Budget, Entry};
use crate::{
    net::serve::Sockets,
    profile::{Batch, Charge, Origin, Profile},
    settings::Id,
    telemetry::{Metrics, Status},
};
use async_trait::async_trait;
use std::{fmt, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What a component may use of the process it is built for.
#[derive(Clone, Debug)]
pub struct Context {
    /// The component's own id.
    pub id: Id,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The process's views for the admin endpoint.
    pub status: Status,
    /// The process's memory.
    pub memory: Budget,
    /// The process's listening sockets.
    pub sockets: Sockets,
    /// Fires when the process is asked to end: what is in flight has little time
    /// then. A receiver that is stopped before ends what is in flight in peace.
    pub ending: CancellationToken,
}

/// Takes profiles from outside.
#[async_trait]
pub trait Receiver: Send + 'static {
    /// Takes what can be taken only once, such as addresses, and serves nobody
    /// yet: it may be dropped instead of run. What a receiver that runs has
    /// already is shared with it ([`Sockets`]).
    async fn bind(&mut self) -> Result<(), ReceiverError> {
        Ok(())
    }

    /// Returns once `stop` fired and nothing of its own is in flight.
    async fn run(self: Box<Self>, out: Entry, stop: CancellationToken)
    -> Result<(), ReceiverError>;
}

/// Changes or drops profiles. Pure and synchronous: no I/O, no clock.
pub trait Processor: Send + Sync + 'static {
    /// Decides about one profile of a batch that came from `origin`.
    fn process(&self, profile: Profile, origin: &Origin) -> Verdict;
}

/// Sends profiles away, one attempt a call.
///
/// Queue, batching, retries, deadlines, concurrency and metrics are
/// [`super::Delivery`]'s, written once for all exporters.
#[async_trait]
pub trait Exporter: Send + Sync + 'static {
    /// Makes of queued profiles that came together what will be sent for each:
    /// checked, repaired, converted, split, weighed. Called once a profile, and off
    /// the async threads when the bodies are large. What is allocated beside the
    /// bodies is taken from `memory` first. One result for each profile, in order.
    ///
    /// A profile counts as sent once all its parts are; a reason drops it. No parts
    /// means that there is nothing to send, which counts as sent.
    ///
    /// # Errors
    ///
    /// Without memory nothing is prepared, and it is called again later.
    fn prepare(&self, profiles: &[Profile], _memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        let whole = |profile: &Profile| Ok(vec![Part::whole(profile.clone())]);
        Ok(profiles.iter().map(whole).collect())
    }

    /// One attempt to send all parts of `batch` in one request. OTLP bodies of
    /// one batch came in one request, and stand beside no others.
    async fn export(&self, batch: &Batch) -> Result<(), ExportError>;

    /// Divides a part that the backend finds too large even alone. `None` when
    /// it cannot be divided.
    fn divide(&self, _profile: &Profile) -> Option<Vec<Part>> {
        None
    }

    /// Asks the backend for a sign of life without sending data.
    async fn probe(&self) -> Result<(), ExportError> {
        Ok(())
    }

    /// How much may go into one request.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// What is sent for a profile, or for a piece of it, and what it weighs.
#[derive(Clone, Debug)]
pub struct Part {
    /// Labels and body as they will leave.
    pub profile: Profile,
    /// Its bytes within an encoded request.
    pub bytes: u64,
    /// The rows the backend stores for it.
    pub rows: u64,
    /// The memory of a body that was made for it, until it has ended.
    pub charge: Option<Arc<dyn Charge>>,
}

/// What became of preparing a profile: its parts, or why it is dropped.
pub type Prepared = Result<Vec<Part>, Reason>;

/// The memory budget has not so many bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    /// What was asked for, in bytes.
    pub needed: u64,
}

/// The bounds of one request. A part above them goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Encoded bytes.
    pub bytes: u64,
    /// Rows the backend stores.
    pub rows: u64,
    /// Parts.
    pub parts: usize,
}

/// What a processor decided.
#[derive(Debug)]
pub enum Verdict {
    /// Goes on, possibly changed.
    Keep(Profile),
    /// Ends here, counted with its reason.
    Drop(Reason),
}

/// Why a batch was not accepted, and whether the sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Whether the same batch may pass later.
    pub kind: RefusalKind,
    /// Why.
    pub reason: Reason,
}

/// Whether a refused batch may pass later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Never: the sender must not try again.
    Permanent,
    /// Later, `after` this time if it is known.
    Retryable {
        /// The wait to tell the sender.
        after: Option<Duration>,
    },
}

/// What an exporter learned, said as what delivery must do next.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nothing is wrong with the request as far as is known: send it again.
    #[error("{cause}")]
    Retry {
        /// The backend's own wish, else delivery's backoff.
        after: Option<Duration>,
        /// For the log and the status page.
        cause: String,
    },
    /// The backend never looked at the request (its connection was being closed
    /// gracefully): send it again at once and in silence.
    #[error("the connection was closed before the request was read")]
    Unsent,
    /// The connection ended while the backend had the request. After a few
    /// such deaths, each on a backend that had just answered a probe, the parts
    /// are tried one by one and the culprit is set aside.
    #[error("{cause}")]
    Died {
        /// For the log and the status page.
        cause: String,
    },
    /// Too large, or one part is bad: smaller requests may pass. A part that is
    /// alone is divided when `too_large`, else dropped with `reason`.
    #[error("{cause}")]
    Split {
        /// The size is the trouble, not the content.
        too_large: bool,
        /// What a part that cannot be divided is dropped with.
        reason: Reason,
        /// For the log and the status page.
        cause: String,
    },
    /// Nobody knows: try again a few times, then as `Split`.
    #[error("{cause}")]
    Unknown {
        /// For the log and the status page.
        cause: String,
    },
    /// Nothing of the request will ever pass.
    #[error("{cause}")]
    Rejected {
        /// What all parts are dropped with.
        reason: Reason,
        /// For the log and the status page.
        cause: String,
    },
    /// The credentials were refused: keep everything, say so, try again slowly.
    #[error("{cause}")]
    Unauthorized {
        /// For the log and the status page.
        cause: String,
    },
}

/// A receiver ended although it was not asked to.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// Its address cannot be bound: the process ends with code 3.
    #[error("cannot listen on {endpoint}: {source}")]
    Bind {
        /// The configured endpoint.
        endpoint: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Anything else: the process ends with code 1.
    #[error("{0}")]
    Failed(String),
}

/// Why a profile was refused or dropped. One closed list for metrics, logs,
/// status and answers to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A filter's rule took it out.
    Filtered,
    /// Relabelling dropped it.
    Relabelled,
    /// No way of a router is for it.
    Unrouted,
    /// The queue is at its bytes.
    QueueFull,
    /// The volume of the queue has no room left.
    StorageFull,
    /// The queue on disk could not be written.
    StorageFailed,
    /// It was damaged on disk and is set aside.
    Corrupt,
    /// The backend takes nothing that is so old.
    TooOld,
    /// It waited longer than `max_age`.
    Expired,
    /// `max_elapsed_time` of retrying is over.
    RetriesExhausted,
    /// The memory budget is used up.
    MemoryLimit,
    /// Larger than a bound, and not divisible.
    TooLarge,
    /// The body is no profile, or cannot be repaired by any rule.
    InvalidProfile,
    /// The labels break a rule of the backend.
    InvalidLabels,
    /// Its sender may not send such labels.
    NotAllowed,
    /// The backend refused it by its content.
    RejectedByBackend,
    /// The backend does not know the call.
    Unimplemented,
    /// Backends ended under it again and again.
    SuspectedKiller,
    /// It was still queued in memory when the process ended.
    Shutdown,
}

// === impl Part ===

impl Part {
    /// The profile as it is, weighed by its bytes.
    pub fn whole(profile: Profile) -> Self {
        Self {
            bytes: profile.byte_len(),
            rows: 0,
            charge: None,
            profile,
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: u64::MAX,
            rows: u64::MAX,
            parts: 1_000,
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// A refusal that trying again does not change.
    pub fn permanent(reason: Reason) -> Self {
        Self {
            kind: RefusalKind::Permanent,
            reason,
        }
    }

    /// A refusal that may pass later.
    pub fn retryable(reason: Reason) -> Self {
        Self {
            kind: RefusalKind::Retryable { after: None },
            reason,
        }
    }
}

// === impl Reason ===

impl Reason {
    /// All reasons, in the order of the reference.
    pub const ALL: &[Self] = &[
        Self::Filtered,
        Self::Relabelled,
        Self::Unrouted,
        Self::QueueFull,
        Self::StorageFull,
        Self::StorageFailed,
        Self::Corrupt,
        Self::TooOld,
        Self::Expired,
        Self::RetriesExhausted,
        Self::MemoryLimit,
        Self::TooLarge,
        Self::InvalidProfile,
        Self::InvalidLabels,
        Self::NotAllowed,
        Self::RejectedByBackend,
        Self::Unimplemented,
        Self::SuspectedKiller,
        Self::Shutdown,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Relabelled => "relabelled",
            Self::Unrouted => "unrouted",
            Self::QueueFull => "queue_full",
            Self::StorageFull => "storage_full",
            Self::StorageFailed => "storage_failed",
            Self::Corrupt => "corrupt",
            Self::TooOld => "too_old",
            Self::Expired => "expired",
            Self::RetriesExhausted => "retries_exhausted",
            Self::MemoryLimit => "memory_limit",
            Self::TooLarge => "too_large",
            Self::InvalidProfile => "invalid_profile",
            Self::InvalidLabels => "invalid_labels",
            Self::NotAllowed => "not_allowed",
            Self::RejectedByBackend => "rejected_by_backend",
            Self::Unimplemented => "unimplemented",
            Self::SuspectedKiller => "suspected_killer",
            Self::Shutdown => "shutdown",
        }
    }

    /// What it means, for the reference and for clients.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Filtered => "a filter's rule took it out",
            Self::Relabelled => "relabelling dropped it",
            Self::Unrouted => {
                "no entry of a routing table is for it, and there are no default_exporters"
            }
            Self::QueueFull => "the queue is at its max_bytes",
            Self::StorageFull => {
                "the volume of the queue is full, or at file_storage's min_free_bytes"
            }
            Self::StorageFailed => "the queue on disk could not be written, the log says why",
            Self::Corrupt => "its record was damaged on disk and is in quarantine",
            Self::TooOld => "the backend takes nothing that is so old",
            Self::Expired => "it waited in the queue longer than max_age",
            Self::RetriesExhausted => "max_elapsed_time of retrying is over",
            Self::MemoryLimit => "the memory budget (service.memory.limit) is used up",
            Self::TooLarge => "larger than a bound, and not divisible",
            Self::InvalidProfile => "the body is no profile, and no rule can repair it",
            Self::InvalidLabels => "the labels break a rule of the backend",
            Self::NotAllowed => "its sender may not send such labels (auth.identities)",
            Self::RejectedByBackend => "the backend refused it by its content",
            Self::Unimplemented => "the backend does not know the call",
            Self::SuspectedKiller => "the backend ended under it again and again",
            Self::Shutdown => "it was still queued in memory when the process ended",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
