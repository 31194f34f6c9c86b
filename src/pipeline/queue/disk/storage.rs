//! The folder that holds the queues of a process, one folder an exporter.
//!
//! ```text
//!  <directory>/lock                 who has it
//!  <directory>/parca~eu/            the queue of exporter parca/eu
//!  <directory>/parca~eu/quarantine/ its damaged records
//! ```
//!
//! - One process at a time has it. Another one waits for `timeout`, as the next
//!   process of a rolling update does, and then ends and says who holds it.
//! - A queue whose exporter is not in the configuration is left as it is, and named.

use super::{
    Disk,
    inspect::Contents,
    keeper::Keeper,
    log::{
        AppendError, Lock, LockError, Log, NewRecord, OpenError, Opened, Options, Snapshot,
        fs::{FileSystem, RealFileSystem, Unsynced},
    },
};
use crate::{
    pipeline::{Budget, Ledger, Queue, QueueSettings, queue::front::Front},
    runtime::blocking,
    settings::{ByteSize, ComponentSettings, Duration, FilePath, Id, Problem},
    telemetry::status::OrphanStatus,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
};
use tracing::{error, info, warn};

/// Keeps queues on disk, so that what was accepted outlives the process. It is on
/// disk before a source hears that it was accepted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct FileStorageSettings {
    /// The folder that holds the queues, one folder an exporter. One process at a
    /// time can use it.
    pub directory: FilePath,
    /// Whether the folder is made when it is not there.
    pub create_directory: bool,
    /// The permissions of folders that are made, in octal.
    pub directory_permissions: String,
    /// How long to wait for another process that has the folder, before ending with
    /// exit code 3. Give it the other's `shutdown_timeout` where one relay replaces
    /// another.
    pub timeout: Duration,
    /// Whether profiles are synced to the disk before they are accepted. Without it
    /// they outlive the process, but not a crash of the machine. With it they are
    /// written past the page cache (O_DIRECT) where the file system can do that.
    pub fsync: bool,
    /// What is left free on the volume: what would leave less is refused, or dropped,
    /// as `on_full` says (reason `storage_full`).
    pub min_free_bytes: ByteSize,
    /// How large a file of a queue grows. A file goes when all that is in it has been
    /// delivered or dropped; a profile larger than this has a file of its own.
    pub segment_bytes: ByteSize,
    /// How many bytes of each queue are kept in memory ahead of delivery.
    pub read_ahead_bytes: ByteSize,
    /// How many bytes of damaged records are kept for each queue; the oldest go.
    pub max_quarantine_bytes: ByteSize,
}

/// A folder of queues that this process has.
#[derive(Debug)]
pub struct Storage {
    id: Id,
    settings: FileStorageSettings,
    files: Arc<dyn FileSystem>,
    /// Folders in use, by name.
    open: Mutex<BTreeSet<String>>,
    _lock: Lock,
}

/// Why a storage or a queue in it cannot be used: the process ends with code 3.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder is not there, or cannot be made or written.
    #[error("{storage}: {folder}: {source}", folder = folder.display())]
    Folder {
        /// The extension.
        storage: Id,
        /// Which.
        folder: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{storage}: {0}", source)]
    Held {
        /// The extension.
        storage: Id,
        /// Who has it.
        source: LockError,
    },
    /// The queue of an exporter cannot be opened.
    #[error("{storage}: the queue of {exporter}: {source}")]
    Queue {
        /// The extension.
        storage: Id,
        /// The exporter.
        exporter: Id,
        /// Why.
        source: OpenError,
    },
    /// The queue of a former exporter of that name is still being emptied.
    #[error("{storage}: the queue of {exporter} is still in use, try again in a moment")]
    Busy {
        /// The extension.
        storage: Id,
        /// The exporter.
        exporter: Id,
    },
    /// The process ends while it is being opened.
    #[error("{storage}: not opened, because the process ends")]
    CutOff {
        /// The extension.
        storage: Id,
    },
    /// No such extension runs.
    #[error("{exporter}: sending_queue.storage: no storage {storage} runs")]
    Missing {
        /// The extension.
        storage: Id,
        /// The exporter.
        exporter: Id,
    },
}

/// What is left on the volume.
pub(super) struct Space {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    min_free: u64,
}

// === impl FileStorageSettings ===

impl Default for FileStorageSettings {
    fn default() -> Self {
        Self {
            directory: FilePath("/var/lib/profile-relay".into()),
            create_directory: true,
            directory_permissions: "0750".to_owned(),
            timeout: Duration::from_secs(1),
            fsync: true,
            min_free_bytes: ByteSize::new(64 << 20),
            segment_bytes: ByteSize::new(16 << 20),
            read_ahead_bytes: ByteSize::new(8 << 20),
            max_quarantine_bytes: ByteSize::new(64 << 20),
        }
    }
}

impl FileStorageSettings {
    fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.directory_permissions, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
    }

    pub(super) fn log_options(&self) -> Options {
        Options {
            segment_bytes: self.segment_bytes.get(),
            quarantine_bytes: self.max_quarantine_bytes.get(),
        }
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let mode = self.mode().unwrap_or(0o750);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder)?;
        // What the umask took away was asked for.
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))
    }
}

impl ComponentSettings for FileStorageSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.directory.0.as_os_str().is_empty() {
            problems.push(Problem::new("directory", "must name a folder"));
        }
        if self.mode().is_none() {
            let message = "must be permissions in octal, like 0750";
            problems.push(Problem::new("directory_permissions", message));
        }
        if self.segment_bytes.get() < 64 << 10 {
            let message = "must be at least 64KiB: a file for every few profiles is no gain";
            problems.push(Problem::new("segment_bytes", message));
        }
        if self.read_ahead_bytes.get() == 0 {
            let message = "must be above 0: nothing would be read back";
            problems.push(Problem::new("read_ahead_bytes", message));
        }
        problems
    }
}

// === impl Storage ===

impl Storage {
    /// Takes the folder for this process; waits for at most `timeout`.
    pub async fn open(id: Id, settings: FileStorageSettings) -> Result<Self, StorageError> {
        let cut_off = StorageError::CutOff {
            storage: id.clone(),
        };
        let opened = blocking(move || Self::open_now(id, settings)).await;
        opened.unwrap_or(Err(cut_off))
    }

    fn open_now(id: Id, settings: FileStorageSettings) -> Result<Self, StorageError> {
        let folder = settings.directory.0.clone();
        let unusable = |source| StorageError::Folder {
            storage: id.clone(),
            folder: folder.clone(),
            source,
        };
        if settings.create_directory {
            settings.make_folder(&folder).map_err(unusable)?;
        }
        fs::read_dir(&folder).map_err(unusable)?;
        let lock = Lock::take(&folder, settings.timeout.get());
        let lock = lock.map_err(|source| StorageError::Held {
            storage: id.clone(),
            source,
        })?;
        let files: Arc<dyn FileSystem> = match settings.fsync {
            true => Arc::new(RealFileSystem),
            false => Arc::new(Unsynced(RealFileSystem)),
        };
        Ok(Self {
            id,
            settings,
            files,
            open: Mutex::default(),
            _lock: lock,
        })
    }

    /// Its id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What it was opened with.
    pub fn settings(&self) -> &FileStorageSettings {
        &self.settings
    }

    /// Opens the queue of an exporter, with all that an earlier process left in it.
    pub async fn queue(
        self: &Arc<Self>,
        exporter: &Id,
        settings: QueueSettings,
        memory: Budget,
    ) -> Result<Queue, StorageError> {
        let (storage, exporter) = (self.clone(), exporter.clone());
        let opened = blocking(move || storage.queue_now(&exporter, settings, memory)).await;
        opened.unwrap_or_else(|| {
            Err(StorageError::CutOff {
                storage: self.id.clone(),
            })
        })
    }

    fn queue_now(
        self: &Arc<Self>,
        exporter: &Id,
        settings: QueueSettings,
        memory: Budget,
    ) -> Result<Queue, StorageError> {
        let ledger = Ledger::new(settings.max_bytes());
        let name = folder_name(exporter);
        if !self.open_folders().insert(name.clone()) {
            return Err(StorageError::Busy {
                storage: self.id.clone(),
                exporter: exporter.clone(),
            });
        }
        let opened = self.open_log(exporter, &name);
        let opened = opened.inspect_err(|_| {
            self.open_folders().remove(&name);
        })?;
        let log = self.recovered(exporter, opened, &ledger);
        let front = Arc::new(Front::new(settings, ledger));
        front.state().on_disk = log.stats().records;
        let (commands, inbox) = mpsc::channel();
        let read_ahead = self.settings.read_ahead_bytes.get();
        let disk = Disk::new(commands, read_ahead.min(memory.reserve() / 2).max(1));
        let space = Space {
            files: self.files.clone(),
            folder: self.settings.directory.0.clone(),
            min_free: self.settings.min_free_bytes.get(),
        };
        let keeper = Keeper::new(
            exporter.clone(),
            log,
            front.clone(),
            disk.weak(),
            memory,
            space,
        );
        let storage = self.clone();
        let thread = std::thread::Builder::new().name(format!("queue {exporter}"));
        let spawned = thread.spawn(move || {
            let closed = keeper.run(&inbox);
            storage.open_folders().remove(&name);
            if let Some(closed) = closed {
                // Whoever hears it may open it again, and may have stopped waiting.
                let _ = closed.send(());
            }
        });
        spawned.map_err(|source| StorageError::Folder {
            storage: self.id.clone(),
            folder: self.settings.directory.0.clone(),
            source,
        })?;
        Ok(Queue::on_disk(front, disk))
    }

    /// The queues in the folder that no exporter of this process uses.
    pub fn orphans(&self) -> Vec<OrphanStatus> {
        let Ok(entries) = fs::read_dir(&self.settings.directory) else {
            return Vec::new();
        };
        let open = self.open_folders().clone();
        let mut orphans: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                if open.contains(&name) || !entry.file_type().ok()?.is_dir() {
                    return None;
                }
                let snapshot = Snapshot::open(self.files.clone(), &entry.path()).ok()?;
                let contents = Contents::of(&snapshot);
                Some(OrphanStatus {
                    exporter: exporter_of(&name),
                    folder: entry.path().display().to_string(),
                    profiles: contents.profiles,
                    bytes: contents.bytes,
                })
            })
            .filter(|orphan| orphan.profiles > 0)
            .collect();
        orphans.sort_by(|one, other| one.exporter.cmp(&other.exporter));
        orphans
    }

    fn open_log(&self, exporter: &Id, name: &str) -> Result<Opened, StorageError> {
        let folder = self.settings.directory.0.join(name);
        let unusable = |source| StorageError::Folder {
            storage: self.id.clone(),
            folder: folder.clone(),
            source,
        };
        self.settings.make_folder(&folder).map_err(unusable)?;
        let opened = Log::open(self.files.clone(), &folder, self.settings.log_options());
        opened.map_err(|source| StorageError::Queue {
            storage: self.id.clone(),
            exporter: exporter.clone(),
            source,
        })
    }

    /// Says what was found, and puts it on the books.
    fn recovered(&self, exporter: &Id, opened: Opened, ledger: &Ledger) -> Log {
        let Opened { log, recovered } = opened;
        ledger.recovered(recovered.profiles, recovered.bytes);
        for unreadable in &recovered.unreadable {
            error!(%exporter, error = %unreadable, "a file of the queue cannot be read, it is left alone");
        }
        for file in &recovered.foreign {
            warn!(%exporter, file = %file.display(), "a file in the queue's folder is none of its own, it is left alone");
        }
        for torn in &recovered.torn {
            info!(
                %exporter,
                file = %torn.path.display(),
                bytes = torn.bytes,
                "the last write to the queue was cut off: it had not been accepted, and is gone"
            );
        }
        if recovered.records > 0 {
            info!(
                %exporter,
                profiles = recovered.profiles,
                bytes = recovered.bytes,
                segments = recovered.segments,
                "profiles were found in the queue and are sent"
            );
        }
        log
    }

    fn open_folders(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of an exporter's queue: an id has no `~`, and a folder's name no `/`.
pub(super) fn folder_name(exporter: &Id) -> String {
    exporter.as_str().replace('/', "~")
}

/// The exporter whose folder it is.
pub(super) fn exporter_of(folder: &str) -> String {
    folder.replace('~', "/")
}

// === impl Space ===

impl Space {
    /// Whether as much is left free as was asked for, once `records` are written.
    pub(super) fn check(&self, records: &[NewRecord]) -> Result<(), AppendError> {
        if self.min_free == 0 {
            return Ok(());
        }
        let bytes: u64 = records.iter().map(NewRecord::stored).sum();
        // A volume that does not say is asked by writing to it.
        let Ok(free) = self.files.free_bytes(&self.folder) else {
            return Ok(());
        };
        if free < self.min_free + bytes {
            let message = format!(
                "{free} bytes are left, and min_free_bytes keeps {}",
                self.min_free
            );
            return Err(AppendError::Full {
                path: self.folder.clone(),
                source: io::Error::other(message),
            });
        }
        Ok(())
    }
}
