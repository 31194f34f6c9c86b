//! Servers on loopback and whoever talks to them.

mod hostile;
mod matrix;

use super::*;
use crate::{
    net::{
        testing::Ca,
        tls::{ClientTls, LiveTls, ServerTls},
    },
    pipeline::Budget,
    runtime::Tasks,
    settings::{Duration as Setting, Secret},
    telemetry::Metrics,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const MANY: Duration = Duration::from_secs(100);

/// Says how long a body was; `/700` takes 700 ms.
struct Lengths(Reading);

impl Handler for Lengths {
    fn handle(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Answering {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let wait = parts.uri.path()[1..].parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match self.0.read(&parts, body).await {
                Ok(received) => Response::new(Answer::full(received.bytes.len().to_string())),
                Err(failure) => failure.to_http(Encoding::Json),
            }
        })
    }
}

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

async fn serve(plan: Plan) -> Served {
    let stop = CancellationToken::new();
    serve_until(plan, stop.clone(), stop).await
}

async fn serve_until(plan: Plan, stop: CancellationToken, ending: CancellationToken) -> Served {
    let server = plan.bind(&Sockets::default(), "test").await.unwrap();
    let address = server.address().parse().unwrap();
    let handler = Arc::new(Lengths(Reading {
        max: 1_000_000,
        max_key: "max_request_body_size",
        patience: Duration::ZERO,
        memory: Budget::new(10 << 20),
    }));
    let (stopped, memory) = (stop.clone(), Budget::new(10 << 20));
    let running = Tasks::default().spawn("server", async move {
        server.run(handler, &memory, stopped, ending).await;
    });
    Served {
        address,
        stop,
        running,
    }
}

async fn http(change: impl FnOnce(&mut HttpServerSettings)) -> Served {
    let mut settings = HttpServerSettings::default();
    change(&mut settings);
    serve(settings.plan("127.0.0.1:0").unwrap()).await
}

async fn grpc(change: impl FnOnce(&mut GrpcServerSettings)) -> Served {
    let mut settings = GrpcServerSettings::default();
    change(&mut settings);
    serve(settings.plan("127.0.0.1:0").unwrap()).await
}

/// The same, and what it counts.
async fn observed(plan: Plan) -> (Served, Metrics) {
    let metrics = Metrics::default();
    let plan = plan.observed(&metrics, &"test".parse().unwrap(), "test");
    (serve(plan).await, metrics)
}

/// How many connections were ended for a reason.
fn closed(metrics: &Metrics, reason: &str) -> u64 {
    counted(metrics, "closed_connections", reason)
}

fn counted(metrics: &Metrics, what: &str, reason: &str) -> u64 {
    let text = metrics.encode().unwrap();
    let start = format!(
        r#"profile_relay_receiver_{what}_total{{receiver="test",protocol="test",reason="{reason}"}} "#
    );
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Sends text and reads all that comes until the server closes.
async fn talk(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(MANY, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(address: SocketAddr) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    (sender, Tasks::default().spawn("client", connection))
}

fn post(path: &str) -> Request<Full<Bytes>> {
    let uri = format!("http://relay{path}");
    Request::post(uri)
        .body(Full::new(Bytes::from_static(b"12345")))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_connects_and_says_nothing_is_let_go() {
    let served = http(|settings| settings.idle_timeout = Setting::default()).await;
    // Nothing, and what could become either protocol.
    for beginning in ["", "P"] {
        assert_eq!(talk(served.address, beginning).await, "");
    }
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_a_busy_one_is_not() {
    let served = grpc(|settings| {
        settings.keepalive.server_parameters.max_connection_idle = Setting::from_millis(200);
    })
    .await;
    let (mut sender, connection) = http2(served.address).await;
    let began = Instant::now();
    let response = sender.send_request(post("/700")).await.unwrap();
    assert_eq!(response.status(), 200);
    timeout(MANY, connection).await.unwrap().unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(sender.send_request(post("/")).await.is_err());
}

#[tokio::test]
async fn an_old_connection_ends_after_what_is_in_flight() {
    let served = grpc(|settings| {
        settings.keepalive.server_parameters.max_connection_age = Setting::from_millis(200);
    })
    .await;
    let (mut sender, connection) = http2(served.address).await;
    let response = sender.send_request(post("/700")).await.unwrap();
    assert_eq!(response.status(), 200);
    timeout(MANY, connection).await.unwrap().unwrap().unwrap();
    assert!(sender.send_request(post("/")).await.is_err());
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off() {
    let served = grpc(|settings| {
        let parameters = &mut settings.keepalive.server_parameters;
        parameters.max_connection_age = Setting::from_millis(200);
        parameters.max_connection_age_grace = Setting::from_millis(200);
    })
    .await;
    let (mut sender, _connection) = http2(served.address).await;
    let call = sender.send_request(post("/100000"));
    assert!(timeout(MANY, call).await.unwrap().is_err());
}

#[tokio::test]
async fn the_end_waits_for_requests_but_not_for_long() {
    let served = http(|_| {}).await;
    let (mut short, _connection) = http2(served.address).await;
    let (mut long, _connection) = http2(served.address).await;
    let short = Tasks::default().spawn("short", async move {
        short.send_request(post("/1000")).await.is_ok()
    });
    let long = Tasks::default().spawn("long", async move {
        long.send_request(post("/100000")).await.is_ok()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.cancel();
    timeout(MANY, served.running).await.unwrap().unwrap();
    assert!(short.await.unwrap());
    assert!(!long.await.unwrap());
}

#[tokio::test]
async fn no_request_is_missed_when_the_server_stops_and_the_process_goes_on() {
    let plan = HttpServerSettings::default().plan("127.0.0.1:0").unwrap();
    let ending = CancellationToken::new();
    let served = serve_until(plan, CancellationToken::new(), ending).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    let (mut busy, connection) = http2(served.address).await;
    let busy = Tasks::default().spawn("busy", async move {
        busy.send_request(post("/1000")).await.is_ok()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(served.address).await.is_err());
    // HTTP/2 is told at once, and ends with what is in flight.
    assert!(busy.await.unwrap());
    timeout(MANY, connection).await.unwrap().unwrap().unwrap();
    // HTTP/1 gets one more answer, which says so.
    for stream in [&mut silent, &mut idle] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let read = timeout(MANY, stream.read_to_string(&mut text)).await;
        read.unwrap().unwrap();
        assert!(text.contains("200 OK"), "{text}");
        assert!(text.contains("connection: close"), "{text}");
    }
    timeout(MANY, served.running).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_more_does_not_keep_a_server_that_stops() {
    let plan = HttpServerSettings::default().plan("127.0.0.1:0").unwrap();
    let ending = CancellationToken::new();
    let served = serve_until(plan, CancellationToken::new(), ending).await;
    let _silent = TcpStream::connect(served.address).await.unwrap();
    let began = Instant::now();
    served.stop.cancel();
    timeout(MANY, served.running).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn connections_above_the_bound_wait_for_their_turn() {
    let served = http(|settings| settings.max_connections = 1).await;
    let (mut first, connection) = http2(served.address).await;
    first.send_request(post("/")).await.unwrap();
    let second = Tasks::default().spawn(
        "second",
        talk(
            served.address,
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
        ),
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    drop(first);
    connection.await.unwrap().unwrap();
    assert!(
        timeout(MANY, second)
            .await
            .unwrap()
            .unwrap()
            .ends_with("\r\n\r\n2")
    );
}

#[tokio::test]
async fn bodies_come_with_and_without_a_length() {
    let served = http(|_| {}).await;
    let chunked = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(talk(served.address, chunked).await.ends_with('5'));
    let (mut sender, _connection) = http2(served.address).await;
    let response = sender.send_request(post("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_asks_before_sending_is_refused_before_sending() {
    let served = http(|_| {}).await;
    let answer = talk(
        served.address,
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-length: 1000001\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn who_sends_too_much_hears_so() {
    let served = http(|_| {}).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1500000\r\n\r\n";
    let answer = talk(served.address, &format!("{head}{}", "x".repeat(1_500_000))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("max_request_body_size"), "{answer}");
}

#[tokio::test]
async fn tls_is_spoken_by_who_trusts_it() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&["localhost"]);
    let tls = ServerTls {
        cert_pem: Some(identity.cert),
        key_pem: Some(Secret::from(identity.key)),
        ..ServerTls::default()
    };
    let served = http(|settings| settings.tls = Some(tls)).await;
    let trusting = |pem: &str| ClientTls {
        ca_pem: Some(pem.to_owned()),
        ..ClientTls::default()
    };
    for (pem, alpn, trusted) in [
        (&ca.pem, "h2", true),
        (&ca.pem, "http/1.1", true),
        (&Ca::new("other").pem, "h2", false),
    ] {
        let live = LiveTls::new(trusting(pem).spec().unwrap(), &[alpn]).unwrap();
        let connector = TlsConnector::from(live.current().unwrap());
        let stream = TcpStream::connect(served.address).await.unwrap();
        let connected = connector
            .connect(live.server_name("localhost").unwrap(), stream)
            .await;
        assert_eq!(connected.is_ok(), trusted, "{alpn}");
        let Ok(stream) = connected else { continue };
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let status = if alpn == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            Tasks::default().spawn("client", connection);
            sender.send_request(post("/")).await.unwrap().status()
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            Tasks::default().spawn("client", connection);
            sender.send_request(post("/")).await.unwrap().status()
        };
        assert_eq!(status, 200);
    }
    // Plain text on a port with TLS ends the connection, and nothing else.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(MANY, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(!answer.starts_with(b"HTTP/"));
}

#[test]
fn what_is_wrong_with_settings_is_named() {
    let paths = |problems: Vec<crate::settings::Problem>| -> Vec<String> {
        problems.into_iter().map(|problem| problem.path).collect()
    };
    let mut grpc = GrpcServerSettings {
        max_recv_msg_size_mib: 5_000,
        max_concurrent_streams: 0,
        max_connections: 0,
        tls: Some(ServerTls::default()),
        ..GrpcServerSettings::default()
    };
    grpc.keepalive.server_parameters.timeout = Setting::default();
    assert_eq!(
        paths(grpc.problems("nonsense")),
        [
            "endpoint",
            "tls.cert_file",
            "tls.key_file",
            "max_connections",
            "max_recv_msg_size_mib",
            "max_concurrent_streams",
            "keepalive.server_parameters.timeout",
        ]
    );
    let http = HttpServerSettings {
        max_request_body_size: crate::settings::ByteSize::new(0),
        response_headers: [("no header".to_owned(), Secret::from(String::new()))].into(),
        cors: Some(Cors {
            allowed_headers: vec!["no header".to_owned()],
            ..Cors::default()
        }),
        ..HttpServerSettings::default()
    };
    assert_eq!(
        paths(http.plan("localhost:4318").unwrap_err()),
        [
            "max_request_body_size",
            "response_headers.no header",
            "cors.allowed_headers[0]",
        ]
    );
}
