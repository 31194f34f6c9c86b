//! How many requests of one way in are served at a time, how fast they come, and
//! how each ended.

use super::{Held, Outcome, Requests, pace::Pace};
use crate::{
    net::serve::{Failure, Kind, Peer},
    pipeline::Permit,
};
use std::future::Future;
use tokio::sync::Semaphore;

/// The bounds of one way in.
#[derive(Debug)]
pub(in crate::receivers) struct Gate {
    requests: Requests,
    /// Requests at a time.
    places: Semaphore,
    limit: u32,
    pace: Pace,
}

// === impl Gate ===

impl Gate {
    /// For `limit` requests at a time.
    pub(in crate::receivers) fn new(limit: u32, requests: Requests) -> Self {
        Self {
            requests,
            places: Semaphore::new(limit as usize),
            limit,
            pace: Pace::new(),
        }
    }

    /// Serves one request from its head to its end: bounds how many there are and
    /// how fast they come, and counts how it ended.
    pub(in crate::receivers) async fn serve<T, F>(
        &self,
        peer: &Peer,
        serving: F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let open = self.requests.open(peer);
        let result = match self.places.try_acquire() {
            Ok(_place) => {
                self.pace.turn().await;
                serving.await
            }
            Err(_) => Err(self.busy()),
        };
        match &result {
            Ok(_) => open.end(Outcome::Ok, ""),
            Err(failure) => open.end(Outcome::Failed(failure.kind()), failure.message()),
        }
        result
    }

    /// Notes a request that is about to be handed on, until it has left.
    pub(in crate::receivers) fn hold(&self, permit: Permit) -> Held {
        self.pace.hold(permit)
    }

    /// A request for something that is not served.
    pub(in crate::receivers) fn unsupported(&self, message: &str) {
        self.requests.unsupported(message);
    }

    fn busy(&self) -> Failure {
        let message = format!(
            "{} requests are in flight, and max_concurrent_requests allows no more: try again later",
            self.limit
        );
        Failure::new(Kind::Busy, message)
    }
}
