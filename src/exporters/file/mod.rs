//! The `file` exporter: one `.pb.gz` per profile in a folder, for `go tool
//! pprof` and for keeping.
//!
//! A file's name says when and what:
//! `20261122T184501.123Z_api_10.1.2.3-6060_process_cpu.pb.gz` is the time of
//! receipt in UTC, then the labels `job`, `instance` and `__name__`, as far as
//! they are there. All labels are inside, as pprof comments `label job=api`.
//!
//! | module | is |
//! |---|---|
//! | `name` | names of files, and which names are the exporter's own |
//! | `folder` | writing, counting and rotating |
//!
//! A file is delivered once its bytes are synced and it has its name. Files are
//! written one at a time, each in a request of its own, so that trying again
//! after an error writes nothing twice.

mod folder;
mod name;

use self::folder::Folder;
use crate::{
    exporters::shared::pprofs::AsPprof,
    pipeline::{Budget, Context, ExportError, Exporter, Limits, NoMemory, Part, Prepared, Reason},
    profile::{
        Batch, Body, Labels, Profile,
        pprof::{Pprof, Unreadable, compress, with_comments},
    },
    runtime::blocking,
    settings::{ByteSize, ComponentSettings, Duration, FilePath, Id, Problem},
};
use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use tracing::warn;

/// Writes each profile to a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct FileSettings {
    /// The folder. It is created when it is missing, and belongs to this
    /// exporter alone: two that share one rotate each other's files.
    pub directory: FilePath,
    /// What is kept.
    pub rotation: RotationSettings,
    /// The largest profile that is written, in bytes when inflated. A larger one
    /// is dropped.
    pub max_inflated_bytes: ByteSize,
}

/// What is kept of the files: before one is written, the oldest ones go until it
/// fits. Only files that carry the exporter's own kind of name are ever removed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct RotationSettings {
    /// The most files; 0 is without a limit.
    pub max_files: u64,
    /// The most bytes of all files together.
    pub max_bytes: ByteSize,
    /// How long a file is kept after it was written; 0 is without a limit.
    /// Looked at when a file is written, and at start.
    pub max_age: Duration,
}

struct FileExporter {
    id: Id,
    folder: Arc<Folder>,
    max_inflated: u64,
    max_bytes: u64,
}

// === impl FileSettings ===

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            directory: FilePath::default(),
            rotation: RotationSettings::default(),
            max_inflated_bytes: ByteSize::new(64 << 20),
        }
    }
}

impl ComponentSettings for FileSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.directory.0.as_os_str().is_empty() {
            problems.push(Problem::new(
                "directory",
                "name the folder that profiles are written to",
            ));
        }
        if self.rotation.max_bytes.get() == 0 {
            problems.push(Problem::new(
                "rotation.max_bytes",
                "say how many bytes the files may take together, as in 256MiB",
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

impl FileSettings {
    /// The exporter, or all that is wrong with its settings. Creates the folder
    /// and reads what is in it.
    pub fn build(self, context: &Context) -> Result<Box<dyn Exporter>, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let max_bytes = self.rotation.max_bytes.get();
        let folder = Folder::open(self.directory.0, self.rotation, SystemTime::now())
            .map_err(|error| vec![Problem::new("directory", error.to_string())])?;
        Ok(Box::new(FileExporter {
            id: context.id.clone(),
            folder: Arc::new(folder),
            max_inflated: self.max_inflated_bytes.get(),
            max_bytes,
        }))
    }
}

// === impl RotationSettings ===

impl Default for RotationSettings {
    fn default() -> Self {
        Self {
            max_files: 1_000,
            max_bytes: ByteSize::new(256 << 20),
            max_age: Duration::from_secs(24 * 3_600),
        }
    }
}

// === impl FileExporter ===

#[async_trait]
impl Exporter for FileExporter {
    fn prepare(&self, profiles: &[Profile], memory: &Budget) -> Result<Vec<Prepared>, NoMemory> {
        let convert = AsPprof {
            max_inflated: self.max_inflated,
        };
        let all = convert.all(profiles, memory)?.into_iter();
        Ok(all
            .map(|pprofs| match pprofs {
                Ok(pprofs) => pprofs.into_iter().map(|p| self.part(p)).collect(),
                Err(error) => {
                    warn!(exporter = %self.id, %error, "a body gives no pprof");
                    Err(error.reason())
                }
            })
            .collect())
    }

    async fn export(&self, batch: &Batch) -> Result<(), ExportError> {
        let folder = self.folder.clone();
        let profiles = batch.profiles.clone();
        let written = blocking(move || {
            let pprofs = profiles
                .iter()
                .filter_map(|profile| Some((profile, profile.body.as_pprof()?)));
            pprofs.into_iter().try_for_each(|(profile, pprof)| {
                let stem = name::stem(&profile.labels, profile.received);
                folder.store(&stem, pprof.bytes(), SystemTime::now())
            })
        });
        match written.await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(ExportError::Retry {
                after: None,
                cause: error.to_string(),
            }),
            None => Err(ExportError::Unsent),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            parts: 1,
            ..Limits::default()
        }
    }
}

impl FileExporter {
    fn part(&self, mut profile: Profile) -> Result<Part, Reason> {
        let pprof = profile.body.as_pprof().ok_or(Reason::InvalidProfile)?;
        let bytes = annotated(pprof.bytes(), &profile.labels, self.max_inflated)?;
        if bytes.len() as u64 > self.max_bytes {
            return Err(Reason::TooLarge);
        }
        profile.body = Body::Pprof(Pprof::new(bytes));
        Ok(Part::whole(profile))
    }
}

/// The body as gzip, with its labels as comments.
fn annotated(body: &Bytes, labels: &Labels, max_inflated: u64) -> Result<Bytes, Reason> {
    let comments: Vec<String> = labels
        .iter()
        .map(|label| format!("label {}={}", label.name, label.value))
        .collect();
    let bytes = with_comments(body, &comments, max_inflated).map_err(|error| match error {
        Unreadable::TooLarge { .. } => Reason::TooLarge,
        _ => Reason::InvalidProfile,
    })?;
    Ok(if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes
    } else {
        compress(&bytes)
    })
}

#[cfg(test)]
mod tests;
