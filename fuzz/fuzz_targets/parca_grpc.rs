//! Calls of the `parca` receiver by anybody: each is answered in time with a status,
//! in the memory that is given, of which nothing is left held.
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
    r#gen::{
        debuginfo::{
            InitiateUploadRequest, MarkUploadFinishedRequest, ShouldInitiateUploadRequest,
            UploadInfo, UploadRequest, upload_request::Data,
        },
        profilestore::{
            Label, LabelSet, RawProfileSeries, RawSample, WriteArrowRequest, WriteRawRequest,
            WriteRequest,
        },
        telemetry::ReportPanicRequest,
    },
    net::{GrpcClientSettings, serve::GrpcServerSettings},
    pipeline::Receiver,
    profile::{arrow::SyntheticArrow, pprof::SyntheticProfile},
    receivers::parca::{Deduplicate, OtherServices, Settings},
    settings::{ByteSize, Duration},
};
use prost::Message;
use relay::{InContext, Relay};
use script::Script;
use std::sync::LazyLock;

const ENDPOINTS: [&str; 2] = ["127.0.0.1:7070", "127.0.0.1:7071"];

const TARGETS: &[Target] = &[
    grpc("/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw"),
    grpc("/parca.profilestore.v1alpha1.ProfileStoreService/Write"),
    grpc("/parca.profilestore.v1alpha1.ProfileStoreService/WriteArrow"),
    grpc("/parca.debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload"),
    grpc("/parca.debuginfo.v1alpha1.DebuginfoService/InitiateUpload"),
    grpc("/parca.debuginfo.v1alpha1.DebuginfoService/Upload"),
    grpc("/parca.debuginfo.v1alpha1.DebuginfoService/MarkUploadFinished"),
    grpc("/parca.telemetry.v1alpha1.TelemetryService/ReportPanic"),
    grpc("/parca.profilestore.v1alpha1.ProfileStoreService/Read"),
    grpc("/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
    grpc("/grpc.health.v1.Health/Check"),
    Target {
        path: "/grpc.health.v1.Health/Watch",
        answer: Answer::Any,
    },
    Target {
        path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        answer: Answer::Any,
    },
];

const fn grpc(path: &'static str) -> Target {
    Target {
        path,
        answer: Answer::Grpc,
    }
}

/// Without a Parca behind it, and with one that nobody can reach.
static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    Relay::start(&ENDPOINTS, |context| {
        let alone = settings(ENDPOINTS[0]);
        let before_nobody = Settings {
            upstream: Some(GrpcClientSettings {
                endpoint: "unix:/dev/null/nobody".to_owned(),
                ..GrpcClientSettings::default()
            }),
            other_services: OtherServices::Proxy,
            ..settings(ENDPOINTS[1])
        };
        vec![
            receiver(alone, "parca/0", context),
            receiver(before_nobody, "parca/1", context),
        ]
    })
});

fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        server: GrpcServerSettings {
            max_recv_msg_size_mib: 1,
            ..GrpcServerSettings::default()
        },
        body_size_limit_uncompressed: ByteSize::new(1 << 20),
        deduplicate: Deduplicate {
            window: Duration::from_secs(600),
            max_entries: 2,
        },
        ..Settings::default()
    }
}

fn receiver(settings: Settings, id: &str, context: InContext<'_>) -> Box<dyn Receiver> {
    Box::new(settings.build(&context(id)).expect("sound settings"))
}

/// A message of each kind.
static SOUND: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let synthetic = SyntheticArrow {
        rows: 12,
        stacks: 4,
        depth: 5,
        processes: 2,
        ..SyntheticArrow::busy(1)
    };
    let (v1, v2) = (synthetic.v1(), synthetic.v2());
    let (v1, v2) = (v1.expect("a body"), v2.expect("a body"));
    let record = |record: &Bytes| {
        let record = record.clone();
        encoded(&WriteRequest { record })
    };
    let upload = |data| encoded(&UploadRequest { data: Some(data) });
    let build_id = || "0123".to_owned();
    vec![
        encoded(&raw()),
        record(v1.samples()),
        record(v1.stacks().expect("stacks")),
        encoded(&WriteArrowRequest {
            ipc_buffer: v2.samples().clone(),
        }),
        encoded(&ShouldInitiateUploadRequest {
            build_id: build_id(),
            ..ShouldInitiateUploadRequest::default()
        }),
        encoded(&InitiateUploadRequest {
            build_id: build_id(),
            size: 100,
            ..InitiateUploadRequest::default()
        }),
        upload(Data::Info(UploadInfo {
            build_id: build_id(),
            upload_id: "upload".to_owned(),
            ..UploadInfo::default()
        })),
        upload(Data::ChunkData(Bytes::from_static(&[7; 100]))),
        encoded(&MarkUploadFinishedRequest {
            build_id: build_id(),
            upload_id: "upload".to_owned(),
            ..MarkUploadFinishedRequest::default()
        }),
        encoded(&ReportPanicRequest {
            stderr: "panic: no".to_owned(),
            ..ReportPanicRequest::default()
        }),
    ]
});

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn raw() -> WriteRawRequest {
    let pprof = SyntheticProfile {
        samples: 4,
        functions: 6,
        depth: 3,
        ..SyntheticProfile::heap(1)
    };
    let label = |name: &str, value: &str| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let series = |raw_profile| RawProfileSeries {
        labels: Some(LabelSet {
            labels: vec![label("__name__", "memory"), label("job", "api")],
        }),
        samples: vec![RawSample {
            raw_profile,
            ..RawSample::default()
        }],
    };
    WriteRawRequest {
        series: vec![series(pprof.encode_plain().into()), series(pprof.encode())],
        ..WriteRawRequest::default()
    }
}

/// The headers that bits choose.
fn headers(bits: u8) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &'static [u8]| {
        let value = HeaderValue::from_bytes(value).expect("a value");
        headers.insert(name, value);
    };
    put("content-type", b"application/grpc+proto");
    put("te", b"trailers");
    match bits & 7 {
        3 => put("grpc-encoding", b"identity"),
        4 => put("grpc-encoding", b"gzip"),
        5 => put("grpc-encoding", b"zstd"),
        6 => put("grpc-encoding", b"snappy"),
        7 => put("grpc-encoding", b"\xff"),
        _ => {}
    }
    if bits & 8 != 0 {
        put("x-retry-attempt", b"1");
    }
    match bits >> 4 & 3 {
        1 => put("grpc-timeout", b"5S"),
        2 => put("grpc-timeout", b"0m"),
        3 => put("grpc-timeout", b"99999999H"),
        _ => {}
    }
    match bits >> 6 {
        1 => put("user-agent", b"grpc-go/1.0"),
        2 => put("user-agent", b"\xff\xfe"),
        3 => put("content-type", b"application/json"),
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
        _ => RELAY.calls(door, Script(rest), (TARGETS, &SOUND), headers),
    }
});
