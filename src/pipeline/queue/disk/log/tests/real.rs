//! The log and its lock on the file system of the operating system.

use super::{
    super::{Lock, LockError, ReadError, Reader, fs::RealFileSystem},
    *,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

fn open_real(folder: &Path) -> Opened {
    let options = Options {
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    Log::open(Arc::new(RealFileSystem), folder, options).expect("the folder is opened")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_log_lives_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("storage/parca");
    let mut log = open_real(&folder).log;
    for number in 0..1000 {
        append(&mut log, [number]);
    }
    let stats = log.stats();
    assert_eq!(stats.records, 1000);
    let sizes = names(&folder).into_iter();
    let sizes = sizes.map(|name| fs::metadata(folder.join(name)).unwrap().len());
    assert_eq!(stats.disk_bytes, sizes.sum::<u64>());
    assert!(log.free_bytes().unwrap() > 0);
    drop(log);

    let Opened { mut log, recovered } = open_real(&folder);
    assert_eq!((recovered.records, recovered.torn.len()), (1000, 0));
    let metas: Vec<_> = std::iter::from_fn(|| log.next(Order::OldestFirst)).collect();
    let reader = log.reader();
    for meta in &metas {
        assert_eq!(reader.read(meta).unwrap(), payload(meta.profiles));
    }
    log.ack(&metas[..500]).unwrap();
    log.sync_acks().unwrap();
    drop(log);

    let Opened { mut log, recovered } = open_real(&folder);
    assert_eq!(recovered.records, 500);
    log.ack(&metas).unwrap();
    log.close().unwrap();
    assert_eq!(names(&folder), Vec::<String>::new());
}

/// Larger than what is written at once, and of no round size.
#[test]
fn large_records_are_put_together_from_many_writes() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open_real(root.path()).log;
    let mut metas = Vec::new();
    for bytes in [3_000_001, 1 << 20, 17, 5_000_000] {
        let payload = Bytes::from_iter((0..bytes).map(|at| (at % 251) as u8));
        let (head, tail) = (payload.slice(..10), payload.slice(10..));
        let record = |payload| NewRecord {
            at_ms: 1,
            profiles: 1,
            payload,
        };
        let new = [record(vec![head.clone(), tail]), record(vec![head.clone()])];
        let written = log.append(&new).unwrap();
        metas.extend(written.into_iter().zip([payload, head]));
    }
    let stats = log.stats();
    let sizes = names(root.path()).into_iter();
    let sizes = sizes.map(|name| fs::metadata(root.path().join(name)).unwrap().len());
    assert_eq!(stats.disk_bytes, sizes.sum::<u64>());
    drop(log);
    let reader = open_real(root.path()).log.reader();
    for (meta, payload) in metas {
        assert!(reader.read(&meta).unwrap() == payload, "{meta:?}");
    }
}

#[test]
fn nobody_else_may_read_what_is_queued() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("storage/parca");
    append(&mut open_real(&folder).log, [1]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder) & 0o027, 0);
    assert_eq!(mode(&folder.join(&names(&folder)[0])), 0o600);
}

#[test]
fn a_folder_that_cannot_be_made_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = Log::open(
        Arc::new(RealFileSystem),
        &file.join("parca"),
        Options::default(),
    );
    let error = refused.unwrap_err().to_string();
    let end = ": name a folder, not a file or a path through one";
    assert!(error.ends_with(end), "{error}");
}

#[test]
fn records_are_read_while_others_are_appended() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open_real(root.path()).log;
    let reader = log.reader();
    let (send, receive) = std::sync::mpsc::channel::<Meta>();
    let reading = thread::spawn(move || {
        let read_all = |reader: Reader| {
            receive.into_iter().inspect(move |meta| {
                assert_eq!(reader.read(meta).unwrap(), payload(meta.profiles));
            })
        };
        read_all(reader).count()
    });
    for number in 0..100 {
        for meta in append(&mut log, number * 5..number * 5 + 5) {
            send.send(meta).unwrap();
        }
    }
    drop(send);
    assert_eq!(reading.join().unwrap(), 500);
}

#[test]
fn a_segment_that_somebody_removed_is_gone() {
    let root = tempfile::tempdir().unwrap();
    append(&mut open_real(root.path()).log, [1]);
    let mut log = open_real(root.path()).log;
    let meta = log.next(Order::OldestFirst).unwrap();
    let path = root.path().join(&names(root.path())[0]);
    fs::remove_file(path).unwrap();
    let mut fresh = open_real(root.path()).log;
    assert!(matches!(
        fresh.reader().read(&meta),
        Err(ReadError::Gone { .. })
    ));
    assert_eq!(fresh.next(Order::OldestFirst), None);
    log.ack(&[meta]).unwrap();
    log.close().unwrap();
}

#[test]
fn the_second_to_lock_a_directory_hears_who_has_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("storage");
    let lock = Lock::take(&directory, Duration::ZERO).unwrap();
    let start = Instant::now();
    let refused = Lock::take(&directory, Duration::from_millis(120)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(120));
    let LockError::Held { holder, .. } = &refused else {
        panic!("{refused}");
    };
    let process = format!("process {} (", std::process::id());
    assert!(holder.starts_with(&process), "{holder}");
    assert!(holder.contains(") since 20"), "{holder}");
    drop(lock);
    Lock::take(&directory, Duration::ZERO).unwrap();
}

#[test]
fn whoever_waits_gets_the_lock_when_it_is_given_back() {
    let root = tempfile::tempdir().unwrap();
    let lock = Lock::take(root.path(), Duration::ZERO).unwrap();
    let directory = root.path().to_owned();
    let waiting = thread::spawn(move || Lock::take(&directory, Duration::from_secs(30)));
    drop(lock);
    waiting.join().unwrap().unwrap();
}
