//! HTTP/2 and gRPC as Parca's server speaks them, by hand, so that every
//! misbehaviour of the wire can be had.

use super::{Fault, SeenRequest, generation, life::Process, rules};
use bytes::{Buf, Bytes, BytesMut};
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use profile_relay::r#gen::profilestore::WriteRawRequest;
use prost::Message;
use std::{
    io::{self, Read},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";

/// A socket that is reset instead of closed once one of the flags says so, and
/// otherwise is read for another second after its connection has ended, as Go
/// does it: a request that crosses a GOAWAY does not turn into a reset.
struct Socket {
    stream: Option<TcpStream>,
    process: Arc<Process>,
    reset: Arc<AtomicBool>,
}

/// What a request comes to on the wire.
pub(super) enum Answer {
    Grpc(Code, String),
    /// Success, with this message.
    Message(Bytes),
    Throttle(Duration),
    Http(u16),
    ResetStream(Reason),
    ResetConnection,
    Nothing,
}

/// What the requests of one connection share.
pub(super) struct Wire {
    pub(super) process: Arc<Process>,
    reset: Arc<AtomicBool>,
    broken: Notify,
}

/// Serves one connection to its end.
pub(super) async fn connection(stream: TcpStream, process: Arc<Process>) {
    let reset = Arc::new(AtomicBool::new(false));
    let _ = stream.set_nodelay(true);
    let socket = Socket {
        stream: Some(stream),
        process: process.clone(),
        reset: reset.clone(),
    };
    let wire = Arc::new(Wire {
        process,
        reset,
        broken: Notify::new(),
    });
    let tls = wire.process.shared.behaviour().tls.clone();
    match tls {
        None => serve(socket, wire).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(socket).await {
                serve(stream, wire).await;
            }
        }
    }
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(io: T, wire: Arc<Wire>) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(250);
    let Ok(mut connection) = builder.handshake::<T, Bytes>(io).await else {
        return;
    };
    let idle = wire.process.shared.behaviour().idle;
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    requests.spawn(handle(request, respond, wire.clone()));
                }
                _ => break,
            },
            Some(_) = requests.join_next() => {}
            () = wire.broken.notified() => return,
            () = sleep(idle), if requests.is_empty() => {
                wire.process.shared.record(|log| log.goaways += 1);
                return go_away(connection).await;
            }
        }
    }
    // A handler goes on although its client has left, and what it stores stays.
    while requests.join_next().await.is_some() {}
}

async fn go_away<T: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<T, Bytes>) {
    connection.abrupt_shutdown(Reason::NO_ERROR);
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _ = timeout(Duration::from_secs(1), closed).await;
}

async fn handle(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, wire: Arc<Wire>) {
    let call = (request.uri().path().to_owned(), texts(request.headers()));
    wire.process.shared.record(|log| log.calls.push(call));
    let answer = match request.uri().path() {
        generation::WRITE | generation::UPLOAD if !wire.is_authorized(request.headers()) => {
            Some(unauthorized())
        }
        generation::WRITE => generation::write(request, &mut respond, &wire).await,
        generation::UPLOAD => generation::upload(request, &mut respond, &wire).await,
        _ => Some(answer(request, &wire).await),
    };
    let Some(answer) = answer else { return };
    match answer {
        Answer::Message(message) => ok(&mut respond, &message),
        Answer::Grpc(Code::Ok, _) => ok(&mut respond, b""),
        Answer::Grpc(code, message) => status(&mut respond, code, &message, None),
        Answer::Throttle(after) => {
            status(
                &mut respond,
                Code::ResourceExhausted,
                "slow down",
                Some(after),
            );
        }
        Answer::Http(code) => html(&mut respond, code),
        Answer::ResetStream(reason) => respond.send_reset(reason),
        Answer::ResetConnection => {
            wire.reset.store(true, Ordering::Relaxed);
            wire.broken.notify_one();
            // The stream must not be reset before its connection is.
            std::future::pending().await
        }
        Answer::Nothing => std::future::pending().await,
    }
}

async fn answer(request: Request<RecvStream>, wire: &Wire) -> Answer {
    let shared = &wire.process.shared;
    let (head, body) = request.into_parts();
    let behaviour = shared.behaviour().clone();
    if behaviour.faults.front() == Some(&Fault::ResetEarly) {
        shared.behaviour().faults.pop_front();
        return Answer::ResetConnection;
    }
    let body = match timeout(behaviour.body_limit, read(body, behaviour.max_http_body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(answer)) => return answer,
        Err(_) => {
            let text = "connection error: desc = \"i/o timeout\"";
            return Answer::Grpc(Code::Unknown, text.into());
        }
    };
    if !wire.is_authorized(&head.headers) {
        return unauthorized();
    }
    let message = match message(body, &head.headers, behaviour.max_message) {
        Ok(message) => message,
        Err((code, text)) => return Answer::Grpc(code, text),
    };
    if head.uri.path() != WRITE_RAW {
        let unknown = || Answer::Grpc(Code::Unimplemented, "unknown method".into());
        return generation::unary(head.uri.path(), &message, wire).unwrap_or_else(unknown);
    }
    let request = match WriteRawRequest::decode(message.clone()) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("grpc: error unmarshalling request: {error}");
            return Answer::Grpc(Code::Internal, text);
        }
    };
    let seen = SeenRequest {
        at: Instant::now(),
        bytes: message.len(),
        series: request.series.len(),
        profiles: request.series.iter().map(|s| s.samples.len()).sum(),
        headers: texts(&head.headers),
        outcome: String::new(),
    };
    write_raw(&request, seen, wire).await
}

async fn write_raw(request: &WriteRawRequest, mut seen: SeenRequest, wire: &Wire) -> Answer {
    let shared = &wire.process.shared;
    let fault = shared.fault(request.series.is_empty());
    if killed_by(request, shared.behaviour().killer.as_deref()) {
        seen.outcome = "killed".into();
        shared.record(|log| log.requests.push(seen));
        return wire.process.end().await;
    }
    if fault == Fault::Crash {
        seen.outcome = "crash".into();
        shared.record(|log| log.requests.push(seen));
        return wire.process.end().await;
    }
    let delay = match fault {
        Fault::Slow(delay) => delay,
        _ => Duration::ZERO,
    };
    let (answer, store) = plan(fault);
    let answer = if store {
        store_or_refuse(request, answer, wire).await
    } else {
        answer
    };
    seen.outcome = answer.name();
    shared.record(|log| log.requests.push(seen));
    sleep(delay).await;
    answer
}

/// What a fault answers, and whether the request is stored.
pub(super) fn plan(fault: Fault) -> (Answer, bool) {
    match fault {
        Fault::Usual | Fault::Slow(_) => (Answer::Grpc(Code::Ok, String::new()), true),
        Fault::StoreThenReset => (Answer::ResetConnection, true),
        Fault::Status(code, text) => (Answer::Grpc(code, text), false),
        Fault::Throttle(after) => (Answer::Throttle(after), false),
        Fault::Http(code) => (Answer::Http(code), false),
        Fault::Reset | Fault::ResetEarly => (Answer::ResetConnection, false),
        Fault::ResetStream(code) => (Answer::ResetStream(code.into()), false),
        Fault::Hang | Fault::Crash => (Answer::Nothing, false),
    }
}

async fn store_or_refuse(request: &WriteRawRequest, answer: Answer, wire: &Wire) -> Answer {
    match rules::write(request) {
        Err(rules::Fault::Refused(code, text)) => Answer::Grpc(code, text),
        Err(rules::Fault::Crash(cause)) => wire.process.crash(&cause).await,
        Ok(mut outcome) => {
            wire.process.shared.record(|log| {
                log.stored.append(&mut outcome.stored);
                log.crashes.append(&mut outcome.bombs);
                log.harms.append(&mut outcome.harms);
            });
            answer
        }
    }
}

fn killed_by(request: &WriteRawRequest, killer: Option<&str>) -> bool {
    let Some(killer) = killer else {
        return false;
    };
    let found = |bytes: &[u8]| bytes.windows(killer.len()).any(|w| w == killer.as_bytes());
    request.series.iter().any(|series| {
        let labels = series.labels.iter().flat_map(|set| &set.labels);
        labels.into_iter().any(|l| l.value.contains(killer))
            || series
                .samples
                .iter()
                .any(|sample| rules::inflate(&sample.raw_profile).is_ok_and(|plain| found(&plain)))
    })
}

/// Reads a body to its end; above `limit` a proxy answers at once.
async fn read(mut body: RecvStream, limit: Option<usize>) -> Result<Bytes, Answer> {
    let mut all = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            return Err(Answer::Nothing);
        };
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
        if limit.is_some_and(|limit| all.len() > limit) {
            return Err(Answer::Http(413));
        }
    }
    Ok(all.freeze())
}

/// The message in a gRPC body, inflated.
fn message(mut body: Bytes, headers: &HeaderMap, max: usize) -> Result<Bytes, (Code, String)> {
    if body.len() < 5 {
        return Err((Code::Unknown, "EOF".into()));
    }
    let compressed = body.get_u8() != 0;
    let length = body.get_u32() as usize;
    if body.len() < length {
        return Err((Code::Unknown, "unexpected EOF".into()));
    }
    if length > max {
        return Err(too_large(length, max));
    }
    if !compressed {
        return Ok(body.slice(..length));
    }
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        Some(b"gzip") => {}
        Some(_) => {
            let text = "grpc: Decompressor is not installed for grpc-encoding";
            return Err((Code::Unimplemented, text.into()));
        }
        None => return Err((Code::Internal, "grpc: compressed flag set".into())),
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&body[..length])
        .take(max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| (Code::Internal, format!("grpc: {error}")))?;
    if plain.len() > max {
        return Err(too_large(plain.len(), max));
    }
    Ok(plain.into())
}

fn too_large(length: usize, max: usize) -> (Code, String) {
    let text = format!("grpc: received message larger than max ({length} vs. {max})");
    (Code::ResourceExhausted, text)
}

fn texts(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        })
        .collect()
}

fn unauthorized() -> Answer {
    Answer::Grpc(Code::Unauthenticated, "unauthorized".into())
}

/// Success, with a message.
pub(super) fn ok(respond: &mut SendResponse<Bytes>, message: &[u8]) {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .expect("a valid head");
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let length = u32::try_from(message.len()).expect("a short message");
    let framed = [&[0], &length.to_be_bytes()[..], message].concat();
    if stream.send_data(framed.into(), false).is_ok() {
        let _ = stream.send_trailers(trailers);
    }
}

/// An answer of trailers only.
fn status(
    respond: &mut SendResponse<Bytes>,
    code: Code,
    message: &str,
    retry_after: Option<Duration>,
) {
    let mut answer = tonic::Status::new(code, message);
    if let Some(after) = retry_after {
        answer = tonic::Status::with_details(code, message, retry_info(code, message, after));
    }
    let _ = respond.send_response(answer.into_http::<()>(), true);
}

/// A google.rpc.Status that holds a google.rpc.RetryInfo.
fn retry_info(code: Code, message: &str, after: Duration) -> Bytes {
    #[derive(Clone, PartialEq, Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<prost_types::Duration>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let info = RetryInfo {
        retry_delay: prost_types::Duration::try_from(after).ok(),
    };
    let status = RpcStatus {
        code: code as i32,
        message: message.into(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: info.encode_to_vec(),
        }],
    };
    status.encode_to_vec().into()
}

/// An answer without gRPC, as nginx gives it.
fn html(respond: &mut SendResponse<Bytes>, code: u16) {
    let head = Response::builder()
        .status(code)
        .header("content-type", "text/html")
        .body(())
        .expect("a valid head");
    if let Ok(mut stream) = respond.send_response(head, false) {
        let _ = stream.send_data(Bytes::from_static(b"<html></html>"), true);
    }
}

// === impl Wire ===

impl Wire {
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("authorization");
        let behaviour = self.process.shared.behaviour();
        let wanted = behaviour.authorization.as_deref();
        wanted.is_none_or(|wanted| given.is_some_and(|given| given.as_bytes() == wanted.as_bytes()))
    }
}

// === impl Answer ===

impl Answer {
    fn name(&self) -> String {
        match self {
            Self::Grpc(Code::Ok, _) | Self::Message(_) => "ok".into(),
            Self::Grpc(code, text) => format!("{code:?}: {text}"),
            Self::Throttle(_) => "throttle".into(),
            Self::Http(code) => format!("http {code}"),
            Self::ResetStream(_) => "reset stream".into(),
            Self::ResetConnection => "reset".into(),
            Self::Nothing => "hang".into(),
        }
    }
}

// === impl Socket ===

impl Socket {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if self.process.reset.load(Ordering::Relaxed) || self.reset.load(Ordering::Relaxed) {
            let _ = stream.set_zero_linger();
        } else if tokio::runtime::Handle::try_current().is_ok() {
            self.process.tasks.spawn("linger", async move {
                let mut sink = tokio::io::sink();
                let drain = tokio::io::copy(&mut stream, &mut sink);
                let _ = timeout(Duration::from_secs(1), drain).await;
            });
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    /// Left to the drop.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
