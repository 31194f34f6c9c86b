//! What goes into one request, and what became of its attempts so far.

use crate::{
    pipeline::{Limits, Part, Queue, Reason, ledger::Ticket},
    profile::{Batch, Charge, Origin},
};
use std::sync::Arc;
use tokio::time::Instant;

/// A part on its way, tied to the profile it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) part: Part,
    pub(super) ticket: Arc<Ticket>,
    /// The memory of the batch it came in, held until the part has ended.
    pub(super) _charge: Option<Arc<dyn Charge>>,
}

/// The parts of one request; all of them came with the same metadata.
#[derive(Clone, Debug)]
pub(super) struct Shipment {
    pub(super) origin: Origin,
    pub(super) parts: Vec<Tracked>,
    /// Attempts that failed in a way that calls for a wait.
    pub(super) failures: u32,
    /// Answers of unknown meaning.
    pub(super) unknowns: u32,
    /// Deaths of a backend under it.
    pub(super) deaths: u32,
    /// When the first attempt began.
    pub(super) first: Option<Instant>,
    bytes: u64,
    rows: u64,
}

// === impl Shipment ===

impl Shipment {
    /// A request without parts.
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            parts: Vec::new(),
            failures: 0,
            unknowns: 0,
            deaths: 0,
            first: None,
            bytes: 0,
            rows: 0,
        }
    }

    /// Whether `part` is of the kind that is in it.
    pub(super) fn takes(&self, part: &Part) -> bool {
        self.parts
            .first()
            .is_none_or(|first| first.part.profile.body.can_join(&part.profile.body))
    }

    /// Whether nothing that comes later belongs to it.
    pub(super) fn is_complete(&self) -> bool {
        let first = self.parts.first();
        first.is_some_and(|first| first.part.profile.body.as_pprof().is_none())
    }

    /// Whether `part` may join without breaking a limit.
    pub(super) fn fits(&self, part: &Part, limits: &Limits) -> bool {
        self.parts.is_empty()
            || (self.parts.len() < limits.parts
                && self.bytes.saturating_add(part.bytes) <= limits.bytes
                && self.rows.saturating_add(part.rows) <= limits.rows)
    }

    /// Whether it breaks no limit, or cannot be smaller.
    pub(super) fn is_within(&self, limits: &Limits) -> bool {
        self.parts.len() == 1
            || (self.parts.len() <= limits.parts
                && self.bytes <= limits.bytes
                && self.rows <= limits.rows)
    }

    /// Whether nothing more can join.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.parts.len() >= limits.parts || self.bytes >= limits.bytes || self.rows >= limits.rows
    }

    /// Adds a part.
    pub(super) fn push(&mut self, tracked: Tracked) {
        self.bytes = self.bytes.saturating_add(tracked.part.bytes);
        self.rows = self.rows.saturating_add(tracked.part.rows);
        self.parts.push(tracked);
    }

    /// The batch that an exporter gets.
    pub(super) fn batch(&self) -> Batch {
        let profiles = self.parts.iter().map(|t| t.part.profile.clone());
        Batch::new(self.origin.clone(), profiles.collect())
    }

    /// Ends all parts as delivered.
    pub(super) fn sent(self) {
        for tracked in self.parts {
            tracked.ticket.sent(tracked.part.bytes);
        }
    }

    /// Ends all parts with `reason`.
    pub(super) fn dropped(self, reason: Reason) {
        for tracked in self.parts {
            tracked.ticket.dropped(reason);
        }
    }

    /// Drops the parts that have waited too long; how many.
    pub(super) fn expire(&mut self, queue: &Queue) -> usize {
        let (old, young): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parts)
            .into_iter()
            .partition(|tracked| queue.is_expired(tracked.ticket.since()));
        for tracked in &old {
            tracked.ticket.dropped(Reason::Expired);
        }
        self.parts = young;
        old.len()
    }

    /// Two requests of half the parts each, with this one's history.
    pub(super) fn halves(mut self) -> [Self; 2] {
        let tail = self.parts.split_off(self.parts.len() / 2);
        let parts = std::mem::take(&mut self.parts);
        [self.with(parts), self.with(tail)]
    }

    /// One request a part, with this one's history.
    pub(super) fn singles(mut self) -> Vec<Self> {
        let parts = std::mem::take(&mut self.parts);
        parts.into_iter().map(|t| self.with(vec![t])).collect()
    }

    /// This request's only part, replaced by pieces of it.
    pub(super) fn replaced(&self, tracked: &Tracked, pieces: Vec<Part>) -> Vec<Self> {
        let piece = |part| Tracked {
            part,
            ..tracked.clone()
        };
        let pieces = pieces.into_iter().map(piece);
        pieces.map(|piece| self.with(vec![piece])).collect()
    }

    /// The labels of a request of one part, for a log line.
    pub(super) fn describe(&self) -> String {
        match self.parts.as_slice() {
            [one] => one.part.profile.labels.to_string(),
            many => format!("{} profiles", many.len()),
        }
    }

    fn with(&self, parts: Vec<Tracked>) -> Self {
        let mut shipment = Self {
            parts: Vec::with_capacity(parts.len()),
            origin: self.origin.clone(),
            bytes: 0,
            rows: 0,
            ..*self
        };
        for part in parts {
            shipment.push(part);
        }
        shipment
    }
}
