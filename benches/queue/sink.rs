//! The role `sink`: a backend that is away until it is told to open, then counts
//! requests and answers at once.

use crate::{Result, child, figures::nanos, request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::WithTrailers};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::net::TcpListener;

/// What arrived.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    /// Those of another size than the one that is sent.
    pub(crate) odd: u64,
    /// When the first and the last did, in nanoseconds since the epoch.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

#[derive(Default)]
struct Sink {
    is_open: bool,
    arrived: Arrived,
}

/// All that is said to a request.
type Answer = WithTrailers<Full<Bytes>, Ready<Option<std::result::Result<HeaderMap, Infallible>>>>;

/// The windows of Parca's server, in bytes.
const WINDOW: u32 = 1 << 20;

/// Takes requests until stdin ends. Prints its address as one line of JSON, then
/// answers each line with an [`Arrived`]; `open` opens it.
pub(crate) fn run() -> Result<()> {
    let sink = Arc::new(Mutex::new(Sink::default()));
    let size = request::framed()?.len();
    child::runtime()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let asked = sink.clone();
        child::obey(&json!(listener.local_addr()?), move |line| {
            let mut sink = asked.lock().unwrap_or_else(PoisonError::into_inner);
            sink.is_open |= line == "open";
            json!(sink.arrived)
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
                let service = service_fn(|request| answer(sink.clone(), request, size));
                // Whoever closes a connection has nothing more to send.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn answer(
    sink: Arc<Mutex<Sink>>,
    request: Request<Incoming>,
    size: usize,
) -> std::result::Result<Response<Answer>, hyper::Error> {
    let (mut body, mut bytes) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    if !sink.is_open {
        // UNAVAILABLE
        return Ok(with_status(Bytes::new(), "14"));
    }
    let now = nanos(SystemTime::now());
    let arrived = &mut sink.arrived;
    arrived.requests += 1;
    arrived.odd += u64::from(bytes != size);
    arrived.last = now;
    if arrived.requests == 1 {
        arrived.first = now;
    }
    Ok(with_status(Bytes::from_static(&[0; 5]), "0"))
}

fn with_status(message: Bytes, status: &'static str) -> Response<Answer> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(message).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
