//! Requests by how they ended. One event counts and logs.

use crate::{
    net::serve::{Kind, Peer},
    settings::Id,
    telemetry::MetricSet,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tracing::{debug, warn};

/// The most that one kind of failure fills the log: a line each so often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::receivers) enum Outcome {
    /// Its profiles were taken, or it had none.
    Ok,
    /// It was refused, or not finished.
    Failed(Kind),
}

/// The metrics of requests.
#[derive(Clone)]
pub(in crate::receivers) struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    paced: Family<ProtocolLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    receiver: String,
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    receiver: String,
    protocol: &'static str,
    outcome: &'static str,
}

/// The share of one protocol of one receiver.
#[derive(Debug)]
pub(in crate::receivers) struct Requests {
    receiver: Id,
    protocol: &'static str,
    counters: [Counter; OUTCOMES.len()],
    paced: Counter,
    since: Instant,
    /// When each outcome is next logged, in milliseconds after `since`.
    next_log: [AtomicU64; OUTCOMES.len()],
}

/// A request that has not ended. Dropped unfinished, its client went away.
#[derive(Debug)]
pub(in crate::receivers) struct Open<'a> {
    requests: &'a Requests,
    peer: Peer,
    ended: bool,
}

const OUTCOMES: [&str; 11] = [
    "ok",
    "invalid",
    "too_large",
    "busy",
    "unavailable",
    "late",
    "unsupported",
    "broken",
    "internal",
    "unauthenticated",
    "denied",
];

// === impl Outcome ===

impl Outcome {
    const fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Failed(Kind::Invalid) => 1,
            Self::Failed(Kind::TooLarge) => 2,
            Self::Failed(Kind::Busy) => 3,
            Self::Failed(Kind::Unavailable) => 4,
            Self::Failed(Kind::Late) => 5,
            Self::Failed(Kind::Unimplemented | Kind::Method | Kind::MediaType) => 6,
            Self::Failed(Kind::Broken) => 7,
            Self::Failed(Kind::Internal) => 8,
            Self::Failed(Kind::Unauthenticated) => 9,
            Self::Failed(Kind::Denied) => 10,
        }
    }
}

// === impl RequestMetrics ===

impl MetricSet for RequestMetrics {
    fn register(registry: &mut Registry) -> Self {
        let set = Self {
            requests: Family::default(),
            paced: Family::default(),
        };
        registry.register(
            "profile_relay_receiver_paced_requests",
            "Requests that waited for others to leave before their bodies were read",
            set.paced.clone(),
        );
        registry.register(
            "profile_relay_receiver_requests",
            "Requests of push receivers by how they ended",
            set.requests.clone(),
        );
        set
    }
}

impl RequestMetrics {
    /// One protocol's share, its series visible from the beginning.
    pub(in crate::receivers) fn protocol(&self, receiver: &Id, protocol: &'static str) -> Requests {
        let counters = OUTCOMES.map(|outcome| {
            let labels = RequestLabels {
                receiver: receiver.to_string(),
                protocol,
                outcome,
            };
            self.requests.get_or_create(&labels).clone()
        });
        let paced = self.paced.get_or_create(&ProtocolLabels {
            receiver: receiver.to_string(),
            protocol,
        });
        Requests {
            receiver: receiver.clone(),
            protocol,
            counters,
            paced: paced.clone(),
            since: Instant::now(),
            next_log: Default::default(),
        }
    }
}

// === impl Requests ===

impl Requests {
    /// A request has come.
    pub(in crate::receivers) fn open(&self, peer: &Peer) -> Open<'_> {
        Open {
            requests: self,
            peer: peer.clone(),
            ended: false,
        }
    }

    /// Counts requests that wait for others.
    pub(super) fn paced(&self) -> &Counter {
        &self.paced
    }

    /// A request for something that is not served.
    pub(in crate::receivers) fn unsupported(&self, message: &str) {
        self.ended(Outcome::Failed(Kind::Unimplemented), None, message);
    }

    fn ended(&self, outcome: Outcome, peer: Option<&Peer>, message: &str) {
        let at = outcome.index();
        self.counters[at].inc();
        if outcome == Outcome::Ok {
            return;
        }
        let peer = peer.map(tracing::field::display);
        let (receiver, protocol, outcome) = (&self.receiver, self.protocol, OUTCOMES[at]);
        if self.may_log(at) {
            warn!(%receiver, protocol, outcome, peer, reason = message, "a request was not served");
        } else {
            debug!(%receiver, protocol, outcome, peer, reason = message, "a request was not served");
        }
    }

    fn may_log(&self, at: usize) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.since.elapsed());
        let next = self.next_log[at].load(Ordering::Relaxed);
        let later = now.saturating_add(millis(LOG_EVERY));
        now >= next
            && self.next_log[at]
                .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// === impl Open ===

impl Open<'_> {
    /// It ended.
    pub(in crate::receivers) fn end(mut self, outcome: Outcome, message: &str) {
        self.ended = true;
        self.requests.ended(outcome, Some(&self.peer), message);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let outcome = Outcome::Failed(Kind::Broken);
            let message = "the client went away before the answer";
            self.requests.ended(outcome, Some(&self.peer), message);
        }
    }
}
