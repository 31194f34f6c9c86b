//! Makes of one profile what can be sent to a Parca: checked, mended, with
//! labels of samples promoted, small enough.
//!
//! A body that breaks no rule and fits is passed on as it is. Everything else
//! costs a decode and an encode, and is counted.

use super::{
    arrow::{ArrowPreparer, Known},
    labels::{self, LabelRule},
    observe::Observer,
    passage, request,
    settings::{OtlpAs, Settings},
};
use crate::{
    exporters::shared::{
        RuleObserver, halves,
        pprofs::{AsPprof, NoPprof, Open, Requests},
    },
    pipeline::{Budget, NoMemory, Part, Prepared, Reason},
    profile::{
        Body, Labels, Profile,
        arrow::{Arrow, Unreadable},
        otlp::{self, Otlp},
        pprof::{Pprof, compress, repair, split_by_labels, split_by_samples, summarize},
    },
};
use std::{sync::Arc, time::SystemTime};

/// Takes the memory of bodies that were made of a profile, which its own charge does
/// not hold.
fn charge_made(profile: &Profile, parts: &mut [Part], memory: &Budget) -> Result<(), NoMemory> {
    let first = |body: &Body| match body {
        Body::Pprof(pprof) => Some(pprof.bytes().as_ptr()),
        Body::ParcaArrow(arrow) => Some(arrow.samples().as_ptr()),
        Body::Otlp(_) => None,
    };
    let kept = first(&profile.body);
    for part in parts {
        let made = first(&part.profile.body);
        if made.is_none() || made == kept {
            continue;
        }
        let needed = part.profile.body.byte_len() as u64;
        let permit = memory.try_take(needed).ok_or(NoMemory { needed })?;
        part.charge = Some(Arc::new(permit));
    }
    Ok(())
}

/// The rule of an OTLP body that gives no pprof.
const UNCONVERTIBLE: &str = "unconvertible";

/// The steps before sending, and their bounds.
#[derive(Debug)]
pub(super) struct Preparer {
    max_bytes: u64,
    max_inflated: u64,
    otlp_as: OtlpAs,
    sample_labels: Vec<String>,
    series_limit: usize,
    arrow: ArrowPreparer,
    observer: Observer,
}

// === impl Preparer ===

impl Preparer {
    pub(super) fn new(settings: &Settings, known: &Known, observer: Observer) -> Self {
        Self {
            max_bytes: settings.max_request_bytes.get(),
            max_inflated: settings.max_inflated_bytes.get(),
            otlp_as: settings.otlp_as,
            sample_labels: settings.sample_labels.clone(),
            series_limit: usize::try_from(settings.sample_label_series_limit).unwrap_or(usize::MAX),
            arrow: ArrowPreparer {
                sent_as: settings.arrow_as,
                known: known.clone(),
                max_bytes: settings.max_request_bytes.get(),
                max_inflated: settings.max_inflated_bytes.get(),
            },
            observer,
        }
    }

    /// The bound on inflated bytes.
    pub(super) fn max_inflated(&self) -> u64 {
        self.max_inflated
    }

    /// Rewrites schema v2 of parca-agent's Arrow as v1, in memory that is taken
    /// first; nothing without that.
    pub(super) fn as_v1(
        &self,
        arrow: Arrow,
        memory: &Budget,
    ) -> impl FnOnce() -> Result<Option<Arrow>, Unreadable> + Send + 'static {
        let (preparer, memory) = (self.arrow.clone(), memory.clone());
        move || {
            let needed = arrow.decoded(preparer.max_inflated)?.saturating_mul(2);
            match memory.try_take(needed) {
                Some(_taken) => preparer.as_v1(&arrow).map(Some),
                None => Ok(None),
            }
        }
    }

    /// The parts to send for profiles that came together, in memory that is taken
    /// first.
    pub(super) fn prepare(
        &self,
        profiles: &[Profile],
        memory: &Budget,
    ) -> Result<Vec<Prepared>, NoMemory> {
        let needed = profiles.iter().map(|profile| self.cost(profile)).sum();
        let _taken = memory.try_take(needed).ok_or(NoMemory { needed })?;
        let mut requests = Requests::new(memory);
        let mut prepared = Vec::with_capacity(profiles.len());
        for profile in profiles {
            prepared.push(match &profile.body {
                Body::Otlp(otlp) => {
                    let open = requests.open(otlp)?;
                    self.prepare_otlp(profile, otlp, open)
                }
                Body::ParcaArrow(arrow) => {
                    let rules = self.rules();
                    self.arrow.prepare(profile, arrow, rules, memory)?
                }
                Body::Pprof(_) => self.prepare_pprof(profile.clone()),
            });
            if let Some(Ok(parts)) = prepared.last_mut() {
                charge_made(profile, parts, memory)?;
            }
        }
        Ok(prepared)
    }

    /// The parts to send for an OTLP body: itself, if Parca bears it, or pprofs.
    fn prepare_otlp(
        &self,
        profile: &Profile,
        otlp: &Otlp,
        open: Result<&Open, &otlp::Unreadable>,
    ) -> Prepared {
        let dropped = |error: NoPprof| {
            self.rules()
                .dropped(&profile.labels, UNCONVERTIBLE, &error.to_string());
            error.reason()
        };
        let open = open.map_err(|error| dropped(error.clone().into()))?;
        let resource = open.resource(otlp).map_err(|error| dropped(error.into()))?;
        if self.otlp_as == OtlpAs::Otlp
            && profile.byte_len() <= self.max_bytes
            && passage::check(&resource, open.dictionary()).is_ok()
        {
            let samples = resource.scope_profiles.iter().flat_map(|s| &s.profiles);
            return Ok(vec![Part {
                bytes: profile.byte_len(),
                rows: samples.map(|profile| profile.samples.len() as u64).sum(),
                charge: None,
                profile: profile.clone(),
            }]);
        }
        let convert = AsPprof {
            max_inflated: self.max_inflated,
        };
        let pprofs = convert.convert(profile, &resource, open).map_err(dropped)?;
        let mut parts = Vec::with_capacity(pprofs.len());
        for pprof in pprofs {
            parts.extend(self.prepare_pprof(pprof)?);
        }
        Ok(parts)
    }

    /// The memory that preparing a profile takes beside its body, in bytes.
    fn cost(&self, profile: &Profile) -> u64 {
        let Some(pprof) = profile.body.as_pprof() else {
            return 0;
        };
        let inflated = pprof.claimed_size().min(self.max_inflated);
        match pprof.checked() {
            None => inflated,
            Some(checked) => {
                let weight = request::weigh(&profile.labels, pprof.bytes());
                let passes = checked.broken.is_empty()
                    && self.sample_labels.is_empty()
                    && weight <= self.max_bytes;
                if passes {
                    0
                } else {
                    inflated + checked.decoded
                }
            }
        }
    }

    /// The parts to send for a pprof; the error drops it.
    fn prepare_pprof(&self, profile: Profile) -> Prepared {
        let Body::Pprof(pprof) = profile.body else {
            return Err(Reason::InvalidProfile);
        };
        let pprof = self.mended(&profile.labels, pprof, profile.received)?;
        let labels = self.mended_labels(profile.labels, &pprof);
        let mut parts = Vec::with_capacity(1);
        for (labels, pprof) in self.series(labels, pprof)? {
            self.fit(labels, pprof, profile.received, &mut parts)?;
        }
        Ok(parts)
    }

    /// A part in halves, or in more pieces where halves cannot be had.
    pub(super) fn divide(&self, profile: &Profile) -> Option<Vec<Part>> {
        if let Some(arrow) = profile.body.as_arrow() {
            return self.arrow.divide(profile, arrow);
        }
        let pprof = profile.body.as_pprof()?;
        let part = |bytes| self.part(profile.labels.clone(), Pprof::new(bytes), profile.received);
        let pieces = halves(pprof, self.max_inflated)?;
        pieces.into_iter().map(part).collect::<Result<_, _>>().ok()
    }

    /// The body as it is, or mended; it breaks no rule.
    fn mended(&self, series: &Labels, pprof: Pprof, received: SystemTime) -> Result<Pprof, Reason> {
        let broken = match pprof.check(self.max_inflated) {
            Ok(checked) => checked.broken,
            Err(unreadable) => return Err(self.rules().unreadable(series, unreadable)),
        };
        if broken.is_empty() {
            return Ok(pprof);
        }
        let repaired = pprof
            .read(self.max_inflated, |plain| repair(plain, broken, received))
            .map_err(|unreadable| self.rules().unreadable(series, &unreadable))?
            .map_err(|rule| self.rules().unrepairable(series, rule))?;
        for rule in repaired.applied.iter() {
            self.rules()
                .repaired(series, rule.as_str(), rule.describe());
        }
        Ok(Pprof::known(repaired.bytes, repaired.checked))
    }

    fn mended_labels(&self, labels: Labels, pprof: &Pprof) -> Labels {
        let mended = labels::mend(&labels, || self.name_of(pprof));
        for rule in mended.applied {
            self.rules()
                .repaired(&labels, LabelRule::as_str(rule), rule.describe());
        }
        mended.labels
    }

    /// A name for a profile that has none: its default sample type, else its
    /// first.
    fn name_of(&self, pprof: &Pprof) -> String {
        let summary = pprof.read(self.max_inflated, summarize);
        let Ok(Ok(summary)) = summary else {
            return String::new();
        };
        let first = || summary.sample_types.first().map(|t| t.r#type.clone());
        summary
            .default_sample_type
            .clone()
            .or_else(first)
            .unwrap_or_default()
    }

    /// One series, or one for each combination of `sample_labels`.
    fn series(&self, labels: Labels, pprof: Pprof) -> Result<Vec<(Labels, Pprof)>, Reason> {
        if self.sample_labels.is_empty() {
            return Ok(vec![(labels, pprof)]);
        }
        let split = pprof
            .read(self.max_inflated, |plain| {
                split_by_labels(plain, &self.sample_labels, self.series_limit)
            })
            .and_then(|split| split)
            .map_err(|unreadable| self.rules().unreadable(&labels, &unreadable))?;
        let Some(split) = split else {
            return Ok(vec![(labels, pprof)]);
        };
        if split.capped {
            self.observer.limited(&labels, self.series_limit as u64);
        }
        Ok(split
            .series
            .into_iter()
            .map(|(promoted, bytes)| (labels::promote(&labels, &promoted), Pprof::new(bytes)))
            .collect())
    }

    /// Adds one part, or several where one request cannot hold the body.
    fn fit(
        &self,
        labels: Labels,
        pprof: Pprof,
        received: SystemTime,
        parts: &mut Vec<Part>,
    ) -> Result<(), Reason> {
        let weight = request::weigh(&labels, pprof.bytes());
        if weight <= self.max_bytes {
            parts.push(self.part(labels, pprof, received)?);
            return Ok(());
        }
        let overhead = weight - pprof.bytes().len() as u64;
        let room = self.max_bytes.saturating_sub(overhead).max(1);
        let pieces = pprof
            .read(self.max_inflated, |plain| {
                // A plain body may fit once it is gzip, which loses nothing.
                let gzip = compress(plain);
                if gzip.len() as u64 <= room {
                    return Ok(vec![gzip]);
                }
                split_by_samples(plain, room)
            })
            .and_then(|pieces| pieces)
            .map_err(|unreadable| self.rules().unreadable(&labels, &unreadable))?;
        if pieces.len() > 1 {
            self.observer.divided(&labels, weight, pieces.len());
        }
        for bytes in pieces {
            parts.push(self.part(labels.clone(), Pprof::new(bytes), received)?);
        }
        Ok(())
    }

    fn part(&self, labels: Labels, pprof: Pprof, received: SystemTime) -> Result<Part, Reason> {
        let rows = match pprof.check(self.max_inflated) {
            Ok(checked) => checked.rows,
            Err(unreadable) => return Err(self.rules().unreadable(&labels, unreadable)),
        };
        Ok(Part {
            bytes: request::weigh(&labels, pprof.bytes()),
            rows,
            charge: None,
            profile: Profile {
                labels,
                body: Body::Pprof(pprof),
                received,
            },
        })
    }

    fn rules(&self) -> &RuleObserver {
        self.observer.rules()
    }
}
