//! TLS with private authorities and credentials in files, on both sides.

use crate::{
    certificates::Authority,
    config,
    far_end::{Behaviour, FarEnd},
    harness::{LIMIT, Relay},
    target::{Answer, Target, profile},
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

const UNAUTHORIZED: &[u8] = b"who are you\n";

/// Replaces a file at once, as those do who rotate credentials.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("the file is replaced");
}

/// A program that serves only who brings a client certificate and the token.
fn guarded(authority: &Authority, token: &Arc<Mutex<String>>) -> Target {
    let token = token.clone();
    Target::tls(authority.server(true, &[]), move |request| {
        let wanted = format!("Bearer {}", token.lock().expect("a token"));
        if request.headers.get("authorization") == Some(&wanted) {
            Answer::Profile(profile())
        } else {
            Answer::Other(401, "text/plain", UNAUTHORIZED.into())
        }
    })
}

#[test]
fn profiles_pass_from_mutual_tls_to_tls_while_tokens_rotate() {
    let (inside, outside) = (Authority::new(), Authority::new());
    let token = Arc::new(Mutex::new("token-one".to_owned()));
    let target = guarded(&inside, &token);
    let store = FarEnd::start(Behaviour {
        tls: Some(outside.server(false, &["h2"])),
        authorization: Some("Bearer token-three".into()),
        ..Behaviour::default()
    });

    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    inside.write(&path("inside.pem"));
    outside.write(&path("outside.pem"));
    inside.certify().write(&path("cert.pem"), &path("key.pem"));
    let (target_token, store_token) = (path("target.token"), path("store.token"));
    replace(&target_token, "token-one\n");
    replace(&store_token, "token-three\n");
    let job = config::job(
        "guarded",
        &[target.addr()],
        "scheme: https, authorization: {credentials_file: target.token}, \
         tls_config: {ca_file: inside.pem, cert_file: cert.pem, key_file: key.pem}",
    );
    let exporter = format!(
        "endpoint: \"{}\", tls: {{ca_file: outside.pem}}, \
         auth: {{bearer_token_file: store.token}}, {}",
        store.addr(),
        config::delivery(""),
    );
    let relay = Relay::run_in(folder, &config::relay(&[job], &exporter, ""));
    let arrive = |count: usize| {
        let before = store.stored().len();
        let arrived = |log: &crate::far_end::Log| log.stored.len() >= before + count;
        assert!(store.wait(LIMIT, arrived), "{}", relay.log());
    };
    arrive(2);

    // The program wants another token, and the file has it a little later.
    *token.lock().expect("a token") = "token-two".into();
    relay.until("the old token is refused", |metrics| {
        let labels = [("job", "guarded"), ("outcome", "http_error")];
        metrics.sum("scrapes_total", &labels) > 0
    });
    replace(&target_token, "token-two\n");
    arrive(2);

    store.set(|behaviour| behaviour.authorization = Some("Bearer token-four".into()));
    relay.until("the old token is refused by the far end", |metrics| {
        let labels = [("exporter", "parca"), ("outcome", "unauthorized")];
        metrics.sum("exporter_attempts_total", &labels) > 0
    });
    replace(&store_token, "token-four\n");
    arrive(2);

    let served = target.served();
    assert!(store.stored().iter().all(|s| served.contains(&s.body)));
    let log = relay.log();
    assert!(!log.contains("token-"), "a token is in the log: {log}");
}

#[test]
fn a_certificate_of_somebody_else_is_not_trusted() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let token = Arc::new(Mutex::new("t".to_owned()));
    let impostor = guarded(&other, &token);
    let good = Target::good();
    let store = FarEnd::start(Behaviour {
        tls: Some(other.server(false, &["h2"])),
        ..Behaviour::default()
    });
    let folder = tempfile::tempdir().expect("a folder");
    trusted.write(&folder.path().join("ca.pem"));
    let jobs = [
        config::job("good", &[good.addr()], ""),
        config::job(
            "impostor",
            &[impostor.addr()],
            "scheme: https, tls_config: {ca_file: ca.pem}, bearer_token: t",
        ),
    ];
    let exporter = format!(
        "endpoint: \"{}\", tls: {{ca_file: ca.pem}}, {}",
        store.addr(),
        config::delivery(""),
    );
    let relay = Relay::run_in(folder, &config::relay(&jobs, &exporter, ""));
    relay.until("both were tried", |metrics| {
        let labels = [("job", "impostor"), ("outcome", "connect_error")];
        let retries = [("exporter", "parca"), ("outcome", "retry")];
        metrics.sum("scrapes_total", &labels) > 0
            && metrics.sum("exporter_attempts_total", &retries) > 0
    });
    let shown = relay.json("/api/targets?job=impostor")["targets"][0]["last_error"].to_string();
    assert!(shown.contains("certificate"), "{shown}");
    let shown = relay.json("/api/status")["exporters"][0]["last_error"].to_string();
    assert!(shown.contains("certificate"), "{shown}");
    assert_eq!(store.stored().len(), 0);
    assert_eq!(impostor.requests().len(), 0, "no token was shown to it");
}
