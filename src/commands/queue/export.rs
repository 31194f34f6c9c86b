//! `queue export`: copies what waits to files, or to another exporter.

use super::{Found, Place};
use crate::{
    commands::{Exit, print},
    components::{self, Shared},
    pipeline::{Budget, ExportError, Exporter, StoredQueue},
    profile::{Batch, Profile},
    settings::{Id, Node},
};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The exporter whose queue it is
    exporter: Id,
    #[command(flatten)]
    to: To,
}

/// Where it is copied to.
#[derive(clap::Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct To {
    /// Write one .pb.gz file a profile into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Send to this exporter of the configuration
    #[arg(long, value_name = "EXPORTER", requires = "configs")]
    to_exporter: Option<Id>,
}

/// What became of it.
#[derive(Default)]
struct Tally {
    copied: u64,
    failed: u64,
    last_error: Option<String>,
}

// === impl Arguments ===

impl Arguments {
    pub(super) fn run(&self) -> Exit {
        self.place.with(|found| {
            let target = self.to.exporter(found)?;
            let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
            let mut tally = Tally::default();
            for queue in found.queues(Some(&self.exporter))? {
                runtime.block_on(copy(&queue, &*target, &mut tally));
            }
            if let Some(error) = tally.last_error {
                let Tally { copied, failed, .. } = tally;
                return Err(format!("{copied} profiles copied, {failed} not: {error}"));
            }
            Ok(print(&format!(
                "{} profiles copied; the queue keeps them, profile-relay queue purge removes them",
                tally.copied
            )))
        })
    }
}

// === impl To ===

impl To {
    fn exporter(&self, found: &Found) -> Result<Arc<dyn Exporter>, String> {
        let shared = Shared::new(Budget::new(u64::MAX));
        let built = match (&self.to_exporter, &self.to) {
            (Some(id), _) => {
                let exporters = found
                    .loaded
                    .as_ref()
                    .map(|loaded| &loaded.settings.exporters);
                let node = exporters.and_then(|exporters| exporters.get(id));
                let node = node.ok_or_else(|| format!("the configuration has no exporter {id}"))?;
                components::exporter(id.kind(), node, &shared)
            }
            (None, folder) => {
                let folder = folder.clone().unwrap_or_default();
                let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
                // Nothing of a copy is to go again.
                let text = format!(
                    "directory: {folder:?}\nrotation: {{max_files: 0, max_bytes: 1000000TiB, max_age: 0s}}\n"
                );
                Node::from_text("--to", &text)
                    .and_then(|settings| components::exporter("file", &settings, &shared))
            }
        };
        built.map_err(|report| report.to_string())
    }
}

/// Copies a queue, record by record, and goes on after what does not pass.
async fn copy(queue: &StoredQueue, target: &dyn Exporter, tally: &mut Tally) {
    let all = queue.contents().profiles;
    let mut progress = Progress::new(all);
    for record in queue.records() {
        let result = match queue.read(&record) {
            Ok(batch) => send(target, batch).await,
            Err(damage) => Err(damage),
        };
        match result {
            Ok(()) => tally.copied += record.profiles(),
            Err(error) => {
                tally.failed += record.profiles();
                tally.last_error = Some(format!("{record}: {error}"));
            }
        }
        progress.show(tally.copied + tally.failed);
    }
    progress.end();
}

/// One attempt to send a record, in requests as large as the exporter takes.
async fn send(target: &dyn Exporter, batch: Batch) -> Result<(), String> {
    let prepared = target.prepare(&batch.profiles, &Budget::new(u64::MAX));
    let prepared = prepared.map_err(|_| "there is no memory to prepare it".to_owned())?;
    let limits = target.limits();
    let mut waiting: Vec<Profile> = Vec::new();
    let mut bytes = 0;
    for parts in prepared {
        for part in parts.map_err(|reason| reason.describe().to_owned())? {
            if !waiting.is_empty()
                && (waiting.len() >= limits.parts || bytes + part.bytes > limits.bytes)
            {
                export(target, &batch, std::mem::take(&mut waiting)).await?;
                bytes = 0;
            }
            bytes += part.bytes;
            waiting.push(part.profile);
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    export(target, &batch, waiting).await
}

async fn export(target: &dyn Exporter, of: &Batch, profiles: Vec<Profile>) -> Result<(), String> {
    target
        .export(&Batch::new(of.origin.clone(), profiles))
        .await
        .map_err(|error: ExportError| error.to_string())
}

/// A line on a terminal that says how far it is.
struct Progress {
    all: u64,
    shown: Option<Instant>,
    wanted: bool,
}

// === impl Progress ===

impl Progress {
    fn new(all: u64) -> Self {
        Self {
            all,
            shown: None,
            wanted: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, done: u64) {
        let due = |shown: Instant| shown.elapsed() > Duration::from_millis(200);
        if self.wanted && self.shown.is_none_or(due) {
            self.shown = Some(Instant::now());
            let _ = write!(std::io::stderr(), "\r{done} of {} profiles", self.all);
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
