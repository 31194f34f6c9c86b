//! What `scrape` says about one answer of a target.

use crate::{
    profile::pprof::{self, Action, Pprof, Summary},
    receivers::pprof::ScrapeOutcome,
};
use serde::Serialize;
use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

/// The most an answer is inflated to here, in bytes.
const MAX_INFLATED: u64 = 512 << 20;

/// One answer of a target, told.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    url: String,
    status: Option<u16>,
    content_type: Option<String>,
    bytes: usize,
    seconds: f64,
    /// Why there is no profile.
    error: Option<String>,
    profile: Option<Summary>,
    inflated_bytes: u64,
    /// What would be repaired before sending, by rule.
    repairs: Vec<String>,
    /// The rule that makes sending impossible.
    dropped_by: Option<String>,
    /// What Parca calls the profile types in it.
    parca_types: Vec<String>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(url: &str, name: &str, outcome: &ScrapeOutcome) -> Self {
        let body = Pprof::new(outcome.body.clone());
        let profile = pprof::inflate(body.bytes(), MAX_INFLATED)
            .and_then(|inflated| pprof::summarize(&inflated))
            .ok()
            .filter(|_| outcome.result.is_ok());
        let broken: Vec<_> = outcome
            .result
            .iter()
            .flat_map(|checked| checked.broken.iter())
            .collect();
        let tell = |rule: &pprof::Rule| format!("{}: {}", rule.as_str(), rule.describe());
        Self {
            url: url.to_owned(),
            status: outcome.status.map(|status| status.as_u16()),
            content_type: outcome.content_type.clone(),
            bytes: outcome.body.len(),
            seconds: outcome.took.as_secs_f64(),
            error: outcome.result.as_ref().err().cloned(),
            inflated_bytes: outcome.result.as_ref().map_or(0, |c| c.inflated),
            repairs: broken
                .iter()
                .filter(|rule| rule.action() == Action::Repair)
                .map(tell)
                .collect(),
            dropped_by: broken
                .iter()
                .find(|rule| rule.action() == Action::Drop)
                .map(tell),
            parca_types: profile
                .iter()
                .flat_map(|profile| parca_types(name, profile))
                .collect(),
            profile,
        }
    }

    pub(super) fn render(&self, json: bool) -> String {
        if json {
            return serde_json::to_string_pretty(self).unwrap_or_default();
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let status = self.status.map_or("no answer".into(), |s| s.to_string());
        writeln!(out, "url          {}", self.url)?;
        writeln!(
            out,
            "answer       {status}, {} bytes, {}, in {:.0} ms",
            self.bytes,
            self.content_type.as_deref().unwrap_or("no content-type"),
            self.seconds * 1e3
        )?;
        if let Some(error) = &self.error {
            return writeln!(out, "error        {error}");
        }
        if let Some(profile) = &self.profile {
            self.write_profile(profile, out)?;
        }
        match (&self.dropped_by, self.repairs.as_slice()) {
            (Some(rule), _) => writeln!(out, "not sendable {rule}"),
            (None, []) => writeln!(out, "repairs      none: it is sent byte for byte"),
            (None, repairs) => repairs
                .iter()
                .try_for_each(|rule| writeln!(out, "repair       {rule}")),
        }?;
        for shown in &self.parca_types {
            writeln!(out, "in Parca     {shown}")?;
        }
        Ok(())
    }

    fn write_profile(&self, profile: &Summary, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "found        a pprof of {} bytes inflated: {} samples, {} locations, {} functions, {} mappings",
            self.inflated_bytes,
            profile.samples,
            profile.locations,
            profile.functions,
            profile.mappings
        )?;
        writeln!(out, "time         {}", time(profile.time_nanos))?;
        match profile.duration_nanos {
            0 => writeln!(out, "duration     none: a snapshot, not a delta")?,
            nanos => writeln!(out, "duration     {:.3} s: a delta", nanos as f64 / 1e9)?,
        }
        for ty in &profile.sample_types {
            writeln!(
                out,
                "type         {}/{}, {} in all",
                ty.r#type, ty.unit, ty.total
            )?;
        }
        if let Some(period) = &profile.period_type {
            writeln!(out, "period       {} {period}", profile.period)?;
        }
        for label in &profile.label_keys {
            writeln!(
                out,
                "label        {} ({} values): on samples; Parca drops it unless sample_labels names it",
                label.key, label.values
            )?;
        }
        for comment in &profile.comments {
            writeln!(out, "comment      {comment}")?;
        }
        Ok(())
    }
}

fn time(nanos: i64) -> String {
    let Ok(nanos) = u64::try_from(nanos) else {
        return format!("{nanos} ns, before 1970");
    };
    if nanos == 0 {
        return "none: the time of the scrape is taken".into();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The names under which Parca lists the types of a profile, once repaired.
fn parca_types(name: &str, profile: &Summary) -> Vec<String> {
    let period = profile
        .period_type
        .as_deref()
        .filter(|period| !period.starts_with('/') && !period.ends_with('/'));
    let first = profile.sample_types.first();
    let fallback = first.map_or(String::new(), |ty| format!("{}:{}", ty.r#type, ty.unit));
    let period = period.map_or(fallback, |period| period.replacen('/', ":", 1));
    let delta = if profile.is_delta { ":delta" } else { "" };
    let types = profile.sample_types.iter();
    types
        .map(|ty| format!("{name}:{}:{}:{period}{delta}", ty.r#type, ty.unit))
        .collect()
}
