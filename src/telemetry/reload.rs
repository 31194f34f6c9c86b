//! Asking the process to load its configuration again.

use tokio::sync::{mpsc, oneshot};

/// The most who wait for a reload at a time.
const WAITING: usize = 64;

/// Asks for reloads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadRequest>);

/// Somebody asks for a reload, and waits for what comes of it.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<ReloadAnswer>);

/// What came of a reload.
#[derive(Clone, Debug, PartialEq)]
pub enum ReloadAnswer {
    /// The configuration runs; what changed.
    Loaded(serde_json::Value),
    /// It is wrong, and the one before runs on: the report.
    Refused(String),
    /// It cannot run here and now, and the one before runs on: the reason.
    Failed(String),
}

// === impl Reloads ===

impl Reloads {
    /// The two ends.
    pub fn channel() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (send, receive) = mpsc::channel(WAITING);
        (Self(send), receive)
    }

    /// Asks for a reload; nothing when the process is ending.
    pub async fn ask(&self) -> Option<ReloadAnswer> {
        let (send, receive) = oneshot::channel();
        self.0.send(ReloadRequest(send)).await.ok()?;
        receive.await.ok()
    }
}

// === impl ReloadRequest ===

impl ReloadRequest {
    /// Says what came of it.
    pub fn answer(self, answer: ReloadAnswer) {
        // Who asked may have gone away.
        let _ = self.0.send(answer);
    }
}
