//! Each way in which a call can fail, by a far end that fails in that way.

use super::{frames::Frames, *};
use crate::net::testing::{Server, raw, text};
use tonic::Code;

/// What became of one call to a server that treats each connection so.
async fn after<F>(serve: impl Fn(Frames, usize) -> F + Clone + Send + Sync + 'static) -> Status
where
    F: Future<Output = ()> + Send + 'static,
{
    let channel = plain(frames(serve).await);
    call(&channel).await.unwrap_err()
}

async fn frames<F>(serve: impl Fn(Frames, usize) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    raw(move |stream, number| {
        let serve = serve.clone();
        async move {
            Tasks::default().spawn("frames", async move {
                serve(Frames::accept(stream).await, number).await;
            });
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_in_silence() {
    // As Parca after 5 s: GOAWAY with the right last id, the end a moment later.
    let server = frames(|mut frames, number| async move {
        while let Some(stream) = frames.request().await {
            frames.answer(stream, "0").await;
            if number % 2 == 0 {
                frames.go_away(stream, 0).await;
                if number % 4 == 0 {
                    return;
                }
            }
        }
    })
    .await;
    let channel = plain(server);
    for round in 0..40 {
        call(&channel).await.unwrap();
        // Before and after the client has seen the GOAWAY.
        for _ in 0..round % 8 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_goaway_below_the_request_means_unsent() {
    let status = after(|mut frames, _| async move {
        frames.request().await;
        frames.go_away(0, 0).await;
        frames.linger().await;
    })
    .await;
    assert_eq!(
        classify_transport(&status),
        TransportFailure::Unsent,
        "{status:?}"
    );
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_refused_stream_means_unsent() {
    let status = after(|mut frames, _| async move {
        let stream = frames.request().await.unwrap();
        frames.reset(stream, 7).await;
        frames.linger().await;
    })
    .await;
    assert_eq!(
        classify_transport(&status),
        TransportFailure::Unsent,
        "{status:?}"
    );
}

#[tokio::test]
async fn another_reset_of_the_stream_is_no_death() {
    for code in [0, 1, 2, 8] {
        let status = after(move |mut frames, _| async move {
            let stream = frames.request().await.unwrap();
            frames.reset(stream, code).await;
            frames.linger().await;
        })
        .await;
        let failure = classify_transport(&status);
        assert!(
            matches!(failure, TransportFailure::Reset { .. }),
            "{code}: {status:?}"
        );
    }
}

#[tokio::test]
async fn the_end_of_tcp_under_a_request_means_died() {
    let reset = after(|mut frames, _| async move {
        frames.request().await;
        frames.abort();
    })
    .await;
    let closed = after(|mut frames, _| async move {
        frames.request().await;
    })
    .await;
    let answering = after(|mut frames, _| async move {
        let stream = frames.request().await.unwrap();
        frames.begin_answer(stream).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        frames.abort();
    })
    .await;
    // It had taken the request before it said goodbye.
    let goodbye = after(|mut frames, _| async move {
        let stream = frames.request().await.unwrap();
        frames.go_away(stream, 0).await;
    })
    .await;
    for status in [reset, closed, answering, goodbye] {
        let failure = classify_transport(&status);
        assert!(
            matches!(failure, TransportFailure::Died { .. }),
            "{status:?}"
        );
        assert_eq!(status.code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_refused_connection_means_not_connected() {
    let address = closed_port().await;
    let status = call(&plain(address)).await.unwrap_err();
    let TransportFailure::NotConnected { cause } = classify_transport(&status) else {
        panic!("{status:?}");
    };
    assert!(cause.contains("connection refused"), "{cause}");
    assert!(cause.contains(&address.to_string()), "{cause}");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_server_of_http_1_means_not_connected() {
    let server = raw(|mut stream, _| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            .await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let status = call(&plain(server)).await.unwrap_err();
    assert!(
        status.message().contains("does not speak HTTP/2"),
        "{status:?}"
    );
    assert!(matches!(
        classify_transport(&status),
        TransportFailure::NotConnected { .. }
    ));
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout() {
    let server = frames(|mut frames, _| async move { frames.linger().await }).await;
    let channel = channel(json!({"endpoint": format!("http://{server}"), "timeout": "50ms"}));
    let status = call(&channel).await.unwrap_err();
    assert_eq!(classify_transport(&status), TransportFailure::Timeout);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    // Also when only the head of the answer arrives.
    let server = frames(|mut frames, _| async move {
        let stream = frames.request().await.unwrap();
        frames.begin_answer(stream).await;
        frames.linger().await;
    })
    .await;
    let channel =
        super::channel(json!({"endpoint": format!("http://{server}"), "timeout": "50ms"}));
    let status = call(&channel).await.unwrap_err();
    assert_eq!(
        classify_transport(&status),
        TransportFailure::Timeout,
        "{status:?}"
    );
}

#[tokio::test]
async fn no_answer_to_a_ping_is_a_timeout() {
    let server = raw(|stream, _| async move {
        Tasks::default().spawn("silent", async move {
            let _frames = Frames::accept(stream).await;
            std::future::pending::<()>().await;
        });
    })
    .await;
    let channel = channel(json!({
        "endpoint": format!("http://{server}"),
        "timeout": "0s",
        "keepalive": {"time": "20ms", "timeout": "20ms"},
    }));
    let status = call(&channel).await.unwrap_err();
    assert_eq!(
        classify_transport(&status),
        TransportFailure::Timeout,
        "{status:?}"
    );
}

#[tokio::test]
async fn an_answer_is_an_answer_whatever_its_status() {
    let status = after(|mut frames, _| async move {
        let stream = frames.request().await.unwrap();
        frames.answer(stream, "14").await;
        frames.linger().await;
    })
    .await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(classify_transport(&status), TransportFailure::NotTransport);
    assert_eq!(http_status(&status), None);
}

#[tokio::test]
async fn a_proxys_answer_keeps_its_http_status() {
    for (http, code) in [
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (413, Code::Unknown),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (200, Code::Unknown),
    ] {
        let server = Server::start(None, move |_| {
            let mut response = text("<html>");
            *response.status_mut() = StatusCode::from_u16(http).unwrap();
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("text/html"));
            headers.insert("server", HeaderValue::from_static("nginx/1.27.5"));
            headers.insert("retry-after", HeaderValue::from_static("7"));
            response
        })
        .await;
        let status = call(&plain(server.address)).await.unwrap_err();
        assert_eq!(http_status(&status), Some(http));
        assert_eq!(http_retry_after(&status), Some(Duration::from_secs(7)));
        assert_eq!(status.code(), code, "{http}");
        assert_eq!(classify_transport(&status), TransportFailure::NotTransport);
        assert!(
            status.message().contains(&format!("HTTP {http}")),
            "{status}"
        );
        assert!(status.message().contains("nginx"), "{status}");
    }
}

#[tokio::test]
async fn a_certificate_that_nginx_refuses_is_shown_anew() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&["127.0.0.1"]);
    let page = |said: &'static str| {
        let mut response = text(format!("<html><center>{said}</center></html>"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let nginx = HeaderValue::from_static("nginx/1.22.1");
        response.headers_mut().insert("server", nginx);
        response
    };
    for said in [
        "The SSL certificate error",
        "No required SSL certificate was sent",
        "Request Header Or Cookie Too Large",
    ] {
        let tls = identity.server(None, &["h2"]);
        let server = Server::start(Some(tls), move |_| page(said)).await;
        for (own, connections) in [(json!({}), 1), (certificate(&ca), 3)] {
            let before = server.accepted();
            let mut tls = json!({"ca_pem": ca.pem});
            let map = tls.as_object_mut().unwrap();
            map.extend(own.as_object().unwrap().clone());
            let endpoint = format!("https://{}", server.address);
            let channel = channel(json!({"endpoint": endpoint, "tls": tls}));
            let about_certificate = said.contains("SSL");
            for _ in 0..3 {
                let status = call(&channel).await.unwrap_err();
                let meant = if about_certificate { 401 } else { 400 };
                assert_eq!(http_status(&status), Some(meant), "{said}: {status}");
                let hinted = status.message().contains("tls.cert_file");
                assert_eq!(hinted, about_certificate, "{status}");
            }
            assert_eq!(server.accepted() - before, connections, "{said}");
        }
    }
}

fn certificate(ca: &Ca) -> serde_json::Value {
    let identity = ca.issue(&["relay"]);
    json!({"cert_pem": identity.cert, "key_pem": identity.key})
}

#[tokio::test]
async fn nginxs_413_is_heard_while_the_request_is_still_being_sent() {
    let server = frames(|mut frames, _| async move {
        let stream = frames.head().await.unwrap();
        frames.http(stream, "413").await;
        frames.reset(stream, 0).await;
        frames.linger().await;
    })
    .await;
    let mut client = ProfileStoreServiceClient::new(plain(server));
    let series = crate::r#gen::profilestore::RawProfileSeries {
        samples: vec![crate::r#gen::profilestore::RawSample {
            raw_profile: Bytes::from(vec![7; 3 << 20]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = WriteRawRequest {
        series: vec![series],
        ..Default::default()
    };
    let status = client.write_raw(request).await.unwrap_err();
    assert_eq!(http_status(&status), Some(413), "{status:?}");
}

/// Statuses of tonic's own channel are understood too.
#[tokio::test]
async fn other_channels_are_understood() {
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", closed_port().await)).unwrap();
    let mut client = ProfileStoreServiceClient::new(endpoint.connect_lazy());
    let status = client
        .write_raw(WriteRawRequest::default())
        .await
        .unwrap_err();
    assert_ne!(
        classify_transport(&status),
        TransportFailure::NotTransport,
        "{status:?}"
    );
}
