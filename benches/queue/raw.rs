//! The disk without anything around it: one thread that writes and syncs.

use crate::{Result, args::Kind, request};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) records: u64,
    pub(crate) seconds: f64,
}

/// A file is as large as this, then another one is begun.
const FILE: u64 = 256 << 20;
/// What is written past the page cache is aligned like this.
const BLOCK: usize = 4096;

/// Writes `together` records and syncs them, again and again. All of that is
/// measured, the change of files included.
pub(crate) fn run(folder: &Path, together: usize, kind: Kind, length: Duration) -> Result<Written> {
    let records = vec![0xa5; together * request::BYTES + BLOCK];
    let aligned = records.as_ptr().align_offset(BLOCK);
    let records = &records[aligned..aligned + together * request::BYTES];
    let bytes = records.len() as u64;
    let (start, mut written, mut offset) = (Instant::now(), 0, 0);
    let mut paths = Vec::new();
    let mut file = begin(folder, &mut paths, kind)?;
    while start.elapsed() < length {
        if offset + bytes > FILE {
            file = begin(folder, &mut paths, kind)?;
            offset = 0;
        }
        file.write_all_at(records, offset)?;
        file.sync_data()?;
        offset += bytes;
        written += together as u64;
    }
    let seconds = start.elapsed().as_secs_f64();
    for path in paths {
        fs::remove_file(path)?;
    }
    Ok(Written {
        records: written,
        seconds,
    })
}

fn begin(folder: &Path, paths: &mut Vec<PathBuf>, kind: Kind) -> Result<File> {
    let path = folder.join(format!("raw-{}", paths.len()));
    let mut options = File::options();
    if kind == Kind::Direct {
        options.custom_flags(OFlags::DIRECT.bits() as i32);
    }
    let file = options.write(true).create_new(true).open(&path)?;
    paths.push(path);
    if kind != Kind::Append {
        fallocate(&file, FallocateFlags::empty(), 0, FILE)?;
    }
    Ok(file)
}
