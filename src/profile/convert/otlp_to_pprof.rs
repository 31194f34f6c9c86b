//! OTLP → pprof: the profiles of a resource as pprofs that every store takes.
//!
//! The layout is that of opentelemetry-proto 1.10, the pprof's format google/pprof's
//! `profile.proto`. What leaves breaks none of [`crate::profile::pprof::Rule`].
//!
//! | of OTLP | becomes |
//! |---|---|
//! | profiles of one scope with equal time, duration, period, period type and attributes, each of another sample type | one pprof with several sample types (at most 32), in the order of `pprof.scope.sample_type_order` |
//! | any other profile | a pprof of its own |
//! | samples with equal stack, attributes and link | one sample, added up |
//! | `values` without timestamps | their sum |
//! | timestamps without `values` | their number: each counts 1 |
//! | `values` with timestamps | the sum of the values; the timestamps are lost, except that the earliest stands in for a profile's missing time |
//! | stack, location, address, lines with inlined ones, columns, functions with system name, file and start line | kept; a line without a function goes, a function without any text is called `[unknown]` |
//! | mapping | kept; the build id is the first there is of `process.executable.build_id.gnu`, `.go` and `.htlhash`, `pprof.mapping.has_*` are the flags, other attributes are lost |
//! | `pprof.location.is_folded` | the flag |
//! | `profile.frame.type` | of a location without a mapping: a mapping called after it, `[cpython]`, and `[kernel.kallsyms]` for `kernel`; otherwise lost, as are other attributes of locations |
//! | attribute of a sample | label of the sample: a string, or a number with its unit; an array gives a label for each value; other types as text by OpenTelemetry's rules (bytes in base64, maps and arrays within arrays as JSON) |
//! | link | labels `trace_id` and `span_id` of the sample, in hex |
//! | attribute that is listed in [`PprofOptions::series_attributes`] | label of the series: one pprof for each combination of values |
//! | `pprof.profile.comment`, `.drop_frames`, `.keep_frames`, `.doc_url` | the pprof's fields |
//! | `pprof.scope.default_sample_type` | the default sample type, when it is one of the pprof's |
//! | other attributes of profile and scope | labels of every sample |
//! | time | kept; 0 or beyond the year 2262: the earliest timestamp, else the time of receipt |
//! | duration | kept: one other than 0 is a delta profile to Parca |
//! | sample and period type | kept, made such that queries take them: characters outside `[a-zA-Z0-9_]` become `_`, an empty type `unknown`, an empty unit `count`; an empty period type becomes the default sample type, else the first |
//! | labels of the resource | labels of the series, unchanged |
//! | `scope.name` | label `__name__`, other characters than `[a-zA-Z0-9_]` as `_` and no digit in front; empty: the default sample type, else the first. A `__name__` among the labels of the resource wins |
//!
//! Where the same key comes several times, Parca's own order counts: sample,
//! profile, scope, resource, later wins. A listed attribute that the resource has
//! too stays a label of the sample.
//!
//! Lost: timestamps, profile ids, schema URLs, scope versions, dropped counts,
//! entities, attributes of the resource that are no labels, empty strings, and a
//! sample of value 0 with neither stack nor attributes.
//!
//! Instead of all this the original payload is used, byte for byte, when
//! [`PprofOptions::original_payload`] says so, no `series_attributes` are listed,
//! and it is a pprof that breaks no rule and has the sample types of the profiles
//! it stands for.

use super::{
    ConvertError,
    budget::Budget,
    frame::{Frame, Scope, safe},
    group::{Group, groups},
    lookup::Lookup,
    payload,
    rows::{Identity, Rows},
    series::{Division, Promotion, Sets},
    writer::Writer,
};
use crate::{
    r#gen::opentelemetry::proto::profiles::v1development::{
        ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
    },
    profile::{
        Labels, NAME,
        pprof::{Pprof, check, compress},
    },
};
use std::time::SystemTime;

/// About what a pprof takes in memory beside its bytes.
const OVERHEAD: usize = 512;

/// How OTLP profiles become pprofs.
#[derive(Clone, Debug)]
pub struct PprofOptions<'a> {
    /// Stands in for a time that nobody told.
    pub received: SystemTime,
    /// The bytes that all pprofs of a resource may have before compression,
    /// original payloads included.
    pub max_inflated: u64,
    /// Keys of attributes that become labels of series.
    pub series_attributes: &'a [String],
    /// The series that one pprof may become; further samples keep their attributes.
    pub max_series: usize,
    /// Whether an original payload is used: not when somebody edited what it would
    /// stand for.
    pub original_payload: bool,
    /// Whether to compress, gzip level 1. An original payload stays as it is.
    pub gzip: bool,
}

/// A pprof and whom it is about.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The labels of the resource, and `__name__`.
    pub labels: Labels,
    /// The pprof.
    pub pprof: Pprof,
    /// The OTLP profiles it stands for: over all pprofs of a resource, all of the
    /// resource's. Of several series the first stands for them.
    pub profiles: u64,
    /// Whether samples kept attributes that would have made too many series.
    pub capped: bool,
}

/// What is the same for all profiles of a resource.
struct Conversion<'a> {
    lookup: Lookup<'a>,
    labels: &'a Labels,
    options: &'a PprofOptions<'a>,
    promotion: Promotion<'a>,
}

/// The pprofs so far.
struct Out {
    budget: Budget,
    /// Whether original payloads may be used.
    payloads: bool,
    converted: Vec<Converted>,
}

/// A group, ready to be written.
struct Whole<'a> {
    frame: Frame<'a>,
    /// Labels of all series.
    fixed: Vec<(&'a str, String)>,
    rows: Rows,
    sets: Sets,
    division: Division<'a>,
}

/// The pprofs that the profiles of a resource are. `labels` are the resource's as
/// they are now. Order is that of the profiles.
pub fn to_pprof(
    labels: &Labels,
    resource: &ResourceProfiles,
    dictionary: &ProfilesDictionary,
    options: &PprofOptions<'_>,
) -> Result<Vec<Converted>, ConvertError> {
    let conversion = Conversion {
        lookup: Lookup::new(dictionary)?,
        labels,
        options,
        promotion: Promotion::new(options.series_attributes, options.max_series, labels),
    };
    let mut out = Out {
        budget: Budget::new(options.max_inflated),
        payloads: options.original_payload && options.series_attributes.is_empty(),
        converted: Vec::new(),
    };
    for scope in &resource.scope_profiles {
        conversion.scope(scope, &mut out)?;
    }
    Ok(out.converted)
}

// === impl Conversion ===

impl<'a> Conversion<'a> {
    fn scope(&self, profiles: &'a ScopeProfiles, out: &mut Out) -> Result<(), ConvertError> {
        let scope = Scope::read(self.lookup, profiles, &mut out.budget)?;
        for mut group in groups(profiles) {
            group.restore_order(&scope.order, profiles.profiles.len());
            self.group(&scope, &group, out)?;
        }
        Ok(())
    }

    fn group(
        &self,
        scope: &Scope<'a>,
        group: &Group<'a>,
        out: &mut Out,
    ) -> Result<(), ConvertError> {
        // Labels are written anew for each.
        out.budget.charge(self.overhead(scope))?;
        let mut frame = Frame::read(
            self.lookup,
            scope,
            group,
            self.options.received,
            &mut out.budget,
        )?;
        let profiles = group.profiles.len() as u64;
        let name = self.name(scope, &frame);
        let (budget, usable) = (&mut out.budget, &mut out.payloads);
        if let Some(pprof) = payload::original(group, &frame.types, budget, usable) {
            out.converted.push(Converted {
                labels: self.labels_with(&name, &[], &[]),
                pprof,
                profiles,
                capped: false,
            });
            return Ok(());
        }
        let fixed = frame.promote(&self.promotion);
        let (rows, sets) = self.rows(group)?;
        let mut whole = Whole {
            frame,
            fixed,
            rows,
            sets,
            division: Division::default(),
        };
        let is_fixed = |key: &str| whole.is_fixed(key);
        whole.division = self.promotion.divide(self.lookup, &whole.sets, is_fixed)?;
        self.series((&name, self.overhead(scope)), &whole, profiles, out)
    }

    /// A pprof for each series.
    fn series(
        &self,
        (name, overhead): (&str, usize),
        whole: &Whole<'a>,
        profiles: u64,
        out: &mut Out,
    ) -> Result<(), ConvertError> {
        let division = &whole.division;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); division.series.len()];
        for (place, (identity, _)) in whole.rows.iter().enumerate() {
            members[division.of_set[identity.set as usize]].push(place);
        }
        let mut stands_for = profiles;
        for (series, members) in members.iter().enumerate() {
            // Profiles without samples are one pprof without samples.
            let is_only = series == 0 && whole.rows.len() == 0;
            if members.is_empty() && !is_only {
                continue;
            }
            let plain = self.write(whole, series, members, &out.budget)?;
            out.budget.charge(plain.len() + overhead)?;
            out.converted.push(Converted {
                labels: self.labels_with(name, &whole.fixed, &division.series[series]),
                pprof: self.finish(plain)?,
                profiles: std::mem::take(&mut stands_for),
                capped: division.capped,
            });
        }
        Ok(())
    }

    /// What a pprof of a scope takes beside its bytes.
    fn overhead(&self, scope: &Scope<'_>) -> usize {
        OVERHEAD + self.labels.byte_len() + 32 * self.labels.len() + scope.name.len()
    }

    fn rows(&self, group: &Group<'a>) -> Result<(Rows, Sets), ConvertError> {
        let samples = group.iter().map(|p| p.samples.len()).max().unwrap_or(0);
        let mut rows = Rows::new(group.profiles.len(), samples);
        let mut sets = Sets::new();
        for (place, profile) in group.iter().enumerate() {
            for sample in &profile.samples {
                let value = total(sample);
                let identity = Identity {
                    stack: self.lookup.has_stack(sample.stack_index)?,
                    set: sets.place(&sample.attribute_indices),
                    link: self.lookup.has_link(sample.link_index)?,
                };
                // What a profile without samples is given so that it is sent at all.
                let is_nothing = identity.stack | identity.set | identity.link == 0;
                if value != 0 || !is_nothing {
                    let sum = &mut rows.row(identity)[place];
                    *sum = sum.saturating_add(value);
                }
            }
        }
        Ok((rows, sets))
    }

    /// The pprof of one series, not compressed.
    fn write(
        &self,
        whole: &Whole<'a>,
        series: usize,
        members: &[usize],
        budget: &Budget,
    ) -> Result<Vec<u8>, ConvertError> {
        let mut writer = Writer::new(self.lookup, members.len(), *budget);
        whole.frame.write(&mut writer);
        let mut common = Vec::new();
        for extra in whole.frame.extras.values() {
            common.extend_from_slice(&writer.labels(extra));
        }
        // In the first series are samples beyond the cap: they keep their labels.
        let is_promoted = |key: &str| series > 0 && self.promotion.place(key).is_some();
        let is_left_out = |key: &str| whole.is_fixed(key) || is_promoted(key);
        for member in members {
            let (identity, values) = whole.rows.at(*member);
            let set = &whole.sets.indices[identity.set as usize];
            let place = (identity.stack, identity.link);
            writer.sample(place, values, set, &common, &is_left_out)?;
        }
        writer.finish()
    }

    fn finish(&self, plain: Vec<u8>) -> Result<Pprof, ConvertError> {
        let checked = check(&plain)?;
        if let Some(rule) = checked.broken.iter().next() {
            return Err(ConvertError::Broken(rule));
        }
        let bytes = match self.options.gzip {
            true => compress(&plain),
            false => plain.into(),
        };
        Ok(Pprof::known(bytes, checked))
    }

    fn name(&self, scope: &Scope<'_>, frame: &Frame<'_>) -> String {
        if let Some(name) = self.labels.name() {
            return name.to_owned();
        }
        let name = match scope.name {
            "" => frame.name(),
            name => safe(name),
        };
        match name.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("_{name}"),
            false => name.into_owned(),
        }
    }

    fn labels_with(
        &self,
        name: &str,
        fixed: &[(&str, String)],
        series: &[(&str, String)],
    ) -> Labels {
        let mut labels = self.labels.edit();
        for (key, value) in fixed.iter().chain(series) {
            labels.set(key, value);
        }
        labels.set(NAME, name);
        labels.build()
    }
}

// === impl Whole ===

impl Whole<'_> {
    /// Whether what samples say of this key does not count.
    fn is_fixed(&self, key: &str) -> bool {
        self.frame.extras.contains_key(key) || self.fixed.iter().any(|(name, _)| *name == key)
    }
}

/// What a sample adds to its row.
fn total(sample: &Sample) -> i64 {
    match sample.values.as_slice() {
        [value] => *value,
        [] => sample.timestamps_unix_nano.len() as i64,
        values => values
            .iter()
            .fold(0, |sum, value| sum.saturating_add(*value)),
    }
}
