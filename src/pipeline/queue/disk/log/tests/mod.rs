mod basics;
mod damage;
mod model;
mod real;

use super::{
    AppendError, Log, Meta, NewRecord, OpenError, Opened, Options, Order,
    fs::{
        FileSystem,
        memory::{Call, Fault, MemoryFileSystem, PastTheCache},
    },
};
use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Small, so that a few records fill a segment.
const OPTIONS: Options = Options {
    segment_bytes: 1024,
    quarantine_bytes: 4096,
};

fn folder() -> &'static Path {
    Path::new("/queue/parca")
}

fn open(fs: &MemoryFileSystem) -> Opened {
    try_open(fs).expect("the folder is opened")
}

fn try_open(fs: &MemoryFileSystem) -> Result<Opened, OpenError> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Log::open(fs, folder(), OPTIONS)
}

/// A record of 200 bytes, in two pieces, that counts for `number` profiles.
fn record(number: u64) -> NewRecord {
    let payload = payload(number);
    NewRecord {
        at_ms: 1_000 + number,
        profiles: number,
        payload: vec![payload.slice(..10), payload.slice(10..)],
    }
}

fn payload(number: u64) -> Bytes {
    let text = format!("record {number} ");
    text.bytes().cycle().take(200).collect()
}

fn append(log: &mut Log, numbers: impl IntoIterator<Item = u64>) -> Vec<Meta> {
    let records: Vec<_> = numbers.into_iter().map(record).collect();
    log.append(&records).expect("they are appended")
}

/// The numbers of all records that are handed out, after a look at their bytes.
fn drain(log: &mut Log) -> Vec<u64> {
    let reader = log.reader();
    let metas = std::iter::from_fn(|| log.next(Order::OldestFirst));
    let numbers = metas.map(|meta| {
        let read = reader.read(&meta).expect("it is read");
        assert_eq!(read, payload(meta.profiles));
        assert_eq!(meta.at_ms, 1_000 + meta.profiles);
        meta.profiles
    });
    numbers.collect()
}

fn segments(fs: &MemoryFileSystem) -> Vec<PathBuf> {
    of_kind(fs, "segment")
}

fn of_kind(fs: &MemoryFileSystem, kind: &str) -> Vec<PathBuf> {
    let files = fs.files().into_iter();
    files
        .filter(|path| path.extension().is_some_and(|e| e == kind))
        .collect()
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn choose<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let index = self.next() as usize;
        all.get(index.checked_rem(all.len())?).cloned()
    }
}
