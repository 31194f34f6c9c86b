use super::*;
use crate::{
    r#gen::profilestore::{
        WriteRawRequest, profile_store_service_client::ProfileStoreServiceClient,
    },
    net::testing::{Ca, Identity, Names, connect_proxy},
    runtime::Tasks,
};
use bytes::Bytes;
use http::HeaderMap;
use rustls::ServerConfig;
use serde_json::json;
use std::{fs, net::SocketAddr, sync::Mutex};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

mod failures;
mod frames;
mod oauth2;
mod unary;

type Seen = Arc<Mutex<Vec<http::request::Parts>>>;

/// A gRPC server that answers every call with an empty message.
struct Grpc {
    address: SocketAddr,
    seen: Seen,
    accepting: JoinHandle<()>,
}

impl Grpc {
    async fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), tls).await
    }

    async fn on(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let record = seen.clone();
        let accepting = Tasks::default().spawn("grpc server", async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, tls) = (record.clone(), tls.clone());
                served.spawn(async move {
                    match tls {
                        None => serve(stream, record).await,
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, record).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn header(&self, index: usize, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        Some(seen[index].headers.get(name)?.to_str().unwrap().into())
    }

    /// Closes the listener and every connection.
    async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Seen) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        seen.lock().unwrap().push(request.into_parts().0);
        let mut response = Response::new(());
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        body.send_trailers(trailers).unwrap();
    }
}

fn settings(json: serde_json::Value) -> GrpcClientSettings {
    serde_json::from_value(json).unwrap()
}

fn channel(json: serde_json::Value) -> GrpcChannel {
    GrpcChannel::new(&settings(json)).unwrap()
}

fn plain(address: SocketAddr) -> GrpcChannel {
    channel(json!({"endpoint": address.to_string(), "tls": {"insecure": true}}))
}

async fn call(channel: &GrpcChannel) -> Result<(), Status> {
    let mut client = ProfileStoreServiceClient::new(channel.clone());
    client.write_raw(WriteRawRequest::default()).await.map(drop)
}

async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

// === requests ===

#[tokio::test]
async fn a_plaintext_call_carries_what_grpc_wants() {
    let server = Grpc::start(None).await;
    let channel = channel(json!({
        "endpoint": format!("http://{}", server.address),
        "headers": {"x-tenant": "a"},
        "timeout": "5s",
    }));
    call(&channel).await.unwrap();
    call(&channel).await.unwrap();
    let seen = server.seen.lock().unwrap();
    let uri = format!(
        "http://{}/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw",
        server.address
    );
    assert_eq!(seen[0].uri.to_string(), uri);
    assert_eq!(seen[0].headers["te"], "trailers");
    assert_eq!(seen[0].headers["x-tenant"], "a");
    assert_eq!(seen[0].headers["grpc-timeout"], "5000m");
    assert!(
        seen[0].headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("profile-relay/")
    );
}

#[tokio::test]
async fn credentials_follow_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "one\n").unwrap();
    let server = Grpc::start(None).await;
    let endpoint = server.address.to_string();
    let bearer = channel(json!({
        "endpoint": endpoint,
        "tls": {"insecure": true},
        "auth": {"bearer_token_file": token},
    }));
    call(&bearer).await.unwrap();
    fs::write(&token, "two\n").unwrap();
    call(&bearer).await.unwrap();
    let basic = channel(json!({
        "endpoint": endpoint,
        "tls": {"insecure": true},
        "auth": {"basic": {"username": "u", "password_file": token}},
    }));
    call(&basic).await.unwrap();
    let sent: Vec<_> = (0..3)
        .map(|index| server.header(index, "authorization").unwrap())
        .collect();
    assert_eq!(sent, ["Bearer one", "Bearer two", "Basic dTp0d28="]);
}

#[tokio::test]
async fn a_unix_socket_is_a_backend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Seen::default();
    let record = seen.clone();
    Tasks::default().spawn("unix", async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, record).await;
    });
    let channel = channel(
        json!({"endpoint": format!("unix://{}", path.display()), "tls": {"insecure": true}}),
    );
    call(&channel).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

// === TLS ===

#[tokio::test]
async fn tls_is_on_unless_said_otherwise() {
    let ca = Ca::new("ca");
    let server = Grpc::start(Some(ca.issue(&["127.0.0.1"]).server(None, &["h2"]))).await;
    let endpoint = server.address.to_string();
    call(&channel(
        json!({"endpoint": endpoint, "tls": {"ca_pem": ca.pem}}),
    ))
    .await
    .unwrap();
    let stranger = Ca::new("stranger");
    let error = call(&channel(
        json!({"endpoint": endpoint, "tls": {"ca_pem": stranger.pem}}),
    ))
    .await
    .unwrap_err();
    assert!(matches!(
        classify_transport(&error),
        TransportFailure::NotConnected { .. }
    ));
    assert!(error.message().contains("set ca_file"), "{error}");
}

#[tokio::test]
async fn a_plaintext_server_is_told_from_a_tls_one() {
    let server = Grpc::start(None).await;
    let error = call(&channel(json!({"endpoint": server.address.to_string()})))
        .await
        .unwrap_err();
    assert!(error.message().contains("insecure: true"), "{error}");
}

#[tokio::test]
async fn a_server_without_http2_says_so() {
    let ca = Ca::new("ca");
    let server = Grpc::start(Some(ca.issue(&["127.0.0.1"]).server(None, &["http/1.1"]))).await;
    let channel =
        channel(json!({"endpoint": server.address.to_string(), "tls": {"ca_pem": ca.pem}}));
    let error = call(&channel).await.unwrap_err();
    assert!(error.message().contains("no HTTP/2"), "{error}");
}

#[tokio::test]
async fn rotated_certificates_are_used_when_it_connects_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |ca: &Ca, identity: &Identity| {
        fs::write(path("ca"), &ca.pem).unwrap();
        fs::write(path("cert"), &identity.cert).unwrap();
        fs::write(path("key"), &identity.key).unwrap();
    };
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    write(&old, &old.issue(&["relay"]));
    let tls = |ca: &Ca| Some(ca.issue(&["parca.example"]).server(Some(ca), &["h2"]));
    let mut server = Grpc::start(tls(&old)).await;
    let channel = channel(json!({"endpoint": server.address.to_string(), "tls": {
        "ca_file": path("ca"), "cert_file": path("cert"), "key_file": path("key"),
        "server_name_override": "parca.example",
    }}));
    call(&channel).await.unwrap();
    server.stop().await;
    let server = Grpc::on(server.address, tls(&new)).await;
    assert!(call(&channel).await.is_err());
    write(&new, &new.issue(&["relay"]));
    call(&channel).await.unwrap();
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_missing_client_certificate_is_asked_for_in_words() {
    let ca = Ca::new("ca");
    let server = Grpc::start(Some(ca.issue(&["127.0.0.1"]).server(Some(&ca), &["h2"]))).await;
    let channel =
        channel(json!({"endpoint": server.address.to_string(), "tls": {"ca_pem": ca.pem}}));
    for _ in 0..3 {
        let error = call(&channel).await.unwrap_err();
        assert!(
            matches!(
                classify_transport(&error),
                TransportFailure::NotConnected { .. }
            ),
            "{error:?}"
        );
        assert!(error.message().contains("cert_file"), "{error}");
    }
}

// === proxy ===

#[tokio::test]
async fn plaintext_grpc_goes_through_a_tunnel_too() {
    let server = Grpc::start(None).await;
    let (proxy, heads) = connect_proxy(None, server.address, "CONNECT").await;
    let channel = channel(json!({
        "endpoint": "http://parca.example:7070",
        "proxy_url": format!("http://{proxy}"),
    }));
    call(&channel).await.unwrap();
    assert!(heads.lock().unwrap()[0].starts_with("CONNECT parca.example:7070 HTTP/1.1\r\n"));
    assert_eq!(server.calls(), 1);
}

// === addresses ===

fn named(names: &Names, more: serde_json::Value) -> GrpcChannel {
    let mut json = json!({"endpoint": "http://parca.example:7070"});
    json.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    GrpcChannel::resolving(&settings(json), Arc::new(names.clone())).unwrap()
}

async fn two() -> (Grpc, Grpc, Names) {
    let one = Grpc::start(None).await;
    let two = Grpc::on("127.0.0.2:0".parse().unwrap(), None).await;
    let names = Names::default();
    names.set("parca.example", &[one.address, two.address]);
    (one, two, names)
}

#[tokio::test]
async fn calls_go_round_all_addresses() {
    let (one, two, names) = two().await;
    let channel = named(&names, json!({}));
    while one.calls() == 0 || two.calls() == 0 {
        call(&channel).await.unwrap();
    }
    let before = (one.calls(), two.calls());
    for _ in 0..10 {
        call(&channel).await.unwrap();
    }
    assert_eq!((one.calls(), two.calls()), (before.0 + 5, before.1 + 5));
}

#[tokio::test]
async fn pick_first_stays_with_one_address() {
    let (one, two, names) = two().await;
    let channel = named(&names, json!({"balancer_name": "pick_first"}));
    for _ in 0..10 {
        call(&channel).await.unwrap();
    }
    assert_eq!((one.calls(), two.calls()), (10, 0));
}

#[tokio::test]
async fn an_address_that_is_down_is_left_out() {
    let (one, mut two, names) = two().await;
    let channel = named(&names, json!({}));
    while one.calls() == 0 || two.calls() == 0 {
        call(&channel).await.unwrap();
    }
    two.stop().await;
    // At most the call that was on its way to it fails.
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(call(&channel).await.is_err());
    }
    assert!(failed <= 1, "{failed}");
    let down = Names::default();
    down.set("parca.example", &[closed_port().await, one.address]);
    for policy in ["round_robin", "pick_first"] {
        let channel = named(&down, json!({"balancer_name": policy}));
        for _ in 0..10 {
            call(&channel).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_name_that_moved_is_found_again() {
    let (mut one, two, names) = two().await;
    names.set("parca.example", &[one.address]);
    let channel = named(&names, json!({}));
    call(&channel).await.unwrap();
    one.stop().await;
    names.set("parca.example", &[two.address]);
    let mut tries = 0;
    while call(&channel).await.is_err() {
        tries += 1;
        assert!(tries < 3);
    }
    assert_eq!(two.calls(), 1);
}

#[tokio::test]
async fn a_name_is_looked_up_again_in_time() {
    let (one, two, names) = two().await;
    names.set("parca.example", &[one.address]);
    let channel = named(&names, json!({"resolve_interval": "1ms"}));
    call(&channel).await.unwrap();
    names.set("parca.example", &[two.address]);
    // The connection to the first still works, yet the name leads elsewhere.
    while two.calls() == 0 {
        call(&channel).await.unwrap();
    }
    let before = one.calls();
    for _ in 0..5 {
        call(&channel).await.unwrap();
    }
    assert_eq!(one.calls(), before);
}

#[tokio::test]
async fn a_name_without_addresses_is_named_and_tried_again() {
    let (one, _two, names) = two().await;
    let channel = named(&names, json!({"endpoint": "http://elsewhere.example"}));
    let error = call(&channel).await.unwrap_err();
    assert!(matches!(
        classify_transport(&error),
        TransportFailure::NotConnected { .. }
    ));
    assert!(
        error.message().contains("cannot resolve elsewhere.example"),
        "{error}"
    );
    names.set("elsewhere.example", &[one.address]);
    call(&channel).await.unwrap();
}

// === settings ===

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let settings = settings(json!({
        "endpoint": "ftp://x",
        "tls": {"insecure": true, "ca_file": "x", "min_version": "2"},
        "auth": {"bearer_token": "a", "basic": {"username": "u"}},
        "headers": {"grpc-timeout": "1S", "bad name": "x"},
        "connect_timeout": "0s",
        "no_proxy": "x",
    }));
    let paths: Vec<_> = settings
        .problems()
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        paths,
        [
            "endpoint",
            "tls.insecure",
            "tls.min_version",
            "auth.basic",
            "auth.basic.password",
            "headers.bad name",
            "headers.grpc-timeout",
            "connect_timeout",
            "no_proxy",
        ]
    );
}

#[test]
fn every_grpc_key_is_known() {
    let settings = settings(json!({
        "endpoint": "parca:7070",
        "keepalive": {"time": "10s", "timeout": "5s", "permit_without_stream": true},
        "balancer_name": "pick_first",
        "timeout": "0s",
        "resolve_interval": "1m",
        "tls": {"include_system_ca_certs_pool": true, "reload_interval": "1m"},
    }));
    assert_eq!(
        settings.keepalive.as_ref().unwrap().timeout.get(),
        Duration::from_secs(5)
    );
    assert!(settings.problems().is_empty());
}

#[test]
fn a_missing_file_is_a_problem_at_its_key() {
    let settings = settings(json!({
        "endpoint": "parca:7070",
        "tls": {"ca_file": "/does/not/exist"},
        "auth": {"bearer_token_file": "/nor/this"},
    }));
    let problems = GrpcChannel::new(&settings).unwrap_err();
    let paths: Vec<_> = problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(paths, ["auth.bearer_token_file", "tls.ca_file"]);
}

#[test]
fn timeouts_are_written_as_grpc_wants() {
    for (timeout, text) in [
        (Duration::from_millis(1), "1m"),
        (Duration::from_secs(30), "30000m"),
        (Duration::from_secs(200_000), "200000S"),
    ] {
        assert_eq!(grpc_timeout(timeout), text);
    }
}
