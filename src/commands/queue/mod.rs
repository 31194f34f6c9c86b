//! `queue`: what waits on disk, without the relay or beside it.
//!
//! Everything but `purge` only reads, so it may be asked at any time. A record is
//! what one call of a receiver handed over: one profile as a rule, all profiles of
//! an OTLP request.

mod export;
mod text;

use self::text::{Table, age, size};
use super::{Exit, complain, print, reject};
use crate::{
    components,
    pipeline::{self, FileStorageSettings, StoredQueue},
    settings::{self, Duration, FilePath, Id, Loaded, Sources},
};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use std::{path::PathBuf, time::SystemTime};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the queues: exporters, profiles, bytes, ages
    Ls {
        #[command(flatten)]
        place: Place,
        /// One JSON array instead of text
        #[arg(long)]
        json: bool,
    },
    /// List what waits in one queue, the oldest first
    Show {
        #[command(flatten)]
        place: Place,
        /// The exporter whose queue it is
        exporter: Id,
        /// How many records
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: usize,
        /// One JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Copy what waits to files, or to another exporter; the queue keeps it
    Export(export::Arguments),
    /// Remove what waits for longer than a time; the relay must not be running
    Purge {
        #[command(flatten)]
        place: Place,
        /// The exporter whose queue it is
        exporter: Id,
        /// Remove what was accepted longer ago than this: 24h, 30m; 0s for everything
        #[arg(long, value_name = "DURATION")]
        older_than: Duration,
    },
    /// Read everything and say what is damaged
    Verify {
        #[command(flatten)]
        place: Place,
        /// The exporter whose queue it is [default: all]
        exporter: Option<Id>,
    },
}

/// Where the queues are.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["configs", "directory"])))]
struct Place {
    /// A configuration: its file_storage extensions say where the queues are
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    configs: Vec<String>,
    /// Set one key over all files
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "configs")]
    sets: Vec<String>,
    /// The folder of a file_storage extension
    #[arg(long, short = 'd', value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// The folders to look into.
struct Found {
    storages: Vec<FileStorageSettings>,
    /// The configuration, if it says which.
    loaded: Option<Loaded>,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    match arguments.action {
        Action::Ls { place, json } => place.with(|found| ls(found, json)),
        Action::Show {
            place,
            exporter,
            limit,
            json,
        } => place.with(|found| show(found, &exporter, limit, json)),
        Action::Export(arguments) => arguments.run(),
        Action::Purge {
            place,
            exporter,
            older_than,
        } => place.with(|found| purge(found, &exporter, older_than)),
        Action::Verify { place, exporter } => place.with(|found| verify(found, exporter.as_ref())),
    }
}

fn ls(found: &Found, json: bool) -> Result<Exit, String> {
    let mut table = Table::new(["EXPORTER", "PROFILES", "BYTES", "OLDEST", "NEWEST", ""]);
    let mut rows = Vec::new();
    for queue in found.queues(None)? {
        let contents = queue.contents();
        let orphaned = !found.is_used(queue.exporter());
        rows.push(json!({
            "exporter": queue.exporter(),
            "folder": queue.folder(),
            "records": contents.records,
            "profiles": contents.profiles,
            "bytes": contents.bytes,
            "oldest": contents.oldest.map(rfc3339),
            "newest": contents.newest.map(rfc3339),
            "configured": !orphaned,
        }));
        table.row([
            queue.exporter().to_owned(),
            contents.profiles.to_string(),
            size(contents.bytes),
            contents.oldest.map(age).unwrap_or_default(),
            contents.newest.map(age).unwrap_or_default(),
            if orphaned {
                "not in the configuration"
            } else {
                ""
            }
            .to_owned(),
        ]);
    }
    Ok(print(&if json {
        format!("{:#}", json!(rows))
    } else if rows.is_empty() {
        "there are no queues".to_owned()
    } else {
        table.to_string()
    }))
}

fn show(found: &Found, exporter: &Id, limit: usize, json: bool) -> Result<Exit, String> {
    let mut table = Table::new(["RECORD", "AGE", "PROFILES", "BYTES", "FROM", "LABELS"]);
    let mut lines = String::new();
    for queue in found.queues(Some(exporter))? {
        for record in queue.records().take(limit) {
            let (from, labels) = match queue.read(&record) {
                Ok(batch) => {
                    let labels = batch.profiles.iter().map(|p| p.labels.to_string());
                    (batch.origin.receiver.to_string(), labels.collect())
                }
                Err(damage) => (String::new(), vec![damage]),
            };
            let line = json!({
                "record": record.to_string(),
                "accepted": rfc3339(record.accepted()),
                "profiles": record.profiles(),
                "bytes": record.bytes(),
                "receiver": from,
                "labels": labels,
            });
            lines.push_str(&format!("{line}\n"));
            let more = match labels.len() {
                0 | 1 => String::new(),
                many => format!(" and {} more", many - 1),
            };
            table.row([
                record.to_string(),
                age(record.accepted()),
                record.profiles().to_string(),
                size(record.bytes()),
                from,
                format!("{}{more}", labels.into_iter().next().unwrap_or_default()),
            ]);
        }
        let all = queue.contents().records;
        if !json && all > limit as u64 {
            table.note(format!(
                "{} more: --limit shows more of them",
                all - limit as u64
            ));
        }
    }
    Ok(print(&if json { lines } else { table.to_string() }))
}

fn purge(found: &Found, exporter: &Id, older_than: Duration) -> Result<Exit, String> {
    let before = SystemTime::now().checked_sub(older_than.get());
    let before = before.ok_or("--older-than is further back than time goes")?;
    let mut purged = 0;
    for storage in found.storages_of(exporter)? {
        purged += pipeline::purge(storage, exporter, before)?;
    }
    Ok(print(&format!("{purged} profiles removed")))
}

fn verify(found: &Found, exporter: Option<&Id>) -> Result<Exit, String> {
    let mut text = String::new();
    let mut damages = 0;
    for queue in found.queues(exporter)? {
        let found = queue.verify();
        damages += found.len();
        if found.is_empty() {
            let records = queue.contents().records;
            text.push_str(&format!(
                "{}: {records} records are whole\n",
                queue.exporter()
            ));
        }
        for damage in found {
            text.push_str(&format!("{}: {damage}\n", queue.exporter()));
        }
    }
    match (print(&text), damages) {
        (Exit::Done, 1..) => Ok(Exit::Failed),
        (exit, _) => Ok(exit),
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

// === impl Place ===

impl Place {
    /// Finds the folders and does something with them.
    fn with(&self, work: impl FnOnce(&Found) -> Result<Exit, String>) -> Exit {
        match self.find() {
            Ok(found) => work(&found).unwrap_or_else(|error| complain(Exit::Failed, error)),
            Err(exit) => exit,
        }
    }

    fn find(&self) -> Result<Found, Exit> {
        let mut storages = Vec::new();
        let mut loaded = None;
        if let Some(directory) = &self.directory {
            storages.push(FileStorageSettings {
                directory: FilePath(directory.clone()),
                ..FileStorageSettings::default()
            });
        }
        if !self.configs.is_empty() {
            let sources = Sources::new(self.configs.clone(), self.sets.clone());
            let found = settings::load(&sources, &components::catalogue());
            let found = found.map_err(|report| reject(&report))?;
            if storages.is_empty() {
                let all = components::storages(&found).map_err(|report| reject(&report))?;
                storages.extend(all.into_iter().map(|(_, settings)| settings));
            }
            loaded = Some(found);
        }
        if storages.is_empty() {
            let message =
                "the configuration runs no file_storage extension, so no queue is on disk";
            return Err(complain(Exit::BadConfiguration, message));
        }
        Ok(Found { storages, loaded })
    }
}

// === impl Found ===

impl Found {
    /// All queues, or those of one exporter.
    fn queues(&self, exporter: Option<&Id>) -> Result<Vec<StoredQueue>, String> {
        let mut queues = Vec::new();
        match exporter {
            Some(exporter) => {
                for storage in self.storages_of(exporter)? {
                    queues.push(StoredQueue::open(&storage.directory.0, exporter)?);
                }
            }
            None => {
                for storage in &self.storages {
                    let directory = &storage.directory.0;
                    let all = StoredQueue::all(directory)
                        .map_err(|error| format!("{}: {error}", directory.display()))?;
                    for queue in all {
                        queues.push(queue?);
                    }
                }
            }
        }
        Ok(queues)
    }

    /// The folders that have a queue of `exporter`.
    fn storages_of(&self, exporter: &Id) -> Result<Vec<&FileStorageSettings>, String> {
        let has = |storage: &&FileStorageSettings| {
            StoredQueue::open(&storage.directory.0, exporter).is_ok()
        };
        let found: Vec<_> = self.storages.iter().filter(has).collect();
        match (found.is_empty(), self.storages.first()) {
            // Says why.
            (true, Some(first)) => {
                StoredQueue::open(&first.directory.0, exporter)?;
                Ok(found)
            }
            _ => Ok(found),
        }
    }

    /// Whether the configuration, if there is one, has the exporter.
    fn is_used(&self, exporter: &str) -> bool {
        self.loaded.as_ref().is_none_or(|loaded| {
            let mut exporters = loaded.settings.exporters.keys();
            exporters.any(|id| id.as_str() == exporter)
        })
    }
}
