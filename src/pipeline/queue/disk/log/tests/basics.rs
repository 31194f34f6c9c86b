//! What a log does when nothing goes wrong, and when the disk says no.

use super::*;

#[test]
fn what_was_appended_comes_out_once_and_in_order() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, 0..3);
    append(&mut log, 3..20);
    assert_eq!(drain(&mut log), Vec::from_iter(0..20));
    assert_eq!(log.next(Order::OldestFirst), None);
    append(&mut log, [20]);
    assert_eq!(drain(&mut log), [20]);
}

#[test]
fn the_newest_comes_first_where_that_is_wanted() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, 0..10);
    let mut next = || log.next(Order::NewestFirst).map(|meta| meta.profiles);
    assert_eq!([next(), next()], [Some(9), Some(8)]);
    append(&mut log, [10]);
    let mut next = || log.next(Order::NewestFirst).map(|meta| meta.profiles);
    assert_eq!([next(), next()], [Some(10), Some(7)]);
    assert_eq!(drain(&mut log), Vec::from_iter(0..7));
}

#[test]
fn a_call_costs_one_write_and_one_sync() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    fs.take_counts();
    append(&mut log, 1..3);
    let counts = fs.take_counts();
    assert_eq!(
        (counts.writes, counts.syncs, counts.folder_syncs),
        (1, 1, 0)
    );
}

#[test]
fn who_goes_on_in_a_block_keeps_what_is_in_it() {
    let ways = [
        PastTheCache::Works,
        PastTheCache::OnlyOpens,
        PastTheCache::Never,
    ];
    let fs = MemoryFileSystem::default();
    let mut wanted = 0;
    for way in ways.iter().chain(&ways).chain(ways.iter().rev()) {
        fs.set_past_the_cache(*way);
        let mut log = open(&fs).log;
        append(&mut log, [wanted]);
        append(&mut log, [wanted + 1, wanted + 2]);
        wanted += 3;
        let used = fs.used();
        assert_eq!(log.stats().disk_bytes, used, "{way:?}");
        assert_eq!(drain(&mut log), Vec::from_iter(0..wanted), "{way:?}");
    }
}

#[test]
fn an_append_that_failed_leaves_the_block_as_it_was() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    for fault in [Fault::Io, Fault::Full, Fault::Broken(256)] {
        fs.fail(Call::Write, 0, fault);
        log.append(&[record(9)]).unwrap_err();
    }
    append(&mut log, [1]);
    assert_eq!(drain(&mut log), [0, 1]);
    assert_eq!(drain(&mut open(&fs).log), [0, 1]);
}

#[test]
fn what_is_not_acknowledged_comes_again_after_the_end_of_the_process() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..10);
    log.ack(&[metas[1], metas[7], metas[7]]).unwrap();
    drop(log);
    let Opened { mut log, recovered } = open(&fs);
    assert_eq!(recovered.records, 8);
    assert_eq!(recovered.profiles, 45 - 8);
    assert_eq!(drain(&mut log), [0, 2, 3, 4, 5, 6, 8, 9]);
}

#[test]
fn a_released_record_comes_again() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..10);
    drain(&mut log);
    log.release(&metas[2]);
    log.release(&metas[2]);
    log.ack(&[metas[3]]).unwrap();
    log.release(&metas[3]);
    assert_eq!(drain(&mut log), [2]);
}

#[test]
fn finished_segments_are_removed() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..9);
    assert_eq!(segments(&fs).len(), 3);
    log.ack(&metas[3..6]).unwrap();
    assert_eq!(segments(&fs).len(), 2);
    log.ack(&metas).unwrap();
    assert_eq!(segments(&fs).len(), 1, "the one that is written stays");
    let stats = log.stats();
    assert_eq!((stats.records, stats.profiles, stats.bytes), (0, 0, 0));
    assert_eq!((stats.oldest_ms, stats.newest_ms), (None, None));
    log.close().unwrap();
    assert_eq!(fs.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_record_that_is_larger_than_a_segment_has_one_of_its_own() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    let large = NewRecord {
        at_ms: 7,
        profiles: 1,
        payload: vec![vec![9; 3000].into()],
    };
    let metas = log.append(&[record(1), large, record(2)]).unwrap();
    assert_eq!(segments(&fs).len(), 3);
    assert_eq!(log.reader().read(&metas[1]).unwrap(), vec![9; 3000]);
    drop(log);
    assert_eq!(open(&fs).recovered.records, 4);
}

#[test]
fn stats_say_what_is_there() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..11);
    log.ack(&[metas[0], metas[10]]).unwrap();
    let stats = log.stats();
    assert_eq!((stats.records, stats.profiles), (9, 45));
    assert_eq!(stats.bytes, 9 * record(0).stored());
    assert_eq!(
        (stats.oldest_ms, stats.newest_ms),
        (Some(1_001), Some(1_009))
    );
    assert_eq!(stats.disk_bytes, fs.used());
    assert_eq!(log.oldest().map(|meta| meta.profiles), Some(1));
    drop(log);
    let log = open(&fs).log;
    assert_eq!(log.stats(), stats);
}

#[test]
fn a_full_disk_a_read_only_one_and_a_broken_one_are_told_apart_and_pass() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    for (fault, is_right) in [
        (
            Fault::Full,
            (|e| matches!(e, AppendError::Full { .. })) as fn(&_) -> bool,
        ),
        (Fault::ReadOnly, |e| {
            matches!(e, AppendError::ReadOnly { .. })
        }),
        (Fault::Io, |e| matches!(e, AppendError::Io { .. })),
        (Fault::Broken(60), |e| matches!(e, AppendError::Io { .. })),
    ] {
        fs.fail(Call::Write, 0, fault);
        let refused = log.append(&[record(7), record(8)]).unwrap_err();
        assert!(is_right(&refused), "{fault:?}: {refused}");
    }
    append(&mut log, [1]);
    assert_eq!(segments(&fs).len(), 1, "what failed was cut off");
    drop(log);
    let Opened { mut log, recovered } = open(&fs);
    assert_eq!(recovered.torn, []);
    assert_eq!(drain(&mut log), [0, 1]);
}

#[test]
fn nothing_is_written_after_a_sync_that_failed() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    fs.fail(Call::Sync, 0, Fault::Io);
    log.append(&[record(7)]).unwrap_err();
    append(&mut log, [1]);
    assert_eq!(segments(&fs).len(), 2);
    assert_eq!(drain(&mut log), [0, 1]);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [0, 1]);
}

#[test]
fn records_that_cannot_be_cut_off_are_not_delivered() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    fs.fail(Call::Sync, 0, Fault::Io);
    fs.fail(Call::Truncate, 0, Fault::Io);
    log.append(&[record(7)]).unwrap_err();
    append(&mut log, [1]);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [0, 1]);
}

#[test]
fn a_call_that_fails_in_its_second_segment_leaves_nothing_of_the_first() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, [0]);
    fs.fail(Call::SyncFolder, 0, Fault::Io);
    let numbers: Vec<_> = (1..9).map(record).collect();
    log.append(&numbers).unwrap_err();
    assert_eq!(segments(&fs).len(), 1);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [0]);
}

#[test]
fn places_are_in_memory_only_for_segments_that_are_handed_out() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let loaded = |log: &Log| log.segments.values().filter(|s| s.is_loaded()).count();
    append(&mut log, 0..300);
    // The oldest, and the one that is written.
    assert_eq!((log.segments.len(), loaded(&log)), (100, 2));
    let mut in_flight = Vec::new();
    while let Some(meta) = log.next(Order::OldestFirst) {
        in_flight.push(meta);
        if in_flight.len() > 10 {
            log.ack(&[in_flight.remove(0)]).unwrap();
        }
        assert!(loaded(&log) <= 6, "{}", loaded(&log));
    }
    log.ack(&in_flight).unwrap();
    drop(log);
    append(&mut open(&fs).log, 0..300);
    let mut log = open(&fs).log;
    assert_eq!(loaded(&log), 1);
    // From the other end nothing is finished at first.
    while let Some(meta) = log.next(Order::NewestFirst) {
        log.ack(&[meta]).unwrap();
        assert!(loaded(&log) <= 3, "{}", loaded(&log));
    }
}

#[test]
fn synced_acknowledgements_outlast_a_power_failure() {
    for seed in 0..100 {
        let fs = MemoryFileSystem::default();
        fs.seed(seed);
        let mut log = open(&fs).log;
        let metas = append(&mut log, 0..9);
        // The first segment is finished and removed, the second is not.
        log.ack(&metas[..4]).unwrap();
        log.sync_acks().unwrap();
        log.ack(&metas[7..]).unwrap();
        drop(log);
        fs.crash();
        let numbers = drain(&mut open(&fs).log);
        let expected: &[&[u64]] = &[&[4, 5, 6], &[4, 5, 6, 7, 8], &[4, 5, 6, 7], &[4, 5, 6, 8]];
        assert!(expected.contains(&&*numbers), "{numbers:?}");
    }
}

#[test]
fn acknowledgements_that_a_full_disk_refused_are_written_when_there_is_room() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    let metas = append(&mut log, 0..5);
    fs.set_capacity(Some(fs.used()));
    log.ack(&metas[..2]).unwrap_err();
    assert_eq!(log.stats().records, 3, "for this log they are acknowledged");
    log.sync_acks().unwrap_err();
    fs.set_capacity(None);
    log.sync_acks().unwrap();
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [2, 3, 4]);
}

#[test]
fn a_full_disk_takes_again_once_something_was_delivered() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    append(&mut log, 0..6);
    fs.set_capacity(Some(fs.used()));
    assert!(matches!(
        log.append(&[record(6)]),
        Err(AppendError::Full { .. })
    ));
    for _ in 0..3 {
        let meta = log.next(Order::OldestFirst).unwrap();
        // The segment goes, though the acknowledgements cannot be written.
        _ = log.ack(&[meta]);
    }
    append(&mut log, [7]);
    drop(log);
    assert_eq!(drain(&mut open(&fs).log), [3, 4, 5, 7]);
}

#[test]
fn a_log_on_a_read_only_disk_still_delivers() {
    let fs = MemoryFileSystem::default();
    append(&mut open(&fs).log, 0..5);
    fs.set_read_only(true);
    let mut log = open(&fs).log;
    assert_eq!(drain(&mut log), [0, 1, 2, 3, 4]);
    let refused = log.append(&[record(5)]).unwrap_err();
    assert!(matches!(refused, AppendError::ReadOnly { .. }), "{refused}");
    assert_eq!(
        refused.to_string(),
        "cannot write to /queue/parca/00000000000000000002.segment: Read-only file system (os \
         error 30): mount it writable"
    );
    fs.set_read_only(false);
    append(&mut log, [5]);
    assert_eq!(drain(&mut log), [5]);
}

#[test]
fn an_empty_call_does_nothing() {
    let fs = MemoryFileSystem::default();
    let mut log = open(&fs).log;
    assert_eq!(log.append(&[]).unwrap(), []);
    log.ack(&[]).unwrap();
    log.sync_acks().unwrap();
    assert_eq!(fs.files(), Vec::<PathBuf>::new());
}
