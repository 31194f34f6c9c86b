//! Sends OTLP profiles over gRPC, to a Collector, another relay, or any backend
//! of opentelemetry-proto 1.10
//! (`opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export`).
//!
//! - A request that came as OTLP and that nobody edited leaves in the bytes in
//!   which it came, compressed as it came, as far as `compression` covers that.
//! - pprofs are converted, several into one request with one dictionary.
//! - What answers mean is in [`classify`]. A partial success is counted and not
//!   sent again.
//! - A backend that is not there yet is waited for: finding no connection is no
//!   answer.

mod classify;
mod settings;

pub use self::settings::Settings;

use self::classify::classify;
use super::shared::otlp::{Bodies, Encoder, Form, Headers, Observer, Ready, response};
use crate::{
    net::{GrpcChannel, grpc::Message},
    pipeline::{Budget, Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared},
    profile::{Batch, Profile, otlp::Compression},
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use tonic::Status;

const EXPORT: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// The compressions of answers that are understood. grpc-go answers in that of
/// the request, whatever is said here.
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// Sends to one backend.
#[derive(Debug)]
pub struct OtlpExporter {
    channel: GrpcChannel,
    encoder: Encoder,
    bodies: Bodies,
    headers: Headers,
    observer: Observer,
}

// === impl Settings ===

impl Settings {
    /// The exporter. It connects with the first request.
    pub fn build(self, context: &Context) -> Result<OtlpExporter, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (max, bodies) = (self.max_request_bytes, &self.bodies);
        let channel = GrpcChannel::new(&self.client)?;
        channel.tell_ends(&context.metrics, &context.id);
        Ok(OtlpExporter {
            channel,
            encoder: Encoder::new(Form::Proto, bodies, max, &context.memory),
            bodies: Bodies::new(bodies, max, context),
            headers: Headers::new(self.client.headers.keys(), !self.client.auth.is_empty()),
            observer: Observer::new(&context.id, &context.metrics),
        })
    }
}

// === impl OtlpExporter ===

impl OtlpExporter {
    async fn call(&self, mut headers: HeaderMap, request: &Ready) -> Result<(), Status> {
        headers.insert("grpc-accept-encoding", ACCEPTED);
        let encoding = match request.compression {
            Compression::None => None,
            compressed => Some(HeaderValue::from_static(compressed.name())),
        };
        let message = Message {
            bytes: request.bytes.clone(),
            encoding,
        };
        match self.channel.unary(EXPORT, headers, message).await? {
            None => self.observer.unreadable("it has no message"),
            Some(answer) => response(&answer.bytes, answer.encoding.as_ref(), &self.observer),
        }
        Ok(())
    }
}

#[async_trait]
impl Exporter for OtlpExporter {
    fn prepare(&self, profiles: &[Profile], memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        self.bodies.prepare(profiles, memory)
    }

    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        let request = self.encoder.encode(batch).await?;
        let answer = self.call(self.headers.of(&batch.origin), &request).await;
        answer.map_err(|status| classify(&status, Encoder::composes(batch)))
    }

    fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        self.bodies.divide(profile)
    }

    async fn probe(&self) -> Result<(), ExportError> {
        let answer = self.call(self.headers.bare(), &self.encoder.probe()).await;
        answer.map_err(|status| classify(&status, false))
    }

    fn limits(&self) -> Limits {
        self.bodies.limits()
    }
}

#[cfg(test)]
mod tests;
