//! Whether the files of a configuration are still those that were read.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

/// A file of the configuration, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadFile {
    /// Where it is.
    pub path: PathBuf,
    /// Of its content; `None` when it could not be read.
    digest: Option<u64>,
}

// === impl ReadFile ===

impl ReadFile {
    /// A file with the content it had.
    pub(super) fn new(path: impl Into<PathBuf>, content: &[u8]) -> Self {
        Self {
            path: path.into(),
            digest: Some(digest(content)),
        }
    }

    /// Whether it could be read.
    pub fn is_there(&self) -> bool {
        self.digest.is_some()
    }

    /// Reads a file for its content. Blocks.
    pub fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            digest: std::fs::read(path).ok().map(|content| digest(&content)),
        }
    }
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
