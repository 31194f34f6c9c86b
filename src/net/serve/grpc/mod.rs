//! gRPC calls, straight over HTTP/2.
//!
//! A codec would inflate a message before anybody could ask whether that is
//! wanted. Here a [`Method`] gets the bytes as they came and how they are
//! compressed, and decides what to refuse before the message is read at all.
//! A [`Conversation`] has messages in both directions. An [`Exchange`] makes its
//! whole answer itself. Health and reflection are tonic's own services, beside the
//! methods.

mod framing;
mod messages;
mod question;
mod side;
pub(super) mod stream;

pub use self::{
    messages::Messages,
    side::Health,
    stream::{Conversation, Conversing, Replies},
};

use self::{framing::Framing, side::Side};
use super::{
    Answer, Answering, Coding, Failure, Handler, InFlight, Kind, Patience, Peer, Received,
    body::{Pieces, Reading, discard},
};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Response, Uri, Version, header,
};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// A unary method.
#[async_trait]
pub trait Method: Send + Sync + 'static {
    /// Answers one call with an encoded message. Nothing of the request's body
    /// has been read when this is called. Dropped when the client goes away.
    async fn call(&self, head: Head, body: MessageBody) -> Result<Bytes, Failure>;
}

/// A method that makes its whole answer itself.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    /// Answers one call of `path`. Nothing of the request's body has been read when
    /// this is called. Dropped when the client goes away.
    async fn answer(&self, path: &str, head: Head, body: MessageBody) -> Response<Answer>;
}

/// What a call says before its message.
#[derive(Debug)]
pub struct Head {
    /// Metadata and the rest.
    pub headers: HeaderMap,
    /// Who calls.
    pub peer: Peer,
    /// When the client stops waiting (`grpc-timeout`).
    pub deadline: Option<Instant>,
}

/// The message of a call, not read yet.
#[derive(Debug)]
pub struct MessageBody {
    body: Incoming,
    coding: Option<Coding>,
    /// The client's name for what is not understood.
    encoding: Option<HeaderValue>,
    deadline: Option<Instant>,
    /// What it is charged to, beside memory.
    share: Option<InFlight>,
}

/// A message as it travelled.
#[derive(Debug)]
pub struct Message {
    /// The bytes and their charge.
    pub received: Received,
    /// How they are compressed.
    pub coding: Coding,
}

/// Says what a path is that is not served.
pub type Unknown = Box<dyn Fn(&str) -> String + Send + Sync>;

/// Serves methods, health and reflection.
pub struct GrpcHandler {
    methods: Vec<(&'static str, Arc<dyn Method>)>,
    exchanges: Vec<(&'static str, Arc<dyn Exchange>)>,
    /// Serves the paths that are nobody's.
    others: Option<Arc<dyn Exchange>>,
    side: Side,
    /// What is said about a path that is nobody's.
    unknown: Unknown,
}

// === impl Head ===

impl Head {
    /// Whether the client has stopped waiting.
    pub fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

// === impl MessageBody ===

impl MessageBody {
    fn new(headers: &HeaderMap, body: Incoming) -> Self {
        let encoding = headers.get(GRPC_ENCODING);
        let coding = match encoding {
            None => Some(Coding::Identity),
            Some(name) => name.to_str().ok().and_then(Coding::parse),
        };
        Self {
            body,
            coding,
            encoding: encoding.filter(|_| coding.is_none()).cloned(),
            deadline: timeout(headers).map(|timeout| Instant::now() + timeout),
            share: None,
        }
    }

    /// Reads the one message, within the client's deadline and ours.
    pub async fn read(self, reading: &Reading) -> Result<Message, Failure> {
        let coding = self.coding()?;
        let mut pieces =
            Pieces::new(self.body, reading.patience, self.deadline).charged_to(self.share);
        let mut framing = Framing::default();
        while let Some(piece) = pieces.next().await? {
            framing.feed(reading, &piece)?;
        }
        let (compressed, received) = framing.finish()?;
        Message::new(compressed, coding, received)
    }

    /// The messages of a streamed call; between two pieces of the body there may be
    /// `idle`.
    pub fn messages(self, reading: Reading, idle: Patience) -> Result<Messages, Failure> {
        let coding = self.coding()?;
        Ok(Messages::new(
            self.body,
            self.share,
            (coding, reading, idle),
        ))
    }

    /// The body as it comes, for who passes it on.
    pub fn into_inner(self) -> Incoming {
        self.body
    }

    fn coding(&self) -> Result<Coding, Failure> {
        self.coding.ok_or_else(|| {
            let name = self.encoding.as_ref().map(HeaderValue::as_bytes);
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            let message = format!("grpc-encoding {name:?} is not supported: {}", Coding::ALL);
            Failure::new(Kind::Unimplemented, message)
        })
    }
}

// === impl Message ===

impl Message {
    fn new(compressed: bool, coding: Coding, received: Received) -> Result<Self, Failure> {
        match (compressed, coding) {
            (false, _) => Ok(Self {
                received,
                coding: Coding::Identity,
            }),
            (true, Coding::Identity) => Err(Failure::new(
                Kind::Invalid,
                "the message is marked as compressed and grpc-encoding does not say how",
            )),
            (true, coding) => Ok(Self { received, coding }),
        }
    }
}

/// The client's timeout: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

// === impl GrpcHandler ===

impl GrpcHandler {
    /// Serves `methods` by their paths, `/package.Service/Method`, until `stop`;
    /// `descriptors` are what reflection tells of their services.
    pub fn new(
        methods: Vec<(&'static str, Arc<dyn Method>)>,
        descriptors: &'static [u8],
        unknown: Unknown,
        stop: CancellationToken,
    ) -> Self {
        let services = methods.iter().filter_map(|(path, _)| service(path));
        let side = Side::new(services.collect(), descriptors, stop);
        Self {
            methods,
            exchanges: Vec::new(),
            others: None,
            side,
            unknown,
        }
    }

    /// Serves `exchanges` too, by their paths.
    pub fn with(mut self, exchanges: Vec<(&'static str, Arc<dyn Exchange>)>) -> Self {
        let services = exchanges.iter().filter_map(|(path, _)| service(path));
        self.side.add(services);
        self.exchanges = exchanges;
        self
    }

    /// Leaves the paths that are nobody's to `others`.
    pub fn leaving(mut self, others: Option<Arc<dyn Exchange>>) -> Self {
        self.others = others;
        self
    }

    /// Tells who asks whether the methods are served.
    pub fn health(&self) -> Health {
        self.side.health()
    }

    async fn call(
        &self,
        method: &dyn Method,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Response<Answer> {
        let (_, head, body) = opened(request, peer);
        match method.call(head, body).await {
            Ok(message) => success(&message),
            Err(failure) => {
                let mut response = failure.to_grpc();
                if failure.kind() == Kind::Unimplemented {
                    let all = HeaderValue::from_static(Coding::ALL);
                    response.headers_mut().insert(GRPC_ACCEPT_ENCODING, all);
                }
                response
            }
        }
    }
}

/// The path, and the two halves of a call.
fn opened(request: Request<Incoming>, peer: Peer) -> (Uri, Head, MessageBody) {
    let (parts, body) = request.into_parts();
    let mut body = MessageBody::new(&parts.headers, body);
    body.share = parts.extensions.get().cloned();
    let head = Head {
        deadline: body.deadline,
        headers: parts.headers,
        peer,
    };
    (parts.uri, head, body)
}

/// The service of a path.
fn service(path: &'static str) -> Option<&'static str> {
    path.strip_prefix('/')?
        .split_once('/')
        .map(|(name, _)| name)
}

impl Handler for GrpcHandler {
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering {
        Box::pin(async move {
            if !is_grpc(&request) {
                return no_grpc(request).await;
            }
            let path = request.uri().path();
            let method = self.methods.iter().find(|(known, _)| *known == path);
            if let Some((_, method)) = method {
                return self.call(method.as_ref(), request, peer).await;
            }
            let exchange = self.exchanges.iter().find(|(known, _)| *known == path);
            if let Some((path, exchange)) = exchange {
                let (_, head, body) = opened(request, peer);
                return exchange.answer(path, head, body).await;
            }
            match (self.side.serve(request).await, &self.others) {
                (Ok(response), _) => response,
                (Err(request), Some(others)) => {
                    let (uri, head, body) = opened(request, peer);
                    others.answer(uri.path(), head, body).await
                }
                (Err(request), None) => {
                    let message = (self.unknown)(request.uri().path());
                    Failure::new(Kind::Unimplemented, message).to_grpc()
                }
            }
        })
    }
}

pub(super) fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && request.method() == Verb::POST
        && content_type.is_some_and(|ty| ty.as_bytes().starts_with(CONTENT_TYPE.as_bytes()))
}

/// Tells who speaks plain HTTP to a gRPC port, as OTLP over HTTP to 4317.
async fn no_grpc(request: Request<Incoming>) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    discard(&parts, body).await;
    let text = "this port speaks gRPC: HTTP/2 with content-type application/grpc\n";
    let mut response = Response::new(Answer::full(text));
    *response.status_mut() = Kind::MediaType.http();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The answer of one encoded message and the status OK.
pub fn success(message: &[u8]) -> Response<Answer> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Answer::with_trailers(framed(message), trailers));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// A message that is not compressed, with its prefix.
fn framed(message: &[u8]) -> Bytes {
    if message.is_empty() {
        return Bytes::from_static(&[0; framing::PREFIX]);
    }
    let mut data = BytesMut::with_capacity(framing::PREFIX + message.len());
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    data.put_slice(message);
    data.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            timeout(&headers)
        };
        assert_eq!(read("10S"), Some(Duration::from_secs(10)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "10", "123456789S", "-1S", "1x", "1ü"] {
            assert_eq!(
                HeaderValue::from_str(wrong).ok().and_then(|value| {
                    let mut headers = HeaderMap::new();
                    headers.insert(GRPC_TIMEOUT, value);
                    timeout(&headers)
                }),
                None,
                "{wrong}"
            );
        }
    }
}
