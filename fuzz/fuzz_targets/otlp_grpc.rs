//! Requests to the `otlp` receiver by anybody, over gRPC and HTTP: each is answered
//! in time, in the memory that is given, of which nothing is left held.
#![no_main]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/script.rs"]
mod script;
#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use client::{Answer, Target};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use profile_relay::{
    net::serve::{GrpcServerSettings, HttpServerSettings},
    profile::{
        Labels,
        convert::{OtlpOptions, RequestBuilder},
        otlp::json::request_to_json,
        pprof::{Pprof, SyntheticProfile},
    },
    receivers::otlp::{GrpcProtocol, HttpProtocol, Protocols, Settings},
    settings::ByteSize,
};
use relay::Relay;
use script::Script;
use std::{sync::LazyLock, time::UNIX_EPOCH};

const ENDPOINTS: [&str; 2] = ["127.0.0.1:4317", "127.0.0.1:4318"];

const GRPC: &[Target] = &[
    target(
        Answer::Grpc,
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
    ),
    target(
        Answer::Grpc,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ),
    target(Answer::Grpc, "/grpc.health.v1.Health/Check"),
    target(Answer::Any, "/grpc.health.v1.Health/Watch"),
];

const HTTP: &[Target] = &[
    target(Answer::Http, "/v1development/profiles"),
    target(Answer::Http, "/v1/profiles"),
    target(Answer::Http, "/v1/traces"),
];

const fn target(answer: Answer, path: &'static str) -> Target {
    Target { path, answer }
}

static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    Relay::start(&ENDPOINTS, |context| {
        let grpc = GrpcProtocol {
            endpoint: ENDPOINTS[0].to_owned(),
            server: GrpcServerSettings {
                max_recv_msg_size_mib: 1,
                ..GrpcServerSettings::default()
            },
        };
        let http = HttpProtocol {
            endpoint: ENDPOINTS[1].to_owned(),
            server: HttpServerSettings {
                max_request_body_size: ByteSize::new(1 << 20),
                ..HttpServerSettings::default()
            },
        };
        let settings = Settings {
            protocols: Protocols {
                grpc: Some(grpc),
                http: Some(http),
            },
            ..Settings::default()
        };
        let receiver = settings.build(&context("otlp"));
        vec![Box::new(receiver.expect("sound settings"))]
    })
});

/// A request in both encodings.
static SOUND: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let profile = SyntheticProfile {
        samples: 4,
        functions: 6,
        depth: 3,
        ..SyntheticProfile::heap(1)
    };
    let plain = Bytes::from(profile.encode_plain());
    let labels: Labels = [("__name__", "memory"), ("job", "api")]
        .into_iter()
        .collect();
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    let pprof = Pprof::new(plain.clone());
    let added = builder.add(&labels, UNIX_EPOCH, &pprof, &plain);
    assert!(added.is_ok(), "a sound pprof");
    let request = builder.finish();
    let json = request_to_json(&request).expect("a sound request");
    vec![request, json.into()]
});

/// The headers that bits choose.
fn headers(bits: u8) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &'static [u8]| {
        let value = HeaderValue::from_bytes(value).expect("a value");
        headers.insert(name, value);
    };
    put("te", b"trailers");
    match bits >> 4 & 3 {
        0 => put("content-type", b"application/grpc"),
        1 => put("content-type", b"application/x-protobuf"),
        2 => put("content-type", b"application/json"),
        _ => put("content-type", b"text/plain"),
    }
    for name in ["grpc-encoding", "content-encoding"] {
        match bits & 7 {
            3 => put(name, b"identity"),
            4 => put(name, b"gzip"),
            5 => put(name, b"zstd"),
            6 => put(name, b"snappy"),
            7 => put(name, b"\xff"),
            _ => {}
        }
    }
    match bits >> 6 {
        1 => put("content-length", b"1000000"),
        2 => put("content-length", b"99999999999"),
        3 => put("grpc-timeout", b"0m"),
        _ => {}
    }
    headers
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let door = usize::from(first & 1);
    match first >> 1 & 3 {
        2 => RELAY.says(door, rest, true),
        3 => RELAY.says(door, rest, false),
        _ => {
            let targets = [GRPC, HTTP][door];
            RELAY.calls(door, Script(rest), (targets, &SOUND), headers);
        }
    }
});
