//! A file system in memory that fails, fills up and forgets as it is told.
//!
//! Of each file and folder it knows what is synced and what is not. A crash keeps
//! what is synced, and of the rest some: all, what came first, or any sectors and
//! names. What was written before a sync that failed may be lost even when a
//! later sync succeeds, as with Linux.

use super::{Access, Entry, File, FileSystem};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SECTOR: usize = 512;
/// What is written past the page cache; small, as segments of tests are.
const BLOCK: usize = 128;

/// A file system in memory; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct MemoryFileSystem(Arc<Mutex<State>>);

/// What calls were made, since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Files opened.
    pub(crate) opens: u64,
    /// Bytes read.
    pub(crate) read: u64,
    /// Writes.
    pub(crate) writes: u64,
    /// Syncs of files.
    pub(crate) syncs: u64,
    /// Syncs of folders.
    pub(crate) folder_syncs: u64,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    Truncate,
    Remove,
    SyncFolder,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
    /// EROFS.
    ReadOnly,
    /// A write that takes so many bytes and no more.
    Short(usize),
    /// A write that takes so many bytes, and EIO all the same.
    Broken(usize),
}

/// Whether files can be written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PastTheCache {
    /// They can.
    #[default]
    Works,
    /// They can be opened so, and each write is refused.
    OnlyOpens,
    /// They cannot be opened so.
    Never,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    synced: BTreeMap<PathBuf, usize>,
    renames: Vec<(PathBuf, Option<usize>)>,
    folders: BTreeSet<PathBuf>,
    nodes: Vec<Node>,
    capacity: Option<u64>,
    is_read_only: bool,
    is_paused: bool,
    direct: PastTheCache,
    planned: Vec<(Call, usize, Fault)>,
    chance: u64,
    happened: u64,
    random: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Node {
    content: Vec<u8>,
    base: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    what: What,
    is_synced: bool,
    is_doubtful: bool,
}

#[derive(Debug)]
enum What {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug)]
struct Handle {
    fs: MemoryFileSystem,
    node: usize,
    how: Handling,
}

/// What may be done with an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handling {
    Read,
    Write,
    Direct,
    Refuses,
}

// === impl MemoryFileSystem ===

impl MemoryFileSystem {
    /// Seeds what is left to chance.
    pub(crate) fn seed(&self, seed: u64) {
        self.state().random = seed;
    }

    /// Lets one call of a kind fail, after so many that do not.
    pub(crate) fn fail(&self, call: Call, after: usize, fault: Fault) {
        self.state().planned.push((call, after, fault));
    }

    /// Lets so many of a thousand calls fail; 0 ends all planned failures too.
    pub(crate) fn fail_often(&self, of_thousand: u64) {
        let mut state = self.state();
        state.chance = of_thousand;
        state.planned.clear();
    }

    /// Lets nothing fail for a while.
    pub(crate) fn pause_faults(&self, is_paused: bool) {
        self.state().is_paused = is_paused;
    }

    /// Whether the disk is read-only or bounded.
    pub(crate) fn has_limits(&self) -> bool {
        let state = self.state();
        state.is_read_only || state.capacity.is_some()
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.state().happened
    }

    /// Bounds the bytes of all files.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Says whether files can be written past the page cache.
    pub(crate) fn set_past_the_cache(&self, direct: PastTheCache) {
        self.state().direct = direct;
    }

    /// Refuses all changes.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// The calls since the last look.
    pub(crate) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state().counts)
    }

    /// The bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// All files, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// The bytes of a file.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let node = state.names.get(path)?;
        state.nodes.get(*node).map(|node| node.content.clone())
    }

    /// Puts a file there, synced.
    pub(crate) fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let node = state.nodes.len();
        state.nodes.push(Node {
            content: content.to_vec(),
            base: content.to_vec(),
            changes: Vec::new(),
        });
        state.names.insert(path.into(), node);
        state.synced.insert(path.into(), node);
    }

    /// Changes a byte, on the disk and wherever it is cached.
    pub(crate) fn flip(&self, path: &Path, offset: usize, with: u8) {
        let mut state = self.state();
        let Some(node) = state.names.get(path).copied() else {
            return;
        };
        let Some(node) = state.nodes.get_mut(node) else {
            return;
        };
        if let Some(byte) = node.content.get_mut(offset) {
            *byte ^= with;
        }
        if let Some(byte) = node.base.get_mut(offset) {
            *byte ^= with;
        }
        for change in &mut node.changes {
            if let What::Write { offset: at, bytes } = &mut change.what
                && let Some(inside) = offset.checked_sub(*at)
                && let Some(byte) = bytes.get_mut(inside)
            {
                *byte ^= with;
            }
        }
    }

    /// The power fails. What is open is of no use any more.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.crash_names();
        let mut nodes = std::mem::take(&mut state.nodes);
        for node in &mut nodes {
            node.crash(&mut state.random);
        }
        state.nodes = nodes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, node: usize, how: Handling) -> Arc<dyn File> {
        Arc::new(Handle {
            fs: self.clone(),
            node,
            how,
        })
    }
}

impl fmt::Debug for MemoryFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryFileSystem")
    }
}

impl FileSystem for MemoryFileSystem {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.folders.contains(folder) {
            state.may_change()?;
            state.folders.insert(folder.into());
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let files = state.names.iter().filter_map(|(path, node)| {
            let node = state.nodes.get(*node)?;
            (path.parent() == Some(folder)).then_some((path, node.content.len() as u64, true))
        });
        let folders = state
            .folders
            .iter()
            .filter(|path| path.parent() == Some(folder));
        let all = files.chain(folders.map(|path| (path, 0, false)));
        let entries = all.map(|(path, bytes, is_file)| Entry {
            name: path.file_name().unwrap_or_default().into(),
            bytes,
            is_file,
        });
        Ok(entries.collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.counts.opens += 1;
        state.fault(Call::Open)?;
        if access != Access::Read {
            state.may_change()?;
        }
        let how = match access {
            Access::Read => Handling::Read,
            _ => Handling::Write,
        };
        match (state.names.get(path).copied(), access) {
            (Some(_), Access::New) => Err(ErrorKind::AlreadyExists.into()),
            (Some(node), _) => Ok(self.handle(node, how)),
            (None, Access::Read | Access::Write) => Err(ErrorKind::NotFound.into()),
            (None, Access::New | Access::Create) => {
                let node = state.nodes.len();
                state.nodes.push(Node::default());
                state.names.insert(path.into(), node);
                state.renames.push((path.into(), Some(node)));
                Ok(self.handle(node, how))
            }
        }
    }

    fn open_direct(&self, path: &Path) -> io::Result<(Arc<dyn File>, usize)> {
        let mut state = self.state();
        state.counts.opens += 1;
        state.fault(Call::Open)?;
        state.may_change()?;
        let node = state.names.get(path).copied().ok_or(ErrorKind::NotFound)?;
        let how = match state.direct {
            PastTheCache::Never => return Err(ErrorKind::InvalidInput.into()),
            PastTheCache::OnlyOpens => Handling::Refuses,
            PastTheCache::Works => Handling::Direct,
        };
        Ok((self.handle(node, how), BLOCK))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_change()?;
        state.fault(Call::Remove)?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.renames.push((path.into(), None));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.counts.folder_syncs += 1;
        state.fault(Call::SyncFolder)?;
        let all = std::mem::take(&mut state.renames);
        for (path, node) in all {
            if path.parent() == Some(folder) {
                state.rename(path, node);
            } else {
                state.renames.push((path, node));
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.state().free())
    }

    fn random(&self) -> u32 {
        random(&mut self.state().random) as u32
    }
}

// === impl State ===

impl State {
    fn used(&self) -> u64 {
        let nodes = self.names.values().filter_map(|node| self.nodes.get(*node));
        nodes.map(|node| node.content.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        let capacity = self.capacity.unwrap_or(u64::MAX);
        capacity.saturating_sub(self.used())
    }

    fn may_change(&mut self) -> io::Result<()> {
        if self.is_read_only {
            return Err(error(Fault::ReadOnly));
        }
        Ok(())
    }

    /// Whether this call fails.
    fn planned(&mut self, call: Call) -> Option<Fault> {
        if self.is_paused {
            return None;
        }
        let of_this_kind = self.planned.iter_mut().filter(|(kind, ..)| *kind == call);
        let mut due = None;
        for (_, after, fault) in of_this_kind {
            match after.checked_sub(1) {
                Some(less) => *after = less,
                None => due = due.or(Some(*fault)),
            }
        }
        if due.is_some() {
            let first = self.planned.iter().position(|(kind, after, fault)| {
                *kind == call && *after == 0 && Some(*fault) == due
            });
            first.map(|first| self.planned.remove(first));
            return due;
        }
        if self.chance > 0 && random(&mut self.random) % 1000 < self.chance {
            let some = random(&mut self.random) as usize % 200;
            let fault = match (call, random(&mut self.random) % 5) {
                (Call::Write, 0) => Fault::Short(some),
                (Call::Write, 1) => Fault::Broken(some),
                (Call::Read | Call::Sync | Call::SyncFolder, _) | (_, 2) => Fault::Io,
                (_, 3) => Fault::ReadOnly,
                _ => Fault::Full,
            };
            return Some(fault);
        }
        None
    }

    fn fault(&mut self, call: Call) -> io::Result<()> {
        match self.planned(call) {
            Some(fault) => {
                self.happened += 1;
                Err(error(fault))
            }
            None => Ok(()),
        }
    }

    fn rename(&mut self, path: PathBuf, node: Option<usize>) {
        match node {
            Some(node) => self.synced.insert(path, node),
            None => self.synced.remove(&path),
        };
    }

    fn crash_names(&mut self) {
        let renames = std::mem::take(&mut self.renames);
        let keep = Keep::choose(renames.len(), &mut self.random);
        for (index, (path, node)) in renames.into_iter().enumerate() {
            if keep.keeps(index, &mut self.random) {
                self.rename(path, node);
            }
        }
        self.names = self.synced.clone();
    }
}

/// What a crash keeps of things that were done one after the other.
#[derive(Clone, Copy, Debug)]
enum Keep {
    First(usize),
    Any,
}

// === impl Keep ===

impl Keep {
    fn choose(count: usize, seed: &mut u64) -> Self {
        match random(seed) % 4 {
            0 => Self::First(count),
            1 => Self::First(0),
            2 => Self::First(random(seed) as usize % (count + 1)),
            _ => Self::Any,
        }
    }

    fn keeps(self, index: usize, seed: &mut u64) -> bool {
        match self {
            Self::First(count) => index < count,
            Self::Any => random(seed).is_multiple_of(2),
        }
    }
}

// === impl Node ===

impl Node {
    fn change(&mut self, what: What) {
        what.apply(&mut self.content);
        self.changes.push(Change {
            what,
            is_synced: false,
            is_doubtful: false,
        });
    }

    fn sync(&mut self, is_successful: bool) {
        for change in &mut self.changes {
            change.is_doubtful |= !is_successful && !change.is_synced;
            change.is_synced |= is_successful && !change.is_doubtful;
        }
        if self.changes.iter().all(|change| change.is_synced) {
            self.base.clone_from(&self.content);
            self.changes.clear();
        }
    }

    fn crash(&mut self, seed: &mut u64) {
        let keep = Keep::choose(self.changes.len(), seed);
        let mut content = std::mem::take(&mut self.base);
        for (index, change) in self.changes.drain(..).enumerate() {
            match change.what {
                what if change.is_synced => what.apply(&mut content),
                What::Length(length) => {
                    if keep.keeps(index, seed) {
                        content.resize(length, 0);
                    }
                }
                What::Write { offset, bytes } => {
                    // Sectors are those of the disk, not of the write.
                    let first = (SECTOR - offset % SECTOR).min(bytes.len());
                    let (head, rest) = bytes.split_at(first);
                    let mut at = offset;
                    for sector in [head].into_iter().chain(rest.chunks(SECTOR)) {
                        if keep.keeps(index, seed) {
                            write(&mut content, at, sector);
                        }
                        at += sector.len();
                    }
                }
            }
        }
        self.base.clone_from(&content);
        self.content = content;
    }
}

impl What {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(content, *offset, bytes),
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

// === impl Handle ===

impl Handle {
    fn change<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        assert_ne!(self.how, Handling::Read, "the file was opened to be read");
        let mut state = self.fs.state();
        state.may_change()?;
        call(&mut state)
    }

    /// Whether a write past the page cache is one of whole blocks.
    fn is_allowed(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        match self.how {
            Handling::Read | Handling::Write => {}
            Handling::Refuses => return Err(ErrorKind::InvalidInput.into()),
            Handling::Direct => {
                assert_eq!(offset % BLOCK as u64, 0, "no block begins here");
                for piece in pieces {
                    assert_eq!(piece.len() % BLOCK, 0, "no block ends here");
                    assert_eq!(piece.as_ptr().align_offset(BLOCK), 0, "it is not aligned");
                }
            }
        }
        Ok(())
    }
}

impl File for Handle {
    fn bytes(&self) -> io::Result<u64> {
        let state = self.fs.state();
        Ok(state.nodes[self.node].content.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.fs.state();
        state.fault(Call::Read)?;
        let content = &state.nodes[self.node].content;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.get(start..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        state.counts.read += read as u64;
        Ok(read)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.is_allowed(pieces, offset)?;
        self.change(|state| {
            state.counts.writes += 1;
            let mut bytes: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect();
            let mut result = Ok(());
            match state.planned(Call::Write) {
                Some(Fault::Short(some)) => bytes.truncate(some.max(1)),
                Some(Fault::Broken(some)) => {
                    state.happened += 1;
                    bytes.truncate(some);
                    result = Err(error(Fault::Io));
                }
                Some(fault) => {
                    state.happened += 1;
                    return Err(error(fault));
                }
                None => {}
            }
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let length = state.nodes[self.node].content.len() as u64;
            let most = length.saturating_add(state.free());
            let room = most.saturating_sub(offset as u64);
            bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            if self.how == Handling::Direct {
                bytes.truncate(bytes.len() - bytes.len() % BLOCK);
            }
            if bytes.is_empty() {
                return result.and(Err(error(Fault::Full)));
            }
            let written = bytes.len();
            state.nodes[self.node].change(What::Write { offset, bytes });
            result.map(|()| written)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        state.counts.syncs += 1;
        let result = state.fault(Call::Sync);
        state.nodes[self.node].sync(result.is_ok());
        result
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.change(|state| {
            state.fault(Call::Allocate)?;
            let length = state.nodes[self.node].content.len() as u64;
            let more = bytes.saturating_sub(length);
            if more > state.free() {
                return Err(error(Fault::Full));
            }
            if more > 0 {
                state.nodes[self.node].change(What::Length(bytes as usize));
            }
            Ok(())
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.change(|state| {
            state.fault(Call::Truncate)?;
            state.nodes[self.node].change(What::Length(bytes as usize));
            Ok(())
        })
    }
}

fn error(fault: Fault) -> io::Error {
    io::Error::from_raw_os_error(match fault {
        Fault::Io | Fault::Short(_) | Fault::Broken(_) => 5,
        Fault::Full => 28,
        Fault::ReadOnly => 30,
    })
}

/// splitmix64
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
