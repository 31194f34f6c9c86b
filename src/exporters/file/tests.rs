use super::*;
use crate::{exporters::shared::pprofs::tests::as_otlp, profile::otlp::Compression};
use crate::{
    pipeline::Budget,
    profile::{
        NAME, Origin,
        pprof::{inflate, summarize, synthetic::SyntheticProfile},
    },
    telemetry::{Metrics, Status},
};
use std::{fs, path::Path, time::UNIX_EPOCH};

fn context() -> Context {
    Context {
        id: "file".parse().unwrap(),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(u64::MAX),
        sockets: Default::default(),
        ending: Default::default(),
    }
}

fn settings(directory: &Path) -> FileSettings {
    FileSettings {
        directory: FilePath(directory.into()),
        ..FileSettings::default()
    }
}

fn profile(body: Bytes) -> Profile {
    Profile {
        labels: [("job", "api"), ("instance", "a:1"), (NAME, "memory")]
            .into_iter()
            .collect(),
        body: Body::Pprof(Pprof::new(body)),
        received: UNIX_EPOCH + std::time::Duration::from_millis(1_795_373_101_123),
    }
}

fn prepare(exporter: &dyn Exporter, profile: Profile) -> Prepared {
    let prepared = exporter.prepare(&[profile], &Budget::new(u64::MAX));
    prepared.unwrap().remove(0)
}

/// Prepares and exports, as delivery does.
async fn export(exporter: &dyn Exporter, profile: Profile) -> Result<(), ExportError> {
    for part in prepare(exporter, profile).unwrap() {
        let batch = Batch::new(Origin::default(), vec![part.profile]);
        exporter.export(&batch).await?;
    }
    Ok(())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

fn open(path: &Path, max_files: u64, max_bytes: u64, max_age: u64, now: u64) -> Folder {
    let rotation = RotationSettings {
        max_files,
        max_bytes: ByteSize::new(max_bytes),
        max_age: Duration::from_secs(max_age),
    };
    Folder::open(path.into(), rotation, at(now)).unwrap()
}

const STEM: &str = "20261122T184501.123Z_api";

#[tokio::test]
async fn a_profile_becomes_a_file_with_its_labels_inside() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/on/the/way");
    let exporter = settings(&directory).build(&context()).unwrap();
    let gzip = SyntheticProfile::heap(1).encode();
    let plain = inflate(&gzip, 1 << 20).unwrap();
    assert!(gzip.starts_with(&[0x1f, 0x8b]) && !plain.starts_with(&[0x1f, 0x8b]));
    let before = summarize(&plain).unwrap();

    export(&*exporter, profile(gzip)).await.unwrap();
    export(&*exporter, profile(plain)).await.unwrap();

    let stem = "20261122T184501.123Z_api_a-1_memory";
    assert_eq!(
        names(&directory),
        [format!("{stem}-1.pb.gz"), format!("{stem}.pb.gz")]
    );
    for name in names(&directory) {
        let bytes: Bytes = fs::read(directory.join(name)).unwrap().into();
        assert!(bytes.starts_with(&[0x1f, 0x8b]));
        let after = summarize(&inflate(&bytes, 1 << 20).unwrap()).unwrap();
        assert_eq!(after.samples, before.samples);
        assert_eq!(after.sample_types, before.sample_types);
        let added = &after.comments[before.comments.len()..];
        assert_eq!(
            added,
            [
                "label __name__=memory",
                "label instance=a:1",
                "label job=api"
            ]
        );
    }
}

#[tokio::test]
async fn an_otlp_body_is_written_as_the_pprof_that_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let exporter = settings(folder.path()).build(&context()).unwrap();
    let body = Pprof::new(SyntheticProfile::heap(1).encode());
    let otlp = as_otlp(&[("api", body.clone())], Compression::Gzip).remove(0);
    export(&*exporter, otlp).await.unwrap();
    let names = names(folder.path());
    assert_eq!(names, ["19700101T000000.000Z_api_memory.pb.gz"]);
    let written = fs::read(folder.path().join(&names[0])).unwrap();
    let samples = |bytes: Bytes| {
        let inflated = inflate(&bytes, 1 << 22).unwrap();
        summarize(&inflated).unwrap().sample_types
    };
    assert_eq!(samples(written.into()), samples(body.bytes().clone()));
}

#[test]
fn what_is_no_pprof_or_too_large_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = settings(folder.path());
    small.rotation.max_bytes = ByteSize::new(1_000);
    let exporter = small.build(&context()).unwrap();
    let body = SyntheticProfile::heap(1).encode();
    assert_eq!(
        prepare(&*exporter, profile(body)).unwrap_err(),
        Reason::TooLarge
    );
    assert_eq!(
        prepare(&*exporter, profile("<html>".into())).unwrap_err(),
        Reason::InvalidProfile
    );

    let mut shallow = settings(folder.path());
    shallow.max_inflated_bytes = ByteSize::new(1_000);
    let exporter = shallow.build(&context()).unwrap();
    let body = SyntheticProfile::heap(1).encode();
    assert_eq!(
        prepare(&*exporter, profile(body)).unwrap_err(),
        Reason::TooLarge
    );
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    // A file that appeared behind the exporter's back.
    let store = open(folder.path(), 0, 1_000, 0, 0);
    fs::write(folder.path().join(format!("{STEM}.pb.gz")), "theirs").unwrap();
    store.store(STEM, b"one", at(1)).unwrap();
    store.store(STEM, b"two", at(2)).unwrap();
    let read = |name: String| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read(format!("{STEM}.pb.gz")), "theirs");
    assert_eq!(read(format!("{STEM}-1.pb.gz")), "one");
    assert_eq!(read(format!("{STEM}-2.pb.gz")), "two");
    assert_eq!(names(folder.path()).len(), 3);
}

#[test]
fn the_oldest_go_when_there_are_too_many_too_large_or_too_old() {
    let names_of = |numbers: &[u32]| {
        numbers
            .iter()
            .map(|n| name::numbered(STEM, *n))
            .collect::<Vec<_>>()
    };
    for (max_files, max_bytes, max_age, left) in [
        (2, 1_000, 0, vec![3, 4]),
        (0, 29, 0, vec![3, 4]),
        (0, 30, 0, vec![2, 3, 4]),
        (0, 1_000, 15, vec![3, 4]),
        (0, 1_000, 0, vec![1, 2, 3, 4]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), max_files, max_bytes, max_age, 0);
        for number in 1..5_u32 {
            let stem = format!("{STEM}-{number}");
            store
                .store(&stem, &[0; 10], at(u64::from(number) * 10))
                .unwrap();
        }
        assert_eq!(
            names(folder.path()),
            names_of(&left),
            "{max_files} {max_bytes} {max_age}"
        );
    }
}

#[test]
fn only_own_files_are_counted_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = ["notes.txt", "cpu.pb.gz", ".20261122T184501.123Z_api.tmp"];
    for name in foreign {
        fs::write(folder.path().join(name), [0; 500]).unwrap();
    }
    fs::create_dir(folder.path().join("20261122T184501.123Z_folder.pb.gz")).unwrap();
    // An earlier process was killed while it wrote.
    fs::write(folder.path().join(format!(".{STEM}.pb.gz.tmp")), "half").unwrap();
    let store = open(folder.path(), 1, 100, 1, 0);
    store.store(STEM, &[0; 60], at(10)).unwrap();
    store.store(STEM, &[0; 60], at(11)).unwrap();
    assert_eq!(
        names(folder.path()),
        [
            ".20261122T184501.123Z_api.tmp",
            &format!("{STEM}.pb.gz"),
            "20261122T184501.123Z_folder.pb.gz",
            "cpu.pb.gz",
            "notes.txt"
        ]
    );
}

#[test]
fn files_of_an_earlier_process_count() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = open(folder.path(), 0, 1_000, 0, 0);
    for number in 0..5_u64 {
        earlier.store(STEM, &[0; 10], at(number)).unwrap();
        let name = name::numbered(STEM, number as u32);
        let file = fs::File::open(folder.path().join(name)).unwrap();
        file.set_modified(at(100 - number)).unwrap();
    }
    drop(earlier);
    // The youngest are those that were written last, whatever their names.
    let store = open(folder.path(), 2, 1_000, 0, 100);
    assert_eq!(
        names(folder.path()),
        [name::numbered(STEM, 1), name::numbered(STEM, 0)]
    );
    store.store(STEM, &[0; 10], at(101)).unwrap();
    assert_eq!(
        names(folder.path()),
        [name::numbered(STEM, 1), name::numbered(STEM, 0)]
    );
    assert_eq!(
        store
            .store("x", &[0; 990], at(102))
            .map_err(|e| e.to_string()),
        Ok(())
    );
    assert_eq!(names(folder.path()).len(), 2);
}

#[tokio::test]
async fn what_the_system_refuses_is_tried_again_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("profiles");
    let exporter = settings(&directory).build(&context()).unwrap();
    let body = SyntheticProfile::heap(1).encode();

    // A folder that was removed is made again.
    fs::remove_dir(&directory).unwrap();
    export(&*exporter, profile(body.clone())).await.unwrap();
    assert_eq!(names(&directory).len(), 1);

    // A path that leads nowhere is an error that names it, and heals.
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "in the way").unwrap();
    let error = export(&*exporter, profile(body.clone())).await.unwrap_err();
    assert!(matches!(error, ExportError::Retry { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("cannot write") && text.contains("profiles/2026"),
        "{text}"
    );
    fs::remove_file(&directory).unwrap();
    export(&*exporter, profile(body)).await.unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let problems = settings(&file.join("below"))
        .build(&context())
        .err()
        .unwrap();
    assert_eq!(problems[0].path, "directory");
    assert!(
        problems[0].message.contains("name a folder, not a file"),
        "{}",
        problems[0]
    );

    let mut empty = settings(Path::new(""));
    empty.rotation.max_bytes = ByteSize::new(0);
    let places: Vec<_> = empty.problems().into_iter().map(|p| p.path).collect();
    assert_eq!(places, ["directory", "rotation.max_bytes"]);
}
