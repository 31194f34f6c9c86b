//! When each target is scraped.
//!
//! One schedule serves all targets of a receiver: a heap of what is due next,
//! and three lanes in which scrapes run. It is pure: it knows no target, starts
//! nothing and reads no clock, so that its tests are plain values.
//!
//! - **Phase.** A target's ticks are the times `t` of the wall clock with
//!   `t mod interval = hash mod interval`, rounded down to a grid of [`GRID`]: what
//!   is due within a moment is done in one waking, which costs a third less than
//!   waking for each. The hash is the target's identity, so
//!   the phase survives restarts and changes of other targets, and ten thousand
//!   targets that appear together are spread over the interval.
//! - **No overlap.** A target is scraped once at a time. If a scrape took the
//!   whole interval, which a CPU profile of that length does, the next starts at
//!   once; every tick beyond that one is counted as skipped.
//! - **Nobody waits for a neighbour.** A scrape holds one place of its lane. Few
//!   run in the quick lane; who is under way for longer than [`SLOW`] moves over
//!   to the slow lane, even if that is full, and begins there the next time.
//!   Profiles that are collected over some seconds have a lane of their own. So
//!   dead targets and long profiles take no place of those who answer at once,
//!   and a relay that is itself too slow has some hundreds of requests open, not
//!   one for each target. In a full lane the order is first come, first served.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// The grid of phases; finer where an interval has not [`PLACES`] of them.
const GRID: Duration = Duration::from_millis(50);
/// The fewest places of the grid within an interval.
const PLACES: u64 = 20;

/// A target of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(u64);

/// Which places a scrape may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Answers at once.
    Quick,
    /// Is slow, or was the last time.
    Slow,
    /// Is collected over some seconds.
    Delta,
}

/// How many scrapes may run at the same time, by lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Of those that answer at once; [`SLOW_FACTOR`] times as many of the slow.
    pub(crate) quick: usize,
    /// Of those that are collected over some seconds.
    pub(crate) delta: usize,
}

/// A scrape that starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Whose.
    pub(crate) id: SlotId,
    /// The ticks that passed while it waited for a place.
    pub(crate) skipped: u64,
}

/// Turns the runtime's clock into the wall's: read once, so that a step of the
/// wall clock cannot make a target due a thousand times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    instant: Instant,
    nanos: u64,
}

/// Who is due when, and who runs.
#[derive(Debug)]
pub(crate) struct Schedule {
    clock: WallClock,
    places: Places,
    slots: HashMap<SlotId, Slot>,
    due: BinaryHeap<Reverse<(u64, SlotId)>>,
    lanes: [LaneState; 3],
    /// Starts in the quick lane, oldest first; some have ended.
    quick_starts: VecDeque<(u64, SlotId)>,
    last: u64,
}

#[derive(Debug)]
struct Slot {
    interval: u64,
    phase: u64,
    /// The tick it waits for or was last started for.
    tick: u64,
    lane: Lane,
    /// Always in the delta lane.
    delta: bool,
    /// When the scrape that runs was started.
    running: Option<u64>,
    /// Taken out while it ran.
    gone: bool,
}

/// Who is under way for longer is slow, in nanoseconds.
const SLOW: u64 = 1_000_000_000;

/// Places in the slow lane for each one in the quick lane.
const SLOW_FACTOR: usize = 4;

#[derive(Debug, Default)]
struct LaneState {
    running: usize,
    ready: VecDeque<SlotId>,
}

// === impl WallClock ===

impl WallClock {
    /// A clock on which `instant` is `since_epoch`.
    pub(crate) fn new(instant: Instant, since_epoch: Duration) -> Self {
        Self {
            instant,
            nanos: nanos(since_epoch),
        }
    }

    fn at(&self, instant: Instant) -> u64 {
        let passed = nanos(instant.saturating_duration_since(self.instant));
        self.nanos.saturating_add(passed)
    }

    fn instant(&self, at: u64) -> Instant {
        let far = self.instant + Duration::from_secs(365 * 24 * 3600);
        let ahead = Duration::from_nanos(at.saturating_sub(self.nanos));
        self.instant.checked_add(ahead).unwrap_or(far)
    }
}

// === impl Slot ===

impl Slot {
    /// The last tick that is not after `now`.
    fn tick_at(&self, now: u64) -> u64 {
        now.saturating_sub(self.phase) / self.interval
    }

    fn time_of(&self, tick: u64) -> u64 {
        tick.saturating_mul(self.interval)
            .saturating_add(self.phase)
    }
}

// === impl Schedule ===

impl Schedule {
    /// A schedule without targets.
    pub(crate) fn new(clock: WallClock, places: Places) -> Self {
        Self {
            clock,
            places,
            slots: HashMap::new(),
            due: BinaryHeap::new(),
            lanes: Default::default(),
            quick_starts: VecDeque::new(),
            last: 0,
        }
    }

    /// Adds a target, due at its first tick that is not before `now`. `delta`
    /// says that it collects for some seconds before it answers.
    pub(crate) fn add(
        &mut self,
        hash: u64,
        interval: Duration,
        delta: bool,
        now: Instant,
    ) -> SlotId {
        let interval = nanos(interval).max(1);
        let now = self.clock.at(now);
        let mut slot = Slot {
            interval,
            phase: phase(hash, interval),
            tick: 0,
            lane: if delta { Lane::Delta } else { Lane::Quick },
            delta,
            running: None,
            gone: false,
        };
        slot.tick = slot.tick_at(now);
        if slot.time_of(slot.tick) < now {
            slot.tick += 1;
        }
        self.last += 1;
        let id = SlotId(self.last);
        self.due.push(Reverse((slot.time_of(slot.tick), id)));
        self.slots.insert(id, slot);
        id
    }

    /// Takes a target out. A scrape of it that runs keeps its place until
    /// [`Schedule::finished`].
    pub(crate) fn remove(&mut self, id: SlotId) {
        match self.slots.get_mut(&id) {
            Some(slot) if slot.running.is_some() => slot.gone = true,
            _ => {
                self.slots.remove(&id);
            }
        }
    }

    /// When [`Schedule::start_due`] may next find somebody to start.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        // A full quick lane gets a place when its oldest scrape turns slow.
        let waited_for = !self.lanes[Lane::Quick as usize].ready.is_empty();
        let oldest = self.quick_starts.front().filter(|_| waited_for);
        let turns_slow = oldest.map(|(at, _)| at.saturating_add(SLOW));
        let next = due.into_iter().chain(turns_slow).min()?;
        Some(self.clock.instant(next))
    }

    /// Takes places for all who are due at `now`, as far as there are any.
    pub(crate) fn start_due(&mut self, now: Instant) -> Vec<Start> {
        let now = self.clock.at(now);
        while let Some(Reverse((at, id))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            if let Some(slot) = self.slots.get(&id) {
                self.lanes[slot.lane as usize].ready.push_back(id);
            }
        }
        self.move_slow(now);
        let mut started = Vec::new();
        for lane in [Lane::Quick, Lane::Slow, Lane::Delta] {
            self.fill(lane, now, &mut started);
        }
        started
    }

    /// Gives a scrape's place back and says how many ticks passed under it
    /// unused.
    pub(crate) fn finished(&mut self, id: SlotId, now: Instant) -> u64 {
        let now = self.clock.at(now);
        let Some(slot) = self.slots.get_mut(&id) else {
            return 0;
        };
        let Some(started) = slot.running.take() else {
            return 0;
        };
        let lane = &mut self.lanes[slot.lane as usize];
        lane.running = lane.running.saturating_sub(1);
        if slot.gone {
            self.slots.remove(&id);
            return 0;
        }
        slot.lane = match now - started > SLOW {
            _ if slot.delta => Lane::Delta,
            true => Lane::Slow,
            false => Lane::Quick,
        };
        let passed = slot.tick_at(now).saturating_sub(slot.tick);
        if passed == 0 {
            slot.tick += 1;
            self.due.push(Reverse((slot.time_of(slot.tick), id)));
            return 0;
        }
        slot.tick += passed;
        self.lanes[slot.lane as usize].ready.push_back(id);
        passed - 1
    }

    /// Gives the places of those who turned out slow to others.
    fn move_slow(&mut self, now: u64) {
        while let Some((at, id)) = self.quick_starts.front().copied() {
            if at.saturating_add(SLOW) > now {
                return;
            }
            self.quick_starts.pop_front();
            if let Some(slot) = self.slots.get_mut(&id)
                && slot.running == Some(at)
                && slot.lane == Lane::Quick
            {
                slot.lane = Lane::Slow;
                self.lanes[Lane::Quick as usize].running -= 1;
                self.lanes[Lane::Slow as usize].running += 1;
            }
        }
    }

    fn fill(&mut self, lane: Lane, now: u64, started: &mut Vec<Start>) {
        let places = match lane {
            Lane::Quick => self.places.quick,
            Lane::Slow => self.places.quick.saturating_mul(SLOW_FACTOR),
            Lane::Delta => self.places.delta,
        };
        let state = &mut self.lanes[lane as usize];
        while state.running < places {
            let Some(id) = state.ready.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            let latest = slot.tick_at(now).max(slot.tick);
            started.push(Start {
                id,
                skipped: latest - slot.tick,
            });
            slot.tick = latest;
            slot.running = Some(now);
            state.running += 1;
            if lane == Lane::Quick {
                self.quick_starts.push_back((now, id));
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where in its interval a target is scraped, in nanoseconds.
fn phase(hash: u64, interval: u64) -> u64 {
    let grid = nanos(GRID).min(interval / PLACES).max(1);
    let phase = hash % interval;
    phase - phase % grid
}

#[cfg(test)]
mod tests;
