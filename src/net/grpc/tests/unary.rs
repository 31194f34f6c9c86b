//! Calls whose message is in bytes already.

use super::*;
use tonic::Code;

/// What the far end saw of a call.
struct Call {
    head: http::request::Parts,
    body: Vec<u8>,
}

/// What the far end answers with.
#[derive(Clone, Default)]
struct Reply {
    headers: Vec<(&'static str, &'static str)>,
    frames: Vec<Bytes>,
    /// None: the stream ends without any.
    trailers: Option<Vec<(&'static str, &'static str)>>,
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        })
        .collect()
}

/// A far end that answers all calls in the same way; what it saw.
async fn far_end(reply: Reply) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Call>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, seen) = tokio::sync::mpsc::unbounded_channel();
    Tasks::default().spawn("far end", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (reply, tell) = (reply.clone(), tell.clone());
            Tasks::default().spawn("connection", async move {
                let mut connection = h2::server::Builder::new()
                    .initial_window_size(8 << 20)
                    .initial_connection_window_size(8 << 20)
                    .handshake::<_, Bytes>(stream)
                    .await
                    .unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (reply, tell) = (reply.clone(), tell.clone());
                    Tasks::default().spawn("call", async move {
                        let (head, mut incoming) = request.into_parts();
                        let mut body = Vec::new();
                        while let Some(Ok(data)) = incoming.data().await {
                            body.extend_from_slice(&data);
                        }
                        let _ = tell.send(Call { head, body });
                        let mut response = Response::new(());
                        *response.headers_mut() = map(&[("content-type", "application/grpc")]);
                        response.headers_mut().extend(map(&reply.headers));
                        let mut stream = respond.send_response(response, false).unwrap();
                        for frame in reply.frames {
                            let last = reply.trailers.is_none();
                            stream.send_data(frame, last).unwrap();
                        }
                        if let Some(trailers) = reply.trailers {
                            stream.send_trailers(map(&trailers)).unwrap();
                        }
                    });
                }
            });
        }
    });
    (address, seen)
}

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat().into()
}

fn ok(frames: Vec<Bytes>) -> Reply {
    Reply {
        frames,
        trailers: Some(vec![("grpc-status", "0")]),
        ..Reply::default()
    }
}

fn message(bytes: impl Into<Bytes>, encoding: Option<&'static str>) -> Message {
    Message {
        bytes: bytes.into(),
        encoding: encoding.map(HeaderValue::from_static),
    }
}

async fn ask(address: SocketAddr, message: Message) -> Result<Option<Message>, Status> {
    let headers = map(&[("x-one", "1")]);
    plain(address).unary("/a.B/C", headers, message).await
}

#[tokio::test]
async fn the_bytes_go_out_as_they_are() {
    let large = Bytes::from(vec![7; 3 << 20]);
    for (bytes, encoding, flag) in [
        (Bytes::from_static(b"plain"), None, 0),
        (Bytes::from_static(b"\x1f\x8b"), Some("gzip"), 1),
        (Bytes::from_static(b"zstd"), Some("zstd"), 1),
        (Bytes::new(), None, 0),
        (large, Some("gzip"), 1),
    ] {
        let (address, mut seen) = far_end(ok(vec![framed(0, b"")])).await;
        let answer = ask(address, message(bytes.clone(), encoding))
            .await
            .unwrap();
        assert_eq!(answer, Some(message("", None)));
        let call = seen.recv().await.unwrap();
        assert_eq!(call.body, framed(flag, &bytes));
        assert_eq!(call.head.uri.path(), "/a.B/C");
        assert_eq!(call.head.headers["te"], "trailers");
        assert_eq!(call.head.headers["content-type"], "application/grpc");
        assert_eq!(call.head.headers["x-one"], "1");
        assert!(call.head.headers.contains_key("grpc-timeout"));
        let said = call.head.headers.get("grpc-encoding");
        assert_eq!(said, encoding.map(HeaderValue::from_static).as_ref());
    }
}

#[tokio::test]
async fn the_answer_comes_as_it_is() {
    let mut reply = ok(vec![
        framed(1, b"squeezed").slice(..3),
        framed(1, b"squeezed").slice(3..),
    ]);
    reply.headers = vec![("grpc-encoding", "gzip")];
    let (address, _seen) = far_end(reply.clone()).await;
    let answer = ask(address, message("x", None)).await.unwrap();
    assert_eq!(answer, Some(message("squeezed", Some("gzip"))));
    // The encoding is for flagged messages only.
    reply.frames = vec![framed(0, b"plain")];
    let (address, _seen) = far_end(reply).await;
    let answer = ask(address, message("x", None)).await.unwrap();
    assert_eq!(answer, Some(message("plain", None)));
}

#[tokio::test]
async fn success_is_success_whatever_the_message() {
    let large = framed(0, &vec![7; 1 << 20]);
    for frames in [vec![], vec![framed(0, b"cut").slice(..6)], vec![large]] {
        let (address, _seen) = far_end(ok(frames)).await;
        assert_eq!(ask(address, message("x", None)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_refusal_brings_its_details() {
    // google.rpc.Status of code 8, as base64.
    let fields = vec![
        ("grpc-status", "8"),
        ("grpc-message", "slow%20down"),
        ("grpc-status-details-bin", "CAg"),
    ];
    let in_trailers = Reply {
        frames: vec![],
        trailers: Some(fields.clone()),
        ..Reply::default()
    };
    let at_once = Reply {
        headers: fields,
        frames: vec![Bytes::new()],
        trailers: None,
    };
    for reply in [in_trailers, at_once] {
        let (address, _seen) = far_end(reply).await;
        let status = ask(address, message("x", None)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "slow down");
        assert_eq!(status.details(), [8, 8]);
        assert_eq!(classify_transport(&status), TransportFailure::NotTransport);
    }
}

#[tokio::test]
async fn an_answer_without_a_status_is_broken_off() {
    let reply = Reply {
        frames: vec![framed(0, b"")],
        ..Reply::default()
    };
    let (address, _seen) = far_end(reply).await;
    let status = ask(address, message("x", None)).await.unwrap_err();
    assert!(
        matches!(classify_transport(&status), TransportFailure::Reset { .. }),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_large_message_passes_a_link_that_takes_it_piece_by_piece() {
    const SIZE: usize = 12 << 20;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Tasks::default().spawn("far end", async move {
        let (stream, _) = listener.accept().await.unwrap();
        // Nothing that it says wakes the client while it reads.
        let mut connection = h2::server::Builder::new()
            .initial_window_size(2 * SIZE as u32)
            .initial_connection_window_size(2 * SIZE as u32)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = request.into_body();
        let reading = async {
            let mut size = 0;
            while let Some(data) = body.data().await {
                size += data.unwrap().len();
            }
            let head = map(&[("content-type", "application/grpc"), ("grpc-status", "0")]);
            let mut response = Response::new(());
            *response.headers_mut() = head;
            respond.send_response(response, true).unwrap();
            size
        };
        tokio::pin!(reading);
        let size = tokio::select! {
            size = &mut reading => size,
            _ = connection.accept() => panic!("the connection ended"),
        };
        let _ = connection.accept().await;
        size
    });
    let message = Message {
        bytes: vec![7; SIZE].into(),
        encoding: None,
    };
    let channel = plain(address);
    let sending = channel.unary("/a.B/C", HeaderMap::new(), message);
    let sent = tokio::time::timeout(Duration::from_secs(20), sending).await;
    assert_eq!(sent.expect("an answer").unwrap(), None);
    drop(channel);
    assert_eq!(serving.await.unwrap(), SIZE + 5);
}
