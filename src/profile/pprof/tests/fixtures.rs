//! Real profiles, where a checkout has them beside it in `../shared/fixtures`, or
//! where `PPROF_FIXTURES` says; skipped elsewhere.

use crate::profile::pprof::{
    Checked, Pprof, Rule, RuleSet, repair, split_by_samples, summarize, top,
};
use bytes::Bytes;
use std::{fs, io::Write, path::Path, time::SystemTime};

/// Calls `check` with each profile of a folder of fixtures, if there is one.
fn each(test: &str, folder: &str, check: impl Fn(&str, &Pprof, &Checked)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/pprof");
    let root = std::env::var_os("PPROF_FIXTURES").map_or(root, Into::into);
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        // Written past the capture of output, which the summary does not see.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no ../shared/fixtures");
        return;
    };
    let mut seen = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let pprof = Pprof::new(Bytes::from(fs::read(&path).unwrap()));
        let name = path.file_name().unwrap().to_string_lossy();
        check(&name, &pprof, pprof.check(1 << 26).unwrap());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn profiles_of_go_programs_are_healthy() {
    each(
        "profiles_of_go_programs_are_healthy",
        "captured",
        |name, pprof, checked| {
            assert_eq!(checked.broken, RuleSet::EMPTY, "{name}");
            let (summary, _) = pprof
                .read(1 << 26, |inflated| {
                    (
                        summarize(inflated).unwrap(),
                        top(inflated, None, 5).unwrap(),
                    )
                })
                .unwrap();
            assert_eq!(summary.samples, checked.samples, "{name}");
        },
    );
}

#[test]
fn odd_profiles_are_mended() {
    each(
        "odd_profiles_are_mended",
        "parca",
        |name, pprof, checked| {
            eprintln!("{name}: {} rows, broken: {}", checked.rows, checked.broken);
            if name.starts_with("no-period") {
                assert!(checked.broken.contains(Rule::NoPeriodType));
            }
            pprof
                .read(1 << 26, |inflated| {
                    repair(inflated, checked.broken, SystemTime::now()).unwrap();
                    let pieces = split_by_samples(inflated, 10_000).unwrap();
                    let rows =
                        |piece: &Bytes| Pprof::new(piece.clone()).check(1 << 26).unwrap().rows;
                    assert_eq!(pieces.iter().map(rows).sum::<u64>(), checked.rows, "{name}");
                })
                .unwrap();
        },
    );
}
