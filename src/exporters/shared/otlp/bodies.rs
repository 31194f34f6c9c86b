//! What is sent for a profile: checked, weighed, divided.
//!
//! A pprof must be readable; what else is broken is mended when it is converted.
//! What parca-agent pushed becomes the bodies of an OTLP request here.
//! An OTLP body was checked when its request came in, and is not looked at again.
//! Weights are those of plain requests, which is what receivers limit.

use super::settings::BodySettings;
use crate::{
    exporters::shared::{RuleObserver, arrow::as_otlp, halves},
    pipeline::{Budget, Context, Limits, NoMemory, Part, Prepared, Reason},
    profile::{
        Body, Charge, Labels, Profile,
        arrow::Arrow,
        convert::OriginalPayload,
        otlp::{self, Otlp, Request},
        pprof::Pprof,
    },
    settings::ByteSize,
};
use std::{sync::Arc, time::SystemTime};

/// The rule of a body that gives no OTLP.
const UNCONVERTIBLE: &str = "unconvertible";

/// The steps before sending, and their bounds.
#[derive(Debug)]
pub struct Bodies {
    limits: Limits,
    max_inflated: u64,
    keep: bool,
    rules: RuleObserver,
}

// === impl Bodies ===

impl Bodies {
    /// The steps that the settings ask for.
    pub fn new(settings: &BodySettings, max_request_bytes: ByteSize, context: &Context) -> Self {
        Self {
            limits: Limits {
                bytes: max_request_bytes.get(),
                rows: u64::MAX,
                parts: usize::try_from(settings.max_request_profiles).unwrap_or(usize::MAX),
            },
            max_inflated: settings.max_inflated_bytes.get(),
            keep: settings.original_payload == OriginalPayload::Keep,
            rules: RuleObserver::new(&context.id, &context.metrics),
        }
    }

    /// How much may go into one request.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The part to send for a profile; none for a pprof that says nothing.
    fn part(&self, profile: Profile) -> Prepared {
        let bytes = match &profile.body {
            Body::Otlp(otlp) => weight(otlp),
            Body::Pprof(pprof) => match self.readable(&profile.labels, pprof)? {
                None => return Ok(Vec::new()),
                Some(bytes) => bytes,
            },
            Body::ParcaArrow(_) => return Err(Reason::InvalidProfile),
        };
        let bytes = bytes + profile.labels.byte_len() as u64;
        Ok(vec![Part {
            profile,
            bytes,
            rows: 0,
            charge: None,
        }])
    }

    /// What is sent for profiles that came together, in memory that is taken first:
    /// pprofs that nobody has looked at are inflated.
    pub fn prepare(
        &self,
        profiles: &[Profile],
        memory: &Budget,
    ) -> Result<Vec<Prepared>, NoMemory> {
        let unseen = profiles.iter().filter_map(|profile| {
            let pprof = profile.body.as_pprof()?;
            let size = pprof.claimed_size().min(self.max_inflated);
            pprof.checked().is_none().then_some(size)
        });
        // One after the other goes into the same buffer.
        let needed = unseen.max().unwrap_or_default();
        let _taken = memory.try_take(needed).ok_or(NoMemory { needed })?;
        let part = |profile: &Profile| match profile.body.as_arrow() {
            Some(arrow) => self.of_arrow(profile, arrow, memory),
            None => Ok(self.part(profile.clone())),
        };
        profiles.iter().map(part).collect()
    }

    /// The parts to send for what parca-agent pushed: one for each of its processes.
    /// They hold the memory of the request that they are of.
    fn of_arrow(
        &self,
        profile: &Profile,
        arrow: &Arrow,
        memory: &Budget,
    ) -> Result<Prepared, NoMemory> {
        Ok(match as_otlp(profile, arrow, self.max_inflated, memory)? {
            Ok(bodies) => {
                let request = bodies.first().and_then(|body| body.body.as_otlp());
                let needed = request.map_or(0, |otlp| otlp.request().held());
                let permit = memory.try_take(needed).ok_or(NoMemory { needed })?;
                let charge: Arc<dyn Charge> = Arc::new(permit);
                let mut parts = Vec::with_capacity(bodies.len());
                for body in bodies {
                    let made = match self.part(body) {
                        Ok(made) => made,
                        Err(reason) => return Ok(Err(reason)),
                    };
                    parts.extend(made.into_iter().map(|part| Part {
                        charge: Some(charge.clone()),
                        ..part
                    }));
                }
                Ok(parts)
            }
            Err(error) => {
                let what = error.to_string();
                self.rules.dropped(&profile.labels, UNCONVERTIBLE, &what);
                Err(error.reason())
            }
        })
    }

    /// A part that is too large even alone, in smaller ones: a pprof by samples,
    /// an OTLP resource by profiles.
    pub fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        let received = profile.received;
        match &profile.body {
            Body::Pprof(pprof) => {
                let piece = |bytes| Profile {
                    labels: profile.labels.clone(),
                    body: Body::Pprof(Pprof::new(bytes)),
                    received,
                };
                let pieces = halves(pprof, self.max_inflated)?.into_iter().map(piece);
                let parts: Result<Vec<_>, Reason> = pieces.map(|piece| self.part(piece)).collect();
                Some(parts.ok()?.into_iter().flatten().collect())
            }
            Body::Otlp(otlp) => {
                let halves = otlp::halves(&profile.labels, otlp).ok()??;
                let parts = halves.into_iter().flat_map(|half| parts(half, received));
                Some(parts.collect())
            }
            Body::ParcaArrow(_) => None,
        }
    }

    /// What a pprof weighs about, converted: as much as inflated. `None` when
    /// there is nothing in it.
    fn readable(&self, series: &Labels, pprof: &Pprof) -> Result<Option<u64>, Reason> {
        let checked = match pprof.check(self.max_inflated) {
            Ok(checked) => checked,
            Err(unreadable) => return Err(self.rules.unreadable(series, unreadable)),
        };
        if checked.samples == 0 && checked.sample_types == 0 {
            return Ok(None);
        }
        if let Some(rule) = checked.broken.fatal() {
            return Err(self.rules.unrepairable(series, rule));
        }
        let payload = if self.keep { pprof.bytes().len() } else { 0 };
        Ok(Some(checked.inflated + payload as u64))
    }
}

fn parts(request: Request, received: SystemTime) -> impl Iterator<Item = Part> {
    let bodies = Arc::new(request).bodies().into_iter();
    bodies.map(move |(labels, otlp)| Part {
        bytes: weight(&otlp) + labels.byte_len() as u64,
        rows: 0,
        charge: None,
        profile: Profile {
            labels,
            body: Body::Otlp(otlp),
            received,
        },
    })
}

/// Its share of the plain bytes of its request.
fn weight(otlp: &Otlp) -> u64 {
    let request = otlp.request();
    let wire = request.wire().len().max(1) as u128;
    let share = u128::from(request.plain_len()) * otlp.byte_len() as u128 / wire;
    u64::try_from(share).unwrap_or(u64::MAX)
}
