//! The streams of an HTTP/2 connection, run within the connection's own task.
//!
//! hyper starts a task for each stream, and a client's connection beside the one
//! that takes requests. With small requests most of the CPU then goes into waking
//! threads: the connection's task hands a request to one that sleeps, and is woken
//! by it for the answer. Here a connection and its streams are one task, and what
//! one of them does for another is done in the same poll: a waker notes that
//! somebody was woken meanwhile, instead of telling the runtime. Nothing is lost by
//! it, as work that takes long goes to other threads anyway
//! (`crate::runtime::blocking`).
//!
//! When nobody has anything to do any more, what they all wrote is sent
//! ([`Gathered`]).

use super::gathered::Gathered;
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};
use tokio::io::AsyncWrite;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts the streams that begin.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Stream>>>);

/// A connection and its streams, over a stream of bytes.
pub(super) struct Together<C: Future, T> {
    /// Gone when it has ended: to its streams one that is there may have more for
    /// them.
    connection: Option<Pin<Box<C>>>,
    /// What the connection ended with, while streams go on.
    ended: Option<C::Output>,
    lingers: bool,
    io: Gathered<T>,
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
        self.lock().push(Box::pin(stream));
    }
}

impl Streams {
    fn take(&self) -> Vec<Stream> {
        mem::take(&mut *self.lock())
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Together ===

impl<C: Future, T: AsyncWrite + Unpin> Together<C, T> {
    /// Runs `connection`, which writes to `io`, with the streams that come into
    /// `begun`. Resolves with the connection: its streams are over then, or of no
    /// use.
    pub(super) fn new(connection: C, begun: Streams, io: Gathered<T>) -> Self {
        let notes = Arc::new(Notes::default());
        Self {
            connection: Some(Box::pin(connection)),
            ended: None,
            lingers: false,
            io,
            begun,
            running: FuturesUnordered::new(),
            waker: notes.clone().into(),
            notes,
        }
    }

    /// The same, which resolves once the streams have ended too: a client's
    /// connection ends when nobody is left to make requests, and those that were
    /// made are still under way.
    pub(super) fn lingering(mut self) -> Self {
        self.lingers = true;
        self
    }

    /// The connection, until it has ended.
    pub(super) fn connection(&mut self) -> Option<Pin<&mut C>> {
        self.connection.as_mut().map(Pin::as_mut)
    }

    /// Polls everything once.
    fn poll_once(&mut self) -> Poll<C::Output> {
        let mut cx = Context::from_waker(&self.waker);
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(output) = connection.as_mut().poll(&mut cx)
        {
            self.connection = None;
            if !self.lingers {
                return Poll::Ready(output);
            }
            self.ended = Some(output);
        }
        loop {
            self.running.extend(self.begun.take());
            while let Poll::Ready(Some(())) = self.running.poll_next_unpin(&mut cx) {}
            if self.begun.is_empty() {
                break;
            }
        }
        match self.ended.take_if(|_| self.running.is_empty()) {
            Some(output) => Poll::Ready(output),
            None => Poll::Pending,
        }
    }

    /// Sends what was written. The connection hears of a failure when it is polled
    /// next, which is then soon.
    fn send(&self) {
        let mut cx = Context::from_waker(&self.waker);
        if !self.io.send(&mut cx) {
            self.waker.wake_by_ref();
        }
    }
}

// Nothing that is pinned is moved: the connection and its streams are boxed.
impl<C: Future, T> Unpin for Together<C, T> {}

impl<C: Future, T: AsyncWrite + Unpin> Future for Together<C, T> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.notes.begin(cx.waker());
        // What wakes without end must let others have their turn.
        for _ in 0..32 {
            if let Poll::Ready(output) = self.poll_once() {
                return Poll::Ready(output);
            }
            if !self.notes.is_woken() {
                self.send();
                return Poll::Pending;
            }
        }
        self.notes.end();
        self.send();
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

    fn state(&self) -> MutexGuard<'_, State> {
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, Sink, duplex, sink},
        sync::{mpsc, oneshot},
    };

    fn nowhere() -> Gathered<Sink> {
        Gathered::new(sink())
    }

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
        let together = Together::new(connection, streams, nowhere());
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
        let together = Together::new(Restless(polls.clone()), Streams::default(), nowhere());
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
        let together = Together::new(std::future::pending::<()>(), streams, nowhere());
        let running = Tasks::default().spawn("together", together);
        tokio::task::yield_now().await;
        assert!(
            gone.try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        running.abort();
        assert!(gone.await.is_err());
    }

    #[tokio::test]
    async fn requests_under_way_outlive_a_client_that_makes_no_more() {
        let streams = Streams::default();
        let (answer, answered) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        streams.execute(async move {
            answered.await.unwrap();
            done.send(()).unwrap();
        });
        let together = Together::new(async { "over" }, streams, nowhere()).lingering();
        let running = Tasks::default().spawn("together", together);
        tokio::task::yield_now().await;
        assert!(!running.is_finished());
        answer.send(()).unwrap();
        assert_eq!(running.await.unwrap(), "over");
        assert!(is_done.await.is_ok());
    }

    #[tokio::test]
    async fn what_waits_for_the_end_of_the_connection_hears_of_it() {
        let (held, released) = oneshot::channel::<()>();
        let streams = Streams::default();
        streams.execute(async move {
            let _ = released.await;
        });
        // As hyper's: it has what its streams wait for until it is dropped.
        let mut held = Some(held);
        let connection = std::future::poll_fn(move |_| {
            let _ = &mut held;
            Poll::Ready("over")
        });
        let together = Together::new(connection, streams, nowhere()).lingering();
        let ended = tokio::time::timeout(Duration::from_secs(20), together).await;
        assert_eq!(ended.unwrap(), "over");
    }

    #[tokio::test]
    async fn what_streams_write_is_sent_at_once_when_all_have_written() {
        let (near, mut far) = duplex(1 << 10);
        let io = Gathered::new(near);
        let streams = Streams::default();
        for word in ["one ", "and ", "another"] {
            let mut io = io.clone();
            streams.execute(async move { io.write_all(word.as_bytes()).await.unwrap() });
        }
        let together = Together::new(std::future::pending::<()>(), streams, io);
        let running = Tasks::default().spawn("together", together);
        let mut buffer = [0; 64];
        let read = far.read(&mut buffer);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert_eq!(read.unwrap().unwrap(), "one and another".len());
        running.abort();
    }
}
