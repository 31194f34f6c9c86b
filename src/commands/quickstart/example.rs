//! Something to see in a first profile.
//!
//! A relay that waits uses no processor time, and its CPU profile would be
//! empty. So a thread does the relay's own kind of work on made-up profiles for
//! a tenth of the time: building, compressing, checking and summarising them.

use crate::profile::pprof::{Pprof, SyntheticProfile, summarize};
use std::{
    hint::black_box,
    io, thread,
    time::{Duration, Instant},
};

/// For each moment of work, so many of rest.
const REST: u32 = 9;

/// The shortest round of work: a timer that strikes every 10 ms must meet it.
const ROUND: Duration = Duration::from_millis(20);

/// A made-up profile is smaller than this, in bytes.
const MAX: u64 = 1 << 20;

/// Starts the thread, which ends with the process.
pub(super) fn start() -> io::Result<()> {
    let named = thread::Builder::new().name("example".to_owned());
    named.spawn(example_workload).map(drop)
}

#[inline(never)]
fn example_workload() {
    let mut seed = 0;
    loop {
        let begun = Instant::now();
        while begun.elapsed() < ROUND {
            seed += 1;
            check_and_summarise(&build_and_compress(seed));
        }
        thread::sleep(begun.elapsed() * REST);
    }
}

#[inline(never)]
fn build_and_compress(seed: u64) -> Pprof {
    Pprof::new(SyntheticProfile::heap(seed).encode())
}

#[inline(never)]
fn check_and_summarise(pprof: &Pprof) {
    if pprof.check(MAX).is_ok() {
        let _ = black_box(pprof.read(MAX, summarize));
    }
}
