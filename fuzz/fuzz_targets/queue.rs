//! The log of the disk queue, over files that are anything: opening takes no
//! more memory than they account for, what comes out is what can be read, and
//! afterwards the log works.
#![no_main]

#[path = "../../src/pipeline/queue/disk/log/fs/memory.rs"]
#[allow(dead_code)]
mod memory;
#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use memory::MemoryFileSystem;
use profile_relay::pipeline::log::{
    Log, NewRecord, Options, Order, Snapshot,
    fs::{Access, Entry, File, FileSystem},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use support::peak;

const FOLDER: &str = "/queue";
const OPTIONS: Options = Options {
    segment_bytes: 700,
    quarantine_bytes: 2000,
};
/// Buffers for reading, and what the log takes when it is empty.
const SLACK: usize = 400 << 10;

fuzz_target!(|data: &[u8]| {
    let fs = MemoryFileSystem::default();
    match data {
        [0, rest @ ..] => raw(&fs, rest),
        [_, rest @ ..] => changed(&fs, rest),
        [] => return,
    }
    works(&fs);
});

/// Files with these bytes, which begin with their kind and length.
fn raw(fs: &MemoryFileSystem, mut data: &[u8]) {
    while let [kind, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, later) = rest.split_at(length);
        let sequence = kind >> 1 & 3;
        let extension = ["segment", "acks"][usize::from(kind & 1)];
        let name = format!("{sequence:020}.{extension}");
        let mut content = content.to_vec();
        if kind & 0x80 != 0 {
            mend(&mut content, 0, 64);
        }
        if kind & 0x40 != 0 {
            mend_all(&mut content);
        }
        fs.put(&Path::new(FOLDER).join(name), &content);
        data = later;
    }
}

/// What a log wrote, with some bytes changed: each instruction is a file, what to
/// do with it, where, and with what.
fn changed(fs: &MemoryFileSystem, data: &[u8]) {
    let mut log = open(fs);
    for number in 0..12_u64 {
        let content = Bytes::from(vec![number as u8; 40 * (number as usize % 5)]);
        let metas = log
            .append(&[record(number, content)])
            .expect("it is appended");
        if number % 4 == 1 {
            log.ack(&metas).expect("it is acknowledged");
        }
    }
    drop(log);
    let (instructions, _) = data.as_chunks::<5>();
    for [file, what, low, high, with] in instructions {
        let files = fs.files();
        let Some(path) = files.get(usize::from(*file) % files.len().max(1)) else {
            return;
        };
        let mut content = fs.content(path).unwrap_or_default();
        let offset = usize::from(u16::from_le_bytes([*low, *high]));
        let offset = offset % content.len().max(1);
        let end = (offset + usize::from(*with)).min(content.len());
        match what % 8 {
            0 => content
                .iter_mut()
                .skip(offset)
                .take(1)
                .for_each(|byte| *byte ^= with),
            1 => content.truncate(offset),
            2 => content[offset..end].fill(0),
            3 => content.copy_within(offset..end, 0),
            4 => content.extend_from_within(offset..end),
            5 => mend_all(&mut content),
            6 => content
                .iter_mut()
                .skip(offset)
                .take(1)
                .for_each(|byte| *byte = *with),
            _ => drop(content.drain(offset..end)),
        }
        fs.put(path, &content);
    }
}

/// Puts the right checksum into whatever looks like a header, an index or a
/// trailer, so that what they say is read.
fn mend_all(content: &mut [u8]) {
    for at in 0..content.len() {
        let length = match content.get(at..at + 8) {
            Some(b"\x9dPRqueue") => 64,
            Some(b"\x9dPRtrail") => 72,
            Some([0x9d, b'P', b'R', b'r', ..]) => 48,
            Some([0x9d, b'P', b'R', b'i', ..]) => {
                mend_entries(content, at);
                20
            }
            _ => continue,
        };
        mend(content, at, length);
    }
}

fn mend(content: &mut [u8], at: usize, length: usize) {
    let header = content.get_mut(at..at + length);
    if let Some((content, checksum)) = header.and_then(|header| header.split_last_chunk_mut::<4>())
    {
        *checksum = crc32fast::hash(content).to_le_bytes();
    }
}

/// The checksum of an index's entries.
fn mend_entries(content: &mut [u8], at: usize) {
    let Some([a, b, c, d]) = content.get(at + 8..at + 12) else {
        return;
    };
    let bytes = u32::from_le_bytes([*a, *b, *c, *d]) as usize * 44;
    let entries = content.get(at + 20..at + 20 + bytes);
    let checksum = entries.map(crc32fast::hash).unwrap_or_default();
    if let Some(place) = content.get_mut(at + 12..at + 16) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

fn works(fs: &MemoryFileSystem) {
    let total = fs.used() as usize;
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    if let Ok(snapshot) = Snapshot::open(Arc::clone(&shared), Path::new(FOLDER)) {
        let ((), taken) = peak(|| {
            for meta in snapshot.records().flatten() {
                _ = snapshot.read(&meta);
            }
            _ = snapshot.verify();
        });
        assert!(
            taken <= SLACK + 40 * total,
            "{taken} bytes were taken for {total}"
        );
    }
    let (opened, taken) = peak(|| Log::open(shared, Path::new(FOLDER), OPTIONS));
    assert!(
        taken <= SLACK + 40 * total,
        "{taken} bytes were taken for {total}"
    );
    let Ok(opened) = opened else {
        // A newer format.
        return;
    };
    let mut log = opened.log;
    let content = Bytes::from_static(b"something new");
    let appended = log
        .append(&[record(77, content.clone())])
        .expect("it is appended");
    let reader = log.reader();
    let mut seen = 0;
    let mut metas = Vec::new();
    while let Some(meta) = log.next(Order::OldestFirst) {
        let read = reader.read(&meta);
        if meta == appended[0] {
            assert_eq!(read.expect("it is read"), content);
            seen += 1;
        }
        metas.push(meta);
        assert!(
            metas.len() <= total + 1,
            "{} records in {total} bytes",
            metas.len()
        );
    }
    assert_eq!(seen, 1, "what was appended comes out once");
    drop(log);
    let mut log = open(fs);
    let again = std::iter::from_fn(|| log.next(Order::NewestFirst));
    let metas: Vec<_> = again.collect();
    assert!(
        metas.contains(&appended[0]),
        "what was appended comes again"
    );
    log.ack(&metas).expect("all is acknowledged");
    let stats = log.stats();
    assert_eq!((stats.records, stats.profiles, stats.bytes), (0, 0, 0));
    log.close().expect("it is closed");
    let ours = |path: &PathBuf| {
        path.extension()
            .is_some_and(|e| e == "segment" || e == "acks")
    };
    assert!(!fs.files().iter().any(ours), "{:?}", fs.files());
}

fn open(fs: &MemoryFileSystem) -> Log {
    let opened = Log::open(Arc::new(fs.clone()), Path::new(FOLDER), OPTIONS);
    opened.expect("it is opened").log
}

fn record(number: u64, content: Bytes) -> NewRecord {
    NewRecord {
        at_ms: number,
        profiles: 1,
        payload: vec![content],
    }
}
