//! From the messages of a call to the pipeline, whichever call it is.

use super::{
    counts::Counts,
    look::Look,
    seen::{self, Seen, Turn},
    settings::Settings,
};
use crate::{
    net::serve::{
        Coding, Failure, Kind, Patience, Picked, Reading, Received,
        grpc::{Head, Message},
    },
    pipeline::{Context, Entry, Permit, Reason, Refusal, RefusalKind},
    profile::{Batch, Labels, Origin, Profile, Transport, otlp::Compression, pprof::claimed_size},
    receivers::shared::{Gate, Requests, no_memory},
    runtime::computing,
};
use bytes::Bytes;
use std::{future::Future, sync::Arc, thread};
use tokio::sync::Semaphore;

/// Less than this is looked at where it came in, in bytes.
const SMALL: usize = 100 << 10;

/// By which an agent says that it has called before.
const RETRY: &str = "x-retry-attempt";

/// The way in.
#[derive(Debug)]
pub(super) struct Intake {
    receiver: Arc<str>,
    out: Entry,
    gate: Gate,
    seen: Seen,
    /// What is counted beside requests.
    pub(super) counts: Arc<Counts>,
    /// How messages are read.
    pub(super) reading: Reading,
    picked: Picked,
    /// The largest body, inflated.
    max_inflated: u64,
    /// Large messages that are worked on at a time.
    cores: Semaphore,
}

/// What a call brought, ready to be taken.
#[derive(Debug)]
pub(super) struct Parcel {
    /// One for each body.
    pub(super) profiles: Vec<Profile>,
    /// What they take.
    pub(super) permit: Permit,
    /// What makes another call the same.
    pub(super) key: seen::Key,
}

/// How a call's profiles were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Every exporter that must have them has them.
    Now,
    /// They had been taken before.
    Before,
}

// === impl Intake ===

impl Intake {
    pub(super) fn new(
        context: &Context,
        settings: &Settings,
        out: Entry,
        counts: Arc<Counts>,
    ) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let known = &settings.deduplicate;
        Self {
            receiver: context.id.shared(),
            out,
            gate: Gate::new(settings.max_concurrent_requests, &settings.pacing),
            seen: Seen::new(known.window.get(), known.max_entries, &context.memory),
            counts,
            reading: settings.server.reading(&context.memory),
            picked: settings.server.include_metadata.picked(),
            max_inflated: settings.body_size_limit_uncompressed.get(),
            cores: Semaphore::new(cores),
        }
    }

    /// Serves one call from its head to its end: bounds how many there are and how
    /// fast they come, and counts in `requests` how it ended.
    pub(super) async fn serve<T, F>(
        &self,
        requests: &Requests,
        head: &Head,
        serving: F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.counts.called(head);
        self.gate.serve(requests, &head.peer, serving).await
    }

    /// Who looks at Arrow that `permit` stands for.
    pub(super) fn look(&self, permit: Permit) -> Look {
        Look {
            permit,
            reading: self.reading.clone(),
            max: self.max_inflated,
        }
    }

    /// The patience of a call in steps.
    pub(super) fn patience(limit: crate::settings::Duration, key: &'static str) -> Patience {
        Patience {
            limit: limit.get(),
            key,
        }
    }

    /// A message without its compression.
    pub(super) async fn plain(&self, message: Message) -> Result<Received, Failure> {
        let Message {
            mut received,
            coding,
        } = message;
        let (compression, claimed) = match coding {
            Coding::Identity => return Ok(received),
            Coding::Gzip => (
                Compression::Gzip,
                u64::from(claimed_size(&received.bytes)).max(received.bytes.len() as u64),
            ),
            Coding::Zstd => (Compression::Zstd, self.reading.max),
        };
        let max = self.reading.max;
        for cap in [claimed.min(max), max] {
            // zstd's buffer grows by doubling.
            let needed = received.bytes.len() as u64 + cap * 2;
            if !received.permit.set(needed) {
                return Err(no_memory(needed, &self.reading));
            }
            let wire = received.bytes.clone();
            let inflate = move || compression.inflate(&wire, cap);
            match self.work(received.bytes.len(), inflate).await? {
                Ok(bytes) => {
                    received.permit.shrink_to(bytes.len() as u64);
                    received.bytes = bytes;
                    return Ok(received);
                }
                Err(crate::profile::otlp::Unreadable::TooLarge { .. }) if cap < max => {}
                Err(error @ crate::profile::otlp::Unreadable::TooLarge { .. }) => {
                    let message = format!("{error} ({})", self.reading.max_key);
                    return Err(Failure::new(Kind::TooLarge, message));
                }
                Err(error) => return Err(Failure::new(Kind::Invalid, error.to_string())),
            }
        }
        Err(Failure::new(Kind::Internal, "the message was not inflated"))
    }

    /// Runs what takes the longer the more bytes there are, off the async threads
    /// when there are many.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if bytes <= SMALL {
            return Ok(work());
        }
        let _core = self.cores.acquire().await;
        let broken = || Failure::new(Kind::Internal, "the message could not be worked on");
        computing(work).await.ok_or_else(broken)
    }

    /// What makes a call of `method` with these messages the same as another one.
    pub(super) fn key(&self, method: &str, head: &Head, messages: &[&Bytes]) -> seen::Key {
        let metadata = self.metadata(head);
        let name = head.peer.name().map(|name| ("", &**name));
        let whom = metadata.iter().map(|label| (&*label.name, &*label.value));
        let whom = whom.chain(name);
        let messages: Vec<&[u8]> = messages.iter().map(|bytes| &bytes[..]).collect();
        seen::key(method, whom, &messages)
    }

    /// Hands a call's profiles on, unless it is the retry of one that was taken. On
    /// success every exporter that must have them has them.
    pub(super) async fn take(&self, head: &Head, parcel: Parcel) -> Result<Taken, Failure> {
        let Parcel {
            profiles,
            permit,
            key,
        } = parcel;
        if profiles.is_empty() {
            return Ok(Taken::Now);
        }
        let profiles = self.admit(head, profiles)?;
        let claim = match self.seen.turn(key, is_retry(head)).await {
            Turn::New(claim) => claim,
            Turn::Duplicate => {
                self.counts.duplicates(profiles.len() as u64);
                return Ok(Taken::Before);
            }
        };
        if head.is_late() {
            let message = "the client's deadline passed before its profiles were taken";
            return Err(Failure::new(Kind::Late, message));
        }
        let origin = Origin {
            receiver: self.receiver.clone(),
            transport: Transport::Grpc,
            peer: Some(head.peer.address()),
            metadata: self.metadata(head),
        };
        let batch = Batch::new(origin, profiles).charged(Arc::new(self.gate.hold(permit)));
        let offered = self.out.offer(batch).await;
        offered.map_err(|refusal| refused(&refusal))?;
        claim.taken();
        Ok(Taken::Now)
    }

    /// The profiles with what their sender's identity stamps on them, if it may
    /// send all of them.
    fn admit(&self, head: &Head, profiles: Vec<Profile>) -> Result<Vec<Profile>, Failure> {
        let count = profiles.len() as u64;
        let admitted = profiles.into_iter().map(|profile| head.peer.admit(profile));
        admitted.collect::<Result<_, Reason>>().map_err(|reason| {
            self.out.refuse(count, reason);
            refused(&Refusal::permanent(reason))
        })
    }

    fn metadata(&self, head: &Head) -> Labels {
        let arrived = self.picked.of(&head.headers).collect();
        head.peer.metadata(arrived)
    }
}

fn is_retry(head: &Head) -> bool {
    let attempt = head
        .headers
        .get(RETRY)
        .and_then(|value| value.to_str().ok());
    attempt.is_some_and(|attempt| attempt.parse::<u32>().is_ok_and(|attempt| attempt > 0))
}

/// A refusal of the pipeline, for the client.
fn refused(refusal: &Refusal) -> Failure {
    let message = format!("the profiles were not taken: {}", refusal.reason.describe());
    match refusal.kind {
        RefusalKind::Retryable { after } => {
            let kind = match refusal.reason {
                Reason::QueueFull | Reason::StorageFull | Reason::MemoryLimit => Kind::Busy,
                _ => Kind::Unavailable,
            };
            Failure::new(kind, message).after(after)
        }
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
