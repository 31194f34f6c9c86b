//! Which log lines are repeated: a target that does something wrong does it with
//! every profile, and a backend with every answer.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long something is not mentioned again.
const QUIET: Duration = Duration::from_secs(600);

/// The most that is remembered; beyond it only counters tell.
const MOST: usize = 1_000;

/// Lets one line about the same thing pass in ten minutes.
#[derive(Debug, Default)]
pub struct Quiet {
    said: Mutex<HashMap<(u64, &'static str), Instant>>,
    hasher: RandomState,
}

// === impl Quiet ===

impl Quiet {
    /// Whether a line about `subject` and `event` is written now.
    pub fn may_say(&self, subject: &impl Hash, event: &'static str) -> bool {
        self.may_say_at(subject, event, Instant::now())
    }

    fn may_say_at(&self, subject: &impl Hash, event: &'static str, now: Instant) -> bool {
        let key = (self.hasher.hash_one(subject), event);
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < QUIET;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&key).is_some_and(is_fresh) {
            return false;
        }
        if said.len() >= MOST {
            said.retain(|_, at| is_fresh(at));
        }
        if said.len() >= MOST {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_ten_minutes() {
        let quiet = Quiet::default();
        let start = Instant::now();
        assert!(quiet.may_say_at(&"a", "x", start));
        assert!(!quiet.may_say_at(&"a", "x", start + QUIET / 2));
        assert!(quiet.may_say_at(&"a", "y", start));
        assert!(quiet.may_say_at(&"b", "x", start));
        assert!(quiet.may_say_at(&"a", "x", start + QUIET));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let quiet = Quiet::default();
        let start = Instant::now();
        let said = |at| {
            (0..MOST + 10)
                .filter(|n| quiet.may_say_at(n, "x", at))
                .count()
        };
        assert_eq!(said(start), MOST);
        assert_eq!(said(start + QUIET), MOST);
    }
}
