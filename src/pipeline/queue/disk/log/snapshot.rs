//! Looks at the folder of a log, also beside the process that has it open.
//!
//! Nothing is changed. What goes meanwhile is passed over, what comes meanwhile
//! may be seen or not.

use super::{
    Meta, OpenError, ReadError, Reader,
    fs::FileSystem,
    names::{self, Listing},
    recovery::{Body, Inspected, inspect, locate, read_index, recover_acks, refuse_newer},
    segment::Segment,
};
use bytes::Bytes;
use std::{
    borrow::Cow,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How often a segment that is being written is looked at again.
const LOOKS: usize = 3;

/// The folder of a log, as it is found.
#[derive(Debug)]
pub struct Snapshot {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    listing: Listing,
    reader: Reader,
}

/// What reading every byte has shown.
#[derive(Debug, Default)]
pub struct Verification {
    /// Sound records, acknowledged or not.
    pub records: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// What is not sound.
    pub damage: Vec<Damage>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is damaged, and what that means.
    pub what: Cow<'static, str>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Looks at a folder.
    pub fn open(fs: Arc<dyn FileSystem>, folder: &Path) -> Result<Self, OpenError> {
        let listing = Listing::read(&*fs, folder).map_err(|source| OpenError::Io {
            step: "list",
            path: folder.into(),
            source,
        })?;
        refuse_newer(&*fs, folder, &listing)?;
        Ok(Self {
            reader: Reader::new(Arc::clone(&fs), folder.into(), None),
            fs,
            folder: folder.into(),
            listing,
        })
    }

    /// All records that are not acknowledged, in the order in which they were
    /// appended. One segment's are in memory at a time.
    pub fn records(&self) -> impl Iterator<Item = Result<Meta, ReadError>> + '_ {
        let sequences = self.listing.segments.keys();
        sequences.flat_map(|sequence| match self.segment(*sequence) {
            Ok(segment) => {
                let live = segment.iter().flat_map(Segment::live_entries);
                live.map(|entry| Ok(entry.meta(*sequence))).collect()
            }
            Err(source) => vec![Err(ReadError::Io {
                path: names::segment(&self.folder, *sequence),
                offset: 0,
                source,
            })],
        })
    }

    /// The payload of a record.
    pub fn read(&self, meta: &Meta) -> Result<Bytes, ReadError> {
        self.reader.read(meta)
    }

    /// Files that are not the log's.
    pub fn foreign(&self) -> &[PathBuf] {
        &self.listing.foreign
    }

    /// Reads every record, acknowledged or not, and all that says where they are.
    pub fn verify(&self) -> Verification {
        let mut found = Verification::default();
        for sequence in self.listing.segments.keys() {
            if let Err(error) = self.verify_segment(*sequence, &mut found) {
                let path = names::segment(&self.folder, *sequence);
                found.note(&path, 0, format!("it cannot be read: {error}"));
            }
        }
        found
    }

    fn verify_segment(&self, sequence: u64, found: &mut Verification) -> io::Result<()> {
        let path = names::segment(&self.folder, sequence);
        let Some((segment, inspected)) = self.inspect(sequence)? else {
            return Ok(());
        };
        if !inspected.has_header {
            found.note(&path, 0, "the header is damaged; nothing is lost");
        }
        match &inspected.body {
            Body::Sealed(_) => {
                let file = self.reader.segment(sequence)?;
                if read_index(&*file, &segment)?.is_none() {
                    found.note(
                        &path,
                        segment.end,
                        "the index is damaged; the segment is scanned",
                    );
                }
            }
            Body::Open(scan) if scan.has_index => {
                found.note(
                    &path,
                    segment.end,
                    "the trailer is damaged; the segment is scanned",
                );
            }
            // The last segment may be just being written.
            Body::Open(scan) if scan.torn > 0 && !self.is_last(sequence) => {
                let what = format!("a write was cut short: {} bytes", scan.torn);
                found.note(&path, segment.end, what);
            }
            Body::Open(_) => {}
        }
        if let Some(offset) = segment.acks.damaged {
            let path = names::acks(&self.folder, sequence);
            found.note(
                &path,
                offset,
                "an acknowledgement is damaged; its record is sent again",
            );
        }
        for entry in self.load(segment, inspected.body)?.entries() {
            match self.reader.read(&entry.meta(sequence)) {
                Ok(_) => {
                    found.records += 1;
                    found.bytes += entry.stored;
                }
                Err(ReadError::Gone { .. }) => {}
                Err(ReadError::Damaged { offset, .. }) => {
                    found.note(&path, offset, "a record is damaged");
                }
                Err(ReadError::Io { offset, source, .. }) => {
                    found.note(&path, offset, format!("a record cannot be read: {source}"));
                }
            }
        }
        Ok(())
    }

    /// A segment and where its records are; `None` when it is gone.
    fn segment(&self, sequence: u64) -> io::Result<Option<Segment>> {
        match self.inspect(sequence)? {
            Some((segment, inspected)) => self.load(segment, inspected.body).map(Some),
            None => Ok(None),
        }
    }

    fn inspect(&self, sequence: u64) -> io::Result<Option<(Segment, Inspected)>> {
        let file = match self.reader.segment(sequence) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let file_bytes = file.bytes()?;
        let mut inspected = inspect(&*file, file_bytes)?;
        for _ in 0..LOOKS {
            // Half of what is just being written looks like damage.
            match &inspected.body {
                Body::Open(scan) if scan.entries.iter().any(|entry| entry.lost) => {
                    inspected = inspect(&*file, file.bytes()?)?;
                }
                _ => break,
            }
        }
        let mut segment = Segment::found(sequence, &inspected.body, file_bytes);
        match recover_acks(&*self.fs, &self.folder, &mut segment) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(Some((segment, inspected))),
        }
    }

    fn load(&self, mut segment: Segment, body: Body) -> io::Result<Segment> {
        let entries = match body {
            Body::Sealed(_) => locate(&self.reader, &segment)?,
            Body::Open(scan) => scan.entries,
        };
        segment.load(entries);
        Ok(segment)
    }

    fn is_last(&self, sequence: u64) -> bool {
        self.listing.segments.keys().next_back() == Some(&sequence)
    }
}

// === impl Verification ===

impl Verification {
    fn note(&mut self, path: &Path, offset: u64, what: impl Into<Cow<'static, str>>) {
        self.damage.push(Damage {
            path: path.into(),
            offset,
            what: what.into(),
        });
    }
}
