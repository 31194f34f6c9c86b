use super::*;
use crate::net::{
    resolve::SystemResolver,
    testing::{Ca, Identity, Names, Server, raw, text},
    tls::TlsConfig,
};
use rustls::ServerConfig;

fn connector(config: &TlsConfig, resolver: impl Resolve) -> Connector {
    Connector::new(Shared {
        tls: Some(LiveTls::new(config.spec().unwrap(), &["http/1.1"]).unwrap()),
        proxies: Proxies::default(),
        tunnel: false,
        timeout: Duration::from_secs(5),
        resolver: Arc::new(resolver),
    })
}

fn trusting(ca: &Ca) -> TlsConfig {
    TlsConfig {
        ca: Some(ca.pem.clone()),
        ..TlsConfig::default()
    }
}

async fn https(server: Arc<ServerConfig>, config: &TlsConfig) -> Result<Stream, ConnectError> {
    let server = Server::start(Some(server), |_| text("")).await;
    let uri = format!("https://{}/", server.address).parse().unwrap();
    connector(config, SystemResolver).connect(&uri).await
}

#[tokio::test]
async fn a_custom_authority_is_trusted() {
    let ca = Ca::new("ca");
    let server = ca.issue(&["127.0.0.1"]).server(None, &[]);
    https(server, &trusting(&ca)).await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_says_what_to_set() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = ca.issue(&["127.0.0.1"]).server(None, &[]);
    let error = https(server, &trusting(&other)).await.unwrap_err();
    assert_eq!(error.phase, Phase::Tls);
    let text = error.to_string();
    assert!(text.contains("unknown authority: set ca_file"), "{text}");
    assert!(text.contains("127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn another_authority_of_the_same_name_says_so() {
    let (ca, namesake) = (Ca::new("ca"), Ca::new("ca"));
    let server = ca.issue(&["127.0.0.1"]).server(None, &[]);
    let text = https(server, &trusting(&namesake)).await.unwrap_err().cause;
    assert!(text.contains("set ca_file"), "{text}");
}

#[tokio::test]
async fn another_name_can_be_overridden() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&["parca.example"]);
    let mut config = trusting(&ca);
    let text = https(identity.server(None, &[]), &config)
        .await
        .unwrap_err()
        .cause;
    assert!(text.contains("parca.example"), "{text}");
    assert!(text.contains("set server_name"), "{text}");
    config.server_name = Some("parca.example".into());
    https(identity.server(None, &[]), &config).await.unwrap();
}

#[tokio::test]
async fn verification_can_be_skipped() {
    let server = Ca::new("ca").issue(&["elsewhere"]).server(None, &[]);
    let config = TlsConfig {
        insecure_skip_verify: true,
        ..TlsConfig::default()
    };
    https(server, &config).await.unwrap();
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_its_own_authority() {
    let identity = Identity::self_signed(&["127.0.0.1"]);
    let mut config = TlsConfig {
        ca: Some(identity.cert.clone()),
        ..TlsConfig::default()
    };
    https(identity.server(None, &[]), &config).await.unwrap();
    // Its name still counts.
    config.server_name = Some("other.example".into());
    let error = https(identity.server(None, &[]), &config)
        .await
        .unwrap_err();
    assert_eq!(error.phase, Phase::Tls);
    // And so does which certificate it is.
    let other = Identity::self_signed(&["127.0.0.1"]);
    config.server_name = None;
    https(other.server(None, &[]), &config).await.unwrap_err();
}

#[tokio::test]
async fn a_server_without_tls_says_so() {
    let server = raw(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let uri = format!("https://{server}/").parse().unwrap();
    let connector = connector(
        &TlsConfig {
            insecure_skip_verify: true,
            ..TlsConfig::default()
        },
        SystemResolver,
    );
    let error = connector.connect(&uri).await.unwrap_err();
    assert!(error.cause.contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_missing_client_certificate_says_so_with_tls_1_2() {
    let ca = Ca::new("ca");
    let server = ca.issue(&["127.0.0.1"]).server(Some(&ca), &[]);
    let mut config = trusting(&ca);
    config.max_version = Some("TLS12".into());
    let error = https(server, &config).await.unwrap_err();
    assert!(error.cause.contains("client certificate"), "{error}");
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let uri = format!("http://{closed}/").parse().unwrap();
    let error = connector(&TlsConfig::default(), SystemResolver)
        .connect(&uri)
        .await
        .unwrap_err();
    assert_eq!(error.phase, Phase::Connect);
    let text = error.to_string();
    assert!(text.contains(&closed.to_string()), "{text}");
    assert!(text.contains("connection refused"), "{text}");
}

#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let server = Server::start(None, |_| text("")).await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let names = Names::default();
    names.set("target.example", &[closed, server.address]);
    let connector = connector(&TlsConfig::default(), names);
    let uri = "http://target.example/".parse().unwrap();
    connector.connect(&uri).await.unwrap();
    let unknown = "http://nowhere.example/".parse().unwrap();
    let error = connector.connect(&unknown).await.unwrap_err();
    assert_eq!(error.phase, Phase::Resolve);
    assert!(error.to_string().contains("nowhere.example"), "{error}");
}
