//! The messages of a streamed call, one after the other.
//!
//! Each is charged to the memory budget as it comes and handed out when it is
//! complete; nothing is read ahead of who asks, so that HTTP/2's flow control
//! holds the sender back.

use super::{Message, framing::Framing};
use crate::net::serve::{
    Coding, Failure, InFlight, Reading,
    body::{Patience, Pieces},
};
use bytes::Bytes;
use hyper::body::Incoming;
use std::{mem, time::Duration};
use tokio::time::timeout;

/// What a client says in a streamed call.
pub struct Messages {
    pieces: Pieces,
    framing: Framing,
    /// What came behind the message that was handed out last.
    rest: Bytes,
    coding: Coding,
    reading: Reading,
    idle: Patience,
}

// === impl Messages ===

impl Messages {
    /// Messages of `body`, charged to who sends them; between two pieces of it there may be `idle`.
    pub(super) fn new(
        body: Incoming,
        share: Option<InFlight>,
        (coding, reading, idle): (Coding, Reading, Patience),
    ) -> Self {
        Self {
            pieces: Pieces::new(body, Duration::ZERO, None).charged_to(share),
            framing: Framing::default(),
            rest: Bytes::new(),
            coding,
            reading,
            idle,
        }
    }

    /// The next message; nothing once the client has said all.
    pub async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some((compressed, received)) =
                self.framing.take(&self.reading, &mut self.rest)?
            {
                return Message::new(compressed, self.coding, received).map(Some);
            }
            match self.piece().await? {
                Some(piece) => self.rest = piece,
                None if self.framing.is_between() => return Ok(None),
                None => return mem::take(&mut self.framing).finish().map(|_| None),
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = timeout(self.idle.limit, self.pieces.next()).await;
        piece.unwrap_or_else(|_| Err(self.idle.failure("nothing came from the client")))
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
