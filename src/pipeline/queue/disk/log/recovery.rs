//! Opening the folder of a log.
//!
//! Sealed segments say at their end what they hold; only one that was being
//! written when the log ended is scanned. All of them are looked at before
//! anything is changed, so that a folder of a newer version stays as it is.

use super::{
    Log, Options, Totals,
    acks::Acks,
    append::{Active, allocate},
    direct::Stage,
    format::{Entry, IndexHeader, SegmentHeader, Trailer, VERSION, decode_index, most},
    fs::{Access, File, FileSystem, read_full},
    names::{self, Listing},
    quarantine::Quarantine,
    reader::Reader,
    scan::{Scan, Until, scan},
    segment::Segment,
    upkeep::Retired,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::warn;

/// A log, and what was found in its folder.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What was found.
    pub recovered: Recovered,
}

/// What was found in the folder of a log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Records that are not acknowledged. Those that turn out to be damaged when
    /// they are read are among them.
    pub records: u64,
    /// Their profiles.
    pub profiles: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Segments with such records.
    pub segments: u64,
    /// Writes that had been cut short, and were cut off.
    pub torn: Vec<Torn>,
    /// Segments that could not be read. They stay as they are; a log that is
    /// opened later may read them.
    pub unreadable: Vec<Unreadable>,
    /// Files that are not the log's. They stay as they are.
    pub foreign: Vec<PathBuf>,
}

/// A write that had been cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

/// A segment that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Unreadable {
    /// The segment.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The folder was not opened, and nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version wrote it.
    #[error(
        "{} has format {found}, and this version knows up to {VERSION}: run the version that wrote it until the queue is empty, or name another folder",
        path.display()
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The system refused a step.
    #[error("cannot {step} {}: {source}{}", path.display(), way_out(source))]
    Io {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a segment's file says of itself.
#[derive(Debug)]
pub(super) struct Inspected {
    /// Whether its header is sound.
    pub(super) has_header: bool,
    pub(super) body: Body,
}

/// How a segment ends.
#[derive(Debug)]
pub(super) enum Body {
    Sealed(Trailer),
    Open(Scan),
}

// === impl Log ===

impl Log {
    /// Opens the folder of a log, which is made where it is missing. The caller
    /// sees to it that nobody else has it open ([`Lock`](super::Lock)).
    pub fn open(
        fs: Arc<dyn FileSystem>,
        folder: &Path,
        options: Options,
    ) -> Result<Opened, OpenError> {
        let failed = |step, source| OpenError::Io {
            step,
            path: folder.into(),
            source,
        };
        fs.create_folder(folder).map_err(|e| failed("create", e))?;
        let listing = Listing::read(&*fs, folder).map_err(|e| failed("list", e))?;
        refuse_newer(&*fs, folder, &listing)?;
        let mut log = Self::empty(fs, folder, options, &listing);
        let mut recovered = Recovered::default();
        for sequence in listing.segments.keys() {
            if let Err(source) = log.recover(*sequence, &listing, &mut recovered.torn) {
                let path = names::segment(folder, *sequence);
                recovered.unreadable.push(Unreadable { path, source });
            }
        }
        log.retire_orphans(&listing);
        recovered.foreign = listing.foreign;
        recovered.records = log.totals.records;
        recovered.profiles = log.totals.profiles;
        recovered.bytes = log.totals.bytes;
        recovered.segments = log.ready.len() as u64;
        Ok(Opened { log, recovered })
    }

    fn empty(fs: Arc<dyn FileSystem>, folder: &Path, options: Options, listing: &Listing) -> Self {
        let quarantine = folder.join(names::QUARANTINE);
        let quarantine = Quarantine::open(Arc::clone(&fs), quarantine, options.quarantine_bytes);
        // No name comes twice, so that what was set aside keeps its meaning.
        let files = listing.segments.keys().chain(listing.acks.keys()).copied();
        let highest = files.chain(quarantine.highest_segment()).max();
        Self {
            reader: Reader::new(Arc::clone(&fs), folder.into(), Some(quarantine)),
            fs,
            folder: folder.into(),
            options,
            segments: BTreeMap::new(),
            ready: BTreeSet::new(),
            stuck: BTreeSet::new(),
            active: None,
            stage: Stage::default(),
            drawn: None,
            next_sequence: highest.map_or(0, |highest| highest.saturating_add(1)),
            totals: Totals::default(),
            retired: Vec::new(),
            unsynced: Vec::new(),
            // Whoever had it open may have ended before it was synced.
            is_folder_dirty: !listing.acks.is_empty(),
        }
    }

    fn recover(
        &mut self,
        sequence: u64,
        listing: &Listing,
        torn: &mut Vec<Torn>,
    ) -> io::Result<()> {
        let path = names::segment(&self.folder, sequence);
        let file = self.fs.open(&path, Access::Read)?;
        let file_bytes = file.bytes()?;
        let inspected = inspect(&*file, file_bytes)?;
        let mut segment = Segment::found(sequence, &inspected.body, file_bytes);
        if listing.acks.contains_key(&sequence) {
            recover_acks(&*self.fs, &self.folder, &mut segment)?;
        }
        self.reader.keep(sequence, file);
        match inspected.body {
            Body::Sealed(_) => {
                if segment.acks.highest.is_some() {
                    segment.load(locate(&self.reader, &segment)?);
                }
                self.take_in(segment);
            }
            Body::Open(scan) => {
                if scan.torn > 0 {
                    torn.push(Torn {
                        path,
                        offset: scan.end,
                        bytes: scan.torn,
                    });
                }
                let is_last = listing.segments.keys().next_back() == Some(&sequence);
                let may_go_on = is_last
                    && inspected.has_header
                    && scan.end < self.options.segment_bytes
                    && !scan.entries.iter().any(|entry| entry.lost);
                segment.end = scan.end;
                segment.load(scan.entries);
                // A number that was acknowledged must not be given again.
                let may_go_on = may_go_on && !segment.acks_reach_on();
                self.take_in_open(segment, may_go_on);
            }
        }
        Ok(())
    }

    /// Takes in a segment; nothing is left of one that is done with.
    fn take_in(&mut self, segment: Segment) {
        let sequence = segment.sequence;
        self.totals += segment.live;
        self.segments.insert(sequence, segment);
        self.note(sequence);
        _ = self.finish(sequence);
        self.relax(sequence);
    }

    /// Takes in a segment that was not sealed: to be written on, or else sealed.
    fn take_in_open(&mut self, mut segment: Segment, may_go_on: bool) {
        let sequence = segment.sequence;
        if segment.live.records > 0 {
            let path = names::segment(&self.folder, sequence);
            let opened = self.fs.open(&path, Access::Write).and_then(|file| {
                file.truncate(segment.end)?;
                Ok(file)
            });
            match opened {
                Ok(file) => {
                    let whole = self.options.segment_bytes;
                    segment.file_bytes = segment.end;
                    let mut direct = None;
                    if may_go_on {
                        segment.file_bytes = allocate(&*file, whole, segment.end);
                        direct = self.direct(&path, &*file, segment.end);
                    }
                    self.active = Some(Active {
                        sequence,
                        file,
                        direct,
                    });
                }
                Err(error) => {
                    warn!(segment = sequence, %error, "a segment of the queue can only be read");
                }
            }
        }
        self.take_in(segment);
        if let Some(active) = self.active.take_if(|_| !may_go_on) {
            self.seal(active);
        }
    }

    /// Lets go of acknowledgements whose segment is gone.
    fn retire_orphans(&mut self, listing: &Listing) {
        for (sequence, bytes) in &listing.acks {
            if !listing.segments.contains_key(sequence) {
                self.retired.push(Retired {
                    sequence: *sequence,
                    bytes: *bytes,
                });
            }
        }
    }
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => ": let the relay's user write there",
        ErrorKind::ReadOnlyFilesystem => ": name a folder on a writable file system",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": make room on the volume",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ": name a folder, not a file or a path through one"
        }
        _ => "",
    }
}

/// Sees that no segment has a newer format.
pub(super) fn refuse_newer(
    fs: &dyn FileSystem,
    folder: &Path,
    listing: &Listing,
) -> Result<(), OpenError> {
    for sequence in listing.segments.keys() {
        let path = names::segment(folder, *sequence);
        // What cannot be read now cannot be changed either.
        let file = fs.open(&path, Access::Read);
        let header = file.and_then(|file| read_header(&*file));
        if let Ok(Some(header)) = header
            && header.version > VERSION
        {
            return Err(OpenError::Newer {
                path,
                found: header.version,
            });
        }
    }
    Ok(())
}

/// Learns what is acknowledged of a segment whose records are not loaded yet.
pub(super) fn recover_acks(
    fs: &dyn FileSystem,
    folder: &Path,
    segment: &mut Segment,
) -> io::Result<()> {
    let path = names::acks(folder, segment.sequence);
    let file = fs.open(&path, Access::Read)?;
    let (tag, highest) = (segment.tag, most(segment.file_bytes));
    segment.acks = Acks::read(&*file, tag, |number| {
        // Of more records than can be there none needs to be known.
        if u64::from(number) <= highest {
            segment.mark_acked(number);
        }
    })?;
    Ok(())
}

/// Finds out what a segment's file holds.
pub(super) fn inspect(file: &dyn File, file_bytes: u64) -> io::Result<Inspected> {
    let header = read_header(file)?;
    let tag = header.map(|header| header.tag);
    let mut bytes = [0; Trailer::BYTES];
    let trailer = match file_bytes.checked_sub(Trailer::BYTES as u64) {
        Some(offset) => {
            read_full(file, &mut bytes, offset)?;
            Trailer::decode(&bytes, file_bytes)
        }
        None => None,
    };
    let trailer = trailer.filter(|trailer| tag.is_none_or(|tag| tag == trailer.tag));
    let body = match trailer {
        Some(trailer) => Body::Sealed(trailer),
        None => Body::Open(scan(file, tag, Until::AtMost(file_bytes))?),
    };
    Ok(Inspected {
        has_header: header.is_some(),
        body,
    })
}

fn read_header(file: &dyn File) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SegmentHeader::BYTES];
    read_full(file, &mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// Where a segment's records are: its index says so, and where that is damaged,
/// or there is none, they are searched for.
pub(super) fn locate(reader: &Reader, segment: &Segment) -> io::Result<Vec<Entry>> {
    let file = reader.segment(segment.sequence)?;
    if segment.is_sealed {
        if let Some(entries) = read_index(&*file, segment)? {
            return Ok(entries);
        }
        warn!(
            segment = segment.sequence,
            "the index of a segment is damaged: it is scanned"
        );
    }
    let mut entries = scan(&*file, Some(segment.tag), Until::Exactly(segment.end))?.entries;
    account(&mut entries, segment);
    Ok(entries)
}

/// Records and profiles that were counted and cannot be found keep their place,
/// in records that are lost, until their reader was told.
fn account(entries: &mut Vec<Entry>, segment: &Segment) {
    let sound = entries.iter().filter(|entry| !entry.lost);
    let found: Totals = sound.map(Totals::of).sum();
    let missing = segment.whole.profiles.saturating_sub(found.profiles);
    let has_lost = found.records < entries.len() as u64;
    let wanted = segment
        .whole
        .records
        .max(u64::from(missing > 0 && !has_lost));
    while (entries.len() as u64) < wanted {
        let last = entries.last();
        entries.push(Entry {
            number: last.map_or(0, |last| last.number.saturating_add(1)),
            lost: true,
            offset: segment.end,
            at_ms: last.map_or(0, |last| last.at_ms),
            ..Entry::default()
        });
    }
    let lost = entries.iter_mut().filter(|entry| entry.lost);
    for (index, entry) in lost.enumerate() {
        entry.profiles = if index == 0 { missing } else { 0 };
    }
}

pub(super) fn read_index(file: &dyn File, segment: &Segment) -> io::Result<Option<Vec<Entry>>> {
    let bytes = segment.whole.records * Entry::BYTES as u64;
    let bytes = bytes + IndexHeader::BYTES as u64;
    // The trailer said so, whose file is longer than that.
    let mut index = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    let read = read_full(file, &mut index, segment.end)?;
    index.truncate(read);
    let entries = decode_index(&index, segment.tag, segment.end);
    Ok(entries.filter(|entries| entries.iter().map(Totals::of).sum::<Totals>() == segment.whole))
}
