//! Looking into the queues of a folder, for the `queue` command.
//!
//! Reading changes nothing and needs no lock, so it works beside the process that
//! has the folder. Only [`purge`] takes the lock.

use super::{
    log::{
        Damage, Lock, Log, Meta, Order, Snapshot,
        fs::{FileSystem, RealFileSystem},
    },
    record,
    storage::{FileStorageSettings, exporter_of, folder_name},
};
use crate::{pipeline::Budget, profile::Batch, settings::Id};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The queue of one exporter as it is on disk.
#[derive(Debug)]
pub struct StoredQueue {
    exporter: String,
    folder: PathBuf,
    snapshot: Snapshot,
}

/// A record of a queue: what one call of a receiver handed over.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord(Meta);

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records.
    pub records: u64,
    /// The profiles in them.
    pub profiles: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was accepted.
    pub oldest: Option<SystemTime>,
    /// When the newest was accepted.
    pub newest: Option<SystemTime>,
}

// === impl StoredQueue ===

impl StoredQueue {
    /// All queues in a folder, by exporter.
    pub fn all(directory: &Path) -> io::Result<Vec<Result<Self, String>>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        let open = |name: String| Self::open_folder(exporter_of(&name), directory.join(name));
        Ok(names.into_iter().map(open).collect())
    }

    /// The queue of one exporter.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn open(directory: &Path, exporter: &Id) -> Result<Self, String> {
        let folder = directory.join(folder_name(exporter));
        if !folder.is_dir() {
            return Err(format!(
                "{}: there is no queue of {exporter}: profile-relay queue ls shows which there are",
                directory.display()
            ));
        }
        Self::open_folder(exporter.to_string(), folder)
    }

    fn open_folder(exporter: String, folder: PathBuf) -> Result<Self, String> {
        let files: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
        let snapshot = Snapshot::open(files, &folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self {
            exporter,
            folder,
            snapshot,
        })
    }

    /// The exporter it is of.
    pub fn exporter(&self) -> &str {
        &self.exporter
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn contents(&self) -> Contents {
        Contents::of(&self.snapshot)
    }

    /// Its records, the oldest first.
    pub fn records(&self) -> impl Iterator<Item = StoredRecord> + '_ {
        whole(&self.snapshot).map(StoredRecord)
    }

    /// What was accepted as one record.
    pub fn read(&self, record: &StoredRecord) -> Result<Batch, String> {
        let payload = self.snapshot.read(&record.0);
        let payload = payload.map_err(|error| error.to_string())?;
        let unlimited = Budget::new(u64::MAX).try_take(0);
        let permit = unlimited.ok_or("no memory")?;
        record::batch(payload, permit).map_err(|error| error.to_string())
    }

    /// Reads everything, and says what is damaged.
    pub fn verify(&self) -> Vec<String> {
        let damages = self.snapshot.verify().damage;
        let say = |damage: &Damage| {
            format!(
                "{} at {}: {}",
                damage.path.display(),
                damage.offset,
                damage.what
            )
        };
        let mut said: Vec<_> = damages.iter().map(say).collect();
        if said.is_empty() {
            // What is whole may still be no batch.
            said = self
                .records()
                .filter_map(|record| Some(format!("{record}: {}", self.read(&record).err()?)))
                .collect();
        }
        said
    }
}

/// Removes what was accepted before `before`; returns how many profiles.
///
/// # Errors
///
/// When another process has the folder, or it cannot be written.
pub fn purge(
    settings: &FileStorageSettings,
    exporter: &Id,
    before: SystemTime,
) -> Result<u64, String> {
    let directory = &settings.directory.0;
    StoredQueue::open(directory, exporter)?;
    let _lock = Lock::take(directory, Duration::ZERO).map_err(|error| {
        format!("{error}: stop it first, or let sending_queue.max_age remove what is old")
    })?;
    let folder = directory.join(folder_name(exporter));
    let opened = Log::open(Arc::new(RealFileSystem), &folder, settings.log_options());
    let mut log = opened
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .log;
    let mut purged = 0;
    while let Some(meta) = log.next(Order::OldestFirst) {
        if accepted(&meta) < before {
            purged += meta.profiles;
            log.ack(&[meta]).map_err(|error| error.to_string())?;
        }
    }
    log.close().map_err(|error| error.to_string())?;
    Ok(purged)
}

fn accepted(meta: &Meta) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(meta.at_ms)
}

// === impl StoredRecord ===

impl StoredRecord {
    /// When it was accepted.
    pub fn accepted(&self) -> SystemTime {
        accepted(&self.0)
    }

    /// What it counts for.
    pub fn profiles(&self) -> u64 {
        self.0.profiles
    }

    /// What it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.0.stored
    }
}

impl std::fmt::Display for StoredRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.id.fmt(f)
    }
}

// === impl Contents ===

impl Contents {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut contents = Self::default();
        for meta in whole(snapshot) {
            contents.records += 1;
            contents.profiles += meta.profiles;
            contents.bytes += meta.stored;
            let at = accepted(&meta);
            contents.oldest = Some(contents.oldest.map_or(at, |oldest| oldest.min(at)));
            contents.newest = contents.newest.max(Some(at));
        }
        contents
    }
}

/// The records that can be found. What cannot is told by `verify`.
fn whole(snapshot: &Snapshot) -> impl Iterator<Item = Meta> + '_ {
    snapshot.records().filter_map(Result::ok)
}
