//! Clients against a receiver on loopback.

mod gate;
mod grpc;
mod hostile;
mod http;
mod pace;
mod wire;

use super::*;
use crate::{
    r#gen::opentelemetry::proto::{
        collector::profiles::v1development::ExportProfilesServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value},
        profiles::v1development::{
            Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
        },
        resource::v1::Resource,
    },
    pipeline::Budget,
    profile::{Batch, Body},
    settings::Id,
    telemetry::{Metrics, Status},
};
use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

const EXPORT: &str = super::grpc::EXPORT;

/// The longest that anything may take on a busy machine.
const MANY: Duration = Duration::from_secs(20);

/// A receiver that runs on free ports.
struct Subject {
    grpc: SocketAddr,
    http: SocketAddr,
    batches: mpsc::UnboundedReceiver<Batch>,
    memory: Budget,
    metrics: Metrics,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What came back over HTTP.
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Subject {
    async fn start() -> Self {
        Self::with(|_| {}, 256 << 20).await
    }

    /// With other settings, and a budget of `memory` bytes.
    async fn with(change: impl FnOnce(&mut Settings), memory: u64) -> Self {
        let (entry, batches) = Entry::for_test();
        Self::to(entry, batches, change, memory).await
    }

    /// Before a queue of `max_bytes` that is never emptied.
    async fn stuck(max_bytes: u64) -> Self {
        let (_, nothing) = mpsc::unbounded_channel();
        Self::to(Entry::stuck_for_test(max_bytes), nothing, |_| {}, 256 << 20).await
    }

    async fn to(
        entry: Entry,
        batches: mpsc::UnboundedReceiver<Batch>,
        change: impl FnOnce(&mut Settings),
        memory: u64,
    ) -> Self {
        let mut settings = Settings {
            protocols: Protocols {
                grpc: Some(GrpcProtocol::default()),
                http: Some(HttpProtocol::default()),
            },
            ..Settings::default()
        };
        settings.protocols.grpc.as_mut().unwrap().endpoint = "127.0.0.1:0".to_owned();
        settings.protocols.http.as_mut().unwrap().endpoint = "127.0.0.1:0".to_owned();
        change(&mut settings);
        let (memory, metrics) = (Budget::new(memory), Metrics::default());
        let stop = CancellationToken::new();
        let context = Context {
            id: "otlp".parse::<Id>().unwrap(),
            metrics: metrics.clone(),
            status: Status::default(),
            memory: memory.clone(),
            sockets: Default::default(),
            ending: stop.clone(),
        };
        let bound = settings.build(&context).unwrap().listen().await.unwrap();
        let address = |server: &Option<Server>| {
            let server = server.as_ref().unwrap();
            server.address().parse().unwrap()
        };
        let (grpc, http) = (address(&bound.grpc), address(&bound.http));
        let running = Tasks::default().spawn("subject", bound.serve(entry, stop.clone()));
        Self {
            grpc,
            http,
            batches,
            memory,
            metrics,
            stop,
            running,
        }
    }

    /// The next batch that went on.
    async fn next(&mut self) -> Batch {
        let next = tokio::time::timeout(MANY, self.batches.recv()).await;
        next.unwrap().unwrap()
    }

    fn counted(&self, protocol: &str, outcome: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = format!(
            r#"profile_relay_receiver_requests_total{{receiver="otlp",protocol="{protocol}",outcome="{outcome}"}} "#
        );
        let found = text.lines().find_map(|l| l.strip_prefix(&line));
        found.unwrap().parse().unwrap()
    }

    async fn until_counted(&self, protocol: &str, outcome: &str) {
        let counted = async {
            while self.counted(protocol, outcome) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(MANY, counted).await.unwrap();
    }

    /// A request over HTTP/1.1.
    async fn ask(&self, request: Request<Full<Bytes>>) -> Told {
        ask(self.http, request).await
    }

    /// A protobuf to the specification's path.
    async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Told {
        let mut request = Request::post("/v1development/profiles").header("host", "relay");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/x-protobuf");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Full::new(body.into())).unwrap())
            .await
    }

    /// Stops it, and waits until nothing runs.
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(MANY, self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> Told {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = Tasks::default().spawn("client", connection);
    let response = sender.send_request(request).await.unwrap();
    let told = told(response).await;
    connection.abort();
    told
}

async fn told(response: Response<hyper::body::Incoming>) -> Told {
    let (parts, body) = response.into_parts();
    Told {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// A request with a profile for each service.
fn request(services: &[&str]) -> ExportProfilesServiceRequest {
    let sample = Sample {
        values: vec![1, 2, 3],
        ..Sample::default()
    };
    let resource = |service: &&str| ResourceProfiles {
        resource: Some(Resource {
            attributes: vec![attribute("service.name", service)],
            ..Resource::default()
        }),
        scope_profiles: vec![ScopeProfiles {
            profiles: vec![Profile {
                samples: vec![sample.clone(); 100],
                ..Profile::default()
            }],
            ..ScopeProfiles::default()
        }],
        ..ResourceProfiles::default()
    };
    ExportProfilesServiceRequest {
        resource_profiles: services.iter().map(resource).collect(),
        dictionary: Some(ProfilesDictionary {
            string_table: vec![String::new(), "cpu".to_owned()],
            ..ProfilesDictionary::default()
        }),
    }
}

fn plain() -> Bytes {
    request(&["api", "web"]).encode_to_vec().into()
}

/// The bytes of the request that a batch came in.
fn wire_of(batch: &Batch) -> Bytes {
    let Body::Otlp(otlp) = &batch.profiles[0].body else {
        panic!("not OTLP: {batch:?}");
    };
    otlp.request().wire().clone()
}
