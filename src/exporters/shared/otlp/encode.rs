//! One request of a batch, in the compression that the setting allows.
//!
//! The usual case costs nothing: a request that came as OTLP, of which nothing
//! was edited or taken out, in a compression that the setting covers, leaves as
//! the bytes that arrived. Everything else allocates, in memory that is taken
//! from the budget first, and off the async threads when it is large.

use super::{
    settings::{BodySettings, Compression},
    verdict::too_large,
};
use crate::{
    exporters::shared::retry_after,
    pipeline::{Budget, ExportError, Permit, Reason},
    profile::{
        Batch, Body, Labels, Profile,
        convert::{ConvertError, OriginalPayload, OtlpOptions, RequestBuilder},
        otlp::{self, Encoded, Otlp, assemble, json, untouched},
    },
    runtime::computing,
    settings::ByteSize,
};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Work on more than this is done off the async threads, in bytes.
const LARGE: u64 = 128 << 10;
/// How often memory is asked for again, and for how long.
const MEMORY_POLL: Duration = Duration::from_millis(20);
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);
/// What JSON needs beside the request: it is several times as large.
const JSON_FACTOR: u64 = 8;

/// Makes requests of batches. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Encoder {
    form: Form,
    compression: Compression,
    max_bytes: u64,
    max_inflated: u64,
    payload: OriginalPayload,
    memory: Budget,
}

/// What a request is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Binary protobuf.
    Proto,
    /// Protobuf's JSON, as OTLP has it.
    Json,
}

/// A request as it leaves.
#[derive(Debug)]
pub struct Ready {
    /// Its bytes.
    pub bytes: Bytes,
    /// How they are compressed.
    pub compression: otlp::Compression,
    /// The memory it takes, beyond that of its bodies.
    _taken: Option<Permit>,
}

// === impl Encoder ===

impl Encoder {
    /// An encoder by the settings; what it allocates is taken from `memory`.
    pub fn new(
        form: Form,
        settings: &BodySettings,
        max_request_bytes: ByteSize,
        memory: &Budget,
    ) -> Self {
        Self {
            form,
            compression: settings.compression,
            max_bytes: max_request_bytes.get(),
            max_inflated: settings.max_inflated_bytes.get(),
            payload: settings.original_payload,
            memory: memory.clone(),
        }
    }

    /// The request that a backend is asked for a sign of life with: an empty one,
    /// which is a success everywhere.
    pub fn probe(&self) -> Ready {
        let bytes = match self.form {
            Form::Proto => Bytes::new(),
            Form::Json => Bytes::from_static(b"{}"),
        };
        Ready {
            bytes,
            compression: otlp::Compression::None,
            _taken: None,
        }
    }

    /// Whether a request of `batch` is put together here, of several pprofs.
    pub fn composes(batch: &Batch) -> bool {
        batch.profiles.len() > 1 && batch.profiles.iter().all(|p| p.body.as_pprof().is_some())
    }

    /// One request of all profiles of `batch`, whose bodies can join.
    ///
    /// # Errors
    ///
    /// `Split` when it is larger than allowed or a body cannot be converted,
    /// `Retry` when there is no memory.
    pub async fn encode(&self, batch: &Batch) -> Result<Ready, ExportError> {
        let profiles = &batch.profiles;
        let Some(first) = profiles.first() else {
            return Ok(self.probe());
        };
        if !profiles.iter().all(|p| p.body.can_join(&first.body)) {
            return Err(split(Reason::InvalidProfile, "bodies of several requests"));
        }
        if let Some(ready) = self.as_it_came(profiles) {
            return ready;
        }
        let mut taken = self.take(self.cost(profiles)).await?;
        let (this, profiles) = (self.clone(), profiles.clone());
        let made = if taken.bytes() < LARGE {
            this.make(&profiles)
        } else {
            let panicked = || Err(split(Reason::InvalidProfile, "encoding a request failed"));
            let made = computing(move || this.make(&profiles)).await;
            made.unwrap_or_else(panicked)
        }?;
        taken.shrink_to(made.bytes.len() as u64);
        Ok(Ready {
            bytes: made.bytes,
            compression: made.compression,
            _taken: Some(taken),
        })
    }

    /// A request that needs no work.
    fn as_it_came(&self, profiles: &[Profile]) -> Option<Result<Ready, ExportError>> {
        let parts = otlp_parts(profiles);
        let (_, first) = parts.first()?;
        let encoded = untouched(&parts)?;
        if self.form != Form::Proto || !self.compression.covers(encoded.compression) {
            return None;
        }
        let fits = self.check_size(first.request().plain_len());
        Some(fits.map(|()| Ready {
            bytes: encoded.bytes,
            compression: encoded.compression,
            _taken: None,
        }))
    }

    fn make(&self, profiles: &[Profile]) -> Result<Encoded, ExportError> {
        let parts = otlp_parts(profiles);
        let (encoded, plain_len) = match parts.first() {
            Some((_, first)) => {
                let encoded = assemble(&parts).map_err(unreadable)?;
                let plain_len = match encoded.compression {
                    otlp::Compression::None => encoded.bytes.len() as u64,
                    _ => first.request().plain_len(),
                };
                (encoded, plain_len)
            }
            None => {
                let bytes = self.convert(profiles)?;
                let plain_len = bytes.len() as u64;
                let compression = otlp::Compression::None;
                (Encoded { bytes, compression }, plain_len)
            }
        };
        self.check_size(plain_len)?;
        if self.form == Form::Proto && self.compression.covers(encoded.compression) {
            return Ok(encoded);
        }
        let inflated = encoded.compression.inflate(&encoded.bytes, plain_len);
        let mut plain = inflated.map_err(unreadable)?;
        if self.form == Form::Json {
            plain = json::request_to_json(&plain).map_err(unreadable)?;
            self.check_size(plain.len() as u64)?;
        }
        let compression = self.compression.method();
        Ok(match compression.compress(&plain) {
            Ok(bytes) => Encoded { bytes, compression },
            // It can leave as it is.
            Err(_) => Encoded {
                bytes: plain,
                compression: otlp::Compression::None,
            },
        })
    }

    /// pprofs as one plain request with one dictionary.
    fn convert(&self, profiles: &[Profile]) -> Result<Bytes, ExportError> {
        let mut builder = RequestBuilder::new(OtlpOptions {
            original_payload: self.payload,
            max_bytes: self.max_bytes,
        });
        for profile in profiles {
            let Some(pprof) = profile.body.as_pprof() else {
                continue;
            };
            pprof
                .read(self.max_inflated, |plain| {
                    builder.add(&profile.labels, profile.received, pprof, plain)
                })
                .map_err(ConvertError::from)
                .flatten()
                .map_err(|error| match error {
                    ConvertError::TooLarge { .. } => too_large(error.to_string()),
                    _ => split(Reason::InvalidProfile, &error.to_string()),
                })?;
        }
        Ok(builder.finish())
    }

    fn check_size(&self, plain_len: u64) -> Result<(), ExportError> {
        if plain_len <= self.max_bytes {
            return Ok(());
        }
        let max = self.max_bytes;
        Err(too_large(format!(
            "the request has {plain_len} bytes before compression, and max_request_bytes is {max}"
        )))
    }

    /// The memory that making a request takes beside the bodies, in bytes.
    fn cost(&self, profiles: &[Profile]) -> u64 {
        let of_body = |profile: &Profile| match &profile.body {
            Body::Pprof(pprof) => {
                let decoded = pprof.checked().filter(|checked| !checked.broken.is_empty());
                let decoded = decoded.map_or(0, |checked| checked.decoded);
                // The inflated one, its dictionary and what it becomes.
                3 * pprof.claimed_size().min(self.max_inflated) + decoded
            }
            Body::Otlp(_) | Body::ParcaArrow(_) => 0,
        };
        let plain = match profiles.first().and_then(|first| first.body.as_otlp()) {
            // Inflated, assembled and compressed.
            Some(otlp) => 3 * otlp.request().plain_len(),
            None => profiles.iter().map(of_body).sum(),
        };
        match self.form {
            Form::Proto => plain,
            Form::Json => plain * JSON_FACTOR,
        }
    }

    /// Takes memory as soon as there is some. No more is asked for than comes free
    /// for certain, so that large requests are not stuck.
    async fn take(&self, needed: u64) -> Result<Permit, ExportError> {
        let needed = needed.min(self.memory.reserve());
        let begun = Instant::now();
        loop {
            if let Some(taken) = self.memory.try_take(needed) {
                return Ok(taken);
            }
            if begun.elapsed() > MEMORY_PATIENCE {
                let cause = format!(
                    "no memory for a request of {needed} bytes: raise service.memory.limit"
                );
                return Err(retry_after(None, cause));
            }
            sleep(MEMORY_POLL).await;
        }
    }
}

fn otlp_parts(profiles: &[Profile]) -> Vec<(&Labels, &Otlp)> {
    profiles
        .iter()
        .filter_map(|profile| Some((&profile.labels, profile.body.as_otlp()?)))
        .collect()
}

fn split(reason: Reason, cause: &str) -> ExportError {
    ExportError::Split {
        too_large: false,
        reason,
        cause: cause.into(),
    }
}

fn unreadable(unreadable: otlp::Unreadable) -> ExportError {
    split(Reason::InvalidProfile, &unreadable.to_string())
}
