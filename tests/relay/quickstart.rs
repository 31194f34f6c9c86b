//! A first try without a configuration.

use crate::{
    far_end::{Behaviour, FarEnd},
    harness::{LIMIT, Relay, program, until},
    target::Target,
};
use profile_relay::profile::pprof;
use std::{fs, path::Path};

fn quickstart(arguments: &[&str]) -> Relay {
    let mut command = program();
    command
        .args(["quickstart", "--interval", "1s"])
        .args(arguments);
    Relay::start(tempfile::tempdir().expect("a folder"), command)
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            folder if folder.is_dir() => files_below(&folder),
            file => vec![file],
        })
        .collect()
}

/// What is in a file, and its strings.
fn read(file: &Path) -> (pprof::Summary, String) {
    let body = fs::read(file).expect("the file is there");
    assert_eq!(&body[..2], b"\x1f\x8b", "gzip, as its name says");
    let inflated = pprof::inflate(&body.into(), 64 << 20).expect("a sound gzip");
    let summary = pprof::summarize(&inflated).expect("a pprof");
    (summary, String::from_utf8_lossy(&inflated).into_owned())
}

#[test]
fn it_profiles_itself_into_files_and_says_where() {
    let relay = quickstart(&[]);
    let folder = relay.folder().join("profile-relay-profiles");
    let told = relay.log();
    assert!(told.contains(&folder.display().to_string()), "{told}");
    let admin = relay.admin();
    assert!(told.contains(&format!("http://{admin}/metrics")), "{told}");
    let (summary, functions) = until("a profile with samples is written", || {
        let complete = |file: &std::path::PathBuf| file.to_string_lossy().ends_with(".pb.gz");
        let files = files_below(&folder).into_iter().filter(complete);
        files
            .map(|file| read(&file))
            .find(|(summary, _)| summary.samples > 0)
    });
    assert_eq!(summary.period_type.as_deref(), Some("cpu/nanoseconds"));
    assert!(functions.contains("example_workload"), "{functions}");
    assert_eq!(relay.stop().code, Some(0));
}

#[test]
fn it_takes_a_program_to_a_parca() {
    let target = Target::good();
    let store = FarEnd::start(Behaviour::default());
    let (from, to) = (target.addr().to_string(), store.addr().to_string());
    let relay = quickstart(&["--scrape", &from, "--to", &to]);
    let named = |log: &crate::far_end::Log, name: &str| {
        let mut names = log.stored.iter().map(|stored| &stored.labels["__name__"]);
        names.any(|stored| stored == name)
    };
    let all = ["memory", "block", "goroutine", "mutex", "process_cpu"];
    let all_five = |log: &crate::far_end::Log| all.iter().all(|name| named(log, name));
    assert!(store.wait(LIMIT, all_five), "{}", relay.log());
    let served = target.served();
    assert!(store.stored().iter().all(|s| served.contains(&s.body)));
    assert!(!relay.folder().join("profile-relay-profiles").exists());
    assert_eq!(relay.stop().code, Some(0));
}
