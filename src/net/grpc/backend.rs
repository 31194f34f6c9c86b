//! One address of a backend and its one HTTP/2 connection.

use super::{greeting::Greeted, settings::Keepalive};
use crate::{
    net::{
        connect::{ConnectError, Connector, HANDSHAKE_TIMEOUT, Phase},
        gathered::Gathered,
        streams::{Streams, Together},
    },
    runtime::Tasks,
};
use http::Uri;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tracing::{debug, info, warn};

/// Where requests of one connection go in.
pub(super) type Sender = http2::SendRequest<Body>;

/// The first and the longest wait after a failed attempt to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Room for one upload of a profile without waiting for the peer.
const WINDOW: u32 = 1 << 20;

/// One address.
pub(super) struct Backend {
    connector: Connector,
    origin: Uri,
    keepalive: Option<Keepalive>,
    tasks: Tasks,
    /// One attempt at a time.
    connecting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sender: Option<Sender>,
    failures: u32,
    again: Option<Instant>,
}

// === impl Backend ===

impl Backend {
    pub(super) fn new(
        connector: Connector,
        origin: Uri,
        keepalive: Option<Keepalive>,
        tasks: Tasks,
    ) -> Self {
        Self {
            connector,
            origin,
            keepalive,
            tasks,
            connecting: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// The connection, if there is one that takes requests.
    pub(super) fn ready(&self) -> Option<Sender> {
        let state = self.lock();
        state.sender.clone().filter(|sender| !sender.is_closed())
    }

    /// The next request goes over a new connection; those under way end on this one.
    pub(super) fn leave(&self) {
        self.lock().sender = None;
    }

    /// Whether an attempt to connect failed lately.
    pub(super) fn is_resting(&self) -> bool {
        self.lock()
            .again
            .is_some_and(|again| Instant::now() < again)
    }

    /// Connects in a task of its own, so that who no longer waits for it does
    /// not end it. `None` when an attempt is under way already.
    pub(super) fn connect_in_background(self: &Arc<Self>) {
        if self.connecting.try_lock().is_err() {
            return;
        }
        let this = self.clone();
        self.tasks.spawn("grpc connect", async move {
            let _ = this.connect().await;
        });
    }

    /// Connects, unless there is a connection.
    pub(super) async fn connect(&self) -> Result<Sender, ConnectError> {
        let _one = self.connecting.lock().await;
        if let Some(sender) = self.ready() {
            return Ok(sender);
        }
        let opened = self.open().await;
        let mut state = self.lock();
        match opened {
            Ok(sender) => {
                if state.failures > 0 {
                    info!(backend = %self.origin, failures = state.failures, "connected again");
                }
                *state = State {
                    sender: Some(sender.clone()),
                    ..State::default()
                };
                Ok(sender)
            }
            Err(error) => {
                // The first says it; delivery says how it goes on.
                if state.failures == 0 {
                    warn!(backend = %self.origin, "{error}");
                } else {
                    debug!(backend = %self.origin, failures = state.failures, "{error}");
                }
                state.again = Some(Instant::now() + backoff(state.failures));
                state.failures += 1;
                state.sender = None;
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Sender, ConnectError> {
        let stream = self.connector.connect(&self.origin).await?;
        let streams = Streams::default();
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        if let Some(keepalive) = self.keepalive.as_ref().filter(|on| !on.time.is_zero()) {
            builder
                .keep_alive_interval(keepalive.time.get())
                .keep_alive_timeout(keepalive.timeout.get())
                .keep_alive_while_idle(keepalive.permit_without_stream);
        }
        let failed = |cause: String| ConnectError::new(Phase::Greeting, &self.origin, cause);
        let (stream, greeting) = Greeted::new(stream);
        let stream = Gathered::new(stream);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream.clone()))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let connection = Together::new(connection, streams, stream).lingering();
        self.tasks.spawn("grpc connection", async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection ended");
            }
        });
        match timeout(HANDSHAKE_TIMEOUT, greeting).await {
            Ok(Ok(Ok(()))) => Ok(sender),
            Ok(Ok(Err(cause))) => Err(failed(cause)),
            Ok(Err(_)) => Err(failed("the connection ended at once".into())),
            Err(_) => Err(failed("the server says nothing: is it a gRPC port?".into())),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Grows by 1.6, gRPC's factor, with a fifth of jitter.
fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let grown = first
        .mul_f64(1.6f64.powi(failures.min(20) as i32))
        .min(longest);
    grown.mul_f64(rand::random_range(0.8..1.2))
}
