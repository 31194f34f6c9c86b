//! HTTP: both encodings, both paths, and what the answers are.

use super::*;
use crate::{
    r#gen::rpc,
    profile::{Transport, otlp::json},
};
use serde_json::Value;

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn json() -> Bytes {
    json::request_to_json(&plain()).unwrap()
}

#[tokio::test]
async fn the_bytes_of_a_body_go_on_as_they_came() {
    let mut subject = Subject::start().await;
    let gzip = crate::profile::pprof::compress(&plain());
    let zstd = Bytes::from(zstd::encode_all(&*plain(), 3).unwrap());
    let cases: [(&[(&str, &str)], Bytes); 3] = [
        (&[], plain()),
        (&[("content-encoding", "gzip")], gzip),
        (&[("content-encoding", "zstd")], zstd),
    ];
    for (headers, body) in cases {
        let told = subject.post(headers, body.clone()).await;
        assert_eq!(told.status, 200, "{headers:?} {:?}", told.body);
        assert_eq!(told.headers["content-type"], "application/x-protobuf");
        assert!(told.body.is_empty());
        let batch = subject.next().await;
        assert_eq!(batch.origin.transport, Transport::Http);
        assert_eq!(wire_of(&batch), body);
    }
    subject.end().await;
}

#[tokio::test]
async fn json_becomes_the_protobuf_that_it_says() {
    let mut subject = Subject::start().await;
    let gzip = crate::profile::pprof::compress(&json());
    for (headers, body) in [
        (&[JSON][..], json()),
        (&[JSON, ("content-encoding", "gzip")], gzip),
    ] {
        let told = subject.post(headers, body).await;
        assert_eq!(told.status, 200, "{:?}", told.body);
        assert_eq!(told.headers["content-type"], "application/json");
        assert_eq!(told.body, "{}");
        let wire = wire_of(&subject.next().await);
        let read = ExportProfilesServiceRequest::decode(wire).unwrap();
        assert_eq!(read, request(&["api", "web"]));
    }
}

#[tokio::test]
async fn both_paths_are_served_and_nothing_else() {
    let mut subject = Subject::start().await;
    let ask = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        subject.ask(request.body(Full::new(json())).unwrap())
    };
    assert_eq!(ask("POST", "/v1development/profiles").await.status, 200);
    assert_eq!(ask("POST", "/v1/profiles").await.status, 200);

    let wrong = ask("GET", "/v1development/profiles").await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.headers["allow"], "POST");
    for (path, word) in [
        ("/v1/traces", "traces"),
        ("/v1/metrics", "metrics"),
        ("/v1/logs", "logs"),
        ("/", "there is no /"),
    ] {
        let told = ask("POST", path).await;
        assert_eq!(told.status, 404, "{path}");
        let said: Value = serde_json::from_slice(&told.body).unwrap();
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("profile-relay"), "{message}");
        assert!(message.contains(word), "{message}");
    }
    subject.next().await;
    assert_eq!(subject.counted("http", "unsupported"), 5);
}

#[tokio::test]
async fn what_is_not_understood_is_415() {
    let subject = Subject::start().await;
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-encoding", "br")],
        &[("content-encoding", "gzip, zstd")],
    ] {
        let told = subject.post(headers, plain()).await;
        assert_eq!(told.status, 415, "{headers:?}");
        assert_eq!(told.headers["accept-encoding"], "identity,gzip,zstd");
    }
}

#[tokio::test]
async fn refusals_are_a_status_in_the_requests_own_encoding() {
    let subject = Subject::start().await;
    let told = subject.post(&[], &b"\xff\xff\xff"[..]).await;
    assert_eq!(told.status, 400);
    assert_eq!(told.headers["content-type"], "application/x-protobuf");
    let status = rpc::Status::decode(told.body).unwrap();
    assert_eq!(status.code, 3);
    assert!(status.message.contains("no valid protobuf"), "{status:?}");

    let told = subject
        .post(&[JSON], &br#"{"resourceProfiles": 7}"#[..])
        .await;
    assert_eq!(told.status, 400);
    assert_eq!(told.headers["content-type"], "application/json");
    let status: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(status["code"], 3);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("resourceProfiles")
    );

    let version = ("otlp-profiles-development-version", "2");
    let told = subject.post(&[version], plain()).await;
    assert_eq!(told.status, 400);
    assert_eq!(subject.counted("http", "invalid"), 3);
}

#[tokio::test]
async fn a_retryable_refusal_tells_the_wait_in_both_encodings() {
    let subject = Subject::stuck(plain().len() as u64 + 200).await;
    assert_eq!(subject.post(&[], plain()).await.status, 200);

    let full = subject.post(&[], plain()).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = full.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=2).contains(&seconds));
    let status = rpc::Status::decode(full.body).unwrap();
    assert_eq!(status.code, 14);
    assert_eq!(
        status.details[0].type_url,
        "type.googleapis.com/google.rpc.RetryInfo"
    );

    let full = subject.post(&[JSON], json()).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.headers.contains_key("retry-after"));
    // As OTLP's own clients read it.
    let status = json::status_from_json(&full.body).unwrap();
    assert_eq!(status.details.len(), 1, "{status:?}");
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_before_and_after_inflating() {
    let change = |settings: &mut Settings| {
        let http = settings.protocols.http.as_mut().unwrap();
        http.server.max_request_body_size = crate::settings::ByteSize::new(10_000);
    };
    let subject = Subject::with(change, 256 << 20).await;
    let zeros = Bytes::from(vec![0; 20_000]);
    let gzip = crate::profile::pprof::compress(&zeros);
    assert!(gzip.len() < 10_000);
    for (headers, body) in [
        (&[][..], zeros),
        (&[("content-encoding", "gzip")][..], gzip),
    ] {
        let told = subject.post(headers, body).await;
        assert_eq!(told.status, 413, "{headers:?}");
        assert!(!told.headers.contains_key("retry-after"));
        let status = rpc::Status::decode(told.body).unwrap();
        assert!(
            status.message.contains("max_request_body_size"),
            "{status:?}"
        );
    }
    assert_eq!(subject.memory.used(), 0);
}

#[tokio::test]
async fn web_pages_may_send_when_they_are_allowed() {
    let change = |settings: &mut Settings| {
        let http = settings.protocols.http.as_mut().unwrap();
        http.server.cors = Some(crate::net::serve::Cors {
            allowed_origins: vec!["https://*.example".to_owned()],
            ..Default::default()
        });
        let secret = crate::settings::Secret::from("yes".to_owned());
        http.server.response_headers = [("x-relay".to_owned(), secret)].into();
    };
    let subject = Subject::with(change, 256 << 20).await;
    let preflight = Request::options("/v1development/profiles")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .body(Full::default())
        .unwrap();
    let told = subject.ask(preflight).await;
    assert_eq!(told.status, 204);
    assert_eq!(
        told.headers["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(told.headers["x-relay"], "yes");

    let told = subject
        .post(&[("origin", "https://app.example")], plain())
        .await;
    assert_eq!(told.status, 200);
    assert_eq!(
        told.headers["access-control-allow-origin"],
        "https://app.example"
    );
    let told = subject
        .post(&[("origin", "https://evil.test")], plain())
        .await;
    assert!(!told.headers.contains_key("access-control-allow-origin"));
}
