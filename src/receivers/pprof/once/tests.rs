use super::*;
use crate::{
    profile::pprof::synthetic::SyntheticProfile,
    receivers::pprof::testing::{Answer, Server},
};

#[tokio::test]
async fn one_url_is_told_in_full() {
    let heap = SyntheticProfile::heap(1).encode();
    let body = heap.clone();
    let server = Server::start(move |path| match path {
        "/heap" => Answer::ok(body.to_vec()),
        "/html" => Answer::status(200, "content-type: text/html\r\n", "<html></html>"),
        _ => Answer::status(404, "", "404 page not found"),
    })
    .await;
    let settings = OnceSettings::default();
    let good = scrape_once(&settings, &server.url("/heap")).await.unwrap();
    assert_eq!(good.status, Some(StatusCode::OK));
    assert_eq!(good.body, heap);
    assert!(good.result.unwrap().samples > 0);
    let html = scrape_once(&settings, &server.url("/html")).await.unwrap();
    assert_eq!(html.content_type.as_deref(), Some("text/html"));
    assert!(html.result.unwrap_err().contains("HTML"));
    let missing = scrape_once(&settings, &server.url("/x")).await.unwrap();
    assert_eq!(&missing.body[..], b"404 page not found");
    assert!(missing.result.unwrap_err().contains("net/http/pprof"));
    let dead = scrape_once(&settings, "http://127.0.0.1:1/").await.unwrap();
    assert!(dead.status.is_none() && dead.result.is_err());
    assert!(scrape_once(&settings, "127.0.0.1:1").await.is_err());
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_kept() {
    let server = Server::start(|_| Answer::Endless(1 << 30)).await;
    let settings = OnceSettings {
        body_size_limit: ByteSize::new(1 << 20),
        ..OnceSettings::default()
    };
    let outcome = scrape_once(&settings, &server.url("/")).await.unwrap();
    assert!(outcome.body.is_empty());
    assert!(outcome.result.unwrap_err().contains("1048576"));
}
