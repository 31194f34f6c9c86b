//! How an agent calls: ready-made bytes over HTTP/2, in DATA frames of 16 KiB, the
//! largest that senders written in Go make.

use crate::{Result, args::Call, sent::Reply};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profile_relay::runtime::Tasks;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsConnector;

/// A connection, for one call at a time.
pub(crate) struct Client {
    sender: SendRequest<Said>,
    uri: String,
    method: Call,
}

/// A body: what there is to say at once, and what is said when it is asked for.
pub(crate) struct Said {
    left: Bytes,
    later: Option<oneshot::Receiver<Bytes>>,
}

/// The answer so far.
struct Heard {
    body: Incoming,
    message: Vec<u8>,
    trailers: HeaderMap,
}

/// Bytes that go both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// HTTP/2's largest frame unless a peer asks for more.
const FRAME: usize = 16_384;
/// What stands before a message in gRPC.
const PREFIX: usize = 5;
const AGENT: &str = "parca-agent/0.49 grpc-go/1.75.0";

// === impl Client ===

impl Client {
    /// Connects.
    pub(crate) async fn connect(
        to: SocketAddr,
        method: Call,
        tls: Option<Arc<ClientConfig>>,
        tasks: &Tasks,
    ) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let io = TokioIo::new(connected(to, 0, tls).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tasks.spawn("connection", connection);
        Ok(Self {
            sender,
            uri: format!("{scheme}://{to}{}", method.path()),
            method,
        })
    }

    /// Makes one call: with `second`, it is said when the first is answered.
    pub(crate) async fn call(&self, first: Bytes, second: Option<Bytes>) -> Reply {
        let replied = self.replied(first, second).await;
        replied.unwrap_or_else(|error| Reply::Failed(error.to_string()))
    }

    async fn replied(&self, first: Bytes, second: Option<Bytes>) -> Result<Reply> {
        let (say, said) = oneshot::channel();
        let body = Said {
            left: first,
            later: (self.method == Call::Write).then_some(said),
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, AGENT)
            .body(body)?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let mut heard = Heard {
            body,
            message: Vec::new(),
            trailers: head.headers,
        };
        if let Some(second) = second
            && heard.message().await?
        {
            // Who has hung up says why.
            let _ = say.send(second);
        }
        while heard.more().await? {}
        Ok(Reply::of_grpc(
            &heard.text("grpc-status"),
            &heard.text("grpc-message"),
        ))
    }
}

/// A new connection; `from` is a number of the address that it comes from, as ports of
/// one address run out.
pub(crate) async fn connected(
    to: SocketAddr,
    from: u8,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Io>> {
    let stream = match from {
        0 => TcpStream::connect(to).await?,
        from => {
            let socket = TcpSocket::new_v4()?;
            socket.bind((IpAddr::from(Ipv4Addr::new(127, 2, 0, from)), 0).into())?;
            socket.connect(to).await?
        }
    };
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::from(to.ip());
    Ok(Box::new(
        TlsConnector::from(tls).connect(name, stream).await?,
    ))
}

// === impl Heard ===

impl Heard {
    /// Hears a whole message; `false` when there was none.
    async fn message(&mut self) -> Result<bool> {
        loop {
            if let Some((prefix, message)) = self.message.split_at_checked(PREFIX)
                && let [_, len @ ..] = prefix
                && let Ok(len) = <[u8; 4]>::try_from(len)
                && message.len() >= u32::from_be_bytes(len) as usize
            {
                return Ok(true);
            }
            if !self.more().await? {
                return Ok(false);
            }
        }
    }

    /// Hears a little; `false` at the end.
    async fn more(&mut self) -> Result<bool> {
        use http_body_util::BodyExt;
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        match frame?.into_data() {
            Ok(data) => self.message.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.trailers.extend(trailers);
            }
        }
        Ok(true)
    }

    fn text(&self, name: &str) -> String {
        let value = self.trailers.get(name).map(http::HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    }
}

// === impl Said ===

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty()
            && let Some(later) = &mut self.later
        {
            let Poll::Ready(said) = Pin::new(later).poll(context) else {
                return Poll::Pending;
            };
            self.later = None;
            self.left = said.unwrap_or_default();
        }
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = FRAME.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.later.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.later {
            None => SizeHint::with_exact(self.left.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}
