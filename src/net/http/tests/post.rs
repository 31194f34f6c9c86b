//! Sending bodies, as exporters do.

use super::*;
use crate::net::TransportFailure;
use http::Version;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsAcceptor;

type Bodies = UnboundedReceiver<(http::request::Parts, Bytes)>;

fn sender(json: serde_json::Value) -> HttpClient {
    HttpClient::sender(&serde_json::from_value(json).unwrap()).unwrap()
}

/// A server that reads whole requests, hands them on, and answers `taken`; the
/// number of its connections.
async fn taking(tls: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, Bodies, Arc<AtomicUsize>) {
    let (tell, bodies) = unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = connections.clone();
    Tasks::default().spawn("server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let service = service_fn({
                let tell = tell.clone();
                move |request: Request<hyper::body::Incoming>| {
                    let tell = tell.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let _ = tell.send((head, body));
                        Ok::<_, hyper::Error>(text("taken"))
                    }
                }
            });
            let tls = tls.clone();
            Tasks::default().spawn("connection", async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = match tls {
                    None => {
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await
                    }
                    Some(tls) => {
                        let stream = TlsAcceptor::from(tls).accept(stream).await.unwrap();
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await
                    }
                };
            });
        }
    });
    (address, bodies, connections)
}

#[tokio::test]
async fn who_is_refused_shows_its_certificate_anew() {
    let ca = Ca::new("ca");
    let own = ca.issue(&["relay"]);
    for alpn in ["h2", "http/1.1"] {
        let tls = ca.issue(&["127.0.0.1"]).server(None, &[alpn]);
        let refusing = |_: Request<_>| {
            let mut response = text("who are you");
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        };
        let server = Server::start(Some(tls), refusing).await;
        let with = json!({"ca_pem": ca.pem, "cert_pem": own.cert, "key_pem": own.key});
        for (tls, connections) in [(json!({"ca_pem": ca.pem}), 1), (with, 3)] {
            let before = server.accepted();
            let client = sender(json!({"tls": tls}));
            let url = format!("https://{}/", server.address);
            for _ in 0..3 {
                let (status, _) = post(&client, &url, &Bytes::new()).await.unwrap();
                assert_eq!(status, StatusCode::FORBIDDEN);
            }
            assert_eq!(server.accepted() - before, connections, "{alpn}");
        }
    }
}

async fn post(
    client: &HttpClient,
    url: impl fmt::Display,
    body: &Bytes,
) -> Result<(StatusCode, String), HttpError> {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("x/y"))];
    let uri = url.to_string().parse().unwrap();
    let headers = headers.into_iter().collect();
    let response = client.post(&uri, headers, body.clone()).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(bytes.to_vec()).unwrap()))
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_with_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    let ca = Ca::new("ca");
    let tls = ca.issue(&["127.0.0.1"]).server(None, &["h2", "http/1.1"]);
    for (tls, scheme, version) in [
        (None, "http", Version::HTTP_11),
        (Some(tls), "https", Version::HTTP_2),
    ] {
        let (server, mut bodies, connections) = taking(tls).await;
        let client = sender(json!({
            "tls": {"ca_pem": ca.pem},
            "headers": {"x-scope-orgid": "apps"},
            "auth": {"bearer_token_file": token},
        }));
        let url = format!("{scheme}://{server}/v1development/profiles?x=1");
        for size in [0, 1, 16 << 10, (16 << 10) + 1, 3 << 20] {
            let body = Bytes::from(vec![7; size]);
            let answer = post(&client, &url, &body).await.unwrap();
            assert_eq!(answer, (StatusCode::OK, "taken".into()));
            let (head, arrived) = bodies.recv().await.unwrap();
            assert_eq!(arrived, body, "{size}");
            assert_eq!((head.method, head.version), (Method::POST, version));
            assert_eq!(
                head.uri.path_and_query().unwrap(),
                "/v1development/profiles?x=1"
            );
            assert_eq!(head.headers["content-type"], "x/y");
            assert_eq!(head.headers["content-length"], size.to_string());
            assert_eq!(head.headers["x-scope-orgid"], "apps");
            assert_eq!(head.headers["authorization"], "Bearer secret");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{scheme}");
    }
}

#[tokio::test]
async fn several_connections_wait_for_the_next_requests() {
    let (server, _bodies, connections) = taking(None).await;
    let client = sender(json!({"max_idle_conns": 3}));
    let url = format!("http://{server}/");
    let body = Bytes::from_static(b"x");
    for _ in 0..2 {
        let posts = (0..5).map(|_| post(&client, &url, &body));
        for answer in futures_util::future::join_all(posts).await {
            answer.unwrap();
        }
        assert!(client.0.pool.waiting() <= 3);
    }
    until_waiting(&client, 3).await;
    assert!(connections.load(Ordering::SeqCst) <= 7);
}

#[tokio::test]
async fn a_connection_that_ends_under_a_body_is_not_tried_again_in_silence() {
    let (tell, mut requests) = unbounded_channel();
    // Answers the first request of a connection, and ends it under the second.
    let server = raw(move |mut stream, number| {
        let tell = tell.clone();
        async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
                .await;
            let _ = stream.read(&mut request).await;
            let _ = tell.send(number);
        }
    })
    .await;
    let client = sender(json!({}));
    let url = format!("http://{server}/");
    let body = Bytes::from_static(b"body");
    post(&client, &url, &body).await.unwrap();
    until_waiting(&client, 1).await;
    let error = post(&client, &url, &body).await.unwrap_err();
    assert!(
        matches!(error.failure(), TransportFailure::Died { .. }),
        "{error:?}"
    );
    assert_eq!(requests.recv().await, Some(0));
    post(&client, &url, &body).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_heard_while_the_body_is_still_being_sent() {
    // It reads the head alone, and goes on to hold the connection or resets it.
    for holds in [true, false] {
        let server = raw(move |mut stream, _| async move {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 5\r\n\r\nlarge")
                .await;
            if holds {
                Tasks::default().spawn("hold", async move {
                    let _stream = stream;
                    std::future::pending::<()>().await;
                });
            }
        })
        .await;
        let client = sender(json!({}));
        let body = Bytes::from(vec![7; 64 << 20]);
        let answer = post(&client, format!("http://{server}/"), &body).await;
        // A reset may take the answer along, but the request is not lost in silence.
        match answer {
            Ok(answer) => {
                assert_eq!(answer, (StatusCode::PAYLOAD_TOO_LARGE, "large".into()));
            }
            Err(error) => {
                assert!(!holds, "{error}");
                assert!(matches!(error.failure(), TransportFailure::Died { .. }));
            }
        }
        assert_eq!(client.0.pool.waiting(), 0, "it is not used again");
    }
}

#[tokio::test]
async fn what_became_of_a_request_is_told() {
    let body = Bytes::from_static(b"body");
    let client = sender(json!({}));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let no_http = raw(|mut stream, _| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    for place in [nobody, no_http] {
        let error = post(&client, format!("http://{place}/"), &body).await;
        let error = error.unwrap_err();
        let TransportFailure::NotConnected { cause } = error.failure() else {
            panic!("{error:?}");
        };
        assert_eq!(cause, error.to_string());
        assert!(cause.contains(&place.to_string()), "{cause}");
    }
    let ends = raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let cut = raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncon").await;
    })
    .await;
    for place in [ends, cut] {
        let error = post(&client, format!("http://{place}/"), &body).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error.failure(), TransportFailure::Died { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_http2_server_that_stops_has_not_seen_what_it_refuses() {
    let ca = Ca::new("ca");
    let tls = ca.issue(&["127.0.0.1"]).server(None, &["h2"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Tasks::default().spawn("server", async move {
        let acceptor = TlsAcceptor::from(tls);
        for round in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            Tasks::default().spawn("connection", async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let reason = match round {
                        0 => h2::Reason::REFUSED_STREAM,
                        _ => h2::Reason::INTERNAL_ERROR,
                    };
                    respond.send_reset(reason);
                    if round == 0 {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    let client = sender(json!({"tls": {"ca_pem": ca.pem}}));
    let url = format!("https://{address}/");
    let body = Bytes::from_static(b"body");
    let error = post(&client, &url, &body).await.unwrap_err();
    assert_eq!(error.failure(), TransportFailure::Unsent, "{error:?}");
    let error = loop {
        match post(&client, &url, &body).await.unwrap_err() {
            error if error.failure() == TransportFailure::Unsent => {}
            error => break error,
        }
    };
    assert!(
        matches!(error.failure(), TransportFailure::Reset { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_silent_http2_connection_is_found_dead_by_a_ping() {
    let ca = Ca::new("ca");
    let tls = ca.issue(&["127.0.0.1"]).server(None, &["h2"]);
    let server = raw(move |stream, _| {
        let tls = tls.clone();
        async move {
            let acceptor = TlsAcceptor::from(tls);
            let mut stream = acceptor.accept(stream).await.unwrap();
            // SETTINGS, and not a word any more.
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let client = sender(json!({
        "tls": {"ca_pem": ca.pem},
        "http2_read_idle_timeout": "20ms",
        "http2_ping_timeout": "20ms",
    }));
    let body = Bytes::from_static(b"body");
    let error = post(&client, format!("https://{server}/"), &body).await;
    assert_eq!(error.unwrap_err().failure(), TransportFailure::Timeout);
}

#[tokio::test]
async fn no_redirect_is_followed_with_a_body() {
    let (there, _bodies, connections) = taking(None).await;
    let to = format!("http://{there}/");
    let (here, _) = recording(None, move |_| redirect(307, &to)).await;
    let client = sender(json!({}));
    let url = format!("http://{}/", here.address);
    let (status, _) = post(&client, url, &Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(
        (status.as_u16(), connections.load(Ordering::SeqCst)),
        (307, 0)
    );
}

#[tokio::test]
async fn plain_bodies_are_forwarded_by_a_proxy() {
    let (proxy, mut bodies, _) = taking(None).await;
    let client = sender(json!({"proxy_url": format!("http://{proxy}")}));
    let body = Bytes::from(vec![7; 100_000]);
    post(&client, "http://backend.example/x", &body)
        .await
        .unwrap();
    let (head, arrived) = bodies.recv().await.unwrap();
    assert_eq!(head.uri, "http://backend.example/x");
    assert_eq!(arrived, body);
}

#[test]
fn missing_files_are_problems_at_their_keys() {
    let settings = serde_json::from_value(json!({
        "tls": {"ca_file": "/does/not/exist"},
        "auth": {"bearer_token_file": "/nor/this"},
    }));
    let problems = HttpClient::sender(&settings.unwrap()).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["tls.ca_file", "auth.bearer_token_file"]);
}
