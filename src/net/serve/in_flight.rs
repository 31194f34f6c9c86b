//! The bytes of one request that count for its sender until it is answered.

use super::{Failure, Kind, Peer, doors::Doors};
use crate::pipeline::Permit;
use std::sync::{Arc, Mutex, PoisonError};

/// The label `reason` of a request that is refused for them.
pub(super) const REASON: &str = "bytes_in_flight";

/// A request's share of its sender's bytes in flight, among the request's
/// extensions: [`super::Reading`] and gRPC's messages are charged to it as they
/// come, beyond what was announced. Clones are the same.
#[derive(Clone, Debug)]
pub struct InFlight(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    taken: Mutex<Taken>,
    limit: u64,
    /// Who is blamed, and where.
    peer: Peer,
    doors: Doors,
}

#[derive(Debug)]
struct Taken {
    permit: Permit,
    used: u64,
}

// === impl InFlight ===

impl InFlight {
    /// With `announced` bytes taken at once, of a `limit` that all requests of the
    /// sender share.
    pub(super) fn new(
        mut permit: Permit,
        limit: u64,
        announced: u64,
        (peer, doors): (&Peer, &Doors),
    ) -> Result<Self, Failure> {
        if announced > limit {
            let message = format!(
                "the request has {announced} bytes, and max_bytes_in_flight allows {limit} to all \
                 of this sender: send less at a time or raise it"
            );
            return Err(Failure::new(Kind::TooLarge, message));
        }
        if !permit.grow(announced) {
            return Err(over(limit));
        }
        Ok(Self(Arc::new(Inner {
            taken: Mutex::new(Taken { permit, used: 0 }),
            limit,
            peer: peer.clone(),
            doors: doors.clone(),
        })))
    }

    /// So many bytes more have come.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Failure> {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.used += bytes as u64;
        let missing = taken.used.saturating_sub(taken.permit.bytes());
        if missing == 0 || taken.permit.grow(missing) {
            return Ok(());
        }
        let failure = over(self.0.limit);
        self.0
            .doors
            .turned_away(&self.0.peer, REASON, failure.message());
        Err(failure)
    }
}

fn over(limit: u64) -> Failure {
    let message = format!(
        "max_bytes_in_flight allows {limit} bytes to all requests of this sender together: try \
         again later"
    );
    Failure::new(Kind::Busy, message)
}
