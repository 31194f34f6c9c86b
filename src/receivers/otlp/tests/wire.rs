//! gRPC without a codec: the client sends exactly what a test wants.

use super::*;
use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use std::convert::Infallible;

type Pieces = mpsc::UnboundedReceiver<Bytes>;

/// One HTTP/2 connection.
pub(super) struct Wire {
    sender: hyper::client::conn::http2::SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Tasks::default().spawn("client", connection);
        Self { sender }
    }

    /// Calls Export with a message as it is.
    pub(super) async fn export(
        &mut self,
        headers: &[(&str, &str)],
        compressed: bool,
        message: &[u8],
    ) -> tonic::Status {
        self.call(EXPORT, headers, framed(compressed, message))
            .await
    }

    /// Calls any path with any bytes.
    pub(super) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> tonic::Status {
        let body = Full::new(body.into()).boxed_unsync();
        self.answer(path, headers, body).await
    }

    /// Calls Export with a body that comes when the test sends it.
    pub(super) async fn slow(&mut self, headers: &[(&str, &str)], pieces: Pieces) -> tonic::Status {
        let pieces = futures_util::stream::unfold(pieces, async |mut pieces| {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        self.answer(EXPORT, headers, body).await
    }

    async fn answer(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: UnsyncBoxBody<Bytes, Infallible>,
    ) -> tonic::Status {
        let mut request = Request::post(format!("http://relay{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .sender
            .send_request(request.body(body).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let (parts, body) = response.into_parts();
        let mut headers = parts.headers;
        if let Some(trailers) = body.collect().await.unwrap().trailers() {
            headers.extend(trailers.clone());
        }
        tonic::Status::from_header_map(&headers).unwrap()
    }
}

/// A message with its prefix.
pub(super) fn framed(compressed: bool, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(compressed)], &length[..], message].concat()
}
