//! Profiles that are pushed over OTLP, to the whole program.

use crate::{
    certificates::Authority,
    harness::{LIMIT, Relay, finish, program, until},
};
use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    profiles::v1development::{
        Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
    },
    resource::v1::Resource,
};
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::{
        ExportProfilesServiceRequest as Ours, profiles_service_client::ProfilesServiceClient,
    },
    net::{ClientTls, GrpcChannel, GrpcClientSettings},
    profile::{otlp::json, pprof::compress},
    settings::FilePath,
};
use prost::Message;
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    thread,
};
use tonic::codec::CompressionEncoding;

/// The debug exporter: what arrives is a line of the log.
fn config(receiver: &str, service: &str) -> String {
    format!(
        "receivers: {{otlp: {{{receiver}}}}}\n\
         exporters: {{debug: {{sending_queue: {{flush_timeout: 10ms}}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [debug]}}}}\n\
         {service}\n"
    )
}

const BOTH: &str =
    "protocols: {grpc: {endpoint: \"127.0.0.1:0\"}, http: {endpoint: \"127.0.0.1:0\"}}";

/// Where it listens, as it says in its log.
pub fn address(relay: &Relay, protocol: &str) -> String {
    let line = relay.logged(&format!("protocol={protocol} endpoint="));
    let (_, rest) = line.split_once("endpoint=").expect("an endpoint");
    let end = rest.split_whitespace().next().expect("an endpoint");
    end.trim_matches('"').to_owned()
}

/// A request of another implementation, with a profile for each service.
pub fn request(services: &[&str]) -> Vec<u8> {
    let resource = |service: &&str| ResourceProfiles {
        resource: Some(Resource {
            attributes: vec![KeyValue {
                key: "service.name".into(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue((*service).into())),
                }),
                ..KeyValue::default()
            }],
            ..Resource::default()
        }),
        scope_profiles: vec![ScopeProfiles {
            profiles: vec![Profile {
                samples: vec![Sample {
                    values: vec![7],
                    ..Sample::default()
                }],
                ..Profile::default()
            }],
            ..ScopeProfiles::default()
        }],
        ..ResourceProfiles::default()
    };
    let request = ExportProfilesServiceRequest {
        resource_profiles: services.iter().map(resource).collect(),
        dictionary: Some(ProfilesDictionary {
            string_table: vec![String::new()],
            ..ProfilesDictionary::default()
        }),
    };
    request.encode_to_vec()
}

/// A POST by the plainest of clients: the status and all that was told.
pub fn post(address: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    try_post(address, headers, body).expect("it answers")
}

/// The same to somebody who may be gone.
pub fn try_post(address: &str, headers: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let head = format!(
        "POST /v1development/profiles HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((status, answer))
}

pub const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

/// A gRPC client, and what it trusts.
pub fn client(endpoint: &str, tls: ClientTls) -> ProfilesServiceClient<GrpcChannel> {
    let settings = GrpcClientSettings {
        endpoint: endpoint.to_owned(),
        tls,
        ..GrpcClientSettings::default()
    };
    ProfilesServiceClient::new(GrpcChannel::new(&settings).expect("good settings"))
}

fn export(
    mut client: ProfilesServiceClient<GrpcChannel>,
    services: &[&str],
) -> Result<(), tonic::Status> {
    let message = Ours::decode(&*request(services)).expect("the same messages");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(client.export(message)).map(|_| ())
}

pub fn insecure() -> ClientTls {
    ClientTls {
        insecure: true,
        ..ClientTls::default()
    }
}

#[test]
fn profiles_arrive_by_every_way() {
    let relay = Relay::run(&config(BOTH, ""));
    let (grpc, http) = (address(&relay, "grpc"), address(&relay, "http"));
    let plain = client(&grpc, insecure());
    export(plain.clone(), &["by-grpc", "by-grpc-too"]).expect("success");
    let gzip = plain.send_compressed(CompressionEncoding::Gzip);
    export(gzip, &["by-gzip"]).expect("success");

    assert_eq!(post(&http, PROTOBUF, &request(&["by-http"])).0, 200);
    let zstd = zstd::encode_all(&*request(&["by-zstd"]), 3).expect("it compresses");
    let headers = format!("{PROTOBUF}content-encoding: zstd\r\n");
    assert_eq!(post(&http, &headers, &zstd).0, 200);
    let json = json::request_to_json(&request(&["by-json"])).expect("JSON");
    let headers = "content-type: application/json\r\n";
    assert_eq!(post(&http, headers, &json).0, 200);

    for service in [
        "by-grpc",
        "by-grpc-too",
        "by-gzip",
        "by-http",
        "by-zstd",
        "by-json",
    ] {
        relay.logged(&format!("service.name=\\\"{service}\\\""));
    }
    let metrics = relay.metrics();
    let accepted = [("receiver", "otlp")];
    assert_eq!(
        metrics.sum("receiver_accepted_profiles_total", &accepted),
        6
    );
    for (protocol, requests) in [("grpc", 2), ("http", 3)] {
        let labels = [("protocol", protocol), ("outcome", "ok")];
        assert_eq!(metrics.sum("receiver_requests_total", &labels), requests);
    }
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn fifty_hostile_requests_at_once_do_not_take_more_memory_than_there_is() {
    // What was given back a moment ago still counts.
    const MEMORY: u64 = 80 << 20;
    let relay = Relay::run(&config(BOTH, "  memory: {limit: 64MiB}"));
    let (grpc, http) = (address(&relay, "grpc"), address(&relay, "http"));
    // 4 MB of empty resources, and of resources with an empty profile.
    let bombs = [&[0x0a, 0][..], &[0x0a, 4, 0x12, 2, 0x12, 0]]
        .map(|shape| compress(&shape.repeat((4 << 20) / shape.len())));
    let zeros = zstd::encode_all(&*vec![0; 200 << 20], 1).expect("it compresses");
    let headers = format!("{PROTOBUF}content-encoding: gzip\r\n");
    thread::scope(|scope| {
        for at in 0..50 {
            let (http, headers, bomb) = (&http, &headers, &bombs[at % 2]);
            scope.spawn(move || {
                let (status, answer) = post(http, headers, bomb);
                assert!([200, 413, 503].contains(&status), "{status}");
                let wait = String::from_utf8_lossy(&answer).contains("retry-after");
                assert_eq!(wait, status == 503);
            });
        }
        scope.spawn(|| {
            let headers = format!("{PROTOBUF}content-encoding: zstd\r\n");
            assert!([413, 503].contains(&post(&http, &headers, &zeros).0));
        });
    });
    relay.assert_memory_within(MEMORY);
    // Who sends what is good is served.
    until("a good request passes", || {
        export(client(&grpc, insecure()), &["good"]).ok()
    });
    relay.assert_memory_within(MEMORY);
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}

#[test]
fn certificates_are_wanted_shown_and_followed() {
    let (clients, servers, next) = (Authority::new(), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    clients.write(&path("clients.pem"));
    servers.write(&path("servers.pem"));
    next.write(&path("next.pem"));
    servers.certify().write(&path("cert.pem"), &path("key.pem"));
    clients.certify().write(&path("me.pem"), &path("me.key"));
    let file = |name: &str| Some(FilePath(path(name)));
    let trusting = |authority: &str| ClientTls {
        ca_file: file(authority),
        cert_file: file("me.pem"),
        key_file: file("me.key"),
        ..ClientTls::default()
    };
    let (with, without) = (
        trusting("servers.pem"),
        ClientTls {
            ca_file: file("servers.pem"),
            ..ClientTls::default()
        },
    );
    let (new, authorities) = (trusting("next.pem"), path("cert.pem"));
    let keys = path("key.pem");
    let receiver = "protocols: {grpc: {endpoint: \"127.0.0.1:0\", tls: {cert_file: cert.pem, \
                    key_file: key.pem, client_ca_file: clients.pem}}}";
    let relay = Relay::run_in(folder, &config(receiver, ""));
    let grpc = address(&relay, "grpc");
    export(client(&grpc, with.clone()), &["known"]).expect("success");
    relay.logged("service.name=\\\"known\\\"");
    assert!(export(client(&grpc, without), &["stranger"]).is_err());

    // Somebody writes half of a certificate: the last good one stays in use.
    fs::write(&authorities, "-----BEGIN CERT").expect("a file");
    until("the broken file is seen", || {
        export(client(&grpc, with.clone()), &["known"]).expect("success");
        relay
            .log()
            .contains("cannot read certificates again")
            .then_some(())
    });
    next.certify().write(&authorities, &keys);
    until("the new certificate is shown", || {
        export(client(&grpc, new.clone()), &["renewed"]).ok()
    });
    assert!(!relay.log().contains("stranger"));
}

fn run(folder: &Path, yaml: &str) -> (Option<i32>, String) {
    fs::write(folder.join("relay.yaml"), yaml).expect("the configuration is written");
    let mut command = program();
    command
        .args(["run", "-c", "relay.yaml"])
        .args(["--set", "service::admin::endpoint=127.0.0.1:0"])
        .current_dir(folder);
    let (output, _) = finish(command);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), told)
}

#[test]
fn an_address_that_is_taken_ends_it_with_code_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address");
    let live = UnixListener::bind(folder.path().join("live.sock")).expect("a socket");
    for endpoint in [port.to_string(), "unix:live.sock".to_owned()] {
        let receiver = format!("protocols: {{grpc: {{endpoint: \"{endpoint}\"}}}}");
        let (code, told) = run(folder.path(), &config(&receiver, ""));
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains(&endpoint), "{told}");
        assert!(told.contains("another process"), "{told}");
    }
    drop(live);
}

#[test]
fn a_socket_that_a_killed_relay_left_is_taken_over() {
    let receiver = "protocols: {http: {transport: unix, endpoint: otlp.sock}}";
    let folder = tempfile::tempdir().expect("a folder");
    drop(UnixListener::bind(folder.path().join("otlp.sock")).expect("a socket"));
    let relay = Relay::run_in(folder, &config(receiver, ""));
    assert_eq!(address(&relay, "http"), "unix:otlp.sock");
    let path = relay.folder().join("otlp.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(path).expect("it listens");
    let body = request(&["by-unix"]);
    let head = format!(
        "POST /v1/profiles HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\
         content-length: {}\r\n{PROTOBUF}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.write_all(&body).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    relay.logged("service.name=\\\"by-unix\\\"");
}

#[test]
fn what_is_wrong_with_the_receiver_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    for (receiver, words) in [
        ("", &["nothing is listened to", "relay.yaml:1"][..]),
        (
            "protocols: {grpc: {endpoint: \"http://x:1\", include_metadata: true}}",
            &[
                "protocols.grpc.endpoint",
                "without a scheme",
                "say which headers go on",
            ],
        ),
        (
            "protocols: {grpc: {endpoint: \"a:1\"}, http: {endpoint: \"a:1\", tls: {}}}",
            &["grpc listens there already", "protocols.http.tls.cert_file"],
        ),
        (
            "protocols: {http: {endpiont: \"a:1\"}}",
            &["unknown key", "endpoint"],
        ),
    ] {
        let (code, told) = run(folder.path(), &config(receiver, ""));
        assert_eq!(code, Some(2), "{told}");
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
}
