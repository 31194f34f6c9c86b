//! Tokens that are fetched, by both kinds of exporters' clients.

use super::*;
use crate::net::{
    HttpClient, HttpSenderSettings,
    testing::{Server, text},
};
use bytes::Bytes;
use http::StatusCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A token server, and a backend that takes its last token only, over gRPC and
/// HTTP.
struct Both {
    server: Server,
    fetched: Arc<AtomicUsize>,
    /// The token that is taken.
    good: Arc<AtomicUsize>,
}

impl Both {
    async fn start() -> Self {
        let (fetched, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let (count, taken) = (fetched.clone(), good.clone());
        let server = Server::start(None, move |request| {
            if request.uri().path() == "/token" {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let token = json!({"access_token": format!("t{number}"), "expires_in": 3600});
                return text(token.to_string());
            }
            let wanted = format!("Bearer t{}", taken.load(Ordering::SeqCst));
            let given = request.headers().get("authorization");
            let is_good = given.is_some_and(|given| given.as_bytes() == wanted.as_bytes());
            let mut response = text("");
            if request.uri().path() == "/http" {
                let bad = StatusCode::UNAUTHORIZED;
                *response.status_mut() = if is_good { StatusCode::OK } else { bad };
                return response;
            }
            let status = HeaderValue::from_static(if is_good { "0" } else { "16" });
            response.headers_mut().insert("grpc-status", status);
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            response
        })
        .await;
        Self {
            server,
            fetched,
            good,
        }
    }

    fn auth(&self) -> serde_json::Value {
        json!({"oauth2": {
            "client_id": "relay",
            "client_secret": "secret",
            "token_url": format!("http://{}/token", self.server.address),
        }})
    }
}

#[tokio::test]
async fn a_grpc_client_has_a_token_and_another_one_after_it_was_refused() {
    let both = Both::start().await;
    let channel = channel(json!({
        "endpoint": format!("http://{}", both.server.address),
        "auth": both.auth(),
    }));
    let call = async || {
        let message = Message {
            bytes: Bytes::from_static(b"x"),
            encoding: None,
        };
        let called = channel.unary("/a.B/C", HeaderMap::new(), message).await;
        called.map(drop).map_err(|status| status.code())
    };
    for _ in 0..3 {
        assert_eq!(call().await, Ok(()));
    }
    assert_eq!(both.fetched.load(Ordering::SeqCst), 1);
    both.good.store(2, Ordering::SeqCst);
    // The backend's no is told, and the next attempt has a new token.
    assert_eq!(call().await, Err(tonic::Code::Unauthenticated));
    assert_eq!(call().await, Ok(()));
    assert_eq!(both.fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_http_sender_has_a_token_and_replaces_it_when_it_is_refused() {
    let both = Both::start().await;
    let settings: HttpSenderSettings =
        serde_json::from_value(json!({"auth": both.auth()})).unwrap();
    let client = HttpClient::sender(&settings).unwrap();
    let url = format!("http://{}/http", both.server.address)
        .parse()
        .unwrap();
    let post = async || {
        let posted = client
            .post(&url, HeaderMap::new(), Bytes::from_static(b"x"))
            .await;
        posted.unwrap().status()
    };
    assert_eq!(post().await, 200);
    both.good.store(2, Ordering::SeqCst);
    assert_eq!(post().await, 200);
    assert_eq!(both.fetched.load(Ordering::SeqCst), 2);
}

#[test]
fn what_is_wrong_with_oauth2_is_named() {
    let wrong = settings(json!({
        "endpoint": "x:1",
        "auth": {"oauth2": {"token_url": "nowhere"}, "bearer_token": "t"},
    }));
    let paths: Vec<_> = wrong.problems().into_iter().map(|p| p.path).collect();
    assert_eq!(
        paths,
        [
            "auth.oauth2",
            "auth.oauth2.client_id",
            "auth.oauth2.token_url",
            "auth.oauth2.client_secret",
        ]
    );
}
