//! Whether the process lives, and whether it takes work.
//!
//! What must stay alive beats; the admin endpoint, on a thread of its own,
//! looks at the time of the last beat. A runtime whose workers are all stuck
//! stops beating, and `/healthz` says so although nothing else could.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often the main runtime beats.
pub const BEAT: Duration = Duration::from_secs(1);

/// The process's health.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    born: Instant,
    phase: Mutex<Phase>,
    watched: Mutex<BTreeMap<&'static str, Watched>>,
}

struct Watched {
    max_silence: Duration,
    last: Arc<AtomicU64>,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not all components run yet.
    Starting,
    /// Takes work.
    Ready,
    /// Was asked to end, and delivers what is left.
    Stopping,
}

/// The sign of life of one watched part. Dropping it does not end the watch: a
/// part that died without [`Heartbeat::end`] is one that fell silent.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    name: &'static str,
    last: Arc<AtomicU64>,
}

/// A part that has not beaten for too long.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Silence {
    /// The name it is watched under.
    pub name: &'static str,
    /// Since the last beat, in milliseconds.
    pub silent_millis: u64,
    /// The most that is allowed, in milliseconds.
    pub allowed_millis: u64,
}

// === impl Health ===

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Inner {
            born: Instant::now(),
            phase: Mutex::new(Phase::Starting),
            watched: Mutex::default(),
        }))
    }
}

impl Health {
    /// Expects a beat at least every `max_silence` from now on.
    pub fn watch(&self, name: &'static str, max_silence: Duration) -> Heartbeat {
        let last = Arc::new(AtomicU64::new(self.now_millis()));
        let watched = Watched {
            max_silence,
            last: last.clone(),
        };
        self.watched().insert(name, watched);
        Heartbeat {
            health: self.clone(),
            name,
            last,
        }
    }

    /// What has been silent for too long; empty while all is well.
    pub fn silences(&self) -> Vec<Silence> {
        let now = self.now_millis();
        self.watched()
            .iter()
            .filter_map(|(name, watched)| {
                let silent_millis = now.saturating_sub(watched.last.load(Ordering::Relaxed));
                let allowed_millis = watched.max_silence.as_millis() as u64;
                (silent_millis > allowed_millis).then_some(Silence {
                    name,
                    silent_millis,
                    allowed_millis,
                })
            })
            .collect()
    }

    /// All components run. Has no effect once [`Self::stopping`] was called.
    pub fn ready(&self) {
        let mut phase = self.phase_mut();
        *phase = Phase::Ready.max(*phase);
    }

    /// The process was asked to end.
    pub fn stopping(&self) {
        *self.phase_mut() = Phase::Stopping;
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase_mut()
    }

    /// How long the process has been running.
    pub fn uptime(&self) -> Duration {
        self.0.born.elapsed()
    }

    fn now_millis(&self) -> u64 {
        self.uptime().as_millis() as u64
    }

    fn phase_mut(&self) -> MutexGuard<'_, Phase> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<&'static str, Watched>> {
        self.0
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("phase", &self.phase())
            .finish()
    }
}

// === impl Phase ===

impl Phase {
    /// What `/readyz` says.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Starting => "not ready: starting",
            Self::Ready => "ready",
            Self::Stopping => "not ready: stopping, draining what is queued",
        }
    }
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Lives.
    pub fn beat(&self) {
        self.last.store(self.health.now_millis(), Ordering::Relaxed);
    }

    /// Ends the watch.
    pub fn end(self) {
        self.health.watched().remove(self.name);
    }

    /// Beats `every` so often until `stop`, then ends the watch. Run as a task,
    /// it shows that the runtime it is on still polls its tasks.
    pub async fn keep_beating(self, every: Duration, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            self.beat();
        }
        self.end();
    }
}

// === impl Silence ===

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has been silent for {}.{}s (allowed {}.{}s)",
            self.name,
            self.silent_millis / 1000,
            self.silent_millis % 1000 / 100,
            self.allowed_millis / 1000,
            self.allowed_millis % 1000 / 100,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stops_beating_is_named() {
        let health = Health::default();
        let _long = health.watch("disk", Duration::from_secs(3600));
        let beat = health.watch("runtime", Duration::from_millis(20));
        assert_eq!(health.silences(), []);
        std::thread::sleep(Duration::from_millis(60));
        let silences = health.silences();
        assert_eq!(silences.len(), 1);
        assert_eq!(silences[0].name, "runtime");
        assert!(silences[0].silent_millis >= 60);
        beat.beat();
        assert_eq!(health.silences(), []);
    }

    #[test]
    fn a_part_that_died_is_silent_and_one_that_ended_is_not() {
        let health = Health::default();
        drop(health.watch("died", Duration::ZERO));
        health.watch("ended", Duration::ZERO).end();
        std::thread::sleep(Duration::from_millis(5));
        let names: Vec<_> = health.silences().iter().map(|s| s.name).collect();
        assert_eq!(names, ["died"]);
    }

    #[test]
    fn silence_reads_well() {
        let silence = Silence {
            name: "runtime",
            silent_millis: 12_345,
            allowed_millis: 10_000,
        };
        assert_eq!(
            silence.to_string(),
            "runtime has been silent for 12.3s (allowed 10.0s)"
        );
    }

    #[test]
    fn ready_does_not_come_back_after_stopping() {
        let health = Health::default();
        assert_eq!(health.phase(), Phase::Starting);
        health.ready();
        assert_eq!(health.phase(), Phase::Ready);
        health.stopping();
        health.ready();
        assert_eq!(health.phase(), Phase::Stopping);
    }
}
