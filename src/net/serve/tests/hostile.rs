//! Clients that mean harm: each costs bounded memory, is let go and counted, and
//! keeps nobody else from being served.

use super::*;
use std::io;

/// `:method: POST, :scheme: http, :path: /, :authority: x`.
const HEAD: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'x'];

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// HTTP/2 by hand.
struct Wire(TcpStream);

impl Wire {
    /// Shakes hands.
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    /// Sends frames until the server wants no more of them, or there are no more.
    async fn flood(&mut self, frames: impl Iterator<Item = Vec<u8>>) -> Result<(), io::Error> {
        let (mut read, mut write) = self.0.split();
        let flood = async {
            for frame in frames {
                write.write_all(&frame).await?;
            }
            Ok(())
        };
        let drain = async {
            let mut sink = vec![0; 64 << 10];
            while read.read(&mut sink).await? > 0 {}
            Err(io::Error::from(io::ErrorKind::ConnectionAborted))
        };
        tokio::select! {
            result = flood => result,
            result = drain => result,
        }
    }

    /// All that is sent until the server closes.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(MANY, self.0.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A request that is taken back.
fn opened_and_cancelled(number: u32) -> Vec<u8> {
    let stream = number * 2 + 1;
    let mut frames = frame(HEADERS, END_HEADERS, stream, HEAD);
    frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    frames
}

/// Another client, which asks again and again until it is stopped; how often it
/// was answered.
fn bystander(served: &Served) -> (CancellationToken, JoinHandle<u32>) {
    let (stop, address) = (CancellationToken::new(), served.address);
    let stopped = stop.clone();
    let asking = Tasks::default().spawn("bystander", async move {
        let (mut sender, _connection) = http2(address).await;
        let mut answered = 0;
        while !stopped.is_cancelled() {
            let asked = timeout(Duration::from_secs(20), sender.send_request(post("/")));
            assert_eq!(asked.await.unwrap().unwrap().status(), 200);
            answered += 1;
        }
        answered
    });
    (stop, asking)
}

async fn goes_on((stop, asking): (CancellationToken, JoinHandle<u32>)) {
    stop.cancel();
    assert!(asking.await.unwrap() > 0, "nobody else was served");
}

async fn until_closed(metrics: &Metrics, reason: &str) {
    let closed = async {
        while closed(metrics, reason) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let counted = timeout(Duration::from_secs(20), closed).await;
    assert!(
        counted.is_ok(),
        "not counted: {reason}\n{}",
        metrics.encode().unwrap()
    );
}

fn plan(change: impl FnOnce(&mut HttpServerSettings)) -> Plan {
    let mut settings = HttpServerSettings::default();
    change(&mut settings);
    settings.plan("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_ends_its_connection_and_no_other() {
    let (served, metrics) =
        observed(plan(|settings| settings.limits.max_cancelled_requests = 0)).await;
    let other = bystander(&served);
    let mut wire = Wire::connect(served.address).await;
    let burst: Vec<u8> = (0..10_000).flat_map(opened_and_cancelled).collect();
    assert!(wire.flood(std::iter::once(burst)).await.is_err() || !wire.rest().await.is_empty());
    until_closed(&metrics, "flood").await;
    goes_on(other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_what_was_begun_is_let_go_too() {
    let (served, metrics) = observed(plan(|settings| {
        settings.limits.max_cancelled_requests = 100;
        settings.limits.max_pending_resets = 1_000_000;
    }))
    .await;
    let other = bystander(&served);
    let mut wire = Wire::connect(served.address).await;
    let mut next = 0;
    let closed = loop {
        let numbers = next..next + 15;
        next += 15;
        let opened = numbers
            .clone()
            .map(|n| frame(HEADERS, END_HEADERS, n * 2 + 1, HEAD));
        let cancel = 8_u32.to_be_bytes();
        let cancelled = numbers.map(|n| frame(RST_STREAM, 0, n * 2 + 1, &cancel));
        if wire.flood(opened).await.is_err() {
            break next;
        }
        // They are looked at meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if wire.flood(cancelled).await.is_err() {
            break next;
        }
        assert!(next < 10_000, "{next} were cancelled");
    };
    assert!(closed > 100, "{closed}");
    until_closed(&metrics, "cancelled_requests").await;
    goes_on(other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_some_and_waits_for_more_stays() {
    let (served, metrics) = observed(plan(|settings| {
        settings.limits.max_cancelled_requests = 10;
    }))
    .await;
    let (mut sender, _connection) = http2(served.address).await;
    for _ in 0..50 {
        assert_eq!(sender.send_request(post("/")).await.unwrap().status(), 200);
        let given_up = sender.send_request(post("/100000"));
        let _ = timeout(Duration::from_millis(2), given_up).await;
    }
    assert_eq!(sender.send_request(post("/")).await.unwrap().status(), 200);
    assert_eq!(closed(&metrics, "cancelled_requests"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_streams_opened_and_cancelled_leave_a_connection_like_others() {
    let (served, _) = observed(plan(|settings| {
        settings.limits.max_cancelled_requests = 0;
        settings.limits.max_pending_resets = 1_000_000;
    }))
    .await;
    let other = bystander(&served);
    let mut wire = Wire::connect(served.address).await;
    let frames = (0..100_000).map(opened_and_cancelled);
    wire.flood(frames).await.unwrap();
    let asked = frame(HEADERS, END_HEADERS | 1, 200_001, HEAD);
    wire.0.write_all(&asked).await.unwrap();
    let mut some = [0; 9];
    timeout(MANY, wire.0.read_exact(&mut some))
        .await
        .unwrap()
        .unwrap();
    goes_on(other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_are_not_listened_to() {
    let (served, metrics) = observed(plan(|_| {})).await;
    let other = bystander(&served);
    let mut wire = Wire::connect(served.address).await;
    // A literal header that is never indexed, 1 KiB each.
    let mut header = vec![0, 1, b'h', 0x7f, 0x81, 0x07];
    header.resize(header.len() + 1_024, b'x');
    let first = frame(HEADERS, 0, 1, HEAD);
    let endless = (0..100_000).map(|_| frame(CONTINUATION, 0, 1, &header));
    assert!(
        wire.flood(std::iter::once(first).chain(endless))
            .await
            .is_err()
    );
    until_closed(&metrics, "flood").await;
    goes_on(other).await;
}

#[tokio::test]
async fn huge_headers_are_refused_by_their_size() {
    let (served, metrics) = observed(plan(|settings| {
        settings.limits.max_header_bytes = crate::settings::ByteSize::new(8 << 10);
    }))
    .await;
    let head = |bytes: usize| {
        let long = "y".repeat(bytes);
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {long}\r\ncontent-length: 0\r\n\r\n"
        )
    };
    assert!(
        talk(served.address, &head(7 << 10))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        talk(served.address, &head(9 << 10))
            .await
            .starts_with("HTTP/1.1 431")
    );
    // Above what is read of a head at all.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let _ = stream.write_all(head(4 << 20).as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(MANY, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    until_closed(&metrics, "headers").await;

    let (mut sender, _connection) = http2(served.address).await;
    let with = |bytes: usize| {
        let mut request = post("/");
        let long = "y".repeat(bytes).parse().unwrap();
        request.headers_mut().insert("x", long);
        request
    };
    assert_eq!(
        sender.send_request(with(7 << 10)).await.unwrap().status(),
        200
    );
    let refused = sender.send_request(with(9 << 10)).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
    let next = sender.send_request(post("/")).await;
    assert_eq!(next.unwrap().status(), 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_slowly_on_purpose_is_let_go_in_either_protocol() {
    let (served, metrics) = observed(plan(|settings| {
        settings.read_header_timeout = Setting::from_millis(300);
        settings.limits.stranger_timeout = Setting::from_millis(600);
    }))
    .await;
    let other = bystander(&served);
    let slowly = async |mut stream: TcpStream, beginning: &[u8]| {
        stream.write_all(beginning).await.unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it was listened to for 20 s");
    };
    let one = TcpStream::connect(served.address).await.unwrap();
    slowly(one, b"POST / HTTP/1.1\r\nhost: x\r\nx: ").await;
    until_closed(&metrics, "slow_headers").await;
    // A frame of headers that is announced and comes byte by byte.
    let two = Wire::connect(served.address).await.0;
    slowly(two, &[0, 0x10, 0, HEADERS, 0, 0, 0, 0, 1]).await;
    until_closed(&metrics, "stranger").await;
    goes_on(other).await;
}

#[tokio::test]
async fn strangers_that_take_all_connections_make_room() {
    let (served, metrics) = observed(plan(|settings| {
        settings.max_connections = 3;
        settings.idle_timeout = Setting::default();
    }))
    .await;
    let (mut known, _connection) = http2(served.address).await;
    assert_eq!(known.send_request(post("/")).await.unwrap().status(), 200);
    let mut strangers = Vec::new();
    for _ in 0..10 {
        strangers.push(TcpStream::connect(served.address).await.unwrap());
    }
    let (mut next, _connection) = http2(served.address).await;
    let asked = timeout(Duration::from_secs(5), next.send_request(post("/")));
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert_eq!(known.send_request(post("/")).await.unwrap().status(), 200);
    assert!(closed(&metrics, "made_room") >= 8);
}

#[tokio::test]
async fn a_tls_handshake_that_is_not_finished_ends() {
    let identity = Ca::new("ca").issue(&["localhost"]);
    let tls = ServerTls {
        cert_pem: Some(identity.cert),
        key_pem: Some(Secret::from(identity.key)),
        ..ServerTls::default()
    };
    let (served, metrics) = observed(plan(|settings| {
        settings.tls = Some(tls);
        settings.limits.handshake_timeout = Setting::from_millis(200);
    }))
    .await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(MANY, stream.read_to_end(&mut rest)).await.unwrap();
    until_closed(&metrics, "handshake_timeout").await;
}
