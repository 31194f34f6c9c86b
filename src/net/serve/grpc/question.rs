//! What clients ask health and reflection: as much as questions take, within a time.
//!
//! The services are tonic's, whose codec waits for a message without end and keeps
//! up to 4 MiB of each that nobody has charged.

use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    fmt::Display,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE: usize = 4 << 10;

/// All messages of one call, in bytes.
const MAX: usize = 16 << 10;

/// The longest silence of a client that has not said all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a call.
#[derive(Debug)]
pub(super) struct Question<B> {
    body: B,
    /// What it may still hold, in bytes.
    left: usize,
    silence: Pin<Box<Sleep>>,
}

// === impl Question ===

impl<B> Question<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            left: MAX,
            silence: Box::pin(sleep(PATIENCE)),
        }
    }
}

impl<B> Body for Question<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.silence.as_mut().poll(cx));
                let message = format!("nothing came from the client within {PATIENCE:?}");
                Poll::Ready(Some(Err(Status::deadline_exceeded(message))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.as_mut().reset(Instant::now() + PATIENCE);
                let length = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(match this.left.checked_sub(length) {
                    Some(left) => {
                        this.left = left;
                        Ok(frame)
                    }
                    None => {
                        let message = format!("a call has at most {MAX} bytes here");
                        Err(Status::resource_exhausted(message))
                    }
                }))
            }
            Poll::Ready(Some(Err(error))) => {
                let message = format!("the call ended before its end: {error}");
                Poll::Ready(Some(Err(Status::cancelled(message))))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http::Request;
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;
    use tonic_health::server::health_reporter;
    use tower_service::Service;

    /// What the health service answers to a body of these pieces, behind which the
    /// client is silent.
    async fn asked(pieces: &[&'static [u8]]) -> Status {
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece));
        let frames: Vec<_> = pieces
            .map(|piece| Ok::<_, Status>(Frame::data(piece)))
            .collect();
        let body = StreamBody::new(stream::iter(frames).chain(stream::pending()));
        let request = Request::post("http://relay/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .body(Question::new(body))
            .unwrap();
        let (_, service) = health_reporter();
        let mut service = service.max_decoding_message_size(MAX_MESSAGE);
        let response = service.call(request).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let read = response.into_body().collect().await.unwrap();
        Status::from_header_map(read.trailers().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_and_says_no_more_is_answered() {
        let begin = Instant::now();
        for said in [&b""[..], b"\0\0", b"\0\0\0\0\x05abc"] {
            let status = asked(&[said]).await;
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
        assert_eq!(begin.elapsed().as_secs(), 3 * PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_question_is_not_kept() {
        static LARGE: [u8; MAX + 1] = [0; MAX + 1];
        let begin = Instant::now();
        for pieces in [
            // It announces a MiB.
            &[&b"\0\0\x10\0\0"[..]][..],
            &[&b"\0\0\0\x0f\0"[..], &LARGE],
        ] {
            let status = asked(pieces).await;
            let refused = [Code::ResourceExhausted, Code::OutOfRange].contains(&status.code());
            assert!(refused, "{status}");
        }
        assert!(begin.elapsed() < PATIENCE);
    }
}
