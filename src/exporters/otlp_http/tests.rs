use super::*;
use crate::{
    exporters::shared::otlp::testing::{
        FUTURE, FarEnd, Reply, context, counted, future_request, meaning, otlp_batch, partial,
        pprof_batch, pprof_totals, prepare, status, totals,
    },
    net::testing::Ca,
    pipeline::Reason,
    profile::otlp::json,
};
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn exporter_of(settings: Value, context: &Context) -> OtlpHttpExporter {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    settings.build(context).unwrap()
}

fn exporter(address: SocketAddr, more: Value) -> OtlpHttpExporter {
    let mut settings = json!({"endpoint": format!("http://{address}")});
    let all = settings.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    exporter_of(settings, &context())
}

async fn answering(reply: Reply) -> FarEnd {
    FarEnd::start(move |_, _| reply.clone()).await
}

async fn taking() -> FarEnd {
    answering(Reply::http(200, "application/x-protobuf", "")).await
}

fn one() -> Batch {
    otlp_batch(&future_request(&["api"], 2), Compression::None)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

// === bodies ===

#[tokio::test]
async fn what_nobody_edited_leaves_in_the_bytes_in_which_it_came() {
    use Compression::{Gzip, None, Zstd};
    let plain = future_request(&["api", "web"], 3);
    let far = taking().await;
    for (setting, came, leaves) in [
        ("none", None, None),
        ("none", Gzip, None),
        ("none", Zstd, None),
        ("gzip", None, Gzip),
        ("gzip", Gzip, Gzip),
        ("gzip", Zstd, Gzip),
        ("zstd", None, Zstd),
        ("zstd", Gzip, Gzip),
        ("zstd", Zstd, Zstd),
    ] {
        let exporter = exporter(far.address, json!({"compression": setting}));
        let wire = came.compress(&plain).unwrap();
        exporter.export(&otlp_batch(&wire, came)).await.unwrap();
        let sent = far.last();
        assert_eq!(sent.compression("content-encoding"), leaves);
        assert_eq!(
            sent.headers.contains_key("content-encoding"),
            leaves != None
        );
        if came == leaves {
            assert_eq!(sent.body, wire, "{setting} {came:?}");
        }
        let arrived = leaves.inflate(&sent.body, 1 << 20).unwrap();
        assert_eq!(arrived, plain, "{setting} {came:?}");
    }
    let sent = far.last();
    assert_eq!(sent.path, "/v1development/profiles");
    assert_eq!(sent.headers["content-type"], "application/x-protobuf");
    assert_eq!(sent.headers["otlp-profiles-development-version"], "1");
}

#[tokio::test]
async fn fields_of_a_future_version_survive_edits() {
    let far = taking().await;
    let exporter = exporter(far.address, json!({"compression": "none"}));
    let mut batch = otlp_batch(&future_request(&["api", "web"], 3), Compression::None);
    let mut edit = batch.profiles[1].labels.edit();
    edit.set("service.name", "shop");
    batch.profiles[1].labels = edit.build();
    exporter.export(&batch).await.unwrap();
    let sent = far.last().body;
    for text in FUTURE.iter().chain(&["api", "shop"]) {
        assert!(has(&sent, text), "{text}");
    }
    assert!(!has(&sent, "web"));
}

#[tokio::test]
async fn json_says_the_same() {
    let far = answering(Reply::http(200, "application/json", "{}")).await;
    let pprofs = pprof_batch(2);
    let expected = pprof_totals(&pprofs);
    for (setting, came) in [("none", Compression::None), ("gzip", Compression::Gzip)] {
        let settings = json!({"encoding": "json", "compression": setting});
        let exporter = exporter(far.address, settings);
        exporter.export(&pprofs).await.unwrap();
        let sent = far.last();
        assert_eq!(sent.headers["content-type"], "application/json");
        assert_eq!(sent.compression("content-encoding"), came);
        let text = came.inflate(&sent.body, 64 << 20).unwrap();
        let plain = json::request_from_json(&text, 64 << 20).unwrap();
        assert_eq!(totals(&plain), expected);
        // Another implementation's reading of the same.
        let value: Value = serde_json::from_slice(&text).unwrap();
        let strings = value["dictionary"]["stringTable"].as_array().unwrap();
        let mut sum = 0;
        for resource in value["resourceProfiles"].as_array().unwrap() {
            for scope in resource["scopeProfiles"].as_array().unwrap() {
                for profile in scope["profiles"].as_array().unwrap() {
                    let kind = profile["sampleType"]["typeStrindex"].as_u64().unwrap();
                    assert!(strings[kind as usize].is_string());
                    for sample in profile["samples"].as_array().unwrap() {
                        let values = sample["values"].as_array().into_iter().flatten();
                        sum += values
                            .map(|v| v.as_str().unwrap().parse::<i64>().unwrap())
                            .sum::<i64>();
                    }
                }
            }
        }
        assert_eq!(sum, expected.values().sum::<i64>());
        // What came as OTLP becomes JSON as well, compressed or not.
        let plain = future_request(&["api", "web"], 2);
        let wire = Compression::Gzip.compress(&plain).unwrap();
        let batch = otlp_batch(&wire, Compression::Gzip);
        exporter.export(&batch).await.unwrap();
        let text = came.inflate(&far.last().body, 64 << 20).unwrap();
        let read = json::request_from_json(&text, 64 << 20).unwrap();
        assert_eq!(totals(&read), totals(&plain));
    }
    // An empty request is what a sign of life is asked with.
    exporter(far.address, json!({"encoding": "json"}))
        .probe()
        .await
        .unwrap();
    assert_eq!(far.last().body, "{}");
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_not_sent() {
    let far = taking().await;
    for encoding in ["proto", "json"] {
        let settings = json!({"max_request_bytes": "8KiB", "encoding": encoding});
        let exporter = exporter(far.address, settings);
        // As JSON it is larger.
        let profiles = if encoding == "json" { 120 } else { 300 };
        let batch = otlp_batch(&future_request(&["api"], profiles), Compression::None);
        let result = exporter.export(&batch).await;
        assert_eq!(meaning(&result), "too large", "{encoding}: {result:?}");
        let pieces = exporter.divide(&batch.profiles[0]).unwrap();
        let counts: Vec<_> = pieces.iter().map(|p| p.profile.body.profiles()).collect();
        assert_eq!(counts.iter().sum::<u64>(), profiles as u64);
        assert!(counts[0].abs_diff(counts[1]) <= 2, "{counts:?}");
    }
    assert!(far.arrived().is_empty());
}

// === answers ===

#[tokio::test]
async fn each_status_means_what_the_specification_says() {
    for (code, meant, composed) in [
        (200, "ok", "ok"),
        (202, "ok", "ok"),
        (204, "ok", "ok"),
        (301, "rejected", "rejected"),
        (307, "rejected", "rejected"),
        (400, "rejected", "bad part"),
        (401, "unauthorized", "unauthorized"),
        (403, "unauthorized", "unauthorized"),
        (404, "unimplemented", "unimplemented"),
        (405, "unimplemented", "unimplemented"),
        (407, "unauthorized", "unauthorized"),
        (408, "rejected", "rejected"),
        (413, "too large", "too large"),
        (415, "rejected", "rejected"),
        (422, "rejected", "bad part"),
        (429, "retry", "retry"),
        (500, "rejected", "rejected"),
        (501, "unimplemented", "unimplemented"),
        (502, "retry", "retry"),
        (503, "retry", "retry"),
        (504, "retry", "retry"),
        (505, "rejected", "rejected"),
    ] {
        let far = answering(Reply::http(code, "", "")).await;
        let exporter = exporter(far.address, json!({}));
        assert_eq!(meaning(&exporter.export(&one()).await), meant, "{code}");
        let several = exporter.export(&pprof_batch(2)).await;
        assert_eq!(meaning(&several), composed, "{code}");
    }
}

#[tokio::test]
async fn a_certificate_that_nginx_refuses_costs_nothing() {
    let page = "<html><center>The SSL certificate error</center></html>";
    let far = answering(Reply::http(400, "text/html", page)).await;
    let refused = exporter(far.address, json!({})).export(&one()).await;
    assert_eq!(meaning(&refused), "unauthorized");
}

#[tokio::test]
async fn the_reason_is_read_in_each_encoding() {
    let reason = status("no dictionary", None);
    let json = json::status_to_json(&reason);
    for (reply, said) in [
        (
            Reply::http(400, "application/x-protobuf", reason.encode_to_vec()),
            "HTTP 400 Bad Request: no dictionary",
        ),
        (
            Reply::http(400, "application/json; charset=utf-8", json),
            "HTTP 400 Bad Request: no dictionary",
        ),
        (
            Reply::http(500, "text/plain", "it  broke\n"),
            "HTTP 500 Internal Server Error: it broke",
        ),
        (
            Reply::http(500, "text/html", "<html><h1>500</h1><hr>nginx</html>"),
            "HTTP 500 Internal Server Error: 500 nginx",
        ),
        (
            Reply::http(500, "application/json", "no json"),
            "HTTP 500 Internal Server Error: no json",
        ),
        (Reply::http(500, "", ""), "HTTP 500 Internal Server Error"),
        (
            Reply::http(307, "", "").with("location", "https://b/x"),
            "HTTP 307 Temporary Redirect: it redirects to \"https://b/x\": set profiles_endpoint to that address",
        ),
        (
            Reply::http(
                500,
                "application/x-protobuf",
                Compression::Gzip
                    .compress(&reason.encode_to_vec().into())
                    .unwrap(),
            )
            .with("content-encoding", "gzip"),
            "HTTP 500 Internal Server Error: no dictionary",
        ),
    ] {
        let far = answering(reply).await;
        let error = exporter(far.address, json!({})).export(&one()).await;
        assert_eq!(error.unwrap_err().to_string(), said);
    }
}

#[tokio::test]
async fn a_collector_says_by_text_what_is_too_large() {
    let reason = status("http: request body too large", None).encode_to_vec();
    let far = answering(Reply::http(400, "application/x-protobuf", reason)).await;
    let result = exporter(far.address, json!({})).export(&one()).await;
    assert_eq!(meaning(&result), "too large");
}

#[tokio::test]
async fn a_pyroscope_says_by_text_what_is_too_old() {
    let told = format!(
        "profile with labels '{{{}}}' is outside of ingestion window (profile timestamp: 2023-02-17 \
         11:12:14 +0000 UTC, the ingestion window starts at 2023-02-17 11:13:14 +0000 UTC)",
        "pod=api-7c9f, ".repeat(100)
    );
    let json = json!({"code": "invalid_argument", "message": told}).to_string();
    for (kind, body) in [
        ("application/json", json),
        ("text/plain; charset=utf-8", told),
    ] {
        let far = answering(Reply::http(400, kind, body)).await;
        let exporter = exporter(far.address, json!({}));
        let Err(ExportError::Rejected { reason, cause }) = exporter.export(&one()).await else {
            panic!("{kind}");
        };
        assert_eq!(reason, Reason::TooOld, "{kind}");
        assert!(cause.len() < 600, "{}", cause.len());
        let several = exporter.export(&pprof_batch(2)).await;
        assert!(matches!(
            several,
            Err(ExportError::Split {
                too_large: false,
                reason: Reason::TooOld,
                ..
            })
        ));
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_in_seconds_and_as_a_date() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
    for (status, wish, range) in [
        (429, "7".to_owned(), 7..=7),
        (503, date, 97..=100),
        (502, "3".to_owned(), 3..=3),
        (504, "99999999".to_owned(), 3_600..=3_600),
    ] {
        let far = answering(Reply::http(status, "", "").with("retry-after", wish)).await;
        let error = exporter(far.address, json!({})).export(&one()).await;
        let Err(ExportError::Retry { after, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(range.contains(&after.unwrap().as_secs()), "{after:?}");
    }
    let far = answering(Reply::http(503, "", "").with("retry-after", "0")).await;
    let error = exporter(far.address, json!({})).export(&one()).await;
    assert_eq!(meaning(&error), "retry", "a loop is no wish");
}

#[tokio::test]
async fn partial_success_is_counted_and_taken() {
    let context = context();
    let proto = partial(2, "too old").encode_to_vec();
    for reply in [
        Reply::http(200, "application/x-protobuf", proto),
        Reply::http(
            200,
            "application/json",
            json::response_to_json(&partial(3, "x")),
        ),
        Reply::http(
            200,
            "application/json",
            r#"{"partialSuccess":{"rejectedProfiles":4}}"#,
        ),
        Reply::http(200, "application/json", r#"{"partialSuccess":{}}"#),
        Reply::http(200, "application/x-protobuf", &b"\x0a\x00"[..]),
    ] {
        let far = answering(reply).await;
        let settings = json!({"endpoint": format!("http://{}", far.address)});
        exporter_of(settings, &context)
            .export(&one())
            .await
            .unwrap();
        assert_eq!(far.arrived().len(), 1);
    }
    let rejected = counted(&context, "partial_success_rejected_profiles_total");
    assert_eq!(rejected, 2 + 3 + 4);
}

#[tokio::test]
async fn only_a_web_page_is_no_success() {
    for (kind, body, meant) in [
        ("text/plain", "OK", "ok"),
        ("application/json", "no json", "ok"),
        ("application/x-protobuf", "\u{7f}no proto", "ok"),
        ("", "?", "ok"),
        (
            "text/html; charset=utf-8",
            "<html>log in</html>",
            "rejected",
        ),
    ] {
        let far = answering(Reply::http(200, kind, body)).await;
        let result = exporter(far.address, json!({})).export(&one()).await;
        assert_eq!(meaning(&result), meant, "{kind}");
    }
}

#[tokio::test]
async fn no_more_than_64_kib_of_an_answer_is_read() {
    for status in [200, 400] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = crate::runtime::Tasks::default().spawn("endless", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64 << 10]).await;
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0_u64;
            let chunk = [b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {
                sent += 1;
            }
            sent
        });
        let result = exporter(address, json!({})).export(&one()).await;
        assert_eq!(result.is_ok(), status == 200);
        // Its connection is closed on it.
        let sent = serving.await.unwrap();
        assert!(sent < 10_000, "{sent}");
    }
}

// === connections ===

#[tokio::test]
async fn a_backend_that_is_not_there_yet_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = exporter(address, json!({}));
    assert_eq!(meaning(&exporter.export(&one()).await), "retry");
    assert_eq!(meaning(&exporter.probe().await), "retry");
    let far = FarEnd::on(&address.to_string(), None, |_, _| Reply::http(200, "", "")).await;
    exporter.export(&one()).await.unwrap();
    exporter.probe().await.unwrap();
    assert_eq!(far.last().body, "");
}

#[tokio::test]
async fn a_connection_that_ends_under_a_request_is_a_death() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::runtime::Tasks::default().spawn("dying", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 64 << 10]).await;
        }
    });
    let exporter = exporter(address, json!({}));
    assert_eq!(meaning(&exporter.export(&one()).await), "died");
}

#[tokio::test]
async fn connections_are_kept_and_http2_is_used_where_offered() {
    let ca = Ca::new("ca");
    for (alpn, settings, version) in [
        (&["h2", "http/1.1"][..], json!({}), http::Version::HTTP_2),
        (&["http/1.1"], json!({}), http::Version::HTTP_11),
        (
            &["h2", "http/1.1"],
            json!({"force_attempt_http2": false}),
            http::Version::HTTP_11,
        ),
    ] {
        let server = ca.issue(&["127.0.0.1"]).server(Some(&ca), alpn);
        let taken = |_: &_, _| Reply::http(200, "", "");
        let far = FarEnd::on("127.0.0.1:0", Some(server), taken).await;
        let client = ca.issue(&["relay"]);
        let mut all = json!({
            "endpoint": format!("https://{}/", far.address),
            "tls": {"ca_pem": ca.pem, "cert_pem": client.cert, "key_pem": client.key},
            "auth": {"basic": {"username": "u", "password": "p"}},
        });
        let map = all.as_object_mut().unwrap();
        map.extend(settings.as_object().unwrap().clone());
        let exporter = exporter_of(all, &context());
        for _ in 0..3 {
            exporter.export(&one()).await.unwrap();
        }
        let sent = far.last();
        assert_eq!(sent.version, version);
        assert_eq!(sent.headers["authorization"], "Basic dTpw");
    }
}

#[tokio::test]
async fn a_token_that_was_refused_keeps_everything() {
    let far = answering(Reply::http(401, "", "")).await;
    let settings = json!({"auth": {"bearer_token": "old"}});
    let exporter = exporter(far.address, settings);
    assert_eq!(meaning(&exporter.export(&one()).await), "unauthorized");
    assert_eq!(far.last().headers["authorization"], "Bearer old");
}

#[tokio::test]
async fn a_pprof_that_is_none_is_dropped() {
    let exporter = exporter_of(json!({"endpoint": "http://127.0.0.1:1"}), &context());
    let mut batch = pprof_batch(1);
    batch.profiles[0].body = crate::profile::Body::Pprof(crate::profile::pprof::Pprof::new(
        Bytes::from_static(b"<html>"),
    ));
    let dropped = prepare(&exporter, batch.profiles.remove(0)).err();
    assert_eq!(dropped, Some(Reason::InvalidProfile));
}
