//! Which files the upstream has, so that many agents ask it once.
//!
//! Only a plain "no, it is there already" is remembered, never a "yes" and never
//! that somebody else is uploading it.

use crate::{
    r#gen::debuginfo::{ShouldInitiateUploadRequest, ShouldInitiateUploadResponse},
    profile::Labels,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The reason for which an agent asks again after five minutes; all others are for
/// good. It compares the text.
pub(super) const IN_PROGRESS: &str =
    "A previous upload is still in-progress and not stale yet (only stale uploads can be retried).";

/// The most that the texts of a question may have to be remembered, in bytes.
const MAX_TEXT: usize = 512;

/// What was asked, on behalf of whom.
type Question = (ShouldInitiateUploadRequest, Labels);

/// Answers of the upstream.
#[derive(Debug)]
pub(super) struct Cache {
    ttl: Duration,
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Question, (Instant, ShouldInitiateUploadResponse)>,
    /// Oldest first.
    order: VecDeque<(Instant, Question)>,
}

// === impl Cache ===

impl Cache {
    /// Remembers at most `max` answers for `ttl`.
    pub(super) fn new(ttl: Duration, max: usize) -> Self {
        Self {
            ttl,
            max,
            state: Mutex::default(),
        }
    }

    /// What the upstream has said lately.
    pub(super) fn get(&self, question: &Question) -> Option<ShouldInitiateUploadResponse> {
        let mut state = self.lock();
        state.forget(self.ttl);
        let (_, answer) = state.answers.get(question)?;
        Some(answer.clone())
    }

    /// Remembers an answer that may be.
    pub(super) fn put(&self, question: Question, answer: &ShouldInitiateUploadResponse) {
        let (request, whom) = &question;
        let text = request.build_id.len() + request.hash.len() + whom.byte_len();
        let is_there = !answer.should_initiate_upload && answer.reason != IN_PROGRESS;
        if !is_there || request.force || text > MAX_TEXT || answer.reason.len() > MAX_TEXT {
            return;
        }
        let mut state = self.lock();
        if self.max > 0 && !state.answers.contains_key(&question) {
            while state.order.len() >= self.max && state.forget_first() {}
            let now = Instant::now();
            state
                .answers
                .insert(question.clone(), (now, answer.clone()));
            state.order.push_back((now, question));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn forget(&mut self, ttl: Duration) {
        while let Some((since, _)) = self.order.front()
            && since.elapsed() >= ttl
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) -> bool {
        let first = self.order.pop_front();
        if let Some((_, question)) = &first {
            self.answers.remove(question);
        }
        first.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn about(build_id: &str) -> Question {
        let request = ShouldInitiateUploadRequest {
            build_id: build_id.to_owned(),
            ..ShouldInitiateUploadRequest::default()
        };
        (request, Labels::default())
    }

    fn no(reason: &str) -> ShouldInitiateUploadResponse {
        ShouldInitiateUploadResponse {
            should_initiate_upload: false,
            reason: reason.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_that_a_file_is_there_is_remembered_and_not_for_long() {
        let cache = Cache::new(TTL, 10);
        let there = no("it is there");
        cache.put(about("a"), &there);
        assert_eq!(cache.get(&about("a")), Some(there.clone()));
        let of_another = (about("a").0, [("tenant", "x")].into_iter().collect());
        assert_eq!(cache.get(&of_another), None);

        cache.put(about("b"), &no(IN_PROGRESS));
        let yes = ShouldInitiateUploadResponse {
            should_initiate_upload: true,
            reason: "first time".to_owned(),
        };
        cache.put(about("c"), &yes);
        let mut forced = about("d");
        forced.0.force = true;
        cache.put(forced.clone(), &there);
        for question in [about("b"), about("c"), forced] {
            assert_eq!(cache.get(&question), None);
        }
        tokio::time::advance(TTL).await;
        assert_eq!(cache.get(&about("a")), None);
        assert!(cache.lock().order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn its_size_is_bounded() {
        let cache = Cache::new(TTL, 2);
        for build_id in ["a", "b", "c", "c"] {
            cache.put(about(build_id), &no("it is there"));
        }
        cache.put(about(&"x".repeat(MAX_TEXT + 1)), &no("it is there"));
        assert_eq!(cache.get(&about("a")), None);
        assert!(cache.get(&about("b")).is_some() && cache.get(&about("c")).is_some());
        let state = cache.lock();
        assert_eq!((state.answers.len(), state.order.len()), (2, 2));
    }
}
