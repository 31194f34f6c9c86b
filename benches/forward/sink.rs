//! The role `sink`: a backend for both protocols that decodes nothing, counts what
//! arrives and answers at once.

use crate::{
    Result,
    args::{Case, Coding, Protocol},
    arrival, child,
    figures::{nanos, quantile},
    template::Template,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};
use tokio::net::TcpListener;

/// What arrived since somebody asked.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    /// Bytes of messages as they travelled.
    pub(crate) bytes: u64,
    /// Requests of which all bytes were looked at.
    pub(crate) looked_at: u64,
    /// Requests that are not, in their bytes, those that were sent.
    pub(crate) altered: u64,
    /// Whether the last of these says the same in other bytes.
    pub(crate) says_the_same: Option<bool>,
    /// Requests that nobody can read.
    pub(crate) unknown: u64,
    /// From sending to arrival, in seconds.
    pub(crate) delay_p50: Option<f64>,
    pub(crate) delay_p99: Option<f64>,
    pub(crate) delay_max: Option<f64>,
}

struct Sink {
    template: Template,
    protocol: Protocol,
    counts: Mutex<Counts>,
    /// Buffers to be used again.
    buffers: Mutex<Vec<BytesMut>>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    bytes: u64,
    looked_at: u64,
    altered: u64,
    unknown: u64,
    last: Option<(Bytes, Coding)>,
    /// In microseconds.
    delays: Vec<u64>,
}

/// An answer: perhaps a message, perhaps trailers.
struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

/// The windows of Parca's server, in bytes; frames have the 16 KiB of all that do
/// not ask for more, as Go's servers do.
const WINDOW: u32 = 1 << 20;
/// One in so many requests is compared as a whole.
const WHOLE: u64 = 16;
/// What stands before a message in gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Takes requests of a case until stdin ends. Prints its address as one line of
/// JSON, then answers `count` with how many arrived since the last `take`, and
/// `take` with an [`Arrived`].
pub(crate) fn run(case: Case) -> Result<()> {
    let sink = Arc::new(Sink {
        template: Template::new(case)?,
        protocol: case.protocol,
        counts: Mutex::default(),
        buffers: Mutex::default(),
    });
    child::runtime()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let asked = sink.clone();
        child::obey(&json!(listener.local_addr()?), move |line| match line {
            "count" => json!(asked.count()),
            _ => json!(asked.take()),
        });
        let tasks = Tasks::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let sink = sink.clone();
            tasks.spawn("connection", async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http2()
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW);
                let service = service_fn(|request| sink.clone().answer(request));
                // Whoever closes a connection has nothing more to send.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

// === impl Sink ===

impl Sink {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Answer>, hyper::Error> {
        let (head, mut body) = request.into_parts();
        let mut buffer = self.buffer();
        while let Some(data) = next(&mut body).await? {
            buffer.extend_from_slice(&data);
        }
        let arrived = SystemTime::now();
        let message = match self.protocol {
            Protocol::Grpc => buffer.get(PREFIX..).unwrap_or_default(),
            Protocol::Http => &buffer,
        };
        let name = match self.protocol {
            Protocol::Grpc => head.headers.get(GRPC_ENCODING),
            Protocol::Http => head.headers.get(header::CONTENT_ENCODING),
        };
        // A gRPC message may be plain although others are compressed.
        let compressed = self.protocol == Protocol::Http || buffer.first() == Some(&1);
        let coding = match name.is_some_and(|name| name == "gzip") && compressed {
            true => Coding::Gzip,
            false => Coding::None,
        };
        self.note(message, coding, nanos(arrived));
        self.give_back(buffer);
        Ok(Answer::success(self.protocol))
    }

    fn note(&self, message: &[u8], coding: Coding, arrived: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = counts.requests.is_multiple_of(WHOLE);
        counts.requests += 1;
        counts.bytes += message.len() as u64;
        counts.looked_at += u64::from(whole);
        let id = self.template.recognise(message, whole).or_else(|| {
            counts.altered += 1;
            if whole {
                counts.last = Some((Bytes::copy_from_slice(message), coding));
            }
            arrival::id(message, coding)
        });
        match id {
            Some(id) => counts
                .delays
                .push(arrived.saturating_sub(id.time()) / 1_000),
            None => counts.unknown += 1,
        }
    }

    fn count(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests
    }

    fn take(&self) -> Arrived {
        let mut counts = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *counts)
        };
        counts.delays.sort_unstable();
        let delay = |q: f64| quantile(&counts.delays, q).map(|micros| micros as f64 / 1e6);
        let same = |(message, coding): &(Bytes, Coding)| {
            arrival::says_the_same(&self.template, message, *coding).unwrap_or(false)
        };
        Arrived {
            requests: counts.requests,
            bytes: counts.bytes,
            looked_at: counts.looked_at,
            altered: counts.altered,
            says_the_same: counts.last.as_ref().map(same),
            unknown: counts.unknown,
            delay_p50: delay(0.5),
            delay_p99: delay(0.99),
            delay_max: delay(1.0),
        }
    }

    fn buffer(&self) -> BytesMut {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.push(buffer);
    }
}

/// The next piece of a body.
pub(crate) async fn next(body: &mut Incoming) -> std::result::Result<Option<Bytes>, hyper::Error> {
    use http_body_util::BodyExt;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

// === impl Answer ===

impl Answer {
    /// That all is well.
    fn success(protocol: Protocol) -> Response<Self> {
        let (content_type, answer) = match protocol {
            Protocol::Grpc => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                let answer = Self {
                    data: Some(Bytes::from_static(&[0; PREFIX])),
                    trailers: Some(trailers),
                };
                ("application/grpc", answer)
            }
            Protocol::Http => {
                let answer = Self {
                    data: None,
                    trailers: None,
                };
                ("application/x-protobuf", answer)
            }
        };
        let mut response = Response::new(answer);
        let content_type = HeaderValue::from_static(content_type);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
