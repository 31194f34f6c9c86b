//! Sends pprofs to a Parca server by `WriteRaw`, the one call that every Parca
//! release knows.
//!
//! A Parca ends at once under some requests, at a later query under others, or
//! loses its profile list for everybody, so nothing leaves unchecked: what
//! breaks no rule goes out byte for byte, what does is mended by named, counted
//! rules ([`prepare`], [`labels`]) or dropped. What answers mean is in
//! [`classify`].
//!
//! - A request is all or nothing, so a refused one is divided until the bad part
//!   is alone.
//! - The size caps are there for three limits: a proxy's (the nginx of Charmed
//!   Parca refuses bodies above 1 MiB), the 5 s within which Parca wants the
//!   whole body, and the CPU and memory that each stored row costs it. A single
//!   pprof above the byte cap is divided by samples.
//! - Delivery is at least once: Parca has no de-duplication, and stores what it
//!   got even when the answer was lost, came too late or timed out.
//! - What parca-agent pushed goes on as Arrow ([`arrow`], [`write`]), a request each.
//! - Request metadata (a tenant's header) goes out again as headers, for the proxy in
//!   front of a Parca: Parca itself has no tenants.
//! - Parca keeps no label of samples. `sample_labels` makes series labels of
//!   them, one series for each combination of values.

mod arrow;
mod classify;
mod labels;
mod observe;
mod passage;
mod prepare;
mod request;
mod settings;
mod write;

pub use self::{
    classify::classify,
    labels::LabelRule,
    settings::{ArrowAs, Compression, OtlpAs, Settings},
};

use self::{arrow::Known, observe::Observer, prepare::Preparer};
use crate::{
    exporters::shared::Metadata,
    r#gen::profilestore::{
        WriteArrowRequest, WriteRawRequest, profile_store_service_client::ProfileStoreServiceClient,
    },
    net::{
        GrpcChannel, TransportFailure,
        grpc::{Message, classify_transport, http_status},
    },
    pipeline::{Budget, Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared, Reason},
    profile::{
        Batch, Labels, Profile,
        arrow::Arrow,
        otlp::{self, Encoded, Otlp, Unreadable, assemble},
    },
    runtime::computing,
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Extensions, Request, Status, codec::CompressionEncoding, metadata::MetadataMap};
use tracing::info;

/// Parca's OTLP intake.
const OTLP: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// More than the frames of both messages of a `Write` take, in bytes.
const FRAMES: u64 = 32;

const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";

/// Sends to one Parca.
#[derive(Debug)]
pub struct ParcaExporter {
    client: ProfileStoreServiceClient<GrpcChannel>,
    channel: GrpcChannel,
    preparer: Preparer,
    metadata: Metadata,
    known: Known,
    memory: Budget,
    timeout: Duration,
    limits: Limits,
}

// === impl Settings ===

impl Settings {
    /// The exporter. It connects with the first request.
    pub fn build(self, context: &Context) -> Result<ParcaExporter, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let channel = GrpcChannel::new(&self.client)?;
        channel.tell_ends(&context.metrics, &context.id);
        let mut client = ProfileStoreServiceClient::new(channel.clone());
        if self.compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let known = Known::default();
        Ok(ParcaExporter {
            client,
            channel,
            limits: Limits {
                bytes: self.max_request_bytes.get(),
                rows: self.max_request_rows,
                parts: usize::try_from(self.max_request_profiles).unwrap_or(usize::MAX),
            },
            preparer: Preparer::new(&self, &known, Observer::new(&context.id, &context.metrics)),
            metadata: Metadata::new(self.client.headers.keys(), !self.client.auth.is_empty()),
            known,
            memory: context.memory.clone(),
            timeout: self.client.timeout.get(),
        })
    }
}

// === impl ParcaExporter ===

impl ParcaExporter {
    /// The headers of a request of these profiles.
    fn headers(&self, batch: &Batch) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.metadata.add(&batch.origin, &mut headers);
        headers
    }

    /// One call; `bytes` is what the request weighs, 0 for a probe.
    async fn write(
        &self,
        headers: HeaderMap,
        request: WriteRawRequest,
        bytes: u64,
    ) -> Result<(), ExportError> {
        let parts = request.series.iter().map(|s| s.samples.len()).sum();
        match self.client.clone().write_raw(with(headers, request)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(classify(&status, bytes, parts)),
        }
    }
}

impl ParcaExporter {
    /// Sends OTLP bodies, which came in one request, as OTLP.
    async fn pass(&self, batch: &Batch) -> Result<(), ExportError> {
        let bodies = batch.profiles.iter();
        let bodies: Vec<_> = bodies
            .filter_map(|profile| Some((&profile.labels, profile.body.as_otlp()?)))
            .collect();
        let message = message(&bodies).map_err(|error| ExportError::Rejected {
            reason: Reason::InvalidProfile,
            cause: error.to_string(),
        })?;
        let size = message.bytes.len() as u64;
        let sent = self.channel.unary(OTLP, self.headers(batch), message).await;
        sent.map(drop)
            .map_err(|status| classify(&status, size, bodies.len()))
    }
}

impl ParcaExporter {
    /// Sends what parca-agent pushed, by the call of its schema.
    async fn pass_arrow(&self, arrow: &Arrow, headers: HeaderMap) -> Result<(), ExportError> {
        let bytes = arrow.byte_len() as u64;
        let Some(stacks) = arrow.stacks() else {
            return self.pass_v2(arrow, headers).await;
        };
        let max = self.preparer.max_inflated();
        let (samples, with) = (arrow.samples(), headers.clone());
        let exchange = write::write(&self.client, with, samples, stacks, max);
        let late = || Status::deadline_exceeded("no answer within the timeout");
        let sent = if self.timeout.is_zero() {
            exchange.await
        } else {
            let sent = timeout(self.timeout, exchange).await;
            sent.unwrap_or_else(|_| Err(late()))
        };
        match sent {
            Ok(()) => Ok(()),
            Err(status) => Err(Box::pin(self.broken_off(&status, bytes, headers)).await),
        }
    }

    /// What it means that a `Write` of so many bytes ended so. A proxy that finds its
    /// second message too large can no longer say so, as the answer has begun, and
    /// breaks it off as if the backend had died. So it is shown a request of the same
    /// size that says nothing.
    async fn broken_off(&self, status: &Status, bytes: u64, headers: HeaderMap) -> ExportError {
        let died = classify(status, bytes, 1);
        if !matches!(classify_transport(status), TransportFailure::Reset { .. }) {
            return died;
        }
        let message = Message {
            bytes: request::saying_nothing(bytes + FRAMES),
            encoding: None,
        };
        let answer = self.channel.unary(WRITE_RAW, headers, message).await;
        let answer = answer.map_err(|status| classify(&status, bytes, 1));
        let refused = answer.err();
        let too_large = refused.filter(|error| {
            matches!(
                error,
                ExportError::Split {
                    too_large: true,
                    ..
                }
            )
        });
        too_large.unwrap_or(died)
    }

    async fn pass_v2(&self, arrow: &Arrow, headers: HeaderMap) -> Result<(), ExportError> {
        let request = WriteArrowRequest {
            ipc_buffer: arrow.samples().clone(),
        };
        let request = with(headers.clone(), request);
        match self.client.clone().write_arrow(request).await {
            Ok(_) => {
                self.known.works();
                Ok(())
            }
            // Not a proxy that has no route yet.
            Err(status)
                if status.code() == Code::Unimplemented && http_status(&status).is_none() =>
            {
                if self.known.unimplemented() {
                    info!(backend = ?self.channel, "it takes no WriteArrow: what agents push is rewritten for Write");
                }
                let rewritten = self.rewritten(arrow.clone()).await?;
                Box::pin(self.pass_arrow(&rewritten, headers)).await
            }
            Err(status) => Err(classify(&status, arrow.byte_len() as u64, 1)),
        }
    }

    /// Schema v2 as v1, of a body that was prepared before it was known.
    async fn rewritten(&self, arrow: Arrow) -> Result<Arrow, ExportError> {
        let rewrite = self.preparer.as_v1(arrow, &self.memory);
        let rewritten = computing(rewrite).await;
        let rewritten = rewritten.unwrap_or(Ok(None));
        match rewritten {
            Ok(Some(arrow)) => Ok(arrow),
            Ok(None) => Err(ExportError::Retry {
                after: None,
                cause: "there is no memory to rewrite it for Write".to_owned(),
            }),
            Err(error) => Err(ExportError::Rejected {
                reason: Reason::InvalidProfile,
                cause: error.to_string(),
            }),
        }
    }
}

/// A request with these headers.
fn with<T>(headers: HeaderMap, message: T) -> Request<T> {
    Request::from_parts(
        MetadataMap::from_headers(headers),
        Extensions::default(),
        message,
    )
}

/// The request that these bodies are, in a compression that Parca knows.
fn message(bodies: &[(&Labels, &Otlp)]) -> Result<Message, Unreadable> {
    let Encoded { bytes, compression } = assemble(bodies)?;
    let (bytes, encoding) = match compression {
        otlp::Compression::None => (bytes, None),
        otlp::Compression::Gzip => (bytes, Some(HeaderValue::from_static("gzip"))),
        otlp::Compression::Zstd => {
            let first = bodies.first();
            let plain_len = first.map_or(0, |(_, otlp)| otlp.request().plain_len());
            (compression.inflate(&bytes, plain_len)?, None)
        }
    };
    Ok(Message { bytes, encoding })
}

#[async_trait]
impl Exporter for ParcaExporter {
    fn prepare(&self, profiles: &[Profile], memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        self.preparer.prepare(profiles, memory)
    }

    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        if batch.profiles.iter().any(|p| p.body.as_otlp().is_some()) {
            return self.pass(batch).await;
        }
        if let Some(arrow) = batch.profiles.first().and_then(|p| p.body.as_arrow()) {
            return self.pass_arrow(arrow, self.headers(batch)).await;
        }
        let request = request::encode(&batch.profiles);
        self.write(self.headers(batch), request, request::weigh_all(batch))
            .await
    }

    fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        self.preparer.divide(profile)
    }

    /// An empty request, which every Parca answers with OK.
    async fn probe(&self) -> Result<(), ExportError> {
        self.write(HeaderMap::new(), WriteRawRequest::default(), 0)
            .await
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
