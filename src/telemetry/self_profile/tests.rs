use super::*;
use crate::{r#gen::pprof::Profile, profile::pprof::Pprof};
use flate2::read::GzDecoder;
use prost::Message;
use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Profiling is the process's, and all tests are in one.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A thread called `burner` that burns until this is dropped.
pub(crate) struct Burner(Arc<AtomicBool>);

impl Burner {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::Builder::new()
            .name("burner".to_owned())
            .spawn({
                let stop = stop.clone();
                move || burn_processor_time(&stop)
            })
            .unwrap();
        Self(stop)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[inline(never)]
fn burn_processor_time(stop: &AtomicBool) -> u64 {
    let mut x = 1u64;
    while !stop.load(Ordering::Relaxed) {
        for i in 0..10_000 {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
        }
    }
    x
}

/// The share of cpu/nanoseconds in stacks of the thread `burner` that pass
/// through [`burn_processor_time`], of all time on that thread.
pub(crate) fn burning(profile: &[u8]) -> (i64, i64) {
    let mut plain = Vec::new();
    GzDecoder::new(profile).read_to_end(&mut plain).unwrap();
    let profile = Profile::decode(&*plain).unwrap();
    let text = |at: i64| profile.string_table[at as usize].as_str();
    let named = |sample: &crate::r#gen::pprof::Sample| {
        sample
            .location_id
            .iter()
            .flat_map(|id| &profile.location[*id as usize - 1].line)
            .any(|line| {
                text(profile.function[line.function_id as usize - 1].name)
                    .ends_with("burn_processor_time")
            })
    };
    let of_burner = profile.sample.iter().filter(|sample| {
        let label = &sample.label[0];
        text(label.key) == "thread" && text(label.str) == "burner"
    });
    let (mut in_function, mut all) = (0, 0);
    for sample in of_burner {
        all += sample.value[1];
        in_function += if named(sample) { sample.value[1] } else { 0 };
    }
    (in_function, all)
}

#[tokio::test]
async fn a_profile_names_what_burns_and_passes_every_rule() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let _burner = Burner::start();
    let before = std::time::SystemTime::now();
    let profile = cpu_profile(Duration::from_secs(1)).await.unwrap();
    let (in_function, all) = burning(&profile);
    assert!(all > 0, "the burning thread was not sampled");
    assert!(in_function * 10 >= all * 9, "{in_function} of {all}");

    let pprof = Pprof::new(profile);
    let checked = pprof.check(64 << 20).unwrap();
    assert!(checked.broken.is_empty(), "{:?}", checked.broken);
    assert!(checked.duration_nanos >= 1_000_000_000);
    let since = before.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(checked.time_nanos >= since.as_nanos() as i64);
}

#[tokio::test]
async fn a_second_profile_is_refused_and_a_dropped_one_makes_room() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut first = Box::pin(cpu_profile(Duration::from_secs(60)));
    let started = tokio::time::timeout(Duration::from_millis(500), &mut first).await;
    assert!(started.is_err());
    let second = cpu_profile(Duration::from_millis(10)).await;
    assert_eq!(
        second.unwrap_err().to_string(),
        "cpu profiling already in use"
    );
    drop(first);
    let begun = Instant::now();
    while cpu_profile(Duration::from_millis(10)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_tight_memory_limit_refuses_the_first_profile() {
    assert!(enough_memory(None, 1 << 40).is_ok());
    assert!(enough_memory(Some(170 << 20), 40 << 20).is_ok());
    let error = enough_memory(Some(156 << 20), 56 << 20).unwrap_err();
    assert_eq!(
        error.to_string(),
        "profiling this process needs 128 MiB of memory for good, and its limit leaves 100 MiB: \
         raise the limit of the container or unit"
    );
}
