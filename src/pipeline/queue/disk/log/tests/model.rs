//! Random operations on a log and on a simple model of it, over a file system
//! that fails, fills up, forgets and is damaged.
//!
//! `QUEUE_MODEL_CASES` says how many cases are run, `QUEUE_MODEL_SEED` which is
//! the first. A failure prints what runs it again, which also prints what was done.

use super::{super::*, *};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    ops::Range,
    sync::LazyLock,
};

const CASES: u64 = 2000;
const OPERATIONS: u64 = 60;

const SMALL: Options = Options {
    segment_bytes: 1500,
    quarantine_bytes: 1 << 20,
};

/// A log and what is known of it.
struct World {
    random: Random,
    fs: MemoryFileSystem,
    log: Option<Log>,
    next: u64,
    /// All that was ever appended, by its number.
    records: BTreeMap<u64, Known>,
    /// What is to come out in this life; `None` for a place without a record.
    live: BTreeMap<RecordId, Option<u64>>,
    out: BTreeSet<RecordId>,
    /// The last name that was given in this life.
    highest: Option<RecordId>,
    /// The metas of what is live.
    metas: BTreeMap<RecordId, Meta>,
    /// How many bytes were changed, and which.
    flips: u64,
    flipped: BTreeSet<(PathBuf, u64)>,
    has_crashed: bool,
    is_torn: bool,
    had_limits: bool,
    trace: Trace,
}

/// What became of a record.
#[derive(Clone, Copy, Debug)]
struct Known {
    fate: Fate,
    place: Option<Meta>,
    /// Bytes of it were changed.
    is_tainted: bool,
    /// It was refused and came back all the same; nobody synced it.
    is_ghost: bool,
    /// Its acknowledgement may have been changed.
    is_ack_tainted: bool,
    /// A sync of its acknowledgement has failed. The log writes it again, but one
    /// that is opened later cannot know.
    is_ack_doubtful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It must come out.
    Kept,
    /// The append failed: it must not come out in this life.
    Refused,
    /// It may come out in the next life.
    Acked,
    /// It may come out in the next life if the power fails.
    AckWritten,
    /// It must not come out any more.
    AckSynced,
}

/// What was done; printed when a case fails.
struct Trace {
    seed: u64,
    is_wanted: bool,
    text: String,
}

#[test]
fn the_log_does_what_its_model_does() {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let first = number("QUEUE_MODEL_SEED", 1);
    for seed in first..first + number("QUEUE_MODEL_CASES", CASES) {
        World::new(seed).live_through();
    }
}

// === impl World ===

impl World {
    fn new(seed: u64) -> Self {
        let fs = MemoryFileSystem::default();
        fs.seed(seed);
        Self {
            random: Random(seed),
            fs,
            log: None,
            next: 0,
            records: BTreeMap::new(),
            live: BTreeMap::new(),
            out: BTreeSet::new(),
            metas: BTreeMap::new(),
            highest: None,
            flips: 0,
            flipped: BTreeSet::new(),
            has_crashed: false,
            is_torn: false,
            had_limits: false,
            trace: Trace {
                seed,
                is_wanted: std::env::var("QUEUE_MODEL_SEED").is_ok(),
                text: String::new(),
            },
        }
    }

    fn live_through(mut self) {
        self.open();
        // Some worlds are sound, some are full of trouble.
        let trouble = self.random.below(3);
        for _ in 0..OPERATIONS {
            self.step(trouble);
            self.had_limits |= self.fs.has_limits();
            self.check();
        }
        self.settle();
        self.reopen();
        self.empty();
    }

    fn step(&mut self, trouble: u64) {
        match self.random.below(if trouble == 0 { 70 } else { 100 }) {
            0..22 => self.append(),
            22..40 => self.hand_out(),
            40..56 => self.ack(),
            56..60 => self.release(),
            60..63 => self.sync(),
            63..66 => self.kill(),
            66..69 => self.close(),
            69 => self.look(),
            70..76 => self.crash(),
            76..82 if trouble == 2 => self.flip(),
            82..86 => self.fs.fail_often(0),
            86..90 => {
                let often = self.random.below(150);
                self.trace.say(format_args!("fail {often}"));
                self.fs.fail_often(often);
            }
            90..93 => {
                let room = self.random.below(2000);
                self.trace.say(format_args!("room {room}"));
                self.fs.set_capacity(Some(self.fs.used() + room));
            }
            93..96 => self.fs.set_capacity(None),
            96..98 => self.fs.set_read_only(true),
            _ => self.fs.set_read_only(false),
        }
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(5);
        let numbers = self.next..self.next + count;
        self.next += count;
        self.trace.say(format_args!("append {numbers:?}"));
        let records: Vec<_> = numbers.clone().map(sample).collect();
        let appended = self.log().append(&records);
        self.trace.say(format_args!("  {appended:?}"));
        for (index, number) in numbers.enumerate() {
            let place = appended.as_ref().ok().map(|metas| metas[index]);
            if let Some(meta) = place {
                assert!(Some(meta.id) > self.highest, "{} is not new", meta.id);
                self.highest = Some(meta.id);
                assert_eq!((meta.at_ms, meta.profiles), (number, profiles(number)));
                assert_eq!(meta.stored, records[index].stored());
                self.live.insert(meta.id, Some(number));
                self.metas.insert(meta.id, meta);
            }
            let known = Known {
                fate: place.map_or(Fate::Refused, |_| Fate::Kept),
                place,
                is_tainted: false,
                is_ghost: false,
                is_ack_tainted: false,
                is_ack_doubtful: false,
            };
            self.records.insert(number, known);
        }
    }

    fn hand_out(&mut self) {
        let order = [Order::OldestFirst, Order::NewestFirst][self.random.below(4) as usize / 3];
        for _ in 0..1 + self.random.below(6) {
            let drawn = self.log().next(order);
            self.trace
                .say(format_args!("next {order:?}: {:?}", drawn.map(|m| m.id)));
            self.relearn();
            let stuck = self.log().stuck.clone();
            let waiting = self.live.keys().filter(|id| !self.out.contains(id));
            let mut within = waiting.filter(|id| !stuck.contains(&id.segment));
            let expected = match order {
                Order::OldestFirst => within.next(),
                Order::NewestFirst => within.next_back(),
            };
            assert_eq!(drawn.map(|meta| meta.id), expected.copied());
            let Some(meta) = drawn else { break };
            assert_eq!(meta, self.metas[&meta.id]);
            self.out.insert(meta.id);
            self.read(&meta);
        }
    }

    fn read(&mut self, meta: &Meta) {
        let number = self.live[&meta.id];
        let failed = self.fs.failed();
        match self.log().reader().read(meta) {
            Ok(payload) => {
                let number = number.expect("nothing is read where no record is");
                assert_eq!(payload, content(number), "record {number}");
            }
            Err(ReadError::Damaged { set_aside_at, .. }) => {
                self.trace
                    .say(format_args!("damaged {} {number:?}", meta.id));
                if let Some(number) = number {
                    let known = self.records[&number];
                    assert!(
                        known.is_tainted || known.is_ghost,
                        "record {number} is sound"
                    );
                }
                let may_fail = self.fs.failed() > failed || self.has_limits() || meta.stored == 0;
                assert!(set_aside_at.is_some() || may_fail, "it was not set aside");
                if let Some(path) = set_aside_at {
                    let bytes = self.fs.content(&path).expect("it was set aside").len() as u64;
                    assert!(bytes == meta.stored || self.fs.failed() > 0);
                }
            }
            Err(ReadError::Io { .. }) => assert!(self.fs.failed() > failed),
            Err(gone @ ReadError::Gone { .. }) => panic!("{gone}"),
        }
    }

    fn ack(&mut self) {
        let mut metas = Vec::new();
        let only_out = self.random.below(4) > 0;
        let many = self.random.below(3) == 0;
        for (id, meta) in &self.metas {
            let fits = !only_out || self.out.contains(id);
            if fits && (many || self.random.below(3) == 0) {
                metas.push(*meta);
            }
        }
        if self.random.below(2) == 0 {
            metas.reverse();
        }
        self.ack_these(&metas);
    }

    fn ack_these(&mut self, metas: &[Meta]) {
        let result = self.log().ack(metas);
        let ids = metas.iter().map(|meta| meta.id);
        self.trace.say(format_args!(
            "ack {:?}: {result:?}",
            ids.collect::<Vec<_>>()
        ));
        for meta in metas {
            if let Some(number) = self.live.remove(&meta.id).flatten() {
                let known = self.records.get_mut(&number).unwrap();
                known.fate = match &result {
                    Ok(()) => Fate::AckWritten,
                    Err(_) => Fate::Acked,
                };
            }
            self.out.remove(&meta.id);
            self.metas.remove(&meta.id);
        }
    }

    fn release(&mut self) {
        let ids: Vec<_> = self.out.iter().copied().collect();
        if let Some(id) = self.random.choose(&ids) {
            self.trace.say(format_args!("release {id}"));
            self.out.remove(&id);
            let meta = self.metas[&id];
            self.log().release(&meta);
        }
    }

    fn sync(&mut self) {
        let result = self.log().sync_acks();
        self.trace.say(format_args!("sync: {result:?}"));
        self.acks_are_synced(result.is_ok());
    }

    fn kill(&mut self) {
        self.trace.say(format_args!("kill"));
        self.reopen();
    }

    fn crash(&mut self) {
        self.trace.say(format_args!("crash"));
        self.log = None;
        self.has_crashed = true;
        self.fs.crash();
        for known in self.records.values_mut() {
            if known.fate == Fate::AckWritten {
                known.fate = Fate::Acked;
            }
        }
        self.open();
    }

    fn close(&mut self) {
        let result = self.log.take().unwrap().close();
        self.trace.say(format_args!("close: {result:?}"));
        self.acks_are_synced(result.is_ok());
        if result.is_ok() && self.live.is_empty() {
            let left = of_kind(&self.fs, "segment").len() + of_kind(&self.fs, "acks").len();
            assert_eq!(left, 0, "{:?}", self.fs.files());
        }
        self.open();
    }

    /// What another process sees.
    fn look(&mut self) {
        let is_sound = self.flips == 0 && !self.has_crashed && self.fs.failed() == 0;
        if is_sound && !self.had_limits {
            self.fs.pause_faults(true);
            let snapshot = self.snapshot();
            assert_eq!(snapshot.verify().damage, []);
            for meta in snapshot.records() {
                let meta = meta.unwrap();
                let number = self.live[&meta.id].unwrap();
                assert_eq!(snapshot.read(&meta).unwrap(), content(number));
            }
            self.fs.pause_faults(false);
        }
    }

    /// Changes a byte of a file.
    fn flip(&mut self) {
        let mut files = of_kind(&self.fs, "segment");
        files.extend(of_kind(&self.fs, "acks"));
        let Some(path) = self.random.choose(&files) else {
            return;
        };
        let length = self.fs.content(&path).unwrap().len() as u64;
        if length == 0 {
            return;
        }
        let offset = self.random.below(length);
        let with = 1 << self.random.below(8);
        // What is changed twice may be as it was.
        if !self.flipped.insert((path.clone(), offset)) {
            return;
        }
        self.trace
            .say(format_args!("flip {} at {offset}", path.display()));
        self.fs.flip(&path, offset as usize, with);
        self.flips += 1;
        let sequence: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let is_acks = path.extension().unwrap() == "acks";
        for known in self.records.values_mut() {
            let Some(place) = known.place.filter(|place| place.id.segment == sequence) else {
                continue;
            };
            if is_acks && known.fate != Fate::Kept {
                known.fate = Fate::Acked;
                known.is_ack_tainted = true;
            } else if !is_acks && range(&place).contains(&offset) {
                known.is_tainted = true;
            }
        }
    }

    fn acks_are_synced(&mut self, is_successful: bool) {
        for known in self.records.values_mut() {
            let is_acked = matches!(known.fate, Fate::AckWritten | Fate::Acked);
            if !is_acked || known.place.is_none() {
                continue;
            }
            if !is_successful {
                known.is_ack_doubtful = true;
            } else if !known.is_ack_tainted {
                known.is_ack_doubtful = false;
                known.fate = Fate::AckSynced;
            }
        }
    }

    fn reopen(&mut self) {
        self.log = None;
        self.open();
    }

    /// Opens the folder, and compares what is in it to what should be.
    fn open(&mut self) {
        // Each life may have another way to the disk.
        let way = [
            PastTheCache::Works,
            PastTheCache::Works,
            PastTheCache::OnlyOpens,
            PastTheCache::Never,
        ];
        let way = self.random.choose(&way).unwrap();
        self.trace.say(format_args!("past the cache: {way:?}"));
        self.fs.set_past_the_cache(way);
        let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
        let opened = Log::open(fs, folder(), SMALL);
        let opened = match opened {
            Ok(opened) if opened.recovered.unreadable.is_empty() => opened,
            other => {
                self.trace.say(format_args!("cannot open: {other:?}"));
                assert!(self.fs.failed() > 0 || self.has_limits());
                drop(other);
                self.settle();
                let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
                Log::open(fs, folder(), SMALL).expect("nothing stands in the way")
            }
        };
        self.trace.say(format_args!("open {:?}", opened.recovered));
        let is_clean = self.flips == 0 && !self.has_crashed && self.fs.failed() == 0;
        assert!(opened.recovered.torn.is_empty() || !is_clean);
        self.log = Some(opened.log);
        self.is_torn |= !opened.recovered.torn.is_empty();
        self.compare();
        assert_eq!(opened.recovered.records, self.live.len() as u64);
        assert_eq!(
            opened.recovered.bytes,
            self.metas.values().map(|m| m.stored).sum::<u64>()
        );
        self.check();
    }

    fn compare(&mut self) {
        self.fs.pause_faults(true);
        let metas = if self.flips == 0 && !self.has_crashed {
            let snapshot = self.snapshot();
            snapshot.records().map(|meta| meta.unwrap()).collect()
        } else {
            self.all_that_is_live()
        };
        self.fs.pause_faults(false);
        self.live.clear();
        self.out.clear();
        self.metas = metas.iter().map(|meta| (meta.id, *meta)).collect();
        self.highest = self.metas.keys().next_back().copied();
        let mut lost = 0;
        for meta in metas {
            if meta.is_lost {
                assert!(self.flips > 0 || self.has_crashed, "{} is lost", meta.id);
                lost += 1;
                self.live.insert(meta.id, None);
                continue;
            }
            let number = meta.at_ms;
            let known = self.records.get_mut(&number).expect("it was appended once");
            assert_eq!(
                (meta.stored, meta.profiles),
                (sample(number).stored(), profiles(number))
            );
            match known.fate {
                Fate::Kept | Fate::Acked => {}
                // It could not be cut off.
                Fate::Refused => known.is_ghost = true,
                Fate::AckWritten | Fate::AckSynced => panic!("{number} was acknowledged"),
            }
            known.fate = Fate::Kept;
            known.is_ack_doubtful = false;
            let before = known.place.replace(meta);
            assert!(
                before.is_none_or(|before| before == meta),
                "{before:?} became {meta:?}"
            );
            self.live.insert(meta.id, Some(number));
        }
        for (number, known) in &mut self.records {
            known.is_ack_tainted = known.is_ack_doubtful;
            let is_there = known
                .place
                .is_some_and(|place| self.live.get(&place.id) == Some(&Some(*number)));
            match known.fate {
                Fate::Kept if !is_there => {
                    assert!(
                        known.is_tainted || known.is_ghost,
                        "record {number} is gone: {known:?}"
                    );
                    assert!(
                        lost > 0 || known.is_ghost || self.is_torn,
                        "nobody is told of record {number}"
                    );
                    known.lose();
                }
                _ => {}
            }
        }
    }

    fn all_that_is_live(&mut self) -> Vec<Meta> {
        let log = self.log();
        let sequences: Vec<_> = log.segments.keys().copied().collect();
        let mut metas = Vec::new();
        for sequence in sequences {
            let was_loaded = log.segments[&sequence].is_loaded();
            assert!(log.load(sequence));
            let segment = log.segments.get_mut(&sequence).unwrap();
            metas.extend(segment.live_entries().map(|entry| entry.meta(sequence)));
            if !was_loaded {
                segment.unload();
            }
        }
        metas
    }

    /// Records may turn out to be lost when a segment is scanned again.
    fn relearn(&mut self) {
        let loaded = self.log.as_ref().unwrap().segments.values();
        for segment in loaded.filter(|segment| segment.is_loaded()) {
            let sequence = segment.sequence;
            let found: Vec<_> = segment.live_entries().map(|e| e.meta(sequence)).collect();
            let ours = self
                .metas
                .values()
                .filter(|meta| meta.id.segment == sequence);
            if ours.eq(&found) {
                continue;
            }
            assert!(self.flips > 0, "{found:?}");
            assert!(found.iter().any(|meta| meta.is_lost), "{found:?}");
            let known: Vec<_> = self.metas.keys().copied().collect();
            for id in known.iter().filter(|id| id.segment == sequence) {
                self.metas.remove(id);
            }
            for meta in found {
                assert!(meta.is_lost || known.contains(&meta.id));
                self.metas.insert(meta.id, meta);
                self.live.entry(meta.id).or_default();
            }
            let gone = known.iter().filter(|id| !self.metas.contains_key(id));
            for id in gone {
                let number = self.live.remove(id).unwrap().unwrap();
                self.out.remove(id);
                let known = self.records.get_mut(&number).unwrap();
                assert!(
                    known.is_tainted || known.is_ghost,
                    "record {number} is gone"
                );
                known.lose();
            }
        }
    }

    fn check(&mut self) {
        self.relearn();
        let stats = self.log().stats();
        assert_eq!(stats.records, self.live.len() as u64);
        assert_eq!(
            stats.bytes,
            self.metas.values().map(|m| m.stored).sum::<u64>()
        );
        assert_eq!(
            stats.profiles,
            self.metas.values().map(|m| m.profiles).sum::<u64>()
        );
        if self.fs.failed() == 0 && !self.has_limits() {
            if !self.had_limits {
                assert_eq!(stats.disk_bytes, self.fs.used());
                self.no_segment_is_done_with();
            }
            let times = |id: Option<&RecordId>| id.map(|id| self.metas[id].at_ms);
            assert_eq!(stats.oldest_ms, times(self.live.keys().next()));
            assert_eq!(stats.newest_ms, times(self.live.keys().next_back()));
            let oldest = self.live.keys().next().copied();
            self.fs.pause_faults(true);
            assert_eq!(self.log().oldest().map(|meta| meta.id), oldest);
            self.fs.pause_faults(false);
        }
    }

    fn no_segment_is_done_with(&mut self) {
        let active = self.log().active.as_ref().map(|active| active.sequence);
        for path in segments(&self.fs) {
            let sequence: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let is_live = self.live.keys().any(|id| id.segment == sequence);
            assert!(is_live || active == Some(sequence), "{}", path.display());
        }
    }

    /// All that came to be wrong with the disk is mended.
    fn settle(&mut self) {
        self.trace.say(format_args!("settle"));
        self.fs.fail_often(0);
        self.fs.set_capacity(None);
        self.fs.set_read_only(false);
    }

    /// Takes out all that is there; nothing is left.
    fn empty(&mut self) {
        while let Some(meta) = self.log().next(Order::OldestFirst) {
            assert_eq!(meta, self.metas[&meta.id]);
            self.read(&meta);
            self.out.insert(meta.id);
        }
        assert_eq!(self.out.len(), self.live.len());
        let all: Vec<_> = self.metas.values().copied().collect();
        self.ack_these(&all);
        self.close();
        assert!(self.live.is_empty());
        let mut left = self.fs.files();
        left.retain(|path| path.extension().unwrap() != "record");
        assert_eq!(left, Vec::<PathBuf>::new());
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::open(Arc::new(self.fs.clone()), folder()).unwrap()
    }

    fn has_limits(&self) -> bool {
        self.fs.has_limits()
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }
}

// === impl Known ===

impl Known {
    /// Its place is that of a record that is lost. It may be found again when more
    /// is damaged, and its segment scanned in another way.
    fn lose(&mut self) {
        self.fate = Fate::Acked;
        self.is_ack_doubtful = true;
        self.is_ack_tainted = true;
    }
}

fn range(meta: &Meta) -> Range<u64> {
    meta.offset..meta.offset + meta.stored
}

/// The record of a number, which is also its time.
fn sample(number: u64) -> NewRecord {
    let content = content(number);
    let middle = content.len() / 3;
    NewRecord {
        at_ms: number,
        profiles: profiles(number),
        payload: vec![
            content.slice(..middle),
            Bytes::new(),
            content.slice(middle..),
        ],
    }
}

fn profiles(number: u64) -> u64 {
    1 + number % 4
}

/// 0 to 400 bytes, and now and then more than a segment; a piece of noise.
fn content(number: u64) -> Bytes {
    static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
        let mut random = Random(0);
        (0..8000).map(|_| random.next() as u8).collect()
    });
    let mut random = Random(number);
    let length = match random.below(20) {
        0 => 0,
        1 => 1600,
        _ => random.below(400) as usize,
    };
    let start = random.below(6400) as usize;
    NOISE.slice(start..start + length)
}

// === impl Trace ===

impl Trace {
    fn say(&mut self, what: fmt::Arguments<'_>) {
        if self.is_wanted {
            writeln!(self.text, "{what}").unwrap();
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.text);
            eprintln!("again: QUEUE_MODEL_SEED={} QUEUE_MODEL_CASES=1", self.seed);
        }
    }
}
