//! Clients against a receiver on loopback.

mod arrow;
mod debuginfo;
mod gate;
mod raw;
mod upstream;
mod wire;
mod write;

use super::*;
use crate::{
    r#gen::{
        profilestore::{
            Label, LabelSet, RawProfileSeries, RawSample, WriteArrowRequest, WriteRawRequest,
            profile_store_service_client::ProfileStoreServiceClient,
        },
        rpc,
    },
    net::{ClientTls, GrpcChannel, GrpcClientSettings},
    pipeline::Budget,
    profile::Batch,
    settings::{Duration as Setting, Id},
    telemetry::{Metrics, Status},
};
use bytes::Bytes;
use prost::Message;
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::Code;

/// The longest that anything may take on a busy machine.
const MANY: Duration = Duration::from_secs(20);

/// What remembering a few calls takes, in bytes.
const REMEMBERED: u64 = 1_000;

/// Made by `make.py` beside them.
const SAMPLES: &[u8] = include_bytes!("../../../tests/data/arrow/v1_samples.arrows");
const STACKS: &[u8] = include_bytes!("../../../tests/data/arrow/v1_stacks.arrows");
const V2: &[u8] = include_bytes!("../../../tests/data/arrow/v2.arrows");

/// The ids of the stacks in them.
const IDS: [[u8; 16]; 2] = [[1; 16], [2; 16]];

/// A receiver that runs on a free port.
struct Subject {
    address: SocketAddr,
    batches: mpsc::UnboundedReceiver<Batch>,
    memory: Budget,
    metrics: Metrics,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Subject {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings.
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (entry, batches) = Entry::for_test();
        Self::to(entry, batches, change).await
    }

    /// Before a queue of `max_bytes` that is never emptied.
    async fn stuck(max_bytes: u64) -> Self {
        let (_, nothing) = mpsc::unbounded_channel();
        Self::to(Entry::stuck_for_test(max_bytes), nothing, |_| {}).await
    }

    async fn to(
        entry: Entry,
        batches: mpsc::UnboundedReceiver<Batch>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings {
            endpoint: "127.0.0.1:0".to_owned(),
            deduplicate: Deduplicate {
                max_entries: 10,
                ..Deduplicate::default()
            },
            ..Settings::default()
        };
        change(&mut settings);
        let (memory, metrics) = (Budget::new(64 << 20), Metrics::default());
        let stop = CancellationToken::new();
        let context = Context {
            id: "parca".parse::<Id>().unwrap(),
            metrics: metrics.clone(),
            status: Status::default(),
            memory: memory.clone(),
            sockets: Default::default(),
            ending: stop.clone(),
        };
        let mut receiver = settings.build(&context).unwrap();
        receiver.bind().await.unwrap();
        let address = receiver.bound.as_ref().unwrap().address().parse().unwrap();
        let (receiver, stopped) = (Box::new(receiver), stop.clone());
        let running = Tasks::default().spawn("subject", async move {
            receiver.run(entry, stopped).await.unwrap();
        });
        Self {
            address,
            batches,
            memory,
            metrics,
            stop,
            running,
        }
    }

    fn channel(&self) -> GrpcChannel {
        channel(self.address)
    }

    fn client(&self) -> ProfileStoreServiceClient<GrpcChannel> {
        ProfileStoreServiceClient::new(self.channel())
    }

    /// The next batch that went on.
    async fn next(&mut self) -> Batch {
        let next = tokio::time::timeout(MANY, self.batches.recv()).await;
        next.unwrap().unwrap()
    }

    /// The value of a series, 0 when there is none.
    fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0, |value| value.parse().unwrap())
    }

    fn counted(&self, method: &str, outcome: &str) -> u64 {
        self.metric(&format!(
            r#"profile_relay_receiver_requests_total{{receiver="parca",protocol="{method}",outcome="{outcome}"}}"#
        ))
    }

    fn duplicates(&self) -> u64 {
        self.metric(r#"profile_relay_receiver_duplicate_profiles_total{receiver="parca"}"#)
    }

    /// Waits until a call has ended so, and all that it held came back.
    async fn until_over(&self, method: &str, outcome: &str) {
        self.until_counted(method, outcome).await;
        self.until_free().await;
    }

    async fn until_counted(&self, method: &str, outcome: &str) {
        let over = async {
            while self.counted(method, outcome) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let over = tokio::time::timeout(MANY, over).await;
        assert!(over.is_ok(), "{}", self.metrics.encode().unwrap());
    }

    /// Waits until nothing is held; that something was taken may be remembered.
    async fn until_free(&self) {
        let free = async {
            while self.memory.used() > REMEMBERED {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let free = tokio::time::timeout(MANY, free).await;
        assert!(free.is_ok(), "{} bytes", self.memory.used());
    }

    /// Stops it, and waits until nothing runs.
    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(MANY, self.running).await;
        ended.unwrap().unwrap();
    }
}

fn channel(address: SocketAddr) -> GrpcChannel {
    GrpcChannel::new(&GrpcClientSettings {
        endpoint: format!("http://{address}"),
        tls: ClientTls {
            insecure: true,
            ..ClientTls::default()
        },
        ..GrpcClientSettings::default()
    })
    .unwrap()
}

/// What a refusal says about trying again, in seconds.
fn retry_delay(status: &tonic::Status) -> Option<f64> {
    let details = rpc::Status::decode(status.details()).unwrap();
    let info = rpc::RetryInfo::decode(&*details.details.first()?.value).unwrap();
    let delay = info.retry_delay.unwrap();
    Some(delay.seconds as f64 + f64::from(delay.nanos) / 1e9)
}

/// A call that says that it is a retry.
fn retried<T>(message: T, attempt: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let headers = request.metadata_mut();
    headers.insert("x-retry-attempt", attempt.parse().unwrap());
    request
}

fn v2() -> WriteArrowRequest {
    WriteArrowRequest {
        ipc_buffer: Bytes::from_static(V2),
    }
}

#[tokio::test]
async fn health_is_told_of_the_service() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let subject = Subject::start().await;
    let mut health = HealthClient::new(subject.channel());
    for service in ["", "parca.profilestore.v1alpha1.ProfileStoreService"] {
        let check = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(check).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
    subject.end().await;
}

#[tokio::test]
async fn what_is_too_large_to_be_a_question_about_health_is_not_kept() {
    let subject = Subject::start().await;
    let mut wire = wire::Wire::connect(subject.address).await;
    let path = "/grpc.health.v1.Health/Check";
    let status = wire.call(path, &[], wire::framed(&vec![0; 5_000])).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    subject.end().await;
}

#[tokio::test]
async fn calls_of_other_services_are_told_where_they_are() {
    let subject = Subject::start().await;
    let mut wire = wire::Wire::connect(subject.address).await;
    for (path, word) in [
        (
            "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
            "otlp receiver",
        ),
        (
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            "other_services",
        ),
        ("/parca.query.v1alpha1.QueryService/Query", "profile-relay"),
    ] {
        let status = wire.call(path, &[], wire::framed(b"")).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(status.message().contains(word), "{status:?}");
    }
    assert_eq!(subject.counted("other", "unsupported"), 3);
}

#[tokio::test]
async fn clients_are_told_apart_by_what_they_call_themselves() {
    let subject = Subject::start().await;
    let mut wire = wire::Wire::connect(subject.address).await;
    let path = write_arrow::PATH;
    for number in 0..20 {
        let name = format!("agent/{number}");
        let message = wire::framed(&v2().encode_to_vec());
        let status = wire.call(path, &[("user-agent", &name)], message).await;
        assert_eq!(status.code(), Code::Ok);
    }
    let of = |name: &str| {
        subject.metric(&format!(
            r#"profile_relay_receiver_client_requests_total{{receiver="parca",user_agent="{name}"}}"#
        ))
    };
    assert_eq!((of("agent/0"), of("agent/15")), (1, 1));
    // Whoever changes its name with each call takes no memory.
    assert_eq!((of("agent/16"), of("other")), (0, 4));
}

#[test]
fn wrong_settings_are_all_named() {
    let settings = Settings {
        max_concurrent_requests: 0,
        write: WriteSettings {
            idle_timeout: Setting::default(),
            timeout: Setting::default(),
        },
        other_services: OtherServices::Proxy,
        ..Settings::default()
    };
    let problems = settings.problems();
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "max_concurrent_requests",
            "write.idle_timeout",
            "write.timeout",
            "other_services"
        ]
    );
}
