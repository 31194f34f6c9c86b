use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TEN: Duration = Duration::from_secs(10);
const PLACES: Places = Places {
    quick: 2,
    delta: 100,
};

/// A schedule whose clock stands at 1,000,000,005 s, and that instant.
fn schedule(places: Places) -> (Schedule, Instant) {
    let now = Instant::now();
    let clock = WallClock::new(now, Duration::from_secs(1_000_000_005));
    (Schedule::new(clock, places), now)
}

fn hash_of(seconds: u64) -> u64 {
    seconds * 1_000_000_000
}

fn ids(starts: &[Start]) -> Vec<SlotId> {
    starts.iter().map(|start| start.id).collect()
}

#[test]
fn the_phase_is_the_hash_modulo_the_interval_on_the_wall_clock() {
    let (mut schedule, now) = schedule(PLACES);
    schedule.add(hash_of(23), TEN, false, now);
    // The clock ends in 5; the next second that ends in 3 is 8 s away.
    assert_eq!(schedule.next_due(), Some(now + 8 * SECOND));
    assert!(schedule.start_due(now + 7 * SECOND).is_empty());
    assert_eq!(schedule.start_due(now + 8 * SECOND).len(), 1);
}

#[test]
fn a_target_on_its_tick_is_due_at_once() {
    let (mut schedule, now) = schedule(PLACES);
    schedule.add(hash_of(5), TEN, false, now);
    assert_eq!(schedule.next_due(), Some(now));
}

#[test]
fn the_phase_survives_a_restart() {
    let start = Instant::now();
    let due_on_wall_clock = |since_epoch: u64| {
        let clock = WallClock::new(start, Duration::from_secs(since_epoch));
        let mut schedule = Schedule::new(clock, PLACES);
        schedule.add(0xdead_beef_dead_beef, TEN, false, start);
        let wait = schedule.next_due().unwrap() - start;
        (Duration::from_secs(since_epoch) + wait).as_nanos() % TEN.as_nanos()
    };
    assert_eq!(
        due_on_wall_clock(1_700_000_001),
        due_on_wall_clock(1_700_123_459)
    );
}

#[test]
fn targets_that_appear_together_are_spread_over_the_interval() {
    let (mut schedule, now) = schedule(Places {
        quick: 10_000,
        delta: 1,
    });
    for target in 0..10_000_u64 {
        let hash = super::super::target::mix(target);
        schedule.add(hash, TEN, false, now);
    }
    for second in 1..=10 {
        let started = schedule.start_due(now + second * SECOND).len();
        assert!((800..1_200).contains(&started), "{second}: {started}");
    }
}

#[test]
fn a_target_never_overlaps_itself_and_lost_ticks_are_counted() {
    let (mut schedule, now) = schedule(PLACES);
    let id = schedule.add(hash_of(5), TEN, false, now);
    assert_eq!(ids(&schedule.start_due(now)), [id]);
    assert!(schedule.start_due(now + 35 * SECOND).is_empty());
    // Ticks at 10, 20 and 30 s passed: one starts now, two are lost.
    assert_eq!(schedule.finished(id, now + 36 * SECOND), 2);
    let again = schedule.start_due(now + 36 * SECOND);
    assert_eq!(again, [Start { id, skipped: 0 }]);
    assert_eq!(schedule.finished(id, now + 37 * SECOND), 0);
    assert_eq!(schedule.next_due(), Some(now + 40 * SECOND));
}

#[test]
fn a_profile_as_long_as_the_interval_runs_back_to_back() {
    let (mut schedule, now) = schedule(PLACES);
    let id = schedule.add(hash_of(5), TEN, true, now);
    let mut at = now;
    let mut skipped = 0;
    let mut started = 0;
    for _ in 0..150 {
        started += schedule.start_due(at).len();
        at += TEN + Duration::from_millis(100);
        skipped += schedule.finished(id, at);
    }
    assert_eq!(started, 150);
    // 150 times 0.1 s are one tick and a half.
    assert_eq!(skipped, 1);
}

#[test]
fn delta_profiles_leave_the_quick_lane_alone() {
    let (mut schedule, now) = schedule(PLACES);
    for _ in 0..10 {
        schedule.add(hash_of(5), TEN, true, now);
    }
    let quick = schedule.add(hash_of(5), TEN, false, now);
    let started = schedule.start_due(now);
    assert_eq!(started.len(), 11);
    assert!(ids(&started).contains(&quick));
}

#[test]
fn dead_targets_lend_their_places_to_others_after_a_second() {
    let (mut schedule, now) = schedule(PLACES);
    for _ in 0..6 {
        schedule.add(hash_of(5), TEN, false, now);
    }
    let alive = schedule.add(hash_of(6), TEN, false, now);
    assert_eq!(schedule.start_due(now).len(), 2);
    assert!(schedule.start_due(now + SECOND / 2).is_empty());
    for second in 1..=2 {
        let at = now + second * SECOND;
        assert_eq!(schedule.next_due(), Some(at));
        assert_eq!(schedule.start_due(at).len(), 2);
    }
    let at = now + 3 * SECOND;
    assert_eq!(ids(&schedule.start_due(at)), [alive]);
    assert_eq!(running(&schedule), 7);
    // From then on the dead begin in the slow lane.
    for id in schedule.slots.keys().copied().collect::<Vec<_>>() {
        schedule.finished(id, at + SECOND / 2);
    }
    assert_eq!(schedule.start_due(now + TEN).len(), 6);
    assert_eq!(schedule.lanes[Lane::Quick as usize].running, 0);
}

#[test]
fn a_slow_target_that_recovers_is_quick_again() {
    let (mut schedule, now) = schedule(PLACES);
    let id = schedule.add(hash_of(5), TEN, false, now);
    schedule.start_due(now);
    schedule.finished(id, now + 2 * SECOND);
    assert_eq!(schedule.slots[&id].lane, Lane::Slow);
    schedule.start_due(now + TEN);
    schedule.finished(id, now + TEN + SECOND / 2);
    assert_eq!(schedule.slots[&id].lane, Lane::Quick);
}

#[test]
fn a_full_lane_serves_in_order_and_counts_the_ticks_lost_in_it() {
    let (mut schedule, now) = schedule(Places { quick: 1, delta: 1 });
    let first = schedule.add(hash_of(5), TEN, true, now);
    let second = schedule.add(hash_of(6), TEN, true, now);
    assert_eq!(ids(&schedule.start_due(now)), [first]);
    assert!(schedule.start_due(now + 25 * SECOND).is_empty());
    schedule.finished(first, now + 25 * SECOND);
    // The second was due at 1 s, 11 s and 21 s, and comes before the first.
    assert_eq!(
        schedule.start_due(now + 25 * SECOND),
        [Start {
            id: second,
            skipped: 2
        }]
    );
    assert_eq!(running(&schedule), 1);
}

#[test]
fn a_removed_target_gives_its_place_back_and_never_returns() {
    let (mut schedule, now) = schedule(Places { quick: 1, delta: 1 });
    let gone = schedule.add(hash_of(5), TEN, false, now);
    let waits = schedule.add(hash_of(5), TEN, false, now);
    let never = schedule.add(hash_of(6), TEN, false, now);
    assert_eq!(ids(&schedule.start_due(now)), [gone]);
    schedule.remove(gone);
    schedule.remove(never);
    assert_eq!(running(&schedule), 1);
    schedule.finished(gone, now + 30 * SECOND);
    assert_eq!(ids(&schedule.start_due(now + 30 * SECOND)), [waits]);
    schedule.finished(waits, now + 30 * SECOND);
    assert_eq!(schedule.slots.len(), 1);
}

fn running(schedule: &Schedule) -> usize {
    schedule.lanes.iter().map(|lane| lane.running).sum()
}

#[test]
fn phases_stand_on_a_grid_that_is_fine_beside_the_interval() {
    let due = |hash: u64, interval: Duration| phase(hash, nanos(interval));
    assert_eq!(due(1_234_567_890, TEN), 1_200_000_000);
    assert_eq!(due(1_234_567_890, SECOND), 200_000_000);
    assert_eq!(due(34_567_890, Duration::from_millis(100)), 30_000_000);
    assert_eq!(due(7, Duration::from_nanos(10)), 7);
}
