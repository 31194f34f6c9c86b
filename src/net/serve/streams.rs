//! The streams of an HTTP/2 connection, run within the connection's own task.
//!
//! hyper starts a task for each stream. With small requests most of the CPU then
//! goes into waking threads: the connection's task hands a request to one that
//! sleeps, and is woken by it for the answer. Here a connection and its streams
//! are one task, and what one of them does for another is done in the same poll:
//! a waker notes that somebody was woken meanwhile, instead of telling the
//! runtime. Nothing is lost by it, as work that takes long goes to other threads
//! anyway (`crate::runtime::blocking`).

use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts the streams that begin.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Stream>>>);

/// A connection and its streams.
pub(super) struct Together<C> {
    connection: Pin<Box<C>>,
    begun: Streams,
    running: FuturesUnordered<Stream>,
    notes: Arc<Notes>,
    /// [`Together::notes`] as a waker.
    waker: Waker,
}

/// Who was woken.
#[derive(Default)]
struct Notes(Mutex<State>);

#[derive(Default)]
struct State {
    /// The task is being polled: who wakes it is heard without the runtime.
    polling: bool,
    woken: bool,
    task: Option<Waker>,
}

// === impl Streams ===

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(Box::pin(stream));
    }
}

impl Streams {
    fn take(&self) -> Vec<Stream> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Together ===

impl<C: Future> Together<C> {
    /// Runs `connection` with the streams that come into `begun`, which it polls
    /// alone.
    pub(super) fn new(connection: C, begun: Streams) -> Self {
        let notes = Arc::new(Notes::default());
        Self {
            connection: Box::pin(connection),
            begun,
            running: FuturesUnordered::new(),
            waker: notes.clone().into(),
            notes,
        }
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }

    /// Polls everything once. Resolves with the connection: its streams are over
    /// then, or of no use.
    fn poll_once(&mut self) -> Poll<C::Output> {
        let mut cx = Context::from_waker(&self.waker);
        if let Poll::Ready(output) = self.connection.as_mut().poll(&mut cx) {
            return Poll::Ready(output);
        }
        self.running.extend(self.begun.take());
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(&mut cx) {}
        Poll::Pending
    }
}

impl<C: Future> Future for Together<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.notes.begin(cx.waker());
        // What wakes without end must let others have their turn.
        for _ in 0..32 {
            if let Poll::Ready(output) = self.poll_once() {
                return Poll::Ready(output);
            }
            if !self.notes.is_woken() {
                return Poll::Pending;
            }
        }
        self.notes.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

// === impl Notes ===

impl Notes {
    fn begin(&self, task: &Waker) {
        let mut state = self.state();
        state.polling = true;
        state.woken = false;
        match &mut state.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// Whether somebody was woken since the last time; if not, the polling is
    /// over.
    fn is_woken(&self) -> bool {
        let mut state = self.state();
        let woken = mem::take(&mut state.woken);
        state.polling = woken;
        woken
    }

    fn end(&self) {
        self.state().polling = false;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        state.woken = true;
        let task = match state.polling {
            true => None,
            false => state.task.clone(),
        };
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Tasks;
    use hyper::rt::Executor;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };
    use tokio::sync::{mpsc, oneshot};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_wakes_its_connection_from_within_and_from_other_threads() {
        let streams = Streams::default();
        let (done, mut results) = mpsc::unbounded_channel();
        let begin = streams.clone();
        let connection = async move {
            for number in 0..1_000_u32 {
                let done = done.clone();
                begin.execute(async move {
                    if number % 2 == 0 {
                        let elsewhere = crate::runtime::blocking(move || number).await;
                        assert_eq!(elsewhere, Some(number));
                    }
                    let _ = done.send(number);
                });
                assert!(results.recv().await.is_some());
            }
            "over"
        };
        let together = Together::new(connection, streams);
        let running = Tasks::default().spawn("together", together);
        let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
        assert_eq!(ended.unwrap().unwrap(), "over");
    }

    #[tokio::test]
    async fn what_wakes_itself_without_end_does_not_stop_the_others() {
        struct Restless(Arc<AtomicUsize>);
        impl Future for Restless {
            type Output = ();
            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                self.0.fetch_add(1, Ordering::Relaxed);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
        let polls = Arc::new(AtomicUsize::new(0));
        let together = Together::new(Restless(polls.clone()), Streams::default());
        let running = Tasks::default().spawn("together", together);
        tokio::time::sleep(Duration::from_millis(20)).await;
        running.abort();
        assert!(polls.load(Ordering::Relaxed) > 100);
    }

    #[tokio::test]
    async fn streams_end_with_their_connection() {
        let streams = Streams::default();
        let (alive, mut gone) = oneshot::channel::<()>();
        streams.execute(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        let together = Together::new(std::future::pending::<()>(), streams);
        let running = Tasks::default().spawn("together", together);
        tokio::task::yield_now().await;
        assert!(
            gone.try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        running.abort();
        assert!(gone.await.is_err());
    }
}
