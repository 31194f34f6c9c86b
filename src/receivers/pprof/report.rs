//! Which failures are logged.
//!
//! A target's first failure is logged, then at most one line every five minutes
//! with the number of repeats, then its recovery. A job writes at most
//! [`LINES`] such lines a minute; what else failed in it is one summary.

use std::time::Duration;
use tokio::time::Instant;

/// A failing target is logged this often.
const REPEAT: Duration = Duration::from_secs(300);
/// The window of a job's summary.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines about single targets of a job in a window.
const LINES: u32 = 10;

/// What was said of one target's failures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    at: Option<Instant>,
    repeats: u32,
}

/// Decides what is logged of one job.
#[derive(Debug)]
pub(crate) struct Reporter {
    window: Instant,
    lines: u32,
    silent: u64,
}

// === impl Reporter ===

impl Reporter {
    /// Nothing was said yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            window: now,
            lines: 0,
            silent: 0,
        }
    }

    /// A scrape failed: how many failures of the target were kept silent before,
    /// if this one is to be logged.
    pub(crate) fn failed(&mut self, told: &mut Told, now: Instant) -> Option<u32> {
        let recent = told.at.is_some_and(|at| now - at < REPEAT);
        if recent || self.lines >= LINES {
            self.silent += u64::from(!recent);
            told.repeats = told.repeats.saturating_add(1);
            return None;
        }
        self.lines += 1;
        told.at = Some(now);
        Some(std::mem::take(&mut told.repeats))
    }

    /// A scrape succeeded: whether the end of a failure that was logged is to be
    /// logged too.
    pub(crate) fn succeeded(&mut self, told: &mut Told) -> bool {
        let was_told = std::mem::take(told).at.is_some();
        let say = was_told && self.lines < LINES;
        self.lines += u32::from(say);
        say
    }

    /// How many failures of the last window had no line of their own, once the
    /// window is over and if there were any.
    pub(crate) fn summary(&mut self, now: Instant) -> Option<u64> {
        if now - self.window < WINDOW {
            return None;
        }
        let silent = self.silent;
        *self = Self::new(now);
        (silent > 0).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_logged_then_one_in_five_minutes_then_the_recovery() {
        let start = Instant::now();
        let mut reporter = Reporter::new(start);
        let mut told = Told::default();
        let mut lines = Vec::new();
        for scrape in 0..61 {
            let now = start + Duration::from_secs(10) * scrape;
            assert_eq!(reporter.summary(now), None, "repeats need no summary");
            lines.extend(reporter.failed(&mut told, now));
        }
        assert_eq!(lines, [0, 29, 29]);
        assert!(reporter.succeeded(&mut told));
        assert!(!reporter.succeeded(&mut told));
    }

    #[test]
    fn thousands_of_failing_targets_are_ten_lines_and_a_summary() {
        let start = Instant::now();
        let mut reporter = Reporter::new(start);
        let mut targets = vec![Told::default(); 5_000];
        let lines = targets
            .iter_mut()
            .filter_map(|told| reporter.failed(told, start))
            .count();
        assert_eq!(lines, 10);
        assert_eq!(reporter.summary(start + Duration::from_secs(59)), None);
        let over = start + Duration::from_secs(60);
        assert_eq!(reporter.summary(over), Some(4_990));
        assert_eq!(reporter.summary(over + WINDOW), None);
        let recoveries = targets
            .iter_mut()
            .filter_map(|told| reporter.succeeded(told).then_some(()))
            .count();
        assert_eq!(recoveries, 10);
    }
}
