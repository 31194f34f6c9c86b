//! Sends OTLP profiles over HTTP, as protobuf or JSON (OTLP/HTTP of
//! opentelemetry-proto 1.10: `POST /v1development/profiles`).
//!
//! - A request that came as OTLP and that nobody edited leaves in the bytes in
//!   which it came, compressed as it came, as far as `encoding: proto` and
//!   `compression` cover that.
//! - pprofs are converted, several into one request with one dictionary.
//! - What answers mean is in [`classify`]; what they say is read up to 64 KiB. A
//!   partial success is counted and not sent again.

mod answer;
mod classify;
mod settings;

pub use self::settings::{Encoding, Settings};

use self::{answer::read, classify::classify};
use super::shared::{
    otlp::{Bodies, Encoder, Form, Headers, Observer, Ready},
    transport,
};
use crate::{
    net::HttpClient,
    pipeline::{Budget, Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared},
    profile::{Batch, Profile, otlp::Compression},
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Sends to one backend.
#[derive(Debug)]
pub struct OtlpHttpExporter {
    client: HttpClient,
    address: Uri,
    content_type: HeaderValue,
    encoder: Encoder,
    bodies: Bodies,
    headers: Headers,
    observer: Observer,
}

// === impl Settings ===

impl Settings {
    /// The exporter. It connects with the first request.
    pub fn build(self, context: &Context) -> Result<OtlpHttpExporter, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (form, content_type) = match self.encoding {
            Encoding::Proto => (Form::Proto, answer::PROTO),
            Encoding::Json => (Form::Json, answer::JSON),
        };
        let (max, bodies) = (self.max_request_bytes, &self.bodies);
        let client = HttpClient::sender(&self.client)?;
        client.tell_ends(&context.metrics, &context.id);
        Ok(OtlpHttpExporter {
            client,
            address: self.address().map_err(|problem| vec![problem])?,
            content_type: HeaderValue::from_static(content_type),
            encoder: Encoder::new(form, bodies, max, &context.memory),
            bodies: Bodies::new(bodies, max, context),
            headers: Headers::new(self.client.headers.keys(), !self.client.auth.is_empty()),
            observer: Observer::new(&context.id, &context.metrics),
        })
    }
}

// === impl OtlpHttpExporter ===

impl OtlpHttpExporter {
    async fn post(
        &self,
        mut headers: HeaderMap,
        request: &Ready,
        composed: bool,
    ) -> Result<(), ExportError> {
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        if request.compression != Compression::None {
            let name = HeaderValue::from_static(request.compression.name());
            headers.insert(header::CONTENT_ENCODING, name);
        }
        let sent = self
            .client
            .post(&self.address, headers, request.bytes.clone())
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let lost = || ExportError::Died {
                    cause: error.to_string(),
                };
                let failure = transport(error.failure(), || error.to_string());
                return Err(failure.unwrap_or_else(lost));
            }
        };
        read(response, &self.observer)
            .await
            .map_err(|refusal| classify(&refusal, composed))
    }
}

#[async_trait]
impl Exporter for OtlpHttpExporter {
    fn prepare(&self, profiles: &[Profile], memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        self.bodies.prepare(profiles, memory)
    }

    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        let request = self.encoder.encode(batch).await?;
        let headers = self.headers.of(&batch.origin);
        self.post(headers, &request, Encoder::composes(batch)).await
    }

    fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        self.bodies.divide(profile)
    }

    async fn probe(&self) -> Result<(), ExportError> {
        let probe = self.encoder.probe();
        self.post(self.headers.bare(), &probe, false).await
    }

    fn limits(&self) -> Limits {
        self.bodies.limits()
    }
}

#[cfg(test)]
mod tests;
