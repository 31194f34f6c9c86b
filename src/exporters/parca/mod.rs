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
//! - Parca keeps no label of samples. `sample_labels` makes series labels of
//!   them, one series for each combination of values.

mod classify;
mod labels;
mod observe;
mod passage;
mod prepare;
mod request;
mod settings;

pub use self::{
    classify::classify,
    labels::LabelRule,
    settings::{Compression, OtlpAs, Settings},
};

use self::{observe::Observer, prepare::Preparer};
use crate::{
    r#gen::profilestore::{
        WriteRawRequest, profile_store_service_client::ProfileStoreServiceClient,
    },
    net::{GrpcChannel, grpc::Message},
    pipeline::{Budget, Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared, Reason},
    profile::{
        Batch, Labels, Profile,
        otlp::{self, Encoded, Otlp, Unreadable, assemble},
    },
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use tonic::codec::CompressionEncoding;

/// Parca's OTLP intake.
const OTLP: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// Sends to one Parca.
#[derive(Debug)]
pub struct ParcaExporter {
    client: ProfileStoreServiceClient<GrpcChannel>,
    channel: GrpcChannel,
    preparer: Preparer,
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
        Ok(ParcaExporter {
            client,
            channel,
            limits: Limits {
                bytes: self.max_request_bytes.get(),
                rows: self.max_request_rows,
                parts: usize::try_from(self.max_request_profiles).unwrap_or(usize::MAX),
            },
            preparer: Preparer::new(&self, Observer::new(&context.id, &context.metrics)),
        })
    }
}

// === impl ParcaExporter ===

impl ParcaExporter {
    /// One call; `bytes` is what the request weighs, 0 for a probe.
    async fn write(&self, request: WriteRawRequest, bytes: u64) -> Result<(), ExportError> {
        let parts = request.series.iter().map(|s| s.samples.len()).sum();
        match self.client.clone().write_raw(request).await {
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
        let sent = self.channel.unary(OTLP, HeaderMap::new(), message).await;
        sent.map(drop)
            .map_err(|status| classify(&status, size, bodies.len()))
    }
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
        self.write(request::encode(&batch.profiles), request::weigh_all(batch))
            .await
    }

    fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        self.preparer.divide(profile)
    }

    /// An empty request, which every Parca answers with OK.
    async fn probe(&self) -> Result<(), ExportError> {
        self.write(WriteRawRequest::default(), 0).await
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
