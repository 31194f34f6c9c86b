//! Which writes were taken, so that an agent's retry is not delivered twice.
//!
//! An agent that has not heard the answer of a write sends the same bytes again,
//! with `x-retry-attempt`. Only such calls are looked up: what is sent for the first
//! time is never a duplicate, whatever its bytes. A write is remembered from when it
//! was taken; a retry that comes before waits for what becomes of it.

use crate::pipeline::{Budget, Permit};
use ring::digest::{Context, SHA256};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What remembering one write takes, in bytes.
const ENTRY: u64 = 150;

/// The beginning of a SHA-256 of all that makes two writes the same.
pub(super) type Key = [u8; 16];

/// The writes of a receiver.
#[derive(Debug)]
pub(super) struct Seen {
    window: Duration,
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fates: HashMap<Key, Fate>,
    /// Those that were taken, oldest first.
    taken: VecDeque<(Instant, Key)>,
    /// What all of them take.
    permit: Option<Permit>,
}

/// What is known of a write.
#[derive(Debug)]
enum Fate {
    /// It is being worked on; fires at the end.
    Pending(CancellationToken),
    /// It was taken.
    Taken,
}

/// What a write is.
#[derive(Debug)]
pub(super) enum Turn<'s> {
    /// It was taken before.
    Duplicate,
    /// It is to be taken.
    New(Claim<'s>),
}

/// A write that is being worked on. Dropped, it was not taken.
#[derive(Debug)]
pub(super) struct Claim<'s> {
    seen: &'s Seen,
    key: Key,
    /// Nothing when another write of the same bytes is remembered already.
    over: Option<CancellationToken>,
}

// === impl Key ===

/// The key of a call of `method` with `message`, on behalf of `whom`.
pub(super) fn key<'p>(
    method: &str,
    whom: impl IntoIterator<Item = (&'p str, &'p str)>,
    messages: &[&[u8]],
) -> Key {
    let mut context = Context::new(&SHA256);
    let mut put = |part: &[u8]| {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    };
    put(method.as_bytes());
    for message in messages {
        put(message);
    }
    for (name, value) in whom {
        put(name.as_bytes());
        put(value.as_bytes());
    }
    let digest = context.finish();
    let mut key = Key::default();
    for (byte, digested) in key.iter_mut().zip(digest.as_ref()) {
        *byte = *digested;
    }
    key
}

// === impl Seen ===

impl Seen {
    /// Remembers at most `max` writes for `window`, within `memory`.
    pub(super) fn new(window: Duration, max: usize, memory: &Budget) -> Self {
        Self {
            window,
            max,
            state: Mutex::new(State {
                fates: HashMap::new(),
                taken: VecDeque::new(),
                permit: memory.try_take(0),
            }),
        }
    }

    /// What the write of `key` is. A retry of one that is being worked on waits.
    pub(super) async fn turn(&self, key: Key, is_retry: bool) -> Turn<'_> {
        loop {
            let pending = match self.ask(key, is_retry) {
                Ok(turn) => return turn,
                Err(pending) => pending,
            };
            pending.cancelled().await;
        }
    }

    fn ask(&self, key: Key, is_retry: bool) -> Result<Turn<'_>, CancellationToken> {
        let mut state = self.lock();
        state.forget(self.window);
        let over = match state.fates.entry(key) {
            Entry::Vacant(vacant) => {
                let over = CancellationToken::new();
                vacant.insert(Fate::Pending(over.clone()));
                Some(over)
            }
            Entry::Occupied(_) if !is_retry => None,
            Entry::Occupied(known) => match known.get() {
                Fate::Taken => return Ok(Turn::Duplicate),
                Fate::Pending(over) => return Err(over.clone()),
            },
        };
        Ok(Turn::New(Claim {
            seen: self,
            key,
            over,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn forget(&mut self, window: Duration) {
        while let Some((since, _)) = self.taken.front()
            && since.elapsed() >= window
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.taken.pop_front() {
            self.fates.remove(&key);
            if let Some(permit) = &mut self.permit {
                permit.shrink_to(permit.bytes().saturating_sub(ENTRY));
            }
        }
    }

    /// Remembers that the write of `key` was taken, if there is room.
    fn remember(&mut self, key: Key, max: usize) {
        while self.taken.len() >= max.max(1) {
            self.forget_first();
        }
        let has_room = self.permit.as_mut().is_some_and(|p| p.grow(ENTRY));
        if has_room && max > 0 {
            self.fates.insert(key, Fate::Taken);
            self.taken.push_back((Instant::now(), key));
        } else {
            self.fates.remove(&key);
        }
    }
}

// === impl Claim ===

impl Claim<'_> {
    /// The write was taken.
    pub(super) fn taken(mut self) {
        if let Some(over) = self.over.take() {
            self.seen.lock().remember(self.key, self.seen.max);
            over.cancel();
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            self.seen.lock().fates.remove(&self.key);
            over.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const WINDOW: Duration = Duration::from_secs(600);

    fn seen(max: usize) -> (Seen, Budget) {
        let memory = Budget::new(1 << 20);
        (Seen::new(WINDOW, max, &memory), memory)
    }

    fn of(message: &str) -> Key {
        key("WriteArrow", [], &[message.as_bytes()])
    }

    /// Whether a call is a duplicate; if not, it is taken.
    async fn call(seen: &Seen, message: &str, is_retry: bool) -> bool {
        match seen.turn(of(message), is_retry).await {
            Turn::Duplicate => true,
            Turn::New(claim) => {
                claim.taken();
                false
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_retry_of_what_was_taken_is_a_duplicate() {
        let (seen, _) = seen(10);
        assert!(!call(&seen, "a", false).await);
        assert!(call(&seen, "a", true).await);
        assert!(!call(&seen, "b", true).await);
        // The same bytes for the first time, whatever that means.
        assert!(!call(&seen, "a", false).await);
        assert!(call(&seen, "a", true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_may_be_tried_again() {
        let (seen, memory) = seen(10);
        let Turn::New(claim) = seen.turn(of("a"), false).await else {
            panic!("a duplicate");
        };
        drop(claim);
        assert_eq!(memory.used(), 0);
        assert!(!call(&seen, "a", true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_waits_for_what_becomes_of_the_first() {
        for taken in [true, false] {
            let (seen, _) = seen(10);
            let Turn::New(claim) = seen.turn(of("a"), false).await else {
                panic!("a duplicate");
            };
            let mut retry = Box::pin(seen.turn(of("a"), true));
            assert!((&mut retry).now_or_never().is_none());
            if taken {
                claim.taken();
            } else {
                drop(claim);
            }
            assert_eq!(matches!(retry.await, Turn::Duplicate), taken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_forgotten_after_the_window_and_beyond_the_bound() {
        let (seen, memory) = seen(2);
        for message in ["a", "b", "c"] {
            assert!(!call(&seen, message, false).await);
        }
        assert!(!call(&seen, "a", true).await);
        assert!(call(&seen, "c", true).await);
        assert_eq!(memory.used(), 2 * ENTRY);
        tokio::time::advance(WINDOW).await;
        assert!(!call(&seen, "c", true).await);
        assert_eq!(memory.used(), ENTRY);
        assert_eq!(seen.lock().fates.len(), 1);
    }

    #[test]
    fn what_differs_in_anything_has_another_key() {
        let keys = [
            key("Write", [], &[b"ab", b"c"]),
            key("Write", [], &[b"a", b"bc"]),
            key("WriteArrow", [], &[b"ab", b"c"]),
            key("Write", [("tenant", "x")], &[b"ab", b"c"]),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != one));
        }
    }
}
