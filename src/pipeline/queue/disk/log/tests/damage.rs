//! What a log makes of files that are not as it left them.

use super::{
    super::{
        ReadError, Snapshot,
        format::{FIRST_RECORD, MARK, RECORD_OVERHEAD, RecordHeader, SegmentHeader},
        fs::memory::Counts,
    },
    *,
};
use std::collections::BTreeMap;

/// Bytes of a record of these tests.
const RECORD: u64 = 200 + RECORD_OVERHEAD;

/// What came out of a log: the numbers of sound records, and the errors.
#[derive(Debug, Default)]
struct Drained {
    sound: Vec<u64>,
    damaged: Vec<ReadError>,
}

/// Takes all out, and acknowledges it.
fn drain_damaged(log: &mut Log) -> Drained {
    let reader = log.reader();
    let mut drained = Drained::default();
    while let Some(meta) = log.next(Order::OldestFirst) {
        match reader.read(&meta) {
            Ok(read) => {
                assert_eq!(read, payload(meta.profiles));
                drained.sound.push(meta.profiles);
            }
            Err(error) => drained.damaged.push(error),
        }
        log.ack(&[meta]).unwrap();
    }
    drained
}

/// A folder in which a process ended: records 0 to 2 in a sealed segment, 3 and
/// 4 in one that was written.
fn two_segments() -> MemoryFileSystem {
    let fs = MemoryFileSystem::default();
    append(&mut open(&fs).log, 0..5);
    assert_eq!(segments(&fs).len(), 2);
    fs
}

/// The same files once more.
fn copy(fs: &MemoryFileSystem) -> MemoryFileSystem {
    let copy = MemoryFileSystem::default();
    for (path, content) in contents(fs) {
        copy.put(&path, &content);
    }
    copy
}

fn contents(fs: &MemoryFileSystem) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs.files().into_iter();
    files
        .map(|path| (path.clone(), fs.content(&path).unwrap()))
        .collect()
}

#[test]
fn a_write_that_was_cut_short_is_cut_off_wherever_it_ended() {
    let sound = two_segments();
    let path = &segments(&sound)[1];
    let content = sound.content(path).unwrap();
    // The second record of the segment that was written.
    let start = (FIRST_RECORD + RECORD) as usize;
    // Without its mark it is whole: its checksum says so.
    for end in start..start + RECORD as usize - MARK {
        let mut zeroed = content.clone();
        zeroed[end..].fill(0);
        for content in [&content[..end], &zeroed] {
            let fs = copy(&sound);
            fs.put(path, content);
            let Opened { mut log, recovered } = open(&fs);
            assert_eq!(recovered.records, 4, "cut at {end}");
            let offsets: Vec<_> = recovered.torn.iter().map(|torn| torn.offset).collect();
            assert!(
                offsets == [start as u64] || end == start,
                "{offsets:?}, cut at {end}"
            );
            append(&mut log, [5]);
            assert_eq!(segments(&fs).len(), 2, "it is written on");
            assert_eq!(drain(&mut log), [0, 1, 2, 3, 5], "cut at {end}");
            assert_eq!(of_kind(&fs, "record"), Vec::<PathBuf>::new());
            drop(log);
            assert_eq!(drain(&mut open(&fs).log), [0, 1, 2, 3, 5], "cut at {end}");
        }
    }
}

#[test]
fn any_byte_that_changes_costs_at_most_its_record() {
    let sound = two_segments();
    let mut lost = 0;
    for path in segments(&sound) {
        let content = sound.content(&path).unwrap();
        let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for offset in 0..end {
            let with = 1 << (offset % 8);
            let fs = copy(&sound);
            fs.flip(&path, offset, with);
            let Opened { mut log, recovered } = open(&fs);
            let place = format!("{} at {offset}", path.display());
            assert_eq!(recovered.torn, [], "{place}");
            append(&mut log, [5]);
            let drained = drain_damaged(&mut log);
            let told = drained.damaged.len();
            assert!(told <= 1, "{place}: {drained:?}");
            assert_eq!(drained.sound.len() + told, 6, "{place}: {drained:?}");
            for error in &drained.damaged {
                is_set_aside(&fs, error, &path);
                lost += 1;
            }
            log.close().unwrap();
            assert_eq!(segments(&fs), Vec::<PathBuf>::new(), "{place}");
        }
    }
    assert!(lost > 5 * 200, "payloads at least were damaged: {lost}");
}

fn is_set_aside(fs: &MemoryFileSystem, error: &ReadError, segment: &Path) {
    let ReadError::Damaged {
        path,
        offset,
        set_aside_at: Some(kept),
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(path, segment);
    assert_eq!((offset - FIRST_RECORD) % RECORD, 0);
    assert_eq!(fs.content(kept).unwrap().len() as u64, RECORD);
}

#[test]
fn damage_says_where_it_is_and_where_the_bytes_are() {
    let fs = two_segments();
    fs.flip(&segments(&fs)[0], 150, 1);
    let drained = drain_damaged(&mut open(&fs).log);
    assert_eq!(drained.sound, [1, 2, 3, 4]);
    assert_eq!(
        drained.damaged[0].to_string(),
        "/queue/parca/00000000000000000000.segment: the record at 64 is damaged; its bytes are in \
         /queue/parca/quarantine/00000000000000000000-64.record"
    );
}

#[test]
fn all_that_vanished_in_a_page_is_counted() {
    for sealed in [true, false] {
        let fs = MemoryFileSystem::default();
        append(&mut open(&fs).log, if sealed { 0..5 } else { 0..3 });
        let path = &segments(&fs)[0];
        let mut content = fs.content(path).unwrap();
        // From within the first record into the third.
        content[100..FIRST_RECORD as usize + 2 * RECORD as usize + 20].fill(0);
        if sealed {
            let trailer = content.len() - 10;
            content[trailer] ^= 1;
        }
        fs.put(path, &content);
        let Opened { mut log, recovered } = open(&fs);
        assert_eq!(recovered.records, if sealed { 5 } else { 3 });
        let drained = drain_damaged(&mut log);
        assert_eq!(drained.damaged.len(), 3, "{drained:?}");
        assert_eq!(drained.sound, if sealed { vec![3, 4] } else { vec![] });
    }
}

#[test]
fn records_inside_a_payload_are_not_taken_for_records() {
    let other = two_segments();
    let inside = other.content(&segments(&other)[1]).unwrap();
    let fs = MemoryFileSystem::default();
    fs.seed(7);
    let outer = NewRecord {
        at_ms: 1,
        profiles: 1,
        payload: vec![inside.into()],
    };
    open(&fs).log.append(&[outer]).unwrap();
    fs.flip(&segments(&fs)[0], FIRST_RECORD as usize + 5, 1);
    let drained = drain_damaged(&mut open(&fs).log);
    assert_eq!((drained.sound.len(), drained.damaged.len()), (0, 1));
}

#[test]
fn profiles_that_were_counted_stay_counted_when_nothing_of_them_is_found() {
    let fs = two_segments();
    let path = &segments(&fs)[0];
    let content = fs.content(path).unwrap();
    let index = FIRST_RECORD as usize + 3 * RECORD as usize;
    let mut damaged = content.clone();
    // The headers of records 1 and 2, and the index.
    for offset in [FIRST_RECORD + RECORD, FIRST_RECORD + 2 * RECORD] {
        damaged[offset as usize + 5] ^= 1;
    }
    damaged[index + 30] ^= 1;
    fs.put(path, &damaged);
    let Opened { mut log, recovered } = open(&fs);
    assert_eq!((recovered.records, recovered.profiles), (5, 10));
    let metas: Vec<_> = std::iter::from_fn(|| log.next(Order::OldestFirst)).collect();
    assert_eq!(metas.iter().map(|meta| meta.profiles).sum::<u64>(), 10);
    assert_eq!(metas.len(), 5);
    log.ack(&metas).unwrap();
    assert_eq!(log.stats().profiles, 0);
}

#[test]
fn a_damaged_acknowledgement_costs_a_second_delivery_and_no_more() {
    let sound = MemoryFileSystem::default();
    let mut log = open(&sound).log;
    let metas = append(&mut log, 0..5);
    log.ack(&[metas[1]]).unwrap();
    log.ack(&[metas[2]]).unwrap();
    drop(log);
    let path = &of_kind(&sound, "acks")[0];
    let content = sound.content(path).unwrap();
    assert_eq!(content.len(), 16);
    for bit in 0..64 {
        let fs = copy(&sound);
        fs.flip(path, bit / 8, 1 << (bit % 8));
        assert_eq!(drain(&mut open(&fs).log), [0, 1, 3, 4], "bit {bit}");
    }
    for end in 0..16 {
        let fs = copy(&sound);
        fs.put(path, &content[..end]);
        let mut log = open(&fs).log;
        let expected: &[u64] = if end < 8 {
            &[0, 1, 2, 3, 4]
        } else {
            &[0, 2, 3, 4]
        };
        assert_eq!(drain(&mut log), expected);
        log.ack(&metas[..1]).unwrap();
        drop(log);
        assert_eq!(
            drain(&mut open(&fs).log),
            expected[1..],
            "the next one follows on"
        );
    }
}

#[test]
fn acknowledgements_of_another_segment_mean_nothing() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..5);
    log.ack(&metas[..2]).unwrap();
    drop(log);
    let path = of_kind(&fs, "acks")[0].clone();
    let content = fs.content(&path).unwrap();
    let other = MemoryFileSystem::default();
    other.seed(7);
    append(&mut open(&other).log, 0..5);
    other.put(&path, &content);
    assert_eq!(drain(&mut open(&other).log), [0, 1, 2, 3, 4]);
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_is() {
    let fs = two_segments();
    let path = folder().join("00000000000000000007.segment");
    let header = SegmentHeader {
        version: 2,
        tag: 1,
        sequence: 7,
        created_ms: 0,
    };
    fs.put(&path, &[&header.encode()[..], b"something new"].concat());
    fs.put(&segments(&fs)[0].with_extension("acks"), b"torn");
    let before = contents(&fs);
    let refused = try_open(&fs).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/queue/parca/00000000000000000007.segment has format 2, and this version knows up to 1: \
         run the version that wrote it until the queue is empty, or name another folder"
    );
    let snapshot = Snapshot::open(Arc::new(fs.clone()), folder());
    assert!(matches!(snapshot, Err(OpenError::Newer { found: 2, .. })));
    assert_eq!(contents(&fs), before);
}

#[test]
fn files_of_others_are_named_and_left() {
    let fs = two_segments();
    let names = [
        "core",
        "1.segment",
        "00000000000000000001.segment.bak",
        "notes.acks",
    ];
    for name in names {
        fs.put(&folder().join(name), b"something");
    }
    let Opened { mut log, recovered } = open(&fs);
    let mut expected: Vec<_> = names.iter().map(|name| folder().join(name)).collect();
    expected.sort();
    assert_eq!(recovered.foreign, expected);
    drain_damaged(&mut log);
    log.close().unwrap();
    assert_eq!(fs.files(), expected);
}

#[test]
fn opening_reads_the_ends_of_sealed_segments_and_no_record() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let large = |_| NewRecord {
        payload: vec![vec![1; 100_000].into()],
        ..record(1)
    };
    log.append(&Vec::from_iter((0..100).map(large))).unwrap();
    append(&mut log, [0]);
    drop(log);
    fs.take_counts();
    let Opened { log, recovered } = open(&fs);
    let Counts { read, .. } = fs.take_counts();
    assert_eq!((recovered.records, log.stats().segments), (101, 101));
    assert!(read < 101 * 300 + 4096, "{read} bytes were read");
    drop(log);
    // An index is read only of what is handed out.
    let mut log = open(&fs).log;
    fs.take_counts();
    log.next(Order::OldestFirst).unwrap();
    assert!(fs.take_counts().read < 200);
}

#[test]
fn a_length_that_cannot_be_takes_no_memory() {
    for length in [u64::MAX, u64::MAX - 100, 1 << 60, 1000] {
        let fs = MemoryFileSystem::default();
        let header = SegmentHeader {
            version: 1,
            tag: 1,
            sequence: 0,
            created_ms: 0,
        };
        let record = RecordHeader {
            tag: 1,
            number: 0,
            crc: 0,
            at_ms: 0,
            profiles: 1,
            length,
        };
        let bytes = [&header.encode()[..], &record.encode(), &[7; 500]].concat();
        fs.put(&folder().join("00000000000000000000.segment"), &bytes);
        let mut log = open(&fs).log;
        append(&mut log, [5]);
        let drained = drain_damaged(&mut log);
        assert_eq!(drained.sound, [5], "{length}");
    }
}

#[test]
fn a_segment_that_was_only_begun_goes() {
    for content in [&[][..], &[0; 1024], b"\x9dPRqueue"] {
        let fs = MemoryFileSystem::default();
        fs.put(&folder().join("00000000000000000004.segment"), content);
        fs.put(&folder().join("00000000000000000003.acks"), &[1; 8]);
        let Opened { mut log, recovered } = open(&fs);
        assert_eq!(recovered.records, 0);
        assert_eq!(segments(&fs), Vec::<PathBuf>::new());
        append(&mut log, [1]);
        assert_eq!(
            segments(&fs),
            [folder().join("00000000000000000005.segment")]
        );
        log.sync_acks().unwrap();
        assert_eq!(fs.files().len(), 1, "acknowledgements of nothing go too");
    }
}

#[test]
fn a_number_that_was_acknowledged_is_not_given_again() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..3);
    log.ack(&metas[1..]).unwrap();
    drop(log);
    let path = &segments(&fs)[0];
    let mut content = fs.content(path).unwrap();
    // The disk forgot the last record, which was acknowledged.
    content[(FIRST_RECORD + 2 * RECORD) as usize..].fill(0);
    fs.put(path, &content);
    let mut log = open(&fs).log;
    append(&mut log, [3]);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [0, 3]);
}

#[test]
fn what_is_set_aside_is_bounded() {
    let fs = MemoryFileSystem::default();
    append(&mut open(&fs).log, 0..60);
    for path in segments(&fs) {
        fs.flip(&path, 150, 1);
    }
    let mut log = open(&fs).log;
    let drained = drain_damaged(&mut log);
    assert_eq!((drained.sound.len(), drained.damaged.len()), (40, 20));
    let kept = of_kind(&fs, "record");
    assert_eq!(
        kept.len() as u64,
        OPTIONS.quarantine_bytes / RECORD,
        "the newest stay"
    );
    assert!(
        kept.last()
            .unwrap()
            .ends_with("00000000000000000019-64.record")
    );
    let stats = log.stats();
    assert_eq!(stats.quarantine_bytes, kept.len() as u64 * RECORD);
    assert_eq!(stats.disk_bytes, fs.used());
}

#[test]
fn a_segment_that_cannot_be_read_holds_up_no_other_and_comes_later() {
    let fs = MemoryFileSystem::default();
    append(&mut open(&fs).log, 0..9);
    let mut log = open(&fs).log;
    fs.fail(Call::Read, 0, Fault::Io);
    assert_eq!(drain(&mut log), [3, 4, 5, 6, 7, 8]);
    log.sync_acks().unwrap();
    assert_eq!(drain(&mut log), [0, 1, 2]);
    drop(log);
    fs.fail(Call::Read, 0, Fault::Io);
    // The first read is a look at the version, the fourth is of a trailer.
    fs.fail(Call::Read, 4, Fault::Io);
    let Opened { mut log, recovered } = open(&fs);
    assert_eq!(recovered.unreadable.len(), 1);
    assert_eq!(drain(&mut log).len(), 6);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log).len(), 9);
}

#[test]
fn a_snapshot_sees_what_is_there_and_changes_nothing() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..8);
    log.ack(&metas[2..5]).unwrap();
    let before = contents(&fs);
    fs.set_read_only(true);
    let snapshot = Snapshot::open(Arc::new(fs.clone()), folder()).unwrap();
    let found: Vec<_> = snapshot.records().map(Result::unwrap).collect();
    assert_eq!(found, [metas[0], metas[1], metas[5], metas[6], metas[7]]);
    for meta in &found {
        assert_eq!(snapshot.read(meta).unwrap(), payload(meta.profiles));
    }
    let verification = snapshot.verify();
    assert_eq!((verification.records, verification.bytes), (8, 8 * RECORD));
    assert_eq!(verification.damage, []);
    assert_eq!(contents(&fs), before);
    fs.set_read_only(false);
    // What goes meanwhile is passed over, as is what was appended meanwhile.
    log.ack(&metas[..2]).unwrap();
    append(&mut log, 8..12);
    let found: Vec<_> = snapshot
        .records()
        .map(|meta| meta.unwrap().profiles)
        .collect();
    assert_eq!(found, [5, 6, 7, 8]);
    assert!(matches!(
        snapshot.read(&metas[0]),
        Ok(_) | Err(ReadError::Gone { .. })
    ));
}

#[test]
fn verify_names_file_and_offset_of_all_damage() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..12);
    log.ack(&metas[7..8]).unwrap();
    drop(log);
    let paths = segments(&fs);
    let index = FIRST_RECORD + 3 * RECORD;
    fs.flip(&paths[0], 10, 1);
    fs.flip(&paths[0], 150, 1);
    fs.flip(&paths[1], index as usize + 30, 1);
    let trailer = fs.content(&paths[2]).unwrap().len() - 1;
    fs.flip(&paths[2], trailer, 1);
    fs.flip(&of_kind(&fs, "acks")[0], 3, 1);
    let snapshot = Snapshot::open(Arc::new(fs.clone()), folder()).unwrap();
    let verification = snapshot.verify();
    assert_eq!(verification.records, 11);
    let damage = verification.damage.iter();
    let said: Vec<_> = damage
        .map(|damage| {
            let name = damage.path.file_name().unwrap().to_str().unwrap();
            format!("{} {} {}", &name[18..], damage.offset, damage.what)
        })
        .collect();
    assert_eq!(
        said,
        [
            "00.segment 0 the header is damaged; nothing is lost",
            "00.segment 64 a record is damaged",
            "01.segment 844 the index is damaged; the segment is scanned",
            "02.segment 844 the trailer is damaged; the segment is scanned",
            "02.acks 0 an acknowledgement is damaged; its record is sent again",
        ]
    );
}
