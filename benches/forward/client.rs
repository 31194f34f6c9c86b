//! How a request is sent: ready-made bytes, straight over HTTP.
//!
//! gRPC goes over one connection, in DATA frames of 16 KiB, the largest that
//! senders written in Go make. HTTP/1.1 takes a connection for each call in flight.

use crate::{
    Result,
    args::{Coding, Protocol},
    sent::Reply,
    sink::next,
};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Method, Request, Response, StatusCode, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profile_relay::runtime::Tasks;
use std::{
    cell::RefCell,
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::Semaphore};

/// A connection, or several.
pub(crate) enum Client {
    /// gRPC.
    Grpc(http2::SendRequest<Pieces>, Form),
    /// HTTP/1.1: connections that nobody uses, and as many permits.
    Http {
        idle: RefCell<Vec<http1::SendRequest<Pieces>>>,
        permits: Semaphore,
        form: Form,
    },
}

/// What all requests have in common.
pub(crate) struct Form {
    uri: String,
    host: String,
    coding: Coding,
}

/// A body in pieces of at most `most` bytes.
pub(crate) struct Pieces {
    left: Bytes,
    most: usize,
}

const GRPC_PATH: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
const HTTP_PATH: &str = "/v1development/profiles";
/// HTTP/2's largest frame unless a peer asks for more.
const FRAME: usize = 16_384;
/// An empty answer, or one with an empty partial success.
const WHOLE_SUCCESS: [&[u8]; 2] = [b"", b"\x0a\x00"];

// === impl Client ===

impl Client {
    /// Connects for up to `calls` at a time.
    pub(crate) async fn connect(
        to: SocketAddr,
        protocol: Protocol,
        coding: Coding,
        calls: usize,
        tasks: &Tasks,
    ) -> Result<Self> {
        let path = match protocol {
            Protocol::Grpc => GRPC_PATH,
            Protocol::Http => HTTP_PATH,
        };
        let form = Form {
            uri: match protocol {
                Protocol::Grpc => format!("http://{to}{path}"),
                Protocol::Http => path.to_owned(),
            },
            host: to.to_string(),
            coding,
        };
        if protocol == Protocol::Grpc {
            let stream = connected(to).await?;
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tasks.spawn("connection", connection);
            return Ok(Self::Grpc(sender, form));
        }
        let mut idle = Vec::with_capacity(calls);
        for _ in 0..calls {
            let (sender, connection) = http1::handshake(connected(to).await?).await?;
            tasks.spawn("connection", connection);
            idle.push(sender);
        }
        Ok(Self::Http {
            idle: RefCell::new(idle),
            permits: Semaphore::new(calls),
            form,
        })
    }

    /// Sends one request: for gRPC with its prefix.
    pub(crate) async fn call(&self, body: Bytes) -> Reply {
        let replied = match self {
            Self::Grpc(sender, form) => grpc(sender.clone(), form, body).await,
            Self::Http {
                idle,
                permits,
                form,
            } => {
                let Ok(_permit) = permits.acquire().await else {
                    return Reply::Failed("closed".to_owned());
                };
                let Some(mut sender) = idle.borrow_mut().pop() else {
                    return Reply::Failed("all connections have ended".to_owned());
                };
                let replied = http(&mut sender, form, body).await;
                if replied.is_ok() {
                    idle.borrow_mut().push(sender);
                }
                replied
            }
        };
        replied.unwrap_or_else(|error| Reply::Failed(error.to_string()))
    }
}

async fn connected(to: SocketAddr) -> Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

async fn grpc(mut sender: http2::SendRequest<Pieces>, form: &Form, body: Bytes) -> Result<Reply> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&form.uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    if let Some(coding) = form.coding.header() {
        request = request.header("grpc-encoding", coding);
    }
    sender.ready().await?;
    let body = Pieces {
        left: body,
        most: FRAME,
    };
    let response = sender.send_request(request.body(body)?).await?;
    let (head, mut body) = response.into_parts();
    let mut trailers = head.headers;
    let mut message = Vec::new();
    use http_body_util::BodyExt;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let text = |name| {
        let value = trailers.get(name).map(http::HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    Ok(
        match Reply::of_grpc(&text("grpc-status"), &text("grpc-message")) {
            Reply::Accepted => success(&unwrapped(&message)?),
            other => other,
        },
    )
}

async fn http(sender: &mut http1::SendRequest<Pieces>, form: &Form, body: Bytes) -> Result<Reply> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&form.uri)
        .header(header::HOST, &form.host)
        .header(header::CONTENT_TYPE, "application/x-protobuf");
    if let Some(coding) = form.coding.header() {
        request = request.header(header::CONTENT_ENCODING, coding);
    }
    sender.ready().await?;
    let most = body.len();
    let body = Pieces { left: body, most };
    let response = sender.send_request(request.body(body)?).await?;
    let status = response.status();
    let message = read(response).await?;
    Ok(match status {
        StatusCode::OK => success(&message),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Reply::Refused,
        _ => Reply::Failed(format!("{status}: {}", String::from_utf8_lossy(&message))),
    })
}

async fn read(response: Response<Incoming>) -> Result<Vec<u8>> {
    let (mut body, mut message) = (response.into_body(), Vec::new());
    while let Some(data) = next(&mut body).await? {
        message.extend_from_slice(&data);
    }
    Ok(message)
}

/// The message of a gRPC answer; a compressed request may get a compressed one.
fn unwrapped(answer: &[u8]) -> Result<Vec<u8>> {
    let (prefix, message) = answer.split_at_checked(5).ok_or("no message")?;
    let mut plain = Vec::new();
    match prefix[0] {
        0 => plain.extend_from_slice(message),
        _ => drop(GzDecoder::new(message).read_to_end(&mut plain)?),
    }
    Ok(plain)
}

fn success(message: &[u8]) -> Reply {
    match WHOLE_SUCCESS.contains(&message) {
        true => Reply::Accepted,
        false => Reply::Failed(format!("a partial success: {message:?}")),
    }
}

// === impl Pieces ===

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.most.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
