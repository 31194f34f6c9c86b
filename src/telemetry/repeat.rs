//! Says once what happens again and again.
//!
//! Ten thousand targets that fail every ten seconds must not write a thousand
//! lines a second. For each key the first event is reported, repeats are
//! counted in silence, and once an interval has passed the next repeat carries
//! the count. The number of keys is bounded; keys beyond it share one entry, so
//! a flood of new keys is summarised like the repeats of one.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Repeats of events by key.
#[derive(Debug)]
pub struct Repeats<K> {
    capacity: usize,
    interval: Duration,
    entries: HashMap<K, Entry>,
    overflow: Option<Entry>,
    swept: Option<Instant>,
}

/// What to do about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// New: report it.
    First,
    /// Reported lately: stay silent.
    Suppressed,
    /// Report it, with what was suppressed.
    Summary {
        /// Events since the last report, this one included.
        count: u64,
        /// The time since the last report.
        since: Duration,
    },
}

#[derive(Debug)]
struct Entry {
    reported: Instant,
    last: Instant,
    suppressed: u64,
}

// === impl Repeats ===

impl<K: Eq + Hash> Repeats<K> {
    /// Remembers at most `capacity` keys, and summarises every `interval`.
    pub fn new(capacity: usize, interval: Duration) -> Self {
        Self {
            capacity,
            interval,
            entries: HashMap::new(),
            overflow: None,
            swept: None,
        }
    }

    /// The event `key` happened.
    pub fn note(&mut self, key: K, now: Instant) -> Repeat {
        if let Some(entry) = self.entries.get_mut(&key) {
            return entry.note(now, self.interval);
        }
        if self.entries.len() >= self.capacity {
            self.sweep(now);
        }
        if self.entries.len() < self.capacity {
            self.entries.insert(key, Entry::new(now));
            return Repeat::First;
        }
        match &mut self.overflow {
            Some(entry) => entry.note(now, self.interval),
            None => {
                self.overflow = Some(Entry::new(now));
                Repeat::First
            }
        }
    }

    /// The trouble of `key` is over: the next event is a first one again. Says
    /// how many events were suppressed since the last report; `None` when there
    /// was no event.
    pub fn clear(&mut self, key: &K) -> Option<u64> {
        self.entries.remove(key).map(|entry| entry.suppressed)
    }

    /// Forgets the keys that were quiet for two intervals; at most once an
    /// interval, so that a full map costs nothing per event.
    fn sweep(&mut self, now: Instant) {
        let due = |since: Instant, after| now.saturating_duration_since(since) >= after;
        if self.swept.is_none_or(|swept| due(swept, self.interval)) {
            self.swept = Some(now);
            self.entries
                .retain(|_, entry| !due(entry.last, self.interval * 2));
        }
    }
}

// === impl Entry ===

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            reported: now,
            last: now,
            suppressed: 0,
        }
    }

    fn note(&mut self, now: Instant, interval: Duration) -> Repeat {
        self.last = now;
        let since = now.saturating_duration_since(self.reported);
        self.suppressed += 1;
        if since < interval {
            return Repeat::Suppressed;
        }
        self.reported = now;
        Repeat::Summary {
            count: std::mem::take(&mut self.suppressed),
            since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn repeats_are_counted_and_summarised() {
        let start = Instant::now();
        let mut repeats = Repeats::new(10, MINUTE);
        assert_eq!(repeats.note("a", start), Repeat::First);
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(repeats.note("a", now), Repeat::Suppressed);
        }
        assert_eq!(repeats.note("b", start), Repeat::First);
        let summary = Repeat::Summary {
            count: 60,
            since: MINUTE,
        };
        assert_eq!(repeats.note("a", start + MINUTE), summary);
        assert_eq!(repeats.note("a", start + MINUTE), Repeat::Suppressed);
        assert_eq!(repeats.clear(&"a"), Some(1));
        assert_eq!(repeats.clear(&"a"), None);
        assert_eq!(repeats.note("a", start + MINUTE), Repeat::First);
    }

    #[test]
    fn a_flood_of_keys_is_summarised_and_bounded() {
        let start = Instant::now();
        let mut repeats = Repeats::new(100, MINUTE);
        let reported = (0..10_000)
            .filter(|key| repeats.note(*key, start) != Repeat::Suppressed)
            .count();
        assert_eq!(reported, 101);
        assert_eq!(repeats.entries.len(), 100);
        let summary = repeats.note(20_000, start + MINUTE);
        assert_eq!(
            summary,
            Repeat::Summary {
                count: 9_900,
                since: MINUTE
            }
        );
    }

    #[test]
    fn quiet_keys_make_room() {
        let start = Instant::now();
        let mut repeats = Repeats::new(2, MINUTE);
        repeats.note(1, start);
        repeats.note(2, start + MINUTE);
        assert_eq!(repeats.note(3, start + MINUTE * 2), Repeat::First);
        assert_eq!(
            repeats.note(2, start + MINUTE * 2 + MINUTE / 2).clone(),
            Repeat::Summary {
                count: 1,
                since: MINUTE * 3 / 2
            }
        );
        assert_eq!(repeats.note(1, start + MINUTE * 2), Repeat::First);
    }
}
