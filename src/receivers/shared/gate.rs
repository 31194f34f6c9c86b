//! How many requests are served at a time, and how fast they come.

use super::{Held, Outcome, Pacing, Requests, pace::Pace};
use crate::{
    net::serve::{Failure, Kind, Peer},
    pipeline::Permit,
};
use std::future::Future;
use tokio::sync::Semaphore;

/// The bounds of one listener.
#[derive(Debug)]
pub(in crate::receivers) struct Gate {
    /// Requests at a time.
    places: Semaphore,
    limit: u32,
    pace: Pace,
}

// === impl Gate ===

impl Gate {
    /// For `limit` requests at a time.
    pub(in crate::receivers) fn new(limit: u32, pacing: &Pacing) -> Self {
        Self {
            places: Semaphore::new(limit as usize),
            limit,
            pace: Pace::new(pacing.clone()),
        }
    }

    /// Serves one request from its head to its end: bounds how many there are and
    /// how fast they come, and counts in `requests` how it ended.
    pub(in crate::receivers) async fn serve<T, F>(
        &self,
        requests: &Requests,
        peer: &Peer,
        serving: F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let open = requests.open(peer);
        let result = match self.places.try_acquire() {
            Ok(_place) => {
                self.pace.turn(requests.paced()).await;
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

    fn busy(&self) -> Failure {
        let message = format!(
            "{} requests are in flight, and max_concurrent_requests allows no more: try again later",
            self.limit
        );
        Failure::new(Kind::Busy, message)
    }
}
