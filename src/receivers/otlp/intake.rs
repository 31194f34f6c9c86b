//! From the bytes of a request to the pipeline, whatever brought them.

use super::{other_signal, settings::Settings};
use crate::{
    net::serve::{Coding, Encoding, Failure, Kind, Peer, Reading, Received},
    pipeline::{Context, Entry, Permit, Reason, Refusal, RefusalKind},
    profile::{
        Batch, Body, Labels, Origin, Profile, Transport,
        otlp::{
            Compression, Request, Unreadable,
            json::{self, JsonError},
        },
        pprof::claimed_size,
    },
    receivers::shared::{Gate, Requests, no_memory},
    runtime::computing,
};
use bytes::Bytes;
use std::{future::Future, sync::Arc, thread, time::SystemTime};
use tokio::sync::Semaphore;

/// Inflating and walking less than this is done where it came in.
const SMALL: u64 = 100 << 10;

/// The same for a plain request, of which only the outer fields are walked.
const SMALL_PLAIN: u64 = 4 << 20;

/// What is charged for inflating small requests, whatever they claim.
const FIRST: u64 = 64 << 10;

/// The way in, of one protocol.
#[derive(Debug)]
pub(super) struct Intake {
    receiver: Arc<str>,
    out: Entry,
    gate: Gate,
    requests: Requests,
    /// Large requests that are worked on at a time.
    cores: Semaphore,
}

/// A request's body, and what it is.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) received: Received,
    pub(super) coding: Coding,
    pub(super) encoding: Encoding,
}

/// What is done with a body off the async threads: what it takes travels along,
/// because work that has begun goes on when its client is gone.
struct Work {
    wire: Bytes,
    compression: Compression,
    encoding: Encoding,
    max: u64,
    permit: Permit,
}

/// Why a body could not be read.
enum Wrong {
    /// It may fit when more is allowed.
    TooLarge(String),
    /// It is wrong.
    Invalid(String),
    /// There is no memory for it now, or never will be.
    Memory { needed: u64 },
}

// === impl Intake ===

impl Intake {
    pub(super) fn new(
        context: &Context,
        out: Entry,
        settings: &Settings,
        requests: Requests,
    ) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            receiver: context.id.shared(),
            out,
            gate: Gate::new(settings.max_concurrent_requests, &settings.pacing),
            requests,
            cores: Semaphore::new(cores),
        }
    }

    /// Serves one request from its head to its end: bounds how many there are and
    /// how fast they come, and counts how it ended.
    pub(super) async fn serve<F>(&self, peer: &Peer, serving: F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        self.gate.serve(&self.requests, peer, serving).await
    }

    /// What is said about a path that is not served.
    pub(super) fn unknown(&self, path: &str) -> String {
        let message = match other_signal(path) {
            Some(signal) => format!(
                "this is profile-relay, which takes profiles and no {signal}: send them elsewhere ({path})"
            ),
            None => format!("this is profile-relay, which takes OTLP profiles: there is no {path}"),
        };
        self.requests.unsupported(&message);
        message
    }

    /// Who sent a request.
    pub(super) fn origin(&self, transport: Transport, peer: &Peer, metadata: Labels) -> Origin {
        Origin {
            receiver: self.receiver.clone(),
            transport,
            peer: Some(peer.address()),
            metadata: peer.metadata(metadata),
        }
    }

    /// Reads a request and hands it on. On success every exporter that must have
    /// the profiles has them.
    pub(super) async fn take(
        &self,
        parcel: Parcel,
        reading: &Reading,
        (peer, origin): (&Peer, Origin),
        is_late: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let (request, permit) = self.read(parcel, reading).await?;
        if request.profiles() == 0 {
            return Ok(());
        }
        let counted = request.profiles();
        let bodies = Arc::new(request).bodies();
        if is_late() {
            let message = "the client's deadline passed before its profiles were taken";
            return Err(Failure::new(Kind::Late, message));
        }
        let received = SystemTime::now();
        let profiles = bodies.into_iter().map(|(labels, otlp)| {
            peer.admit(Profile {
                labels,
                body: Body::Otlp(otlp),
                received,
            })
        });
        let profiles: Vec<_> = profiles.collect::<Result<_, Reason>>().map_err(|reason| {
            self.out.refuse(counted, reason);
            refused(&Refusal::permanent(reason))
        })?;
        let batch = Batch::new(origin, profiles).charged(Arc::new(self.gate.hold(permit)));
        self.out
            .offer(batch)
            .await
            .map_err(|refusal| refused(&refusal))
    }

    /// Tries with what the body claims to be first, and only if that is not true
    /// with all that is allowed.
    async fn read(&self, parcel: Parcel, reading: &Reading) -> Result<(Request, Permit), Failure> {
        let Received { bytes, permit } = parcel.received;
        let compression = compression(parcel.coding);
        let claimed = claimed(&bytes, compression);
        let first = reading.max.min(claimed.max(FIRST));
        let large = match compression {
            Compression::None => claimed > SMALL_PLAIN || parcel.encoding == Encoding::Json,
            _ => claimed > SMALL,
        };
        let mut work = Work {
            wire: bytes,
            compression,
            encoding: parcel.encoding,
            max: first,
            permit,
        };
        loop {
            let max = work.max;
            let (back, result) = if large || max > first {
                self.off_thread(move || work.run()).await?
            } else {
                work.run()
            };
            match result {
                Ok(request) => return Ok((request, back.permit)),
                Err(Wrong::TooLarge(_)) if max < reading.max => {
                    work = Work {
                        max: reading.max,
                        ..back
                    };
                }
                Err(Wrong::TooLarge(message)) => {
                    let message = format!("{message} ({})", reading.max_key);
                    return Err(Failure::new(Kind::TooLarge, message));
                }
                Err(Wrong::Invalid(message)) => return Err(Failure::new(Kind::Invalid, message)),
                Err(Wrong::Memory { needed }) => return Err(no_memory(needed, reading)),
            }
        }
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let _core = self.cores.acquire().await;
        let broken = || Failure::new(Kind::Internal, "the request could not be worked on");
        computing(work).await.ok_or_else(broken)
    }
}

fn compression(coding: Coding) -> Compression {
    match coding {
        Coding::Identity => Compression::None,
        Coding::Gzip => Compression::Gzip,
        Coding::Zstd => Compression::Zstd,
    }
}

/// The inflated size that a body claims. It may lie.
fn claimed(wire: &Bytes, compression: Compression) -> u64 {
    let length = wire.len() as u64;
    match compression {
        Compression::None => length,
        Compression::Gzip => claimed_size(wire).into(),
        Compression::Zstd => zstd::zstd_safe::get_frame_content_size(wire)
            .ok()
            .flatten()
            // Who streams does not know the size in advance.
            .unwrap_or(length * 8),
    }
}

/// A refusal of the pipeline, for the client.
fn refused(refusal: &Refusal) -> Failure {
    let message = format!("the profiles were not taken: {}", refusal.reason.describe());
    match refusal.kind {
        RefusalKind::Retryable { after } => Failure::new(Kind::Unavailable, message).after(after),
        RefusalKind::Permanent => {
            let kind = match refusal.reason {
                Reason::TooLarge => Kind::TooLarge,
                Reason::InvalidProfile | Reason::InvalidLabels => Kind::Invalid,
                Reason::NotAllowed => Kind::Denied,
                _ => Kind::Internal,
            };
            Failure::new(kind, message)
        }
    }
}

// === impl Work ===

impl Work {
    fn run(mut self) -> (Self, Result<Request, Wrong>) {
        let result = self.read();
        (self, result)
    }

    fn read(&mut self) -> Result<Request, Wrong> {
        match self.encoding {
            Encoding::Protobuf => self.outline(self.wire.clone(), self.compression),
            Encoding::Json => {
                let protobuf = self.protobuf_of_json()?;
                self.outline(protobuf, Compression::None)
            }
        }
    }

    /// What inflating may take is charged before, and the outline as it grows.
    fn outline(&mut self, wire: Bytes, compression: Compression) -> Result<Request, Wrong> {
        let inflated = match compression {
            Compression::None => 0,
            Compression::Gzip => self.max,
            // Its buffer grows by doubling.
            Compression::Zstd => self.max * 2,
        };
        self.charge(wire.len() as u64 + inflated)?;
        let (permit, mut needed) = (&mut self.permit, 0);
        let mut grant = |more| {
            needed = permit.bytes().saturating_add(more);
            permit.grow(more)
        };
        match Request::read_within(wire, compression, self.max, &mut grant) {
            Ok(request) => {
                self.charge(request.held())?;
                Ok(request)
            }
            Err(Unreadable::NoMemory) => Err(Wrong::Memory { needed }),
            Err(other) => Err(other.into()),
        }
    }

    fn protobuf_of_json(&mut self) -> Result<Bytes, Wrong> {
        let wire = self.wire.len() as u64;
        let inflated = match self.compression {
            Compression::None => wire,
            _ => wire + self.max * 2,
        };
        self.charge(inflated)?;
        let plain = self.compression.inflate(&self.wire, self.max)?;
        let most = (plain.len() as u64).saturating_mul(json::MAX_GROWTH_FROM_JSON as u64);
        self.charge(inflated + most.min(self.max * 2))?;
        let protobuf = json::request_from_json(&plain, self.max)?;
        // What follows counts the protobuf anew; the JSON is gone by then.
        self.wire = Bytes::new();
        Ok(protobuf)
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Wrong> {
        if self.permit.set(bytes) {
            Ok(())
        } else {
            Err(Wrong::Memory { needed: bytes })
        }
    }
}

// === impl Wrong ===

impl From<Unreadable> for Wrong {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::TooLarge { .. } => Self::TooLarge(error.to_string()),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<JsonError> for Wrong {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            other => Self::Invalid(other.to_string()),
        }
    }
}
