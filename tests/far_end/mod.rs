//! A store for tests that behaves as a Parca server was measured to behave.
//!
//! It listens on a port of its own, in a thread of its own, so that tests with
//! paused time and tests of the whole process can use it alike. It checks what
//! it gets as Parca v0.27 does ([`rules`]), keeps what it accepts byte by byte,
//! and dies where Parca dies: it records why, and every connection ends at once.
//!
//! ```ignore
//! let store = FarEnd::start(Behaviour::default());
//! // … send to store.addr() …
//! assert!(store.crashes().is_empty());
//! assert_eq!(store.stored()[0].body, sent);
//! ```
//!
//! [`real`] starts a real Parca instead, where one is at hand.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

pub mod damage;
pub mod generation;
mod life;
pub mod pprof;
pub mod real;
pub mod rules;
mod server;

use bytes::Bytes;
use generation::{Asked, Generation, StoredArrow, StoredFile};
use life::Life;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tonic::Code;

/// A store that runs until it is dropped.
pub struct FarEnd {
    addr: SocketAddr,
    shared: Arc<Shared>,
    life: Mutex<Option<Life>>,
    /// Keeps the port while the store is stopped; never listens.
    _port: tokio::net::TcpSocket,
}

/// How a store behaves. May be changed while it runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Answers instead of the usual ones, one for each request, in order. An
    /// empty request (a probe) does not use one up unless `probes_fail`.
    pub faults: VecDeque<Fault>,
    /// The answer to every request once `faults` is used up.
    pub always: Option<Fault>,
    /// Whether `faults` and `always` are meant for empty requests too.
    pub probes_fail: bool,
    /// A request whose inflated body or whose label values contain this text
    /// ends the store.
    pub killer: Option<String>,
    /// How long after a crash the store comes back by itself, if it does.
    pub respawn: Option<Duration>,
    /// When a connection without requests gets its GOAWAY.
    pub idle: Duration,
    /// How long a request body may take.
    pub body_limit: Duration,
    /// The largest message, inflated, in bytes.
    pub max_message: usize,
    /// A proxy's limit: larger bodies are answered with HTTP status 413.
    pub max_http_body: Option<usize>,
    /// The `authorization` that requests must carry.
    pub authorization: Option<String>,
    /// Which Parca it is.
    pub generation: Generation,
    /// Which stacks a `Write` is asked for.
    pub asked: Asked,
    /// TLS, with ALPN `h2`; plaintext without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// An answer that is not the usual one.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A gRPC status; nothing is stored.
    Status(Code, String),
    /// ResourceExhausted with a RetryInfo of this length; nothing is stored.
    Throttle(Duration),
    /// An HTTP status without gRPC, as from a proxy; nothing is stored.
    Http(u16),
    /// The whole process ends once the request is read.
    Crash,
    /// The connection is reset once the request is read; nothing is stored.
    Reset,
    /// The connection is reset before the body is read; nothing is stored.
    ResetEarly,
    /// The request is stored, then the connection is reset.
    StoreThenReset,
    /// Only this stream is reset, with an HTTP/2 error code (7: refused).
    ResetStream(u32),
    /// Read, and never answered; nothing is stored.
    Hang,
    /// Stored at once, answered later.
    Slow(Duration),
    /// The usual answer: a pause among `faults`.
    Usual,
}

/// One profile that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProfile {
    /// The labels of its series, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// `raw_profile` as it arrived.
    pub body: Bytes,
}

/// A WriteRaw request that was read to its end.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// When it had arrived.
    pub at: Instant,
    /// Encoded bytes, inflated if it was compressed.
    pub bytes: usize,
    /// Series.
    pub series: usize,
    /// Profiles.
    pub profiles: usize,
    /// Metadata, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The answer: `ok`, a gRPC code, or what else became of it.
    pub outcome: String,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The path and the headers of each call, of any service.
    pub calls: Vec<(String, BTreeMap<String, String>)>,
    /// What is stored.
    pub stored: Vec<StoredProfile>,
    /// Arrow that is stored.
    pub arrow: Vec<StoredArrow>,
    /// Debug symbols that are stored.
    pub files: Vec<StoredFile>,
    /// The build ids of files that were asked about.
    pub asked: Vec<String>,
    /// The ids of uploads that were finished.
    pub finished: Vec<String>,
    /// Uploads that ended before their end.
    pub cut: usize,
    /// Requests in the order in which they were answered.
    pub requests: Vec<SeenRequest>,
    /// Why the store ended, or would end at a query.
    pub crashes: Vec<String>,
    /// What spoils answers of the store from now on.
    pub harms: Vec<String>,
    /// Connections that were accepted.
    pub connections: usize,
    /// Connections that got a GOAWAY for being idle.
    pub goaways: usize,
}

/// What the threads of a store and its owner share.
#[derive(Debug)]
pub(crate) struct Shared {
    behaviour: Mutex<Behaviour>,
    log: Mutex<Log>,
    changed: Condvar,
}

// === impl Behaviour ===

impl Default for Behaviour {
    /// Parca's own limits.
    fn default() -> Self {
        Self {
            faults: VecDeque::new(),
            always: None,
            probes_fail: false,
            killer: None,
            respawn: None,
            idle: Duration::from_secs(5),
            body_limit: Duration::from_secs(5),
            max_message: 64 << 20,
            max_http_body: None,
            authorization: None,
            generation: Generation::default(),
            asked: Asked::default(),
            tls: None,
        }
    }
}

impl Behaviour {
    /// The usual one after `faults`.
    pub fn after(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            faults: faults.into_iter().collect(),
            ..Self::default()
        }
    }
}

// === impl FarEnd ===

impl FarEnd {
    /// Starts a store on a free port of the loopback; it listens on return.
    pub fn start(behaviour: Behaviour) -> Self {
        let port = tokio::net::TcpSocket::new_v4().expect("a socket");
        port.set_reuseaddr(true).expect("a shared port");
        port.bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a free port");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            log: Mutex::default(),
            changed: Condvar::new(),
        });
        let addr = port.local_addr().expect("an address");
        let life = Life::start(addr, shared.clone());
        Self {
            addr,
            shared,
            life: Mutex::new(Some(life)),
            _port: port,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What is stored, in the order of arrival.
    pub fn stored(&self) -> Vec<StoredProfile> {
        self.shared.log().stored.clone()
    }

    /// Why the store ended, or would end at a query.
    pub fn crashes(&self) -> Vec<String> {
        self.shared.log().crashes.clone()
    }

    /// What spoils answers of the store from now on: its profile list, its
    /// times, the texts in its answers.
    pub fn harms(&self) -> Vec<String> {
        self.shared.log().harms.clone()
    }

    /// The requests that were read.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.log().requests.clone()
    }

    /// Everything that happened.
    pub fn log(&self) -> Log {
        self.shared.log().clone()
    }

    /// Empties the log.
    pub fn forget(&self) {
        *self.shared.log() = Log::default();
    }

    /// Changes the behaviour from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour());
    }

    /// Waits until the log fulfils `wish`; false after `limit`.
    pub fn wait(&self, limit: Duration, mut wish: impl FnMut(&Log) -> bool) -> bool {
        let log = self.shared.log();
        let (_log, timeout) = self
            .shared
            .changed
            .wait_timeout_while(log, limit, |log| !wish(log))
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// Freezes the process: connections open, nothing is read or answered.
    pub fn pause(&self) {
        if let Some(life) = &*self.life() {
            life.pause();
        }
    }

    /// Ends a pause.
    pub fn resume(&self) {
        if let Some(life) = &*self.life() {
            life.resume();
        }
    }

    /// Ends the process at once. What is stored stays; the port is refused.
    pub fn stop(&self) {
        if let Some(life) = self.life().take() {
            life.stop();
        }
    }

    /// Starts it again on the same port, whether it had ended or not.
    pub fn restart(&self) {
        self.stop();
        *self.life() = Some(Life::start(self.addr, self.shared.clone()));
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Shared ===

impl Shared {
    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into the log and wakes those who wait for it.
    fn record(&self, write: impl FnOnce(&mut Log)) {
        write(&mut self.log());
        self.changed.notify_all();
    }

    /// The answer that the next request gets instead of the usual one.
    fn fault(&self, probe: bool) -> Fault {
        let mut behaviour = self.behaviour();
        if probe && !behaviour.probes_fail {
            return Fault::Usual;
        }
        behaviour
            .faults
            .pop_front()
            .or_else(|| behaviour.always.clone())
            .unwrap_or(Fault::Usual)
    }
}
