//! gRPC: generated clients, and what the answers are.

use super::{wire::Wire, *};
use crate::{
    r#gen::{
        opentelemetry::proto::collector::profiles::v1development::profiles_service_client::ProfilesServiceClient,
        rpc,
    },
    net::{ClientTls, GrpcChannel, GrpcClientSettings},
    profile::Transport,
};
use tonic::{Code, codec::CompressionEncoding};

fn channel(endpoint: &str) -> GrpcChannel {
    GrpcChannel::new(&GrpcClientSettings {
        endpoint: endpoint.to_owned(),
        tls: ClientTls {
            insecure: true,
            ..ClientTls::default()
        },
        ..GrpcClientSettings::default()
    })
    .unwrap()
}

fn client(subject: &Subject) -> ProfilesServiceClient<GrpcChannel> {
    ProfilesServiceClient::new(channel(&format!("http://{}", subject.grpc)))
}

/// What a refusal says about trying again.
fn retry_delay(status: &tonic::Status) -> Option<f64> {
    let details = rpc::Status::decode(status.details()).unwrap();
    assert!(status.details().is_empty() || details.code == i32::from(status.code()));
    let info = rpc::RetryInfo::decode(&*details.details.first()?.value).unwrap();
    let delay = info.retry_delay.unwrap();
    Some(delay.seconds as f64 + f64::from(delay.nanos) / 1e9)
}

#[tokio::test]
async fn a_generated_client_delivers_in_each_compression() {
    let mut subject = Subject::start().await;
    let client = client(&subject);
    let clients = [
        client.clone(),
        client.clone().send_compressed(CompressionEncoding::Gzip),
    ];
    for mut client in clients {
        let answer = client.export(request(&["api", "web"])).await.unwrap();
        assert_eq!(answer.into_inner().partial_success, None);
        let batch = subject.next().await;
        let services = batch.profiles.iter().map(|p| p.labels.get("service.name"));
        assert_eq!(services.collect::<Vec<_>>(), [Some("api"), Some("web")]);
        assert_eq!(batch.origin.transport, Transport::Grpc);
        assert_eq!(&*batch.origin.receiver, "otlp");
        assert!(
            batch
                .origin
                .peer
                .as_deref()
                .unwrap()
                .starts_with("127.0.0.1:")
        );
        let Body::Otlp(otlp) = &batch.profiles[1].body else {
            panic!("not OTLP");
        };
        let (resource, _) = otlp.decode().unwrap();
        assert_eq!(resource, request(&["web"]).resource_profiles[0]);
    }
    assert_eq!(subject.counted("grpc", "ok"), 2);
    subject.end().await;
}

#[tokio::test]
async fn the_bytes_of_a_message_go_on_as_they_came() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    let gzip = crate::profile::pprof::compress(&plain());
    let zstd = zstd::encode_all(&*plain(), 3).unwrap();
    let cases: [(&str, bool, &[u8]); 4] = [
        ("identity", false, &plain()),
        ("gzip", true, &gzip),
        ("zstd", true, &zstd),
        // A client may leave single messages uncompressed.
        ("gzip", false, &plain()),
    ];
    for (encoding, compressed, message) in cases {
        let status = wire
            .export(&[("grpc-encoding", encoding)], compressed, message)
            .await;
        assert_eq!(status.code(), Code::Ok, "{encoding}: {status:?}");
        assert_eq!(wire_of(&subject.next().await), message, "{encoding}");
    }
    subject.end().await;
}

#[tokio::test]
async fn what_waits_is_charged_with_its_size() {
    let subject = Subject::stuck(1 << 20).await;
    let mut wire = Wire::connect(subject.grpc).await;
    for count in 1..=3 {
        let status = wire.export(&[], false, &plain()).await;
        assert_eq!(status.code(), Code::Ok);
        let (least, held) = (count * plain().len() as u64, subject.memory.used());
        assert!(held >= least, "{held}");
        assert!(held < least + count * 2_048, "{held}");
    }
}

#[tokio::test]
async fn an_empty_request_is_a_success_that_goes_nowhere() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    for message in [Vec::new(), request(&[]).encode_to_vec()] {
        let status = wire.export(&[], false, &message).await;
        assert_eq!(status.code(), Code::Ok);
    }
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    let subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    let unknown = wire
        .export(&[("grpc-encoding", "snappy")], true, b"x")
        .await;
    assert_eq!(unknown.code(), Code::Unimplemented);
    let accepted = unknown.metadata().get("grpc-accept-encoding").unwrap();
    assert_eq!(accepted, "identity,gzip,zstd");

    for (path, word) in [
        (
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "traces",
        ),
        (
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "metrics",
        ),
        (
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            "logs",
        ),
        ("/other.Service/Call", "/other.Service/Call"),
    ] {
        let status = wire.call(path, &[], wire::framed(false, b"")).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(status.message().contains("profile-relay"), "{status:?}");
        assert!(status.message().contains(word), "{status:?}");
    }
    assert_eq!(subject.counted("grpc", "unsupported"), 5);

    let version = ("otlp-profiles-development-version", "2");
    // Refused before it is read: this is no message at all.
    let status = wire.export(&[version], false, b"\xff").await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("2 is not supported"),
        "{status:?}"
    );
}

#[tokio::test]
async fn plain_http_on_the_grpc_port_is_told_where_it_is() {
    let subject = Subject::start().await;
    let request = Request::post("/v1development/profiles").body(Full::new(plain()));
    let told = ask(subject.grpc, request.unwrap()).await;
    assert_eq!(told.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(told.body.starts_with(b"this port speaks gRPC"));
}

#[tokio::test]
async fn a_full_queue_is_retryable_and_tells_the_wait() {
    let subject = Subject::stuck(plain().len() as u64 + 200).await;
    let mut wire = Wire::connect(subject.grpc).await;
    assert_eq!(wire.export(&[], false, &plain()).await.code(), Code::Ok);
    let full = wire.export(&[], false, &plain()).await;
    assert_eq!(full.code(), Code::Unavailable, "{full:?}");
    assert!(
        full.message().contains("queue is at its max_bytes"),
        "{full:?}"
    );
    let delay = retry_delay(&full).unwrap();
    assert!((1.0..=2.0).contains(&delay), "{delay}");
    assert_eq!(subject.counted("grpc", "unavailable"), 1);
}

#[tokio::test]
async fn what_never_fits_is_permanent() {
    let subject = Subject::stuck(10).await;
    let mut wire = Wire::connect(subject.grpc).await;
    let status = wire.export(&[], false, &plain()).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(retry_delay(&status), None);
}

#[tokio::test]
async fn a_message_above_the_limit_fails_at_its_prefix() {
    let change = |settings: &mut Settings| {
        let grpc = settings.protocols.grpc.as_mut().unwrap();
        grpc.server.max_recv_msg_size_mib = 1;
    };
    let subject = Subject::with(change, 256 << 20).await;
    let mut wire = Wire::connect(subject.grpc).await;
    // Nothing but the prefix is sent, and the call is not ended.
    let (send, pieces) = mpsc::unbounded_channel();
    send.send(Bytes::from_static(&[0, 0, 0x10, 0, 1])).unwrap();
    let status = wire.slow(&[], pieces).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().contains("max_recv_msg_size_mib"),
        "{status:?}"
    );
    assert_eq!(retry_delay(&status), None);
}

#[tokio::test]
async fn too_many_requests_at_a_time_are_told_to_wait() {
    let change = |settings: &mut Settings| settings.max_concurrent_requests = 1;
    let subject = Subject::with(change, 256 << 20).await;
    let (send, pieces) = mpsc::unbounded_channel();
    let mut one = Wire::connect(subject.grpc).await;
    let slow = Tasks::default().spawn("slow", async move { one.slow(&[], pieces).await });
    let mut two = Wire::connect(subject.grpc).await;
    // The first holds the only place as soon as its head has come.
    let busy = loop {
        let status = two.export(&[], false, &plain()).await;
        if status.code() != Code::Ok {
            break status;
        }
    };
    assert_eq!(busy.code(), Code::ResourceExhausted);
    assert!(retry_delay(&busy).is_some());
    assert!(
        busy.message().contains("max_concurrent_requests"),
        "{busy:?}"
    );
    send.send(wire::framed(false, &plain()).into()).unwrap();
    drop(send);
    assert_eq!(slow.await.unwrap().code(), Code::Ok);
    assert_eq!(two.export(&[], false, &plain()).await.code(), Code::Ok);
}

#[tokio::test]
async fn the_clients_deadline_ends_the_wait_for_its_message() {
    let subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    let (_send, pieces) = mpsc::unbounded_channel();
    let status = wire.slow(&[("grpc-timeout", "50m")], pieces).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(subject.counted("grpc", "late"), 1);
}

#[tokio::test]
async fn old_layouts_are_refused_by_their_version() {
    let subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    // 1.4 to 1.7: a Profile whose location table is in field 3.
    let profile = [0x1a, 2, 8, 1];
    let nested =
        |field: u8, message: &[u8]| [&[field << 3 | 2, message.len() as u8], message].concat();
    let old = nested(1, &nested(2, &nested(2, &profile)));
    let status = wire.export(&[], false, &old).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("opentelemetry-proto 1.4 to 1.7"),
        "{status:?}"
    );
}

#[tokio::test]
async fn only_allowed_metadata_goes_on() {
    let change = |settings: &mut Settings| {
        let grpc = settings.protocols.grpc.as_mut().unwrap();
        grpc.server.include_metadata =
            crate::net::serve::IncludeMetadata::Names(vec!["X-Scope-OrgID".to_owned()]);
    };
    let mut subject = Subject::with(change, 256 << 20).await;
    let mut wire = Wire::connect(subject.grpc).await;
    let headers = [
        ("x-scope-orgid", "tenant"),
        ("authorization", "Bearer secret"),
    ];
    wire.export(&headers, false, &plain()).await;
    let origin = subject.next().await.origin;
    assert_eq!(origin.metadata.to_string(), r#"{x-scope-orgid="tenant"}"#);
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let subject = Subject::start().await;
    let channel = channel(&format!("http://{}", subject.grpc));
    let service = "opentelemetry.proto.collector.profiles.v1development.ProfilesService";
    let mut health = HealthClient::new(channel.clone());
    let mut watched = Vec::new();
    for name in ["", service] {
        let check = HealthCheckRequest {
            service: name.to_owned(),
        };
        let answer = health.check(check.clone()).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{name}");
        watched.push(health.watch(check).await.unwrap().into_inner());
    }

    let ask = |message| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let mut reflection = ServerReflectionClient::new(channel.clone());
        async move {
            let requests = futures_util::stream::iter([request]);
            let answers = reflection.server_reflection_info(requests).await.unwrap();
            let answer = answers.into_inner().message().await.unwrap();
            answer.unwrap().message_response.unwrap()
        }
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
    assert!(names.contains(&service), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol(service.to_owned());
    let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await else {
        panic!("no file");
    };
    assert!(!files.file_descriptor_proto.is_empty());

    // Who watches hears of the end, and does not hold it up.
    let began = std::time::Instant::now();
    subject.end().await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    for mut stream in watched {
        assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
        loop {
            match stream.message().await {
                Ok(Some(change)) => assert_eq!(change.status, 2),
                Ok(None) => panic!("ended without a status"),
                Err(status) => break assert_eq!(status.code(), Code::Unavailable),
            }
        }
    }
}

#[tokio::test]
async fn a_call_in_flight_is_finished_when_the_receiver_stops() {
    let subject = Subject::start().await;
    let (send, pieces) = mpsc::unbounded_channel();
    let mut wire = Wire::connect(subject.grpc).await;
    let wire_bytes = wire::framed(false, &plain());
    send.send(Bytes::copy_from_slice(&wire_bytes[..20]))
        .unwrap();
    let call = Tasks::default().spawn("call", async move { wire.slow(&[], pieces).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    subject.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    send.send(Bytes::copy_from_slice(&wire_bytes[20..]))
        .unwrap();
    drop(send);
    assert_eq!(call.await.unwrap().code(), Code::Ok);
    subject.end().await;
}

#[tokio::test]
async fn a_unix_socket_serves_as_an_address_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otlp.sock");
    let (entry, mut batches) = Entry::for_test();
    let settings = Settings {
        protocols: Protocols {
            grpc: Some(GrpcProtocol {
                endpoint: format!("unix:{}", path.display()),
                ..GrpcProtocol::default()
            }),
            http: None,
        },
        ..Settings::default()
    };
    let context = Context {
        id: "otlp".parse().unwrap(),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(1 << 30),
        sockets: Default::default(),
        ending: Default::default(),
    };
    let bound = settings
        .clone()
        .build(&context)
        .unwrap()
        .listen()
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let running = Tasks::default().spawn("subject", bound.serve(entry, stop.clone()));
    let mut client = ProfilesServiceClient::new(channel(&format!("unix:{}", path.display())));
    client.export(request(&["api"])).await.unwrap();
    let batch = batches.recv().await.unwrap();
    assert_eq!(
        batch.origin.peer.as_deref(),
        Some(&*format!("unix:{}", path.display()))
    );

    let another_process = Context {
        sockets: Default::default(),
        ..context
    };
    let taken = settings
        .build(&another_process)
        .unwrap()
        .listen()
        .await
        .err()
        .unwrap();
    assert!(matches!(taken, ReceiverError::Bind { .. }), "{taken}");
    assert!(
        taken.to_string().contains("another process listens"),
        "{taken}"
    );
    stop.cancel();
    running.await.unwrap();
    assert!(!path.exists());
}
