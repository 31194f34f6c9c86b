//! Calls whose messages are in bytes already.
//!
//! A generated client encodes a message, and compresses it if asked to. A body
//! that is passed on as it came, compressed by whoever made it, needs neither:
//! here its bytes go into the frame of gRPC as they are, without a copy, and
//! `grpc-encoding` says what they are.

use super::{GrpcChannel, failure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Code, Status, body::Body};

/// The compressed flag and the length.
const HEAD: usize = 5;

/// The largest answer that is kept, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// One message, encoded, and compressed where `encoding` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What is in the frame.
    pub bytes: Bytes,
    /// `grpc-encoding` of a compressed message: `gzip`, `zstd`.
    pub encoding: Option<HeaderValue>,
}

/// A message as the body of a request: its head, then its bytes.
struct Framed {
    head: Option<Bytes>,
    message: Option<Bytes>,
}

// === impl GrpcChannel ===

impl GrpcChannel {
    /// Calls `path` (`/package.Service/Method`) with `headers` beside those of
    /// the settings. The answer's message; `None` when there is none although
    /// the call succeeded, or when it is above 64 KiB.
    pub async fn unary(
        &self,
        path: &'static str,
        mut headers: HeaderMap,
        message: Message,
    ) -> Result<Option<Message>, Status> {
        if let Some(encoding) = &message.encoding {
            headers.insert("grpc-encoding", encoding.clone());
        }
        let body = Body::new(Framed::new(message)?);
        self.streamed(&Uri::from_static(path), headers, body).await
    }

    /// The same with messages that are framed already, such as those that somebody
    /// streams through. It ends when the body fails.
    pub async fn streamed(
        &self,
        path: &Uri,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Option<Message>, Status> {
        let response = self.pass(path, headers, body).await?;
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers) {
            return done(status).map(|()| None);
        }
        let (frame, trailers) = read(body).await?;
        let status = trailers.as_ref().and_then(Status::from_header_map);
        done(status.unwrap_or_else(failure::no_status))?;
        Ok(unframed(&frame, parts.headers.get("grpc-encoding")))
    }

    /// Passes a call on; the answer as it comes.
    pub async fn pass(
        &self,
        path: &Uri,
        mut headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, Status> {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = path.clone();
        *request.headers_mut() = headers;
        self.0.call(request).await
    }
}

fn done(status: Status) -> Result<(), Status> {
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(status),
    }
}

/// The body as far as it is kept, and the trailers.
async fn read(mut body: Body) -> Result<(Bytes, Option<HeaderMap>), Status> {
    let mut kept = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                // The status is behind it, so it is read to its end.
                let room = (HEAD + MAX_ANSWER).saturating_sub(kept.len());
                kept.put(data.slice(..data.len().min(room)));
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((kept.freeze(), trailers))
}

/// The first message of a body, if it is complete.
fn unframed(body: &Bytes, encoding: Option<&HeaderValue>) -> Option<Message> {
    let head: [u8; HEAD] = body.get(..HEAD)?.try_into().ok()?;
    let [flag, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if body.len() - HEAD < length {
        return None;
    }
    Some(Message {
        bytes: body.slice(HEAD..HEAD + length),
        encoding: encoding.filter(|_| flag == 1).cloned(),
    })
}

// === impl Framed ===

impl Framed {
    fn new(message: Message) -> Result<Self, Status> {
        let length = u32::try_from(message.bytes.len())
            .map_err(|_| Status::resource_exhausted("a message cannot have more than 4 GiB"))?;
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u8(u8::from(message.encoding.is_some()));
        head.put_u32(length);
        Ok(Self {
            head: Some(head.freeze()),
            message: Some(message.bytes).filter(|bytes| !bytes.is_empty()),
        })
    }
}

impl HttpBody for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.head.take().or_else(|| self.message.take());
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.message.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = [&self.head, &self.message].into_iter().flatten();
        SizeHint::with_exact(left.map(|bytes| bytes.len() as u64).sum())
    }
}
