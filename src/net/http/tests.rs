use super::*;
use crate::{
    net::testing::{Ca, Names, Server, connect_proxy, raw, text},
    runtime::Tasks,
    settings::FilePath,
};
use http_body_util::BodyExt;
use serde_json::json;
use std::{fs, net::SocketAddr, path::Path, sync::Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod oauth2;
mod post;

/// What a server saw of a request.
type Seen = Arc<Mutex<Vec<http::request::Parts>>>;

fn settings(json: serde_json::Value) -> HttpClientSettings {
    serde_json::from_value(json).unwrap()
}

fn client(json: serde_json::Value) -> HttpClient {
    HttpClient::new(&settings(json)).unwrap()
}

fn client_resolving(json: serde_json::Value, names: &Names) -> HttpClient {
    HttpClient::build(&settings(json), Pool::new(SCRAPES), Arc::new(names.clone())).unwrap()
}

async fn body(
    client: &HttpClient,
    url: impl fmt::Display,
) -> Result<(StatusCode, String), HttpError> {
    let response = client.get(&url.to_string().parse().unwrap()).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(bytes.to_vec()).unwrap()))
}

/// A server that answers with what `answer` makes of a request, and what it saw.
async fn recording(
    tls: Option<Arc<rustls::ServerConfig>>,
    answer: impl Fn(&http::request::Parts) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> (Server, Seen) {
    let seen = Seen::default();
    let record = seen.clone();
    let server = Server::start(tls, move |request| {
        let (parts, _) = request.into_parts();
        let response = answer(&parts);
        record.lock().unwrap().push(parts);
        response
    })
    .await;
    (server, seen)
}

fn header_of(seen: &Seen, index: usize, name: &str) -> Option<String> {
    let seen = seen.lock().unwrap();
    let value = seen[index].headers.get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

/// The pool is told in a task of its own that an answer is complete.
async fn until_waiting(client: &HttpClient, wanted: usize) {
    while client.0.pool.waiting() != wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_carries_host_and_user_agent_and_nothing_else() {
    let (server, seen) = recording(None, |_| text("profile")).await;
    let url = format!("http://{}/debug/pprof/heap?gc=1", server.address);
    let answer = body(&client(json!({})), url).await.unwrap();
    assert_eq!(answer, (StatusCode::OK, "profile".into()));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].uri, "/debug/pprof/heap?gc=1");
    let mut names: Vec<_> = seen[0].headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "user-agent"]);
    assert_eq!(seen[0].headers["host"], server.address.to_string());
    assert!(
        seen[0].headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("profile-relay/")
    );
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_is_read() {
    let (server, _) = recording(None, |_| text("x".repeat(100_000))).await;
    let client = client(json!({}));
    for _ in 0..5 {
        body(&client, format!("http://{}/", server.address))
            .await
            .unwrap();
        until_waiting(&client, 1).await;
    }
    assert_eq!(server.accepted(), 1);
    // An answer that nobody reads ends its connection.
    let uri = format!("http://{}/", server.address).parse().unwrap();
    drop(client.get(&uri).await.unwrap());
    body(&client, uri).await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn no_more_connections_wait_than_allowed() {
    let (one, _) = recording(None, |_| text("")).await;
    let (two, _) = recording(None, |_| text("")).await;
    let client = HttpClient::bounded(&settings(json!({})), 1).unwrap();
    body(&client, format!("http://{}/", one.address))
        .await
        .unwrap();
    until_waiting(&client, 1).await;
    body(&client, format!("http://{}/", two.address))
        .await
        .unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.0.pool.waiting(), 1);
    body(&client, format!("http://{}/", one.address))
        .await
        .unwrap();
    assert_eq!(one.accepted(), 1);
}

#[tokio::test]
async fn a_waiting_connection_that_was_closed_is_replaced_in_silence() {
    // Answers one request a connection and then closes without saying so.
    let server = raw(|mut stream, _| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
            .await;
    })
    .await;
    let client = client(json!({}));
    for _ in 0..20 {
        body(&client, format!("http://{server}/")).await.unwrap();
    }
}

#[tokio::test]
async fn all_waiting_connections_that_were_closed_are_let_go() {
    let (closing, mut close) = tokio::sync::watch::channel(false);
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    close.mark_unchanged();
    Tasks::default().spawn("server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut close = close.clone();
            Tasks::default().spawn("connection", async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
                let _ = close.changed().await;
            });
        }
    });
    let client = client(json!({}));
    for host in 1..=200 {
        body(&client, format!("http://127.0.0.{host}:{port}/"))
            .await
            .unwrap();
    }
    until_waiting(&client, 200).await;
    closing.send(true).unwrap();
    let (other, _) = recording(None, |_| text("")).await;
    while client.0.pool.waiting() > 1 {
        body(&client, format!("http://{}/", other.address))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_talks_out_of_turn_is_not_used_again() {
    let server = raw(|mut stream, number| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let client = client(json!({}));
    for number in 0..3 {
        let (_, text) = body(&client, format!("http://{server}/")).await.unwrap();
        assert_eq!(text, number.to_string());
    }
}

#[tokio::test]
async fn an_end_before_the_answer_is_an_error_that_names_the_place() {
    let server = raw(|mut stream, _| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
    })
    .await;
    let error = body(&client(json!({})), format!("http://{server}/"))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Io { .. }));
    assert!(error.to_string().contains(&server.to_string()), "{error}");
    let talker = raw(|mut stream, _| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let error = body(&client(json!({})), format!("http://{talker}/"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("does not answer in HTTP"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_http_address_is_refused() {
    for url in ["ftp://127.0.0.1/", "/only/a/path"] {
        let error = body(&client(json!({})), url).await.unwrap_err();
        assert!(matches!(error, HttpError::Address(_)), "{error}");
    }
}

// === credentials ===

#[tokio::test]
async fn credentials_follow_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (token, password) = (path("token", "one\n"), path("password", "p\n"));
    let tenant = path("tenant", "a");
    let (server, seen) = recording(None, |_| text("")).await;
    let url = format!("http://{}/", server.address);
    let bearer = client(json!({
        "authorization": {"credentials_file": token},
        "http_headers": {"x-tenant": {"values": ["v"], "secrets": ["s"], "files": [tenant]}},
    }));
    body(&bearer, &url).await.unwrap();
    fs::write(&token, "two").unwrap();
    fs::write(&tenant, "b").unwrap();
    body(&bearer, &url).await.unwrap();
    let basic = client(json!({"basic_auth": {"username": "u", "password_file": password}}));
    body(&basic, &url).await.unwrap();
    let old = client(json!({"bearer_token": "old"}));
    body(&old, &url).await.unwrap();
    let other = client(json!({"authorization": {"type": "Token", "credentials": "t"}}));
    body(&other, &url).await.unwrap();
    let sent: Vec<_> = (0..5)
        .map(|index| header_of(&seen, index, "authorization").unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            "Bearer one",
            "Bearer two",
            "Basic dTpw",
            "Bearer old",
            "Token t"
        ]
    );
    let seen = seen.lock().unwrap();
    let tenants: Vec<_> = seen[1].headers.get_all("x-tenant").iter().collect();
    assert_eq!(tenants, ["v", "s", "b"]);
}

#[tokio::test]
async fn a_missing_credentials_file_is_a_problem_at_its_key() {
    let settings = settings(json!({
        "bearer_token_file": "/does/not/exist",
        "tls_config": {"ca_file": "/nor/this"},
    }));
    let problems = HttpClient::new(&settings).unwrap_err();
    let paths: Vec<_> = problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(paths, ["tls_config.ca_file", "bearer_token_file"]);
}

// === redirects ===

fn redirect(status: u16, to: &str) -> Response<Full<Bytes>> {
    let mut response = text("");
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("location", to.parse().unwrap());
    response
}

#[tokio::test]
async fn redirects_are_followed_only_if_asked_for() {
    let (server, seen) = recording(None, |parts| match parts.uri.path() {
        "/from" => redirect(302, "/to?x=1#fragment"),
        _ => text("there"),
    })
    .await;
    let url = format!("http://{}/from", server.address);
    let (status, _) = body(&client(json!({})), &url).await.unwrap();
    assert_eq!(status, 302);
    let follow = json!({"follow_redirects": true, "bearer_token": "t"});
    let (status, text) = body(&client(follow), &url).await.unwrap();
    assert_eq!((status, text.as_str()), (StatusCode::OK, "there"));
    assert_eq!(seen.lock().unwrap()[2].uri, "/to?x=1");
    assert_eq!(header_of(&seen, 2, "authorization").unwrap(), "Bearer t");
}

#[tokio::test]
async fn credentials_do_not_go_to_another_place() {
    let (there, seen) = recording(None, |_| text("there")).await;
    let to = format!("http://{}/", there.address);
    let (here, _) = recording(None, move |_| redirect(307, &to)).await;
    let client = client(json!({
        "follow_redirects": true,
        "bearer_token": "t",
        "http_headers": {"x-key": {"secrets": ["k"]}},
    }));
    body(&client, format!("http://{}/", here.address))
        .await
        .unwrap();
    assert_eq!(header_of(&seen, 0, "authorization"), None);
    assert_eq!(header_of(&seen, 0, "x-key"), None);
}

#[test]
fn only_an_upgrade_to_https_keeps_credentials() {
    for (first, next, same) in [
        ("http://a/x", "http://A:80/y", true),
        ("http://a/", "https://a/", true),
        ("https://a/", "http://a/", false),
        ("http://a/", "http://a:81/", false),
        ("http://a/", "http://b.a/", false),
        ("http://a:8080/", "https://a:8443/", false),
    ] {
        let (first, next): (Uri, Uri) = (first.parse().unwrap(), next.parse().unwrap());
        assert_eq!(is_same_place(&first, &next), same, "{first} {next}");
    }
}

#[tokio::test]
async fn redirects_end() {
    let (server, seen) = recording(None, |_| redirect(301, "/again")).await;
    let url = format!("http://{}/", server.address);
    let error = body(&client(json!({"follow_redirects": true})), url)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::TooManyRedirects(_)), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 11);
    let (odd, _) = recording(None, |_| redirect(301, "file:///etc/passwd")).await;
    let url = format!("http://{}/", odd.address);
    let error = body(&client(json!({"follow_redirects": true})), url)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Redirect(_)), "{error}");
}

// === TLS ===

fn tls_client(folder: &Path, more: serde_json::Value) -> HttpClient {
    let mut tls = json!({
        "ca_file": folder.join("ca"),
        "cert_file": folder.join("cert"),
        "key_file": folder.join("key"),
    });
    tls.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    client(json!({"tls_config": tls}))
}

#[tokio::test]
async fn rotated_certificates_are_used_by_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let write = |ca: &Ca| {
        let identity = ca.issue(&["client"]);
        fs::write(folder.path().join("ca"), &ca.pem).unwrap();
        fs::write(folder.path().join("cert"), identity.cert).unwrap();
        fs::write(folder.path().join("key"), identity.key).unwrap();
    };
    write(&old);
    let client = tls_client(folder.path(), json!({}));
    let before = Server::start(
        Some(old.issue(&["127.0.0.1"]).server(Some(&old), &[])),
        |_| text("old"),
    )
    .await;
    let after = Server::start(
        Some(new.issue(&["127.0.0.1"]).server(Some(&new), &[])),
        |_| text("new"),
    )
    .await;
    body(&client, format!("https://{}/", before.address))
        .await
        .unwrap();
    let url = format!("https://{}/", after.address);
    let error = body(&client, &url).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_)), "{error}");
    write(&new);
    assert_eq!(body(&client, &url).await.unwrap().1, "new");
}

#[tokio::test]
async fn a_client_certificate_that_is_wanted_with_tls_1_3_is_asked_for_in_words() {
    let ca = Ca::new("ca");
    let (server, _) = recording(
        Some(ca.issue(&["127.0.0.1"]).server(Some(&ca), &[])),
        |_| text(""),
    )
    .await;
    let client = client(json!({"tls_config": {"ca": ca.pem, "min_version": "TLS13"}}));
    let error = body(&client, format!("https://{}/", server.address))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("set cert_file and key_file"),
        "{error}"
    );
}

#[tokio::test]
async fn http2_is_used_only_if_asked_for_and_offered() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&["127.0.0.1"]);
    let both = identity.server(None, &["h2", "http/1.1"]);
    let (server, seen) = recording(Some(both), |_| text("")).await;
    let (old, _) = recording(Some(identity.server(None, &["http/1.1"])), |_| text("")).await;
    let url = format!("https://{}/", server.address);
    body(&client(json!({"tls_config": {"ca": ca.pem}})), &url)
        .await
        .unwrap();
    let modern = client(json!({"tls_config": {"ca": ca.pem}, "enable_http2": true}));
    body(&modern, &url).await.unwrap();
    body(&modern, &url).await.unwrap();
    body(&modern, format!("https://{}/", old.address))
        .await
        .unwrap();
    let versions: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|parts| parts.version)
        .collect();
    assert_eq!(
        versions,
        [
            http::Version::HTTP_11,
            http::Version::HTTP_2,
            http::Version::HTTP_2
        ]
    );
    assert_eq!(server.accepted(), 2);
}

// === proxies ===

#[tokio::test]
async fn plain_requests_are_forwarded_by_the_proxy() {
    let (proxy, seen) = recording(None, |_| text("forwarded")).await;
    let client = client(json!({"proxy_url": format!("http://user:pw@{}", proxy.address)}));
    let (_, text) = body(&client, "http://target.example:6060/debug?x=1")
        .await
        .unwrap();
    assert_eq!(text, "forwarded");
    assert_eq!(
        seen.lock().unwrap()[0].uri,
        "http://target.example:6060/debug?x=1"
    );
    assert_eq!(header_of(&seen, 0, "host").unwrap(), "target.example:6060");
    assert_eq!(
        header_of(&seen, 0, "proxy-authorization").unwrap(),
        "Basic dXNlcjpwdw=="
    );
    body(&client, "http://target.example:6060/again")
        .await
        .unwrap();
}

#[tokio::test]
async fn no_proxy_ranges_are_reached_directly() {
    let (proxy, _) = recording(None, |_| text("proxy")).await;
    let (direct, seen) = recording(None, |_| text("direct")).await;
    let names = Names::default();
    names.set("10.1.2.3", &[direct.address]);
    names.set("127.0.0.1", &[proxy.address]);
    let client = client_resolving(
        json!({"proxy_url": format!("http://{}", proxy.address), "no_proxy": "10.0.0.0/8"}),
        &names,
    );
    assert_eq!(body(&client, "http://10.1.2.3/").await.unwrap().1, "direct");
    assert_eq!(body(&client, "http://11.1.2.3/").await.unwrap().1, "proxy");
    assert_eq!(header_of(&seen, 0, "proxy-authorization"), None);
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let ca = Ca::new("ca");
    let (server, seen) = recording(
        Some(ca.issue(&["target.example"]).server(None, &[])),
        |_| text("safe"),
    )
    .await;
    let (proxy, heads) = connect_proxy(None, server.address, "Basic dTpw").await;
    let settings = |proxy: String| {
        json!({
            "tls_config": {"ca": ca.pem},
            "bearer_token": "secret",
            "proxy_url": proxy,
            "proxy_connect_header": {"x-via": ["relay"]},
        })
    };
    let good = client(settings(format!("http://u:p@{proxy}")));
    assert_eq!(
        body(&good, "https://target.example/").await.unwrap().1,
        "safe"
    );
    let head = heads.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("CONNECT target.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("x-via: relay"), "{head}");
    assert!(!head.contains("secret"), "{head}");
    assert_eq!(header_of(&seen, 0, "proxy-authorization"), None);
    let error = body(
        &client(settings(format!("http://{proxy}"))),
        "https://target.example/",
    )
    .await
    .unwrap_err();
    assert!(matches!(error, HttpError::Proxy(_)));
    let error = error.to_string();
    assert!(
        error.contains("407") && error.contains("proxy_url"),
        "{error}"
    );
}

#[tokio::test]
async fn a_proxy_may_want_tls_itself() {
    let ca = Ca::new("ca");
    let tls = ca.issue(&["target.example"]).server(None, &[]);
    let (server, _) = recording(Some(tls), |_| text("safe")).await;
    let proxy = ca.issue(&["127.0.0.1"]).server(None, &["http/1.1"]);
    let (proxy, _) = connect_proxy(Some(proxy), server.address, "CONNECT").await;
    let settings =
        |ca: &Ca| json!({"tls_config": {"ca": ca.pem}, "proxy_url": format!("https://{proxy}")});
    let url = "https://target.example/";
    assert_eq!(body(&client(settings(&ca)), url).await.unwrap().1, "safe");
    let error = body(&client(settings(&Ca::new("other"))), url)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Proxy(_)), "{error}");
    assert!(error.to_string().contains("set ca_file"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_is_down_is_named() {
    let client = client(json!({"proxy_url": "http://127.0.0.1:1"}));
    let error = body(&client, "http://target.example/").await.unwrap_err();
    assert!(matches!(error, HttpError::Proxy(_)));
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let (closed, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let server: SocketAddr = raw(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            Tasks::default().spawn("slow", async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
                let _ = closed.send(());
            });
        }
    })
    .await;
    let client = client(json!({}));
    let url = format!("http://{server}/");
    let asked = tokio::time::timeout(Duration::from_millis(50), body(&client, url));
    assert!(asked.await.is_err());
    gone.recv().await.unwrap();
}

#[test]
fn file_paths_may_be_empty_as_in_go() {
    let settings = HttpClientSettings {
        bearer_token_file: Some(FilePath::default()),
        ..HttpClientSettings::default()
    };
    HttpClient::new(&settings).unwrap();
}
