//! The admin endpoint: health, metrics, status, the relay's own CPU profile.
//!
//! It runs on a thread of its own with a runtime of its own, so that it answers
//! while the main runtime is stuck. What it shows it reads from memory. Views
//! of components are asked on helper threads with a deadline: one that hangs
//! costs its own page and no other.
//!
//! Binding is a step of its own, so that an address in use ends the process
//! before anything has started.

mod api;
mod health;
mod profile;
mod reload;
mod reply;
mod serve;
mod targets;

use super::{
    Health, Metrics, Status,
    metrics::{ConfigMetrics, MemoryUse},
    reload::Reloads,
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

/// The admin endpoint, not bound yet.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// The admin endpoint with its address, not serving yet: connections wait.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
}

/// What the admin endpoint shows.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// `/metrics`.
    pub metrics: Metrics,
    /// `/api/*` and `/metrics/targets`.
    pub status: Status,
    /// `/healthz` and `/readyz`.
    pub health: Health,
    /// `/api/status`.
    pub memory: MemoryUse,
    /// `/-/reload`.
    pub reloads: Reloads,
}

/// The running admin endpoint. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct AdminHandle {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// All paths, and what each shows.
const PATHS: &[(&str, &str)] = &[
    (
        "/healthz",
        "200 while the process lives, else what fell silent",
    ),
    ("/readyz", "200 while the process takes work, else why not"),
    ("/metrics", "metrics in Prometheus text or OpenMetrics"),
    (
        "/metrics/targets",
        "metrics of each target in Prometheus text",
    ),
    (
        "/api/status",
        "version, health, memory, exporters, queues without one, in JSON",
    ),
    (
        "/api/targets",
        "targets in JSON; ?job=NAME and ?health=up|down|unknown|dropped filter",
    ),
    ("/api/pipelines", "pipelines in JSON"),
    (
        "/api/config",
        "the running configuration in YAML, secrets redacted",
    ),
    ("/debug/pprof/", "profiles of this process"),
    (
        "/debug/pprof/profile",
        "CPU profile of this process; ?seconds=N",
    ),
    (
        "/-/reload",
        "POST loads the configuration again and says what changed",
    ),
];

/// Helper threads for views and for encoding a profile.
const HELPER_THREADS: usize = 4;

// === impl Server ===

impl Server {
    /// Binds `endpoint`, `host:port`; port 0 takes a free one.
    pub fn bind(endpoint: &str) -> io::Result<Bound> {
        let listener = TcpListener::bind(endpoint)?;
        listener.set_nonblocking(true)?;
        Ok(Bound { listener })
    }
}

// === impl Bound ===

impl Bound {
    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts the thread. An error means that the system has no thread or no
    /// file descriptor left.
    pub fn start(self, state: AdminState) -> io::Result<AdminHandle> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HELPER_THREADS)
            .thread_name("admin-helper")
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let stop = CancellationToken::new();
        let serve = serve::serve(listener, router(state), stop.clone());
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(serve);
                // A helper may be stuck in a view: nobody waits for it.
                runtime.shutdown_background();
            })?;
        Ok(AdminHandle {
            stop,
            thread: Some(thread),
        })
    }
}

// === impl AdminHandle ===

impl AdminHandle {
    /// Stops and waits for the thread: a second at most, for answers under way.
    pub fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread has nothing to say when it panicked.
            let _ = thread.join();
        }
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .route("/metrics/targets", get(targets::metrics))
        .route("/api/status", get(api::status))
        .route("/api/targets", get(api::targets))
        .route("/api/pipelines", get(api::pipelines))
        .route("/api/config", get(api::config))
        .route("/debug/pprof", get(profile::index))
        .route("/debug/pprof/", get(profile::index))
        .route("/debug/pprof/profile", get(profile::cpu))
        .route(
            "/-/reload",
            post(reload::reload).fallback(reload::only_post),
        )
        .fallback(async || reply::text(StatusCode::NOT_FOUND, list("no such page; there are\n")))
        .method_not_allowed_fallback(async || {
            reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        })
        .with_state(state)
}

async fn index(State(state): State<AdminState>) -> Response {
    let title = format!(
        "profile-relay {} ({})\n{}\n",
        super::metrics::VERSION,
        super::metrics::REVISION,
        state.metrics.set::<ConfigMetrics>().get(),
    );
    reply::text(StatusCode::OK, list(&title))
}

async fn metrics(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = super::metrics::Format::negotiate(accept);
    match state.metrics.encode_as(format) {
        Ok(text) => reply::with_type(format.content_type(), text),
        Err(_) => reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "a metric cannot be encoded\n",
        ),
    }
}

fn list(title: &str) -> String {
    let mut text = title.to_owned();
    for (path, about) in PATHS {
        text.push_str(&format!("{path:<22} {about}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
