//! OTLP bodies, and those of parca-agent, for exporters that send pprofs.
//!
//! A request is opened once for all of its bodies: its plain bytes, what decoding
//! them takes and what comes out are counted before each step, and charged to the
//! process's memory.

use super::arrow::as_otlp;
use crate::{
    r#gen::opentelemetry::proto::profiles::v1development::{ProfilesDictionary, ResourceProfiles},
    pipeline::{Budget, NoMemory, Permit, Reason},
    profile::{
        Body, Profile,
        arrow::{self, Arrow},
        convert::{ConvertError, Converted, PprofOptions, to_pprof},
        otlp::{Opened, Otlp, Unreadable, census},
        pprof,
    },
};

/// How bodies become pprofs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsPprof {
    /// The largest pprof, in bytes when inflated.
    pub(crate) max_inflated: u64,
}

/// A request that is open, and its memory.
#[derive(Debug)]
pub(crate) struct Open {
    opened: Opened,
    _taken: Permit,
}

/// The request that bodies came in, opened when its first one is asked for.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    memory: &'a Budget,
    open: Option<(&'a Otlp, Result<Open, Unreadable>)>,
}

/// Why a body gives no pprof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPprof {
    /// The request cannot be decoded.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What is in it makes no pprof.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

// === impl Open ===

impl Open {
    /// Opens the request of `otlp`. The error of the inner result is the
    /// request's, that of the outer says to try later.
    pub(crate) fn new(otlp: &Otlp, memory: &Budget) -> Result<Result<Self, Unreadable>, NoMemory> {
        let request = otlp.request();
        let plain_len = request.plain_len();
        let mut taken = take(memory, plain_len)?;
        let plain = match request.plain() {
            Ok(plain) => plain,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        let census = match census(&plain) {
            Ok(census) => census,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        // As much again for what is made of it, plain and compressed.
        let more = census.decoded.saturating_add(2 * plain_len);
        if !taken.grow(more) {
            let needed = plain_len.saturating_add(more);
            return Err(NoMemory { needed });
        }
        Ok(Opened::new(request, plain).map(|opened| Self {
            opened,
            _taken: taken,
        }))
    }

    /// The tables of the request.
    pub(crate) fn dictionary(&self) -> &ProfilesDictionary {
        self.opened.dictionary()
    }

    /// The resource that `otlp` is.
    pub(crate) fn resource(&self, otlp: &Otlp) -> Result<ResourceProfiles, Unreadable> {
        self.opened.resource(otlp)
    }
}

// === impl Requests ===

impl<'a> Requests<'a> {
    /// None is open; opening takes from `memory`.
    pub(crate) fn new(memory: &'a Budget) -> Self {
        Self { memory, open: None }
    }

    /// The request of `otlp`. One is open at a time.
    pub(crate) fn open(&mut self, otlp: &'a Otlp) -> Result<Result<&Open, &Unreadable>, NoMemory> {
        let known = self.open.take().filter(|(first, _)| first.is_of(otlp));
        let known = match known {
            Some(known) => known,
            None => (otlp, Open::new(otlp, self.memory)?),
        };
        Ok(self.open.insert(known).1.as_ref())
    }
}

fn take(memory: &Budget, bytes: u64) -> Result<Permit, NoMemory> {
    let needed = bytes;
    memory.try_take(bytes).ok_or(NoMemory { needed })
}

// === impl AsPprof ===

impl AsPprof {
    /// The pprofs that each of `profiles` stands for: itself, if it is one.
    pub(crate) fn all(
        self,
        profiles: &[Profile],
        memory: &Budget,
    ) -> Result<Vec<Result<Vec<Profile>, NoPprof>>, NoMemory> {
        let mut requests = Requests::new(memory);
        let mut all = Vec::with_capacity(profiles.len());
        for profile in profiles {
            if let Some(arrow) = profile.body.as_arrow() {
                all.push(self.of_arrow(profile, arrow, memory)?);
                continue;
            }
            let Some(otlp) = profile.body.as_otlp() else {
                all.push(Ok(vec![profile.clone()]));
                continue;
            };
            all.push(match requests.open(otlp)? {
                Ok(open) => match open.resource(otlp) {
                    Ok(resource) => self.convert(profile, &resource, open),
                    Err(unreadable) => Err(unreadable.into()),
                },
                Err(unreadable) => Err(unreadable.clone().into()),
            });
        }
        Ok(all)
    }

    /// The pprofs of a body of parca-agent.
    pub(crate) fn of_arrow(
        self,
        profile: &Profile,
        arrow: &Arrow,
        memory: &Budget,
    ) -> Result<Result<Vec<Profile>, NoPprof>, NoMemory> {
        let bodies = match as_otlp(profile, arrow, self.max_inflated, memory)? {
            Ok(bodies) => bodies,
            Err(error) => return Ok(Err(error)),
        };
        let pprofs: Result<Vec<_>, _> = self.all(&bodies, memory)?.into_iter().collect();
        Ok(pprofs.map(|pprofs| pprofs.into_iter().flatten().collect()))
    }

    /// The pprofs of one body, whose resource was taken from `open`.
    pub(crate) fn convert(
        self,
        profile: &Profile,
        resource: &ResourceProfiles,
        open: &Open,
    ) -> Result<Vec<Profile>, NoPprof> {
        let options = PprofOptions {
            received: profile.received,
            max_inflated: self.max_inflated,
            series_attributes: &[],
            max_series: 1,
            // Labels may have been edited; they are not in the pprof.
            original_payload: true,
            gzip: true,
        };
        let converted = to_pprof(&profile.labels, resource, open.dictionary(), &options)?;
        let pprof = |converted: Converted| Profile {
            labels: converted.labels,
            body: Body::Pprof(converted.pprof),
            received: profile.received,
        };
        Ok(converted.into_iter().map(pprof).collect())
    }
}

// === impl NoPprof ===

impl NoPprof {
    /// What the profile is dropped with.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unreadable(Unreadable::TooLarge { .. })
            | Self::Convert(
                ConvertError::TooLarge { .. }
                | ConvertError::Arrow(arrow::Unreadable::TooLarge { .. })
                | ConvertError::Unreadable(pprof::Unreadable::TooLarge { .. }),
            ) => Reason::TooLarge,
            _ => Reason::InvalidProfile,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
