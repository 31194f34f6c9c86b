//! Uploads that the upstream wants at a signed URL, and the agent makes here.

use http::Uri;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// When an upload that did not come is forgotten: Parca's own time, and some.
const STALE: Duration = Duration::from_secs(17 * 60);

/// Where an upload goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// A secret: whoever has it may write there.
    pub(super) url: Uri,
    /// The size of the file, in bytes.
    pub(super) size: u64,
}

/// The uploads that were agreed upon, by their ids.
#[derive(Debug)]
pub(super) struct SignedUrls {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uploads: HashMap<String, Signed>,
    /// Oldest first; those that are gone from `uploads` among them.
    order: VecDeque<(Instant, String)>,
}

// === impl SignedUrls ===

impl SignedUrls {
    /// At most `max` at a time; beyond, the oldest is forgotten.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
        }
    }

    /// Where the upload of this id goes.
    pub(super) fn get(&self, upload_id: &str) -> Option<Signed> {
        self.lock().uploads.get(upload_id).cloned()
    }

    /// Notes where an upload goes.
    pub(super) fn put(&self, upload_id: String, signed: Signed) {
        let mut state = self.lock();
        while let Some((since, _)) = state.order.front()
            && (since.elapsed() >= STALE || state.order.len() >= self.max)
        {
            if let Some((_, id)) = state.order.pop_front() {
                state.uploads.remove(&id);
            }
        }
        state.order.push_back((Instant::now(), upload_id.clone()));
        state.uploads.insert(upload_id, signed);
    }

    /// Forgets an upload that is over.
    pub(super) fn remove(&self, upload_id: &str) {
        let mut state = self.lock();
        state.uploads.remove(upload_id);
        state.order.retain(|(_, id)| id != upload_id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(size: u64) -> Signed {
        Signed {
            url: Uri::from_static("https://bucket.example/x?signature=y"),
            size,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_are_bounded_in_number_and_age() {
        let urls = SignedUrls::new(2);
        for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
            urls.put(id.to_owned(), signed(at as u64));
        }
        assert_eq!(urls.get("a"), None);
        assert_eq!(urls.get("c"), Some(signed(2)));
        urls.remove("c");
        assert_eq!(urls.get("c"), None);
        tokio::time::advance(STALE).await;
        urls.put("d".to_owned(), signed(3));
        assert_eq!(urls.get("b"), None);
        assert_eq!(urls.lock().order.len(), 1);
    }
}
