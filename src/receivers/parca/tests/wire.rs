//! gRPC without a codec: the client sends exactly what a test wants, and reads as
//! far as it wants.

use super::*;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::net::TcpStream;

type Sent = UnsyncBoxBody<Bytes, Infallible>;

/// One HTTP/2 connection.
pub(super) struct Wire {
    sender: hyper::client::conn::http2::SendRequest<Sent>,
}

/// A call of two directions. Dropping it resets it.
pub(super) struct Call {
    /// What is sent next; dropped, the client has said all.
    pub(super) say: mpsc::UnboundedSender<Bytes>,
    answer: Response<Incoming>,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 1 << 20).await
    }

    /// One that reads no more than `window` bytes of each answer.
    pub(super) async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Tasks::default().spawn("client", connection);
        Self { sender }
    }

    /// Calls a path with all there is to say; how it ended.
    pub(super) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> tonic::Status {
        let body = Full::new(body.into()).boxed_unsync();
        let answer = self.send(path, headers, body).await;
        status(answer).await.0
    }

    /// Begins a call.
    pub(super) async fn begin(&mut self, path: &str, headers: &[(&str, &str)]) -> Call {
        let (say, pieces) = mpsc::unbounded_channel::<Bytes>();
        let pieces = stream::unfold(pieces, async |mut pieces| {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let answer = self.send(path, headers, body).await;
        Call { say, answer }
    }

    async fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Sent,
    ) -> Response<Incoming> {
        let mut request = Request::post(format!("http://relay{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }
}

impl Call {
    /// Sends one message.
    pub(super) fn say(&self, message: &[u8]) {
        self.say.send(framed(message).into()).unwrap();
    }

    /// The next message of the answer.
    pub(super) async fn hear(&mut self) -> Bytes {
        let mut heard = Vec::new();
        loop {
            if let Some((head, rest)) = heard.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if rest.len() >= length {
                    assert_eq!(rest.len(), length);
                    return Bytes::copy_from_slice(rest);
                }
            }
            let frame = tokio::time::timeout(MANY, self.answer.body_mut().frame()).await;
            heard.extend(frame.unwrap().unwrap().unwrap().into_data().unwrap());
        }
    }

    /// Says no more, and leaves the answer alone.
    pub(super) fn leave(self) -> Response<Incoming> {
        self.answer
    }

    /// How it ended, and what else was said until then.
    pub(super) async fn end(self) -> (tonic::Status, Bytes) {
        let _say = self.say;
        tokio::time::timeout(MANY, status(self.answer))
            .await
            .unwrap()
    }
}

async fn status(answer: Response<Incoming>) -> (tonic::Status, Bytes) {
    let (parts, body) = answer.into_parts();
    let mut headers: HeaderMap = parts.headers;
    let body = body.collect().await.unwrap();
    if let Some(trailers) = body.trailers() {
        headers.extend(trailers.clone());
    }
    let status = tonic::Status::from_header_map(&headers).unwrap();
    (status, body.to_bytes())
}

/// A message with its prefix.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}
