//! The names of the log's files.

use super::fs::FileSystem;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

/// The folder of damaged records, inside the log's folder.
pub(super) const QUARANTINE: &str = "quarantine";

/// What is in the folder of a log.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Bytes of the segments' files, by sequence number.
    pub(super) segments: BTreeMap<u64, u64>,
    /// Bytes of the acknowledgements' files, by sequence number.
    pub(super) acks: BTreeMap<u64, u64>,
    /// Files that are not the log's.
    pub(super) foreign: Vec<PathBuf>,
}

/// `<20 digits>.segment`
pub(super) fn segment(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:020}.segment"))
}

/// `<20 digits>.acks`
pub(super) fn acks(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:020}.acks"))
}

/// `<segment>-<offset>.record`
pub(super) fn damaged(quarantine: &Path, sequence: u64, offset: u64) -> PathBuf {
    quarantine.join(format!("{sequence:020}-{offset}.record"))
}

/// The segment and the offset in the name of a damaged record.
pub(super) fn parse_damaged(name: &OsStr) -> Option<(u64, u64)> {
    let (sequence, offset) = name.to_str()?.strip_suffix(".record")?.split_once('-')?;
    Some((parse_sequence(sequence)?, offset.parse().ok()?))
}

fn parse_sequence(digits: &str) -> Option<u64> {
    let is_ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = digits.parse().ok().filter(|_| is_ours);
    // One that leaves no room for others to follow was not given by us.
    sequence.filter(|sequence| *sequence < u64::MAX / 2)
}

// === impl Listing ===

impl Listing {
    pub(super) fn read(fs: &dyn FileSystem, folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs.list(folder)? {
            let name = entry.name.to_str().and_then(|name| name.rsplit_once('.'));
            let ours = name.and_then(|(stem, kind)| Some((parse_sequence(stem)?, kind)));
            match ours {
                Some((sequence, "segment")) if entry.is_file => {
                    listing.segments.insert(sequence, entry.bytes);
                }
                Some((sequence, "acks")) if entry.is_file => {
                    listing.acks.insert(sequence, entry.bytes);
                }
                _ if entry.name == QUARANTINE && !entry.is_file => {}
                _ => listing.foreign.push(folder.join(&entry.name)),
            }
        }
        listing.foreign.sort();
        Ok(listing)
    }
}
