//! TLS: who trusts whom, by which certificate, and for how long.

use super::*;
use crate::{net::testing::Identity, settings::FilePath};
use http_body_util::Full;
use rcgen::{CertificateParams, DnType};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

type Http1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// What a client trusts and shows.
#[derive(Clone, Default)]
struct Client {
    tls: ClientTls,
}

impl Client {
    fn trusting(pem: &str) -> Self {
        Self {
            tls: ClientTls {
                ca_pem: Some(pem.to_owned()),
                ..ClientTls::default()
            },
        }
    }

    fn showing(mut self, identity: &Identity) -> Self {
        self.tls.cert_pem = Some(identity.cert.clone());
        self.tls.key_pem = Some(Secret::from(identity.key.clone()));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut ClientTls)) -> Self {
        change(&mut self.tls);
        self
    }

    /// Connects, shakes hands, and asks once: with TLS 1.3 a server may refuse a
    /// client when that believes to be done.
    async fn ask(&self, address: SocketAddr, name: &str) -> Result<(u16, Http1), String> {
        let live = LiveTls::new(self.tls.spec().unwrap(), &["http/1.1"]).unwrap();
        let connector = TlsConnector::from(live.current().unwrap());
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        let name = live.server_name(name).unwrap();
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        Tasks::default().spawn("client", connection);
        let status = ask(&mut sender).await?;
        Ok((status, sender))
    }

    async fn status(&self, address: SocketAddr) -> Result<u16, String> {
        self.ask(address, "localhost")
            .await
            .map(|(status, _)| status)
    }
}

async fn ask(sender: &mut Http1) -> Result<u16, String> {
    let answer = timeout(MANY, sender.send_request(post("/"))).await.unwrap();
    answer
        .map(|a| a.status().as_u16())
        .map_err(|e| e.to_string())
}

fn shown(identity: &Identity) -> ServerTls {
    ServerTls {
        cert_pem: Some(identity.cert.clone()),
        key_pem: Some(Secret::from(identity.key.clone())),
        ..ServerTls::default()
    }
}

async fn with_tls(tls: ServerTls) -> (Served, Metrics) {
    let settings = HttpServerSettings {
        tls: Some(tls),
        ..HttpServerSettings::default()
    };
    observed(settings.plan("127.0.0.1:0").unwrap()).await
}

fn expired(params: &mut CertificateParams) {
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

#[tokio::test]
async fn a_server_is_trusted_by_its_chain_its_name_and_its_dates() {
    let root = Ca::new("root");
    let middle = root.below("middle");
    let leaf = middle.issue(&["localhost"]);
    let chained = Identity {
        cert: format!("{}{}", leaf.cert, middle.pem),
        key: leaf.key.clone(),
    };
    let late = root.issue_with(&["localhost"], expired);
    for (what, identity, trusted, good) in [
        (
            "a private authority",
            &root.issue(&["localhost"]),
            &root.pem,
            true,
        ),
        ("the chain is served", &chained, &root.pem, true),
        ("half a chain", &leaf, &root.pem, false),
        ("the middle is trusted", &leaf, &middle.pem, true),
        (
            "another name",
            &root.issue(&["elsewhere"]),
            &root.pem,
            false,
        ),
        ("expired", &late, &root.pem, false),
        (
            "another authority",
            &Ca::new("x").issue(&["localhost"]),
            &root.pem,
            false,
        ),
    ] {
        let (served, _) = with_tls(shown(identity)).await;
        let status = Client::trusting(trusted).status(served.address).await;
        assert_eq!(status.is_ok(), good, "{what}: {status:?}");
    }
}

#[tokio::test]
async fn a_client_is_taken_by_its_certificate() {
    let (servers, clients) = (Ca::new("servers"), Ca::new("clients"));
    let middle = clients.below("middle");
    let leaf = middle.issue(&["agent"]);
    let chained = Identity {
        cert: format!("{}{}", leaf.cert, middle.pem),
        key: leaf.key.clone(),
    };
    let none = Client::trusting(&servers.pem);
    let good = none.clone().showing(&clients.issue(&["agent"]));
    let chained = none.clone().showing(&chained);
    let half = none.clone().showing(&leaf);
    let wrong = none.clone().showing(&Ca::new("others").issue(&["agent"]));
    let late = none
        .clone()
        .showing(&clients.issue_with(&["agent"], expired));
    for (wants, without) in [
        (crate::net::tls::ClientAuth::Required, false),
        (crate::net::tls::ClientAuth::Optional, true),
    ] {
        let mut tls = shown(&servers.issue(&["localhost"]));
        tls.client_ca_pem = Some(clients.pem.clone());
        tls.client_auth = wants;
        let (served, metrics) = with_tls(tls).await;
        for (what, client, taken) in [
            ("good", &good, true),
            ("a chain", &chained, true),
            ("none", &none, without),
            ("half a chain", &half, false),
            ("wrong", &wrong, false),
            ("expired", &late, false),
        ] {
            let status = client.status(served.address).await;
            assert_eq!(status.is_ok(), taken, "{wants:?} {what}: {status:?}");
        }
        assert_eq!(closed(&metrics, "no_certificate"), u64::from(!without));
        assert_eq!(closed(&metrics, "wrong_certificate"), 3);
    }
}

#[tokio::test]
async fn a_client_that_is_connected_goes_when_its_authority_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.pem");
    let servers = Ca::new("servers");
    let (before, after) = (Ca::new("before"), Ca::new("after"));
    fs::write(&path, format!("{}{}", before.pem, after.pem)).unwrap();
    let mut tls = shown(&servers.issue(&["localhost"]));
    tls.client_ca_file = Some(FilePath(path.clone()));
    let (served, metrics) = with_tls(tls).await;
    let trusting = Client::trusting(&servers.pem);
    let old = trusting.clone().showing(&before.issue(&["old"]));
    let new = trusting.showing(&after.issue(&["new"]));
    let (_, mut old_connection) = old.ask(served.address, "localhost").await.unwrap();
    let (_, mut new_connection) = new.ask(served.address, "localhost").await.unwrap();
    assert_eq!(ask(&mut old_connection).await, Ok(200));

    fs::write(&path, &after.pem).unwrap();
    assert_eq!(ask(&mut old_connection).await, Ok(401));
    assert_eq!(
        counted(&metrics, "turned_away_requests", "certificate_revoked"),
        1
    );
    let gone = async {
        while !old_connection.is_closed() {
            let _ = ask(&mut old_connection).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
    assert!(old.status(served.address).await.is_err());
    // Nobody else notices, not even on a connection of before.
    assert_eq!(ask(&mut new_connection).await, Ok(200));
    assert_eq!(new.status(served.address).await, Ok(200));
    // A file that is no longer one takes nobody's leave.
    fs::write(&path, "half a fi").unwrap();
    assert_eq!(ask(&mut new_connection).await, Ok(200));
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (one, two) = (Ca::new("one"), Ca::new("two"));
    let mut tls = shown(&one.issue(&["one.example", "localhost"]));
    let second = two.issue(&["two.example", "*.wild.example"]);
    tls.certificates = vec![crate::net::tls::ServerCertificate {
        cert_pem: Some(second.cert),
        key_pem: Some(Secret::from(second.key)),
        ..Default::default()
    }];
    let (served, _) = with_tls(tls).await;
    for (name, ca) in [
        ("one.example", &one),
        ("two.example", &two),
        ("a.wild.example", &two),
        ("localhost", &one),
    ] {
        let (right, wrong) = if std::ptr::eq(ca, &one) {
            (&one, &two)
        } else {
            (&two, &one)
        };
        let good = Client::trusting(&right.pem).ask(served.address, name).await;
        assert!(good.is_ok(), "{name}: {:?}", good.err());
        let bad = Client::trusting(&wrong.pem).ask(served.address, name).await;
        assert!(bad.is_err(), "{name}");
    }
    // Who asks for none of them is shown the first.
    let unknown = Client::trusting(&one.pem)
        .ask(served.address, "three.example")
        .await;
    assert!(unknown.err().unwrap().contains("three.example"));
}

#[tokio::test]
async fn versions_and_suites_are_what_the_settings_say() {
    let ca = Ca::new("ca");
    let identity = ca.issue(&["localhost"]);
    let version =
        |max: &str| Client::trusting(&ca.pem).with(|tls| tls.max_version = Some(max.into()));
    let mut tls = shown(&identity);
    tls.min_version = Some("1.3".into());
    let (served, metrics) = with_tls(tls).await;
    assert!(version("1.2").status(served.address).await.is_err());
    assert_eq!(version("1.3").status(served.address).await, Ok(200));
    assert_eq!(closed(&metrics, "handshake"), 1);

    let suites = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let (aes, chacha) = (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    );
    let mut tls = shown(&identity);
    tls.cipher_suites = suites(&[aes]);
    let (served, _) = with_tls(tls).await;
    let only = |names: &[&str]| version("1.2").with(|tls| tls.cipher_suites = suites(names));
    assert_eq!(only(&[aes]).status(served.address).await, Ok(200));
    assert!(only(&[chacha]).status(served.address).await.is_err());
    assert_eq!(
        Client::trusting(&ca.pem).status(served.address).await,
        Ok(200)
    );
    let wrong = ServerTls {
        cipher_suites: suites(&["TLS_RSA_WITH_RC4_128_SHA"]),
        ..shown(&identity)
    };
    assert_eq!(wrong.problems()[0].path, "cipher_suites[0]");
}

/// Files that are written as a careless program does: one after the other, in
/// place.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Self {
        Self {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }

    fn write(&self, identity: &Identity) {
        fs::write(&self.cert, &identity.cert).unwrap();
        fs::write(&self.key, &identity.key).unwrap();
    }

    fn settings(&self) -> ServerTls {
        ServerTls {
            cert_file: Some(FilePath(self.cert.clone())),
            key_file: Some(FilePath(self.key.clone())),
            ..ServerTls::default()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("ca");
    let files = Files::of(folder.path());
    files.write(&ca.issue(&["localhost"]));
    let (served, _) = with_tls(files.settings()).await;
    let (stop, asked) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
    let tasks = Tasks::default();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (stop, asked, pem) = (stop.clone(), asked.clone(), ca.pem.clone());
            let address = served.address;
            tasks.spawn("load", async move {
                let client = Client::trusting(&pem);
                let (_, mut kept) = client.ask(address, "localhost").await.unwrap();
                while !stop.is_cancelled() {
                    // Half of them connect anew each time.
                    let status = match number % 2 {
                        0 => ask(&mut kept).await,
                        _ => client.status(address).await,
                    };
                    assert_eq!(status, Ok(200));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..30 {
        files.write(&ca.issue(&["localhost"]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    // And it was read: one of another authority is not trusted any more.
    files.write(&Ca::new("other").issue(&["localhost"]));
    let status = Client::trusting(&ca.pem).status(served.address).await;
    assert!(status.is_err(), "{status:?}");
}

#[tokio::test]
async fn metrics_say_when_certificates_end_as_long_as_there_is_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("ca");
    let files = Files::of(folder.path());
    let ending = |year| {
        ca.issue_with(&["localhost"], |params: &mut CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.distinguished_name.push(DnType::CommonName, "ends");
        })
    };
    files.write(&ending(2030));
    let mut tls = files.settings();
    tls.client_ca_pem = Some(ca.pem.clone());
    let (served, metrics) = with_tls(tls).await;
    let line = |metrics: &Metrics, file: &str| -> Option<String> {
        let start = format!(
            r#"profile_relay_tls_certificate_expires_timestamp_seconds{{component="test",file="{file}"}} "#
        );
        let text = metrics.encode().unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.map(str::to_owned)
    };
    let cert = files.cert.display().to_string();
    assert_eq!(line(&metrics, &cert).unwrap(), "1893456000.0");
    // Without any handshake.
    files.write(&ending(2040));
    assert_eq!(line(&metrics, &cert).unwrap(), "2208988800.0");
    // 4096, as rcgen has it.
    assert!(line(&metrics, "client_ca_pem").is_some());
    served.stop.cancel();
    timeout(MANY, served.running).await.unwrap().unwrap();
    assert_eq!(line(&metrics, &cert), None);
}
