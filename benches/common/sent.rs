//! What becomes of requests that are sent.

use super::figures::quantile;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the receiver said.
#[derive(Debug)]
pub(crate) enum Reply {
    Accepted,
    /// To be tried again later.
    Refused,
    Failed(String),
}

/// What became of all requests of an order, once they were answered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    /// What the first of these said.
    pub(crate) failure: Option<String>,
    /// Until the answer to an accepted request, in seconds.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
    /// From the time at which requests were due to their sending, in seconds.
    pub(crate) lag_p99: Option<f64>,
}

/// Counts replies.
#[derive(Default)]
pub(crate) struct Tally {
    sent: Sent,
    /// In microseconds.
    answers: Vec<u64>,
    lags: Vec<u64>,
}

/// gRPC's codes of refusals: RESOURCE_EXHAUSTED and UNAVAILABLE.
const REFUSALS: [&str; 2] = ["8", "14"];

// === impl Reply ===

impl Reply {
    /// By gRPC's status and message.
    pub(crate) fn of_grpc(status: &str, message: &str) -> Self {
        match status {
            "0" => Self::Accepted,
            status if REFUSALS.contains(&status) => Self::Refused,
            status => Self::Failed(format!("status {status}: {message}")),
        }
    }
}

// === impl Tally ===

impl Tally {
    /// A request that took so long until its answer, and was sent so late.
    pub(crate) fn add(&mut self, reply: Reply, took: Duration, lag: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.lags.push(micros(lag));
        match reply {
            Reply::Accepted => {
                self.sent.accepted += 1;
                self.answers.push(micros(took));
            }
            Reply::Refused => self.sent.refused += 1,
            Reply::Failed(text) => {
                self.sent.failed += 1;
                self.sent.failure.get_or_insert(text);
            }
        }
    }

    /// What it comes to.
    pub(crate) fn sum(mut self) -> Sent {
        self.answers.sort_unstable();
        self.lags.sort_unstable();
        let seconds = |sorted: &[u64], q| quantile(sorted, q).map(|micros| micros as f64 / 1e6);
        Sent {
            answer_p50: seconds(&self.answers, 0.5),
            answer_p99: seconds(&self.answers, 0.99),
            lag_p99: seconds(&self.lags, 0.99),
            ..self.sent
        }
    }
}
