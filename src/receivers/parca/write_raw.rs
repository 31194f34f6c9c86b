//! `WriteRaw`: pprofs, as Parca's own scrapers and the watcher of an agent send them.

use super::{
    intake::{Intake, Parcel},
    raw::{self, Raw, Wrong},
};
use crate::{
    net::serve::{
        Failure, Kind, Reading,
        grpc::{Head, MessageBody, Method},
    },
    pipeline::Permit,
    profile::{
        Body, Profile,
        pprof::{Pprof, Unreadable},
    },
    receivers::shared::{Requests, no_memory},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Arc, time::SystemTime};

/// The path of the method.
pub(super) const PATH: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";

/// What a pprof may inflate to before its size is believed, in bytes.
const FIRST: u64 = 64 << 10;

/// `ProfileStoreService/WriteRaw`.
#[derive(Debug)]
pub(super) struct WriteRaw {
    intake: Arc<Intake>,
    requests: Requests,
    /// The largest pprof, inflated.
    max_inflated: u64,
}

/// What is done with a message off the async threads.
struct Work {
    message: Bytes,
    permit: Permit,
    reading: Reading,
    max_inflated: u64,
}

// === impl WriteRaw ===

impl WriteRaw {
    pub(super) fn new(intake: Arc<Intake>, requests: Requests, max_inflated: u64) -> Self {
        Self {
            intake,
            requests,
            max_inflated,
        }
    }

    async fn write(&self, head: &Head, body: MessageBody) -> Result<(), Failure> {
        let message = body.read(&self.intake.reading).await?;
        let received = self.intake.plain(message).await?;
        let key = self.intake.key("WriteRaw", head, &[&received.bytes]);
        let size = received.bytes.len();
        let work = Work {
            message: received.bytes,
            permit: received.permit,
            reading: self.intake.reading.clone(),
            max_inflated: self.max_inflated,
        };
        let (profiles, permit) = self.intake.work(size, move || work.run()).await??;
        let parcel = Parcel {
            profiles,
            permit,
            key,
        };
        self.intake.take(head, parcel).await.map(|_| ())
    }
}

#[async_trait]
impl Method for WriteRaw {
    async fn call(&self, head: Head, body: MessageBody) -> Result<Bytes, Failure> {
        let writing = self.write(&head, body);
        self.intake.serve(&self.requests, &head, writing).await?;
        // The answer has no fields.
        Ok(Bytes::new())
    }
}

// === impl Work ===

impl Work {
    /// The profiles, each looked at once: what the look tells stays beside the body.
    fn run(mut self) -> Result<(Vec<Profile>, Permit), Failure> {
        let mut needed = 0;
        let permit = &mut self.permit;
        let raw = raw::read(self.message, &mut |more| {
            needed = permit.bytes().saturating_add(more);
            permit.grow(more)
        });
        let raw = raw.map_err(|wrong| match wrong {
            Wrong::NoMemory => no_memory(needed, &self.reading),
            wrong => Failure::new(Kind::Invalid, wrong.to_string()),
        })?;
        let kept = self.permit.bytes();
        let received = SystemTime::now();
        let mut profiles = Vec::with_capacity(raw.len());
        for (place, Raw { labels, body }) in raw.into_iter().enumerate() {
            let look = Look {
                body,
                permit: &mut self.permit,
                kept,
                reading: &self.reading,
                max: self.max_inflated,
            };
            if let Some(pprof) = look.take(place)? {
                profiles.push(Profile {
                    labels,
                    body: Body::Pprof(pprof),
                    received,
                });
            }
        }
        // Inflated bytes are gone by now.
        self.permit.shrink_to(kept);
        Ok((profiles, self.permit))
    }
}

/// One look at one body.
struct Look<'w> {
    body: Bytes,
    permit: &'w mut Permit,
    /// What is held without it.
    kept: u64,
    reading: &'w Reading,
    max: u64,
}

impl Look<'_> {
    /// The pprof; nothing when it is the gzip of nothing, which stores take for
    /// nothing. What it claims to inflate to is tried first, as that may lie.
    fn take(self, place: usize) -> Result<Option<Pprof>, Failure> {
        let claimed = Pprof::new(self.body.clone()).claimed_size();
        for cap in [self.max.min(claimed.max(FIRST)), self.max] {
            if !self.permit.set(self.kept + cap) {
                return Err(no_memory(self.kept + cap, self.reading));
            }
            // Anew, because a body remembers what the first look told.
            let pprof = Pprof::new(self.body.clone());
            match pprof.check(cap) {
                Ok(_) => return Ok(Some(pprof)),
                Err(Unreadable::EmptyGzip) => return Ok(None),
                Err(Unreadable::TooLarge { .. }) if cap < self.max => {}
                Err(error @ Unreadable::TooLarge { .. }) => {
                    let message =
                        format!("profile {place}: {error} (body_size_limit_uncompressed)");
                    return Err(Failure::new(Kind::TooLarge, message));
                }
                Err(error) => {
                    let message = format!("invalid profile: profile {place}: {error}");
                    return Err(Failure::new(Kind::Invalid, message));
                }
            }
        }
        Ok(None)
    }
}
