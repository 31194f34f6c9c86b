//! Who is let in, by the programs that everybody has: curl and openssl; and what
//! of secrets is left behind.

use crate::{
    certificates::Authority,
    harness::{Relay, finish, program, until},
    neighbours::find,
    otlp_in::{PROTOBUF, address, post, request},
};
use std::{
    fs,
    io::{self, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// Two that are known, one by either method, beside a certificate.
const RECEIVER: &str = "protocols: {http: {endpoint: \"127.0.0.1:0\", \
     tls: {cert_file: cert.pem, key_file: key.pem, client_ca_file: clients.pem}, \
     auth: {bearer_token_file: tokens, basic: {htpasswd: {file: users}}, \
     identities: {alice: {labels: {juju_model: \"{name}-model\"}}, \
     bob: {allow: {labels: {juju_model: [bob-model]}}}}}}}";

fn config(receiver: &str) -> String {
    format!(
        "receivers: {{otlp: {{{receiver}}}}}\n\
         exporters: {{debug: {{sending_queue: {{flush_timeout: 10ms}}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [debug]}}}}\n"
    )
}

/// Files of a receiver and of its clients.
fn folder() -> tempfile::TempDir {
    let (servers, clients) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    servers.write(&path("servers.pem"));
    clients.write(&path("clients.pem"));
    servers.certify().write(&path("cert.pem"), &path("key.pem"));
    clients.certify().write(&path("me.pem"), &path("me.key"));
    let other = Authority::new().certify();
    other.write(&path("other.pem"), &path("other.key"));
    fs::write(path("tokens"), "# ours\nalice s3cret-token\n").expect("a file");
    // `openssl passwd -apr1 s3cret-password`
    let users = "bob:$apr1$x9aB$nVh8w5QOygnn4D8Pc.JAK0\n";
    fs::write(path("users"), users).expect("a file");
    fs::write(path("body"), request(&["from-curl"])).expect("a file");
    folder
}

/// What curl tells: the status, or 0 when there was no answer.
fn curl(binary: &Path, folder: &Path, address: &str, args: &[&str]) -> u16 {
    let mut command = Command::new(binary);
    command
        .current_dir(folder)
        .args([
            "--silent",
            "--output",
            "answer",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--max-time", "20", "--cacert", "servers.pem"])
        .args(["--header", "content-type: application/x-protobuf"])
        .args(["--data-binary", "@body"])
        .args(args)
        .arg(format!("https://{address}/v1development/profiles"));
    let (output, _) = finish(command);
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    status.trim().parse().expect("a status")
}

#[test]
fn curl_is_let_in_with_a_certificate_and_credentials_and_not_without() {
    let Some(binary) = find("curl_is_let_in", "curl") else {
        return;
    };
    let relay = Relay::run_in(folder(), &config(RECEIVER));
    let http = address(&relay, "http");
    let curl = |args: &[&str]| curl(&binary, relay.folder(), &http, args);
    let me = ["--cert", "me.pem", "--key", "me.key"];
    let token = ["--oauth2-bearer", "s3cret-token"];
    for version in ["--http1.1", "--http2"] {
        let with = |more: &[&str]| curl(&[&[version], more].concat());
        assert_eq!(with(&[&me[..], &token].concat()), 200, "{version}");
        assert_eq!(with(&me), 401, "{version}");
        let answer = fs::read_to_string(relay.folder().join("answer")).expect("an answer");
        assert!(answer.contains("no credentials"), "{answer}");
        let wrong = ["--oauth2-bearer", "s3cret-other"];
        assert_eq!(with(&[&me[..], &wrong].concat()), 401, "{version}");
        // Known, and none of its labels is bob's.
        let bob = ["--user", "bob:s3cret-password"];
        assert_eq!(with(&[&me[..], &bob].concat()), 403, "{version}");
        let bob = ["--user", "bob:s3cret-other"];
        assert_eq!(with(&[&me[..], &bob].concat()), 401, "{version}");
        // Without a certificate, or with another's, nobody is listened to.
        assert_eq!(with(&token), 0, "{version}");
        let other = ["--cert", "other.pem", "--key", "other.key"];
        assert_eq!(with(&[&other[..], &token].concat()), 0, "{version}");
    }
    let line = relay.logged("service.name=\\\"from-curl\\\"");
    assert!(line.contains("juju_model=\\\"alice-model\\\""), "{line}");
    let metrics = relay.metrics();
    let away = |reason: &str| {
        let labels = [
            ("receiver", "otlp"),
            ("protocol", "http"),
            ("reason", reason),
        ];
        metrics.sum("receiver_turned_away_requests_total", &labels)
    };
    assert_eq!((away("no_credentials"), away("wrong_credentials")), (2, 4));
    let refused = [("receiver", "otlp"), ("reason", "not_allowed")];
    assert_eq!(metrics.sum("receiver_refused_profiles_total", &refused), 2);
    let closed = [("receiver", "otlp"), ("reason", "wrong_certificate")];
    assert_eq!(metrics.sum("receiver_closed_connections_total", &closed), 2);
    assert!(
        metrics
            .text()
            .contains("profile_relay_tls_certificate_expires_timestamp_seconds{")
    );
}

#[test]
fn openssl_is_shown_the_chain_and_the_certificate_of_the_name_it_asks_for() {
    let Some(binary) = find("openssl_is_shown", "openssl") else {
        return;
    };
    let folder = folder();
    let second = Authority::new();
    let path = |name: &str| folder.path().join(name);
    second.write(&path("second.pem"));
    second
        .certify()
        .write(&path("cert2.pem"), &path("key2.pem"));
    let receiver = "protocols: {grpc: {endpoint: \"127.0.0.1:0\", tls: {cert_file: cert.pem, \
                    key_file: key.pem, min_version: \"1.2\", \
                    cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}}}";
    let relay = Relay::run_in(folder, &config(receiver));
    let grpc = address(&relay, "grpc");
    let s_client = |args: &[&str]| {
        let mut child = Command::new(&binary)
            .current_dir(relay.folder())
            .args(["s_client", "-connect", &grpc, "-servername", "localhost"])
            .args([
                "-CAfile",
                "servers.pem",
                "-verify_return_error",
                "-alpn",
                "h2",
            ])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl starts");
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(b"Q\n"));
        let output = child.wait_with_output().expect("openssl ends");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let told = s_client(&[]);
    assert!(told.contains("Verify return code: 0 (ok)"), "{told}");
    assert!(
        told.contains("TLSv1.3") && told.contains("ALPN protocol: h2"),
        "{told}"
    );
    let told = s_client(&["-tls1_2"]);
    assert!(told.contains("ECDHE-ECDSA-AES256-GCM-SHA384"), "{told}");
    let told = s_client(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
    assert!(told.contains("handshake failure"), "{told}");
    let told = s_client(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert!(told.contains("SSL alert number"), "{told}");
    // It follows its files.
    let copy = |from: &str, to: &str| {
        fs::copy(relay.folder().join(from), relay.folder().join(to)).expect("a copy");
    };
    copy("cert2.pem", "cert.pem");
    copy("key2.pem", "key.pem");
    until("the other certificate is shown", || {
        let told = s_client(&["-CAfile", "second.pem"]);
        told.contains("Verify return code: 0 (ok)").then_some(())
    });
}

#[test]
fn a_hundred_thousand_streams_opened_and_cancelled_take_no_memory() {
    // What was given back a moment ago still counts.
    const MEMORY: u64 = 64 << 20;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    let receiver = "protocols: {http: {endpoint: \"127.0.0.1:0\", \
                    limits: {max_cancelled_requests: 0, max_pending_resets: 1000000}}}";
    let relay =
        Relay::run(&config(receiver).replace("service:", "service:\n  memory: {limit: 64MiB}"));
    let http = address(&relay, "http");
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len())
            .expect("a length")
            .to_be_bytes();
        let stream = stream.to_be_bytes();
        [&length[1..], &[kind, flags], &stream, payload].concat()
    };
    let mut stream = TcpStream::connect(&http).expect("it listens");
    let mut answers = stream.try_clone().expect("a clone");
    let reading = thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("it reads");
    stream.write_all(&frame(4, 0, 0, &[])).expect("it reads");
    // :method: POST, :scheme: http, :path: /, :authority: x
    let head = [0x83, 0x86, 0x84, 0x41, 1, b'x'];
    for number in 0..100_000 {
        let mut both = frame(HEADERS, 4, number * 2 + 1, &head);
        both.extend(frame(RST_STREAM, 0, number * 2 + 1, &8_u32.to_be_bytes()));
        stream.write_all(&both).expect("it reads");
        if number % 10_000 == 0 {
            assert_eq!(post(&http, PROTOBUF, &request(&["other"])).0, 200);
        }
    }
    relay.assert_memory_within(MEMORY);
    assert_eq!(post(&http, PROTOBUF, &request(&["other"])).0, 200);
    drop(stream);
    drop(reading);
}

#[test]
fn nothing_that_was_secret_is_left_in_logs_pages_or_errors() {
    let folder = folder();
    let receiver = RECEIVER.replace(
        "tls: {cert_file: cert.pem, key_file: key.pem, client_ca_file: clients.pem}, ",
        "",
    );
    let receiver = receiver.replace(
        "{file: users}",
        "{file: users, inline: \"carol:{SHA}s3cret-hash\"}",
    );
    fs::write(folder.path().join("relay.yaml"), config(&receiver)).expect("a file");
    let mut command = program();
    command.args(["run", "--config", "relay.yaml", "--log-level", "trace"]);
    command.args(["--set", "service::admin::endpoint=127.0.0.1:0"]);
    let relay = Relay::start(folder, command);
    let http = address(&relay, "http");
    let with = |authorization: &str| {
        let headers = format!("{PROTOBUF}authorization: {authorization}\r\n");
        let (status, answer) = post(&http, &headers, &request(&["x"]));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("s3cret"), "{answer}");
        status
    };
    assert_eq!(with("Bearer s3cret-token"), 200);
    // bob:s3cret-password, bob:s3cret-other
    assert_eq!(with("Basic Ym9iOnMzY3JldC1wYXNzd29yZA=="), 403);
    assert_eq!(with("Basic Ym9iOnMzY3JldC1vdGhlcg=="), 401);
    assert_eq!(with("Bearer s3cret-wrong"), 401);
    assert_eq!(with("s3cret-scheme x"), 401);
    // A line that is wrong is said by its number.
    fs::write(
        relay.folder().join("tokens"),
        "alice s3cret-one s3cret-two\n",
    )
    .expect("a file");
    until("the broken line is seen", || {
        with("Bearer s3cret-token");
        relay
            .log()
            .contains("lines with more than two words")
            .then_some(())
    });
    for page in [
        "/",
        "/api/config",
        "/api/status",
        "/api/pipelines",
        "/metrics",
    ] {
        let page = relay.page(page);
        assert!(!page.contains("s3cret") && !page.contains("Ym9i"), "{page}");
    }
    let log = relay.stop().log;
    for secret in ["s3cret", "Ym9i", "apr1"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
