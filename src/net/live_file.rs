//! Files whose content may change while the process runs: tokens, passwords,
//! certificates.
//!
//! A file is looked at when its content is asked for, at most once a second,
//! and read again when its modification time, change time, size or inode
//! differ. There is no watcher: looking on use needs no thread and no inotify
//! watch, follows the symbolic links that Kubernetes swaps, works on network
//! file systems, and costs nothing while nobody asks. What cannot be read, or
//! is empty because somebody is just writing it, leaves the last good content
//! in place and is logged once per change.

use arc_swap::ArcSwap;
use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How often a file is looked at. Tests look every time.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 1_000 });

/// A small text file, kept current. Cheap to clone; clones share the content.
#[derive(Clone)]
pub struct LiveFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    every: Duration,
    content: ArcSwap<Arc<str>>,
    check: Mutex<Check>,
}

struct Check {
    at: Instant,
    stamp: Option<FileStamp>,
}

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

// === impl LiveFile ===

impl LiveFile {
    /// Reads `path` for the first time. Fails when it cannot be read, is empty,
    /// or is no UTF-8.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::open_checking(path.into(), CHECK_EVERY)
    }

    fn open_checking(path: PathBuf, every: Duration) -> io::Result<Self> {
        let stamp = FileStamp::of(&path);
        let content = read(&path)?;
        Ok(Self(Arc::new(Inner {
            path,
            every,
            content: ArcSwap::from_pointee(content),
            check: Mutex::new(Check {
                at: Instant::now(),
                stamp,
            }),
        })))
    }

    /// The content as of at most a second ago, without trailing line ends.
    pub fn current(&self) -> Arc<str> {
        self.0.refresh();
        self.0.content.load().as_ref().clone()
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Debug for LiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveFile({})", self.0.path.display())
    }
}

// === impl Inner ===

impl Inner {
    fn refresh(&self) {
        // Who finds the lock taken uses what there is: somebody is looking.
        let mut check = match self.check.try_lock() {
            Ok(check) => check,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if check.at.elapsed() < self.every {
            return;
        }
        check.at = Instant::now();
        let stamp = FileStamp::of(&self.path);
        if stamp == check.stamp {
            return;
        }
        check.stamp = stamp;
        match read(&self.path) {
            Ok(content) if content == **self.content.load() => {}
            Ok(content) => {
                self.content.store(Arc::new(content));
                info!(path = %self.path.display(), "read again");
            }
            Err(error) => warn!(
                path = %self.path.display(),
                %error,
                "cannot read it again, its last content stays in use"
            ),
        }
    }
}

fn read(path: &Path) -> io::Result<Arc<str>> {
    let text = std::fs::read_to_string(path)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        content => Ok(content.into()),
    }
}

// === impl FileStamp ===

impl FileStamp {
    /// The stamp of the file behind `path`, links followed; `None` when there is
    /// none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn new_content_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let file = LiveFile::open(&path).unwrap();
        assert_eq!(&*file.current(), "one");
        fs::write(&path, "two\r\n\n").unwrap();
        assert_eq!(&*file.current(), "two");
    }

    #[test]
    fn a_swapped_symbolic_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        for (version, content) in [("v1", "old"), ("v2", "new")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("token"), content).unwrap();
        }
        let data = folder.path().join("..data");
        symlink("v1", &data).unwrap();
        symlink("..data/token", folder.path().join("token")).unwrap();
        let file = LiveFile::open(folder.path().join("token")).unwrap();
        assert_eq!(&*file.current(), "old");
        let next = folder.path().join("..data_tmp");
        symlink("v2", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert_eq!(&*file.current(), "new");
    }

    #[test]
    fn what_is_gone_empty_or_binary_leaves_the_last_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "good").unwrap();
        let file = LiveFile::open(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(&*file.current(), "good");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(&*file.current(), "good");
        fs::remove_file(&path).unwrap();
        assert_eq!(&*file.current(), "good");
        fs::write(&path, "back").unwrap();
        assert_eq!(&*file.current(), "back");
    }

    #[test]
    fn the_file_is_not_looked_at_more_often_than_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let file = LiveFile::open_checking(path.clone(), Duration::from_secs(3_600)).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(&*file.current(), "one");
    }

    #[test]
    fn a_missing_or_empty_file_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(LiveFile::open(&path).is_err());
        fs::write(&path, "\n").unwrap();
        assert!(LiveFile::open(&path).is_err());
    }
}
