//! Methods with messages in both directions.
//!
//! ```text
//! Messages ──▶ Conversation, a task of its own ──▶ Replies ──▶ Answer
//! ```
//!
//! The conversation does not run where its answer is sent from: a client that does
//! not read cannot keep it, and the memory it holds, beyond its deadline. What such
//! a client has not read is forgotten when the conversation fails. Every call ends
//! with trailers, unless its client is gone.

use super::{CONTENT_TYPE, Exchange, GRPC_STATUS, Head, MessageBody, Messages, framed};
use crate::{
    net::serve::{Answer, Failure, Kind, Reading, body::Patience},
    pipeline::Permit,
    runtime::Tasks,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A method with messages in both directions.
#[async_trait]
pub trait Conversation: Send + Sync + 'static {
    /// Talks to one client, to the end that is returned, within a time that the
    /// method bounds itself. Goes on when the client goes away, of which [`Messages`]
    /// tells with a failure.
    async fn talk(&self, head: &Head, messages: Messages, replies: &Replies)
    -> Result<(), Failure>;
}

/// Serves a [`Conversation`].
pub struct Conversing {
    name: &'static str,
    method: Arc<dyn Conversation>,
    reading: Reading,
    idle: Patience,
    tasks: Tasks,
}

/// What a conversation answers.
#[derive(Debug)]
pub struct Replies(Shared);

/// The answer of a conversation, as it is sent.
#[derive(Debug)]
pub(in crate::net::serve) struct Outgoing(Shared);

/// Between a conversation and its answer.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Outbox>>);

#[derive(Debug, Default)]
struct Outbox {
    /// Messages that are not sent yet, each with its charge.
    frames: VecDeque<(Bytes, Permit)>,
    /// The end, once it is known.
    trailers: Option<HeaderMap>,
    /// Nothing is left to be sent, or nobody to send it to.
    over: bool,
    waker: Option<Waker>,
}

/// What the answer sends next.
pub(in crate::net::serve) enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    Nothing,
}

// === impl Conversing ===

impl Conversing {
    /// Serves `method` in `tasks` of the name `name`. Messages are read one by one;
    /// the longest silence of a client is `idle`.
    pub fn new(
        name: &'static str,
        method: Arc<dyn Conversation>,
        (reading, idle): (Reading, Patience),
        tasks: Tasks,
    ) -> Self {
        Self {
            name,
            method,
            reading,
            idle,
            tasks,
        }
    }

    fn begin(&self, head: Head, messages: Messages, replies: Replies) {
        let method = self.method.clone();
        self.tasks.spawn(self.name, async move {
            let result = method.talk(&head, messages, &replies).await;
            replies.end(result);
        });
    }
}

#[async_trait]
impl Exchange for Conversing {
    async fn answer(&self, _: &str, head: Head, body: MessageBody) -> Response<Answer> {
        let (reading, idle) = (self.reading.clone(), self.idle.clone());
        let messages = match body.messages(reading, idle) {
            Ok(messages) => messages,
            Err(failure) => return failure.to_grpc(),
        };
        let shared = Shared::default();
        self.begin(head, messages, Replies(shared.clone()));
        let mut response = Response::new(Answer::talking(Outgoing(shared)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        response
    }
}

impl fmt::Debug for Conversing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversing({})", self.name)
    }
}

// === impl Replies ===

impl Replies {
    /// Sends an encoded message, which `charge` stands for until it is sent.
    pub fn send(&self, message: &[u8], charge: Permit) {
        let mut outbox = self.0.lock();
        if !outbox.over {
            outbox.frames.push_back((framed(message), charge));
        }
        outbox.wake();
    }

    /// Ends the call. After a failure nothing else matters to the client.
    fn end(&self, result: Result<(), Failure>) {
        let mut outbox = self.0.lock();
        if outbox.over || outbox.trailers.is_some() {
            return;
        }
        outbox.trailers = Some(match result {
            Ok(()) => ok(),
            Err(failure) => {
                outbox.frames.clear();
                trailers(&failure)
            }
        });
        outbox.wake();
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        // Only after a panic has the end not been said yet.
        let broken = Failure::new(Kind::Internal, "the call could not be worked on");
        self.end(Err(broken));
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn trailers(failure: &Failure) -> HeaderMap {
    let mut trailers = failure.to_grpc().into_parts().0.headers;
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

// === impl Outgoing ===

impl Outgoing {
    pub(in crate::net::serve) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut outbox = self.0.lock();
        if let Some((frame, _charge)) = outbox.frames.pop_front() {
            return Poll::Ready(Next::Data(frame));
        }
        if let Some(trailers) = outbox.trailers.take() {
            outbox.over = true;
            return Poll::Ready(Next::Trailers(trailers));
        }
        if outbox.over {
            return Poll::Ready(Next::Nothing);
        }
        outbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut outbox = self.0.lock();
        outbox.over = true;
        outbox.frames.clear();
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Outbox ===

impl Outbox {
    fn wake(&mut self) {
        if let Some(waker) = mem::take(&mut self.waker) {
            waker.wake();
        }
    }
}
