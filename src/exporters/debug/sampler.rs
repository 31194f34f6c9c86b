//! Which lines of a second are written, as zap's sampler decides for the
//! Collector.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_secs(1);

/// Lets the first lines of each second pass, then every so manieth.
#[derive(Debug)]
pub(super) struct Sampler {
    initial: u64,
    thereafter: u64,
    second: Mutex<Second>,
}

/// The second that runs and the lines it saw.
#[derive(Debug, Default)]
struct Second {
    since: Option<Instant>,
    lines: u64,
}

// === impl Sampler ===

impl Sampler {
    /// Passes `initial` lines a second, then every `thereafter`th; 0 is none.
    pub(super) fn new(initial: u64, thereafter: u64) -> Self {
        Self {
            initial,
            thereafter,
            second: Mutex::default(),
        }
    }

    /// Whether the line of this moment is written.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let line = {
            let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
            second.count(now)
        };
        match line.checked_sub(self.initial) {
            None | Some(0) => true,
            Some(later) => self.thereafter > 0 && later % self.thereafter == 0,
        }
    }
}

// === impl Second ===

impl Second {
    /// The line's number within its second, from 1.
    fn count(&mut self, now: Instant) -> u64 {
        let over = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= TICK);
        if over {
            *self = Self {
                since: Some(now),
                lines: 0,
            };
        }
        self.lines += 1;
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_begins_anew() {
        for (initial, thereafter, expected) in [
            (2, 1, vec![1, 2, 3, 4, 5, 6]),
            (2, 3, vec![1, 2, 5]),
            (2, 0, vec![1, 2]),
            (0, 2, vec![2, 4, 6]),
            (0, 1, vec![1, 2, 3, 4, 5, 6]),
        ] {
            let sampler = Sampler::new(initial, thereafter);
            let start = Instant::now();
            for second in 0..2 {
                let now = start + TICK * second;
                let passed: Vec<_> = (1..=6).filter(|_| sampler.admits(now)).collect();
                assert_eq!(passed, expected, "{initial} {thereafter} {second}");
            }
        }
    }
}
