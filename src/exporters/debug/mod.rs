//! The `debug` exporter: a line of the log for each profile, as the Collector's
//! debug exporter writes for its signals.
//!
//! | `verbosity` | the line has |
//! |---|---|
//! | `basic` | labels, bytes as they arrived, time of receipt; the body is not read |
//! | `normal` | also sample types with their totals, samples, start and duration |
//! | `detailed` | also functions, mappings, keys of sample labels, comments and the functions with the largest flat values |
//!
//! Lines are sampled as the Collector samples them: of each second the first
//! `sampling_initial`, then every `sampling_thereafter`th. They are written at
//! level info. What is not written is delivered all the same.

mod sampler;

use self::sampler::Sampler;
use crate::{
    exporters::shared::pprofs::AsPprof,
    pipeline::{Budget, Context, ExportError, Exporter, NoMemory},
    profile::{
        Batch, Profile,
        pprof::{FlatValue, LabelKey, SampleTypeTotal, Summary, summarize, top},
    },
    runtime::{blocking, computing},
    settings::{ByteSize, ComponentSettings, Id, Problem},
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt::{self, Display},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{field::display, info};

/// The functions that `detailed` names.
const TOP: usize = 5;

/// Writes a line of the log for each profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct DebugSettings {
    /// How much a line says.
    pub verbosity: Verbosity,
    /// The lines written of each second before sampling begins.
    pub sampling_initial: u64,
    /// After those, every how manieth line is written; 0 is none.
    pub sampling_thereafter: u64,
    /// The largest profile that is read, in bytes when inflated. Of a larger one
    /// the line says so.
    pub max_inflated_bytes: ByteSize,
}

/// How much a line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// Labels, size and time.
    #[default]
    Basic,
    /// Also sample types, totals and samples.
    Normal,
    /// Also the top functions.
    Detailed,
}

struct DebugExporter {
    id: Id,
    verbosity: Verbosity,
    max_inflated: u64,
    convert: AsPprof,
    memory: Budget,
    sampler: Sampler,
}

/// What a look inside told; nothing of it when none was taken.
#[derive(Default)]
struct Inside {
    summary: Option<Summary>,
    top: Vec<FlatValue>,
    error: Option<String>,
}

/// A list in one field.
struct Joined<'a, T>(&'a [T], fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result);

// === impl DebugSettings ===

impl Default for DebugSettings {
    fn default() -> Self {
        Self {
            verbosity: Verbosity::default(),
            sampling_initial: 2,
            sampling_thereafter: 1,
            max_inflated_bytes: ByteSize::new(64 << 20),
        }
    }
}

impl ComponentSettings for DebugSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.sampling_initial == 0 && self.sampling_thereafter == 0 {
            problems.push(Problem::new(
                "sampling_thereafter",
                "nothing would ever be written: raise it or sampling_initial to 1",
            ));
        }
        if self.max_inflated_bytes.get() == 0 {
            problems.push(Problem::new(
                "max_inflated_bytes",
                "say how large an inflated profile may be, as in 64MiB",
            ));
        }
        problems
    }
}

impl DebugSettings {
    /// The exporter, or all that is wrong with its settings.
    pub fn build(self, context: &Context) -> Result<Box<dyn Exporter>, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Box::new(DebugExporter {
            id: context.id.clone(),
            verbosity: self.verbosity,
            max_inflated: self.max_inflated_bytes.get(),
            convert: AsPprof {
                max_inflated: self.max_inflated_bytes.get(),
            },
            memory: context.memory.clone(),
            sampler: Sampler::new(self.sampling_initial, self.sampling_thereafter),
        }))
    }
}

// === impl DebugExporter ===

#[async_trait]
impl Exporter for DebugExporter {
    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        for profile in &batch.profiles {
            if self.sampler.admits(Instant::now()) {
                self.show(profile).await;
            }
        }
        Ok(())
    }
}

impl DebugExporter {
    /// Writes the line of a profile; of an OTLP body, one for each pprof that it
    /// stands for, unless only its labels are asked for.
    async fn show(&self, profile: &Profile) {
        if self.verbosity == Verbosity::Basic {
            return self.log(profile, &Inside::default());
        }
        let (convert, memory, body) = (self.convert, self.memory.clone(), profile.clone());
        let converted = computing(move || convert.all(&[body], &memory)).await;
        let error = match converted.map(|all| all.map(|mut all| all.pop())) {
            Some(Ok(Some(Ok(pprofs)))) => {
                for pprof in &pprofs {
                    let inside = self.look_inside(pprof).await;
                    self.log(pprof, &inside);
                }
                return;
            }
            Some(Ok(Some(Err(error)))) => error.to_string(),
            Some(Err(NoMemory { needed })) => {
                format!("reading it takes {needed} bytes, more than service.memory.limit leaves")
            }
            Some(Ok(None)) | None => return,
        };
        let inside = Inside {
            error: Some(error),
            ..Inside::default()
        };
        self.log(profile, &inside);
    }

    async fn look_inside(&self, profile: &Profile) -> Inside {
        let Some(pprof) = profile.body.as_pprof() else {
            return Inside::default();
        };
        let functions = match self.verbosity {
            Verbosity::Basic => return Inside::default(),
            Verbosity::Normal => 0,
            Verbosity::Detailed => TOP,
        };
        let (pprof, max_inflated) = (pprof.clone(), self.max_inflated);
        blocking(move || {
            let read = pprof.read(max_inflated, |inflated| {
                let summary = summarize(inflated)?;
                let top = match functions {
                    0 => Vec::new(),
                    n => top(inflated, None, n)?,
                };
                Ok((summary, top))
            });
            match read.flatten() {
                Ok((summary, top)) => Inside {
                    summary: Some(summary),
                    top,
                    error: None,
                },
                Err(error) => Inside {
                    error: Some(error.to_string()),
                    ..Inside::default()
                },
            }
        })
        .await
        .unwrap_or_default()
    }

    fn log(&self, profile: &Profile, inside: &Inside) {
        let summary = inside.summary.as_ref();
        let types = summary.map(|s| display(types(&s.sample_types)));
        let time = summary.and_then(|s| start(s.time_nanos)).map(display);
        let duration = summary
            .and_then(|s| duration(s.duration_nanos))
            .map(display);
        let detail = summary.filter(|_| self.verbosity == Verbosity::Detailed);
        let sample_labels = detail
            .filter(|s| !s.label_keys.is_empty())
            .map(|s| display(keys(&s.label_keys)));
        let comments = detail
            .filter(|s| !s.comments.is_empty())
            .map(|s| display(Joined(&s.comments, |text, f| f.write_str(text))));
        let top = detail.map(|_| display(flats(&inside.top)));
        info!(
            exporter = %self.id,
            labels = %profile.labels,
            bytes = profile.body.byte_len(),
            profiles = profile.body.as_otlp().map(|otlp| otlp.profiles()),
            received = %humantime::format_rfc3339_millis(profile.received.max(UNIX_EPOCH)),
            types,
            samples = summary.map(|s| s.samples),
            time,
            duration,
            locations = detail.map(|s| s.locations),
            functions = detail.map(|s| s.functions),
            mappings = detail.map(|s| s.mappings),
            sample_labels,
            comments,
            top,
            error = inside.error.as_deref(),
            "profile"
        );
    }
}

fn types(types: &[SampleTypeTotal]) -> impl Display + '_ {
    Joined(types, |ty, f| {
        write!(f, "{}/{}={}", ty.r#type, ty.unit, ty.total)
    })
}

fn keys(keys: &[LabelKey]) -> impl Display + '_ {
    Joined(keys, |label, f| {
        write!(f, "{}({})", label.key, label.values)
    })
}

fn flats(values: &[FlatValue]) -> impl Display + '_ {
    Joined(values, |value, f| {
        write!(f, "{}={}", value.function, value.flat)
    })
}

/// `None` for an absent time and for one that no calendar has.
fn start(nanos: i64) -> Option<humantime::Rfc3339Timestamp> {
    const YEAR_9999: u64 = 253_402_300_800;
    let since = Duration::from_nanos(u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?);
    let time: SystemTime = UNIX_EPOCH.checked_add(since)?;
    (since.as_secs() < YEAR_9999).then(|| humantime::format_rfc3339_millis(time))
}

fn duration(nanos: i64) -> Option<humantime::FormattedDuration> {
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?;
    Some(humantime::format_duration(Duration::from_nanos(nanos)))
}

// === impl Joined ===

impl<T> Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, item) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            (self.1)(item, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
