//! Connections: accepted, bounded in number, in silence and in age, and ended
//! gracefully.
//!
//! A connection ends when its peer ends it, when it has been idle or open for
//! too long, or when the server stops. In all cases of ours the peer is told
//! (GOAWAY, `connection: close`) and what is in flight is finished, within a
//! time. A peer that does not read its answers cannot keep that from ending.
//! One that misbehaves is given little time, and is counted (`doors`).
//!
//! A server that stops while the process goes on has most likely a follower at
//! the same address, and no client is to notice. HTTP/1 has no word for going
//! but in an answer, so such connections, and those that have just begun, get
//! one more answer.

use super::{
    Answer, Cors, Peer, Sockets,
    activity::{Activity, End},
    cors::WithHeaders,
    doors::Doors,
    gate::Gate,
    heard::Heard,
    listener::{Endpoint, Listener},
    peer::Session,
    requests::OfConnection,
    strangers::Strangers,
    windows::{Window, Windows},
};
use crate::{
    net::{
        auth::Authenticator,
        gathered::Gathered,
        listen::BindError,
        streams::{Streams, Together},
        tls::{CertificateMetrics, LiveServerTls, PeerCertificate},
    },
    pipeline::Budget,
    runtime::Tasks,
    settings::{Id, Secret},
    telemetry::Metrics,
};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    collections::BTreeMap,
    error::Error,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The time until a ping must be answered where none are sent.
const HELLO: Duration = Duration::from_secs(10);

/// How long requests in flight may take once the process is ending: most of the
/// time to shut down belongs to the queues.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How long requests in flight may take once the server stops while the process
/// goes on.
const LEAVE_GRACE: Duration = Duration::from_secs(60);

/// How long a connection that cannot be told to go waits for its next request
/// once the server stops while the process goes on.
const LINGER: Duration = Duration::from_secs(5);

/// The wait after a failure to accept, which is most often for want of file
/// descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The headers of one request.
const MAX_HEADERS: u32 = 32 << 10;

/// A response being made.
pub type Answering = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The response to one request. Dropped when the client goes away.
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering;
}

/// A listener that is configured, and not bound.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<LiveServerTls>,
    pub(super) bounds: Bounds,
    /// Who is let in; everybody unless given.
    pub(super) authenticator: Option<Arc<Authenticator>>,
    pub(super) cors: Option<Cors>,
    /// Headers of every response.
    pub(super) response_headers: BTreeMap<String, Secret>,
    pub(super) doors: Doors,
}

/// The bounds of connections; `None` is no bound.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Connections at a time; more wait to be accepted.
    pub(super) connections: usize,
    /// Requests of one HTTP/2 connection at a time.
    pub(super) streams: u32,
    /// How long a connection may have no request in flight.
    pub(super) idle: Option<Duration>,
    /// How long a connection is kept.
    pub(super) age: Option<Duration>,
    /// How long requests may take when their connection is too old.
    pub(super) age_grace: Option<Duration>,
    /// HTTP/2 pings: the time between them, and until one must be answered.
    pub(super) ping: Option<(Duration, Duration)>,
    /// The longest that the head of an HTTP/1 request may take.
    pub(super) head: Option<Duration>,
    /// The longest that a TLS handshake may take, and then until HTTP is spoken.
    pub(super) hello: Duration,
    /// How long a connection may last of which nothing was let in.
    pub(super) stranger: Option<Duration>,
    /// Bytes of a request's headers.
    pub(super) headers: u32,
    /// Requests whose answers need not be waited for; 0 is no bound.
    pub(super) cancelled: u32,
    /// Requests of HTTP/2 that are reset before they were looked at.
    pub(super) pending_resets: usize,
}

/// A listener that is bound.
#[derive(Debug)]
pub struct Server {
    listener: Arc<Listener>,
    plan: Plan,
}

/// A byte stream of any kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What all connections of a server share.
struct Shared {
    tls: Option<LiveServerTls>,
    bounds: Bounds,
    windows: Windows,
    handler: Arc<dyn Handler>,
    doors: Doors,
    strangers: Arc<Strangers>,
    stop: CancellationToken,
    ending: CancellationToken,
}

// === impl Plan ===

impl Plan {
    /// The same, which counts for `receiver` whom it does not let in, and tells
    /// when its certificates end.
    pub fn observed(mut self, metrics: &Metrics, receiver: &Id, protocol: &'static str) -> Self {
        self.doors = Doors::new(metrics, receiver, protocol);
        if let Some(tls) = &self.tls {
            let ends: CertificateMetrics = metrics.set();
            ends.watch(receiver, tls.certificates());
        }
        self
    }

    /// Binds it, or shares the socket with who has it ([`Sockets::bind`]). Port 0
    /// takes any free one.
    pub async fn bind(self, sockets: &Sockets, owner: &str) -> Result<Server, BindError> {
        Ok(Server {
            listener: sockets.bind(owner, &self.endpoint).await?,
            plan: self,
        })
    }
}

// === impl Server ===

impl Server {
    /// Where it listens: `127.0.0.1:4317`, `unix:/path`.
    pub fn address(&self) -> String {
        self.listener.address()
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.plan.tls.is_some()
    }

    /// Serves until `stop`, then lets requests in flight end; what is not done
    /// within a minute, or within three seconds after `ending`, is cut off. What
    /// connections may send before anybody reads it is taken from `memory`.
    pub async fn run(
        self,
        handler: Arc<dyn Handler>,
        memory: &Budget,
        stop: CancellationToken,
        ending: CancellationToken,
    ) {
        let tasks = Tasks::default();
        let slots = Arc::new(Semaphore::new(self.plan.bounds.connections));
        let strangers = Arc::new(Strangers::default());
        let handler = Gate::before(handler, self.plan.authenticator, self.plan.doors.clone());
        let shared = Arc::new(Shared {
            tls: self.plan.tls,
            bounds: self.plan.bounds,
            windows: Windows::new(memory),
            handler: WithHeaders::around(handler, self.plan.cors, &self.plan.response_headers),
            doors: self.plan.doors,
            strangers: strangers.clone(),
            stop: stop.clone(),
            ending: ending.clone(),
        });
        let mut failing = false;
        while let Some(accepted) = stop
            .run_until_cancelled(accept(&self.listener, &slots, &strangers))
            .await
        {
            match accepted {
                Ok((io, peer, slot)) => {
                    failing = false;
                    let shared = shared.clone();
                    tasks.spawn("connection", async move {
                        shared.serve(io, peer).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(endpoint = self.listener.address(), %error, "cannot accept a connection");
                    }
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self.listener);
        // The streams of a connection that was cut off end with it.
        tokio::select! {
            () = tasks.wait() => {}
            () = cut_off(&stop, &ending) => sleep(STOP_GRACE).await,
        }
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &Listener,
    slots: &Arc<Semaphore>,
    strangers: &Strangers,
) -> io::Result<(Box<dyn Io>, Peer, OwnedSemaphorePermit)> {
    let (io, peer) = listener.accept().await?;
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Ok((io, peer, slot));
    }
    strangers.dismiss_oldest();
    let slot = slots.clone().acquire_owned().await;
    Ok((io, peer, slot.map_err(io::Error::other)?))
}

fn http(bounds: &Bounds, window: &Window, streams: &Streams) -> auto::Builder<Streams> {
    let mut http = auto::Builder::new(streams.clone());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEADERS as usize * 4)
        .keep_alive(true);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(window.stream)
        .initial_connection_window_size(window.connection)
        .max_frame_size(window.frame)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(bounds.streams)
        .keep_alive_interval(bounds.ping.map(|(every, _)| every))
        .keep_alive_timeout(bounds.ping.map_or(HELLO, |(_, patience)| patience));
    http
}

/// What strangers may make of it.
fn limit(http: &mut auto::Builder<Streams>, bounds: &Bounds) {
    http.http2()
        .max_header_list_size(bounds.headers)
        .max_pending_accept_reset_streams(bounds.pending_resets);
}

// === impl Shared ===

impl Shared {
    async fn serve(&self, io: Box<dyn Io>, peer: Peer) {
        let (window, streams) = (self.windows.open(), Streams::default());
        let mut http = http(&self.bounds, &window, &streams);
        limit(&mut http, &self.bounds);
        let activity = Arc::new(Activity::new(window, self.bounds.cancelled));
        let _stranger = self.strangers.add(&activity);
        let secured = tokio::select! {
            secured = self.secure(io, &peer) => secured,
            () = activity.dismissed() => None,
        };
        let Some((io, certificate)) = secured else {
            return;
        };
        let io = Gathered::new(Heard::new(io, &activity));
        let session = Session {
            activity: activity.clone(),
            certificate,
        };
        let peer = peer.on(Arc::new(session));
        let service = OfConnection {
            handler: self.handler.clone(),
            peer: peer.clone(),
            activity: activity.clone(),
            bounds: self.bounds.clone(),
            stop: self.stop.clone(),
        };
        let connection = http.serve_connection(TokioIo::new(io.clone()), service);
        let mut serving = Together::new(connection, streams, io);
        let end = tokio::select! {
            // Whatever went wrong with the connection, it is over.
            ended = &mut serving => {
                self.blame(&peer, ended);
                return;
            }
            () = self.told_to_go(&activity) => End::in_peace(LEAVE_GRACE),
            end = activity.end(&self.bounds) => end,
        };
        if let Some(reason) = end.reason {
            self.doors.closed(&peer, reason, meaning(reason));
        }
        if let Some(connection) = serving.connection() {
            connection.graceful_shutdown();
        }
        tokio::select! {
            _ = serving => {}
            () = wait(end.grace) => {}
            () = cut_off(&self.stop, &self.ending) => {}
        }
    }

    /// Counts what a client has done to its connection.
    fn blame(&self, peer: &Peer, ended: Result<(), Box<dyn Error + Send + Sync>>) {
        let Err(error) = ended else { return };
        if let Some(reason) = fault(&*error) {
            self.doors.closed(peer, reason, &error.to_string());
        }
    }

    /// Resolves when the server stops and the peer can be told so without missing
    /// a request.
    async fn told_to_go(&self, activity: &Activity) {
        self.stop.cancelled().await;
        tokio::select! {
            () = activity.speaks_http2() => {}
            () = self.ending.cancelled() => {}
            () = sleep(LINGER) => {}
        }
    }

    /// The TLS handshake, if there is one, and the certificate that the client has
    /// shown in it.
    async fn secure(
        &self,
        io: Box<dyn Io>,
        peer: &Peer,
    ) -> Option<(Box<dyn Io>, Option<PeerCertificate>)> {
        let Some(tls) = &self.tls else {
            return Some((io, None));
        };
        let config = match tls.current() {
            Ok(config) => config,
            Err(error) => {
                warn!(%peer, %error, "no TLS configuration");
                return None;
            }
        };
        let accept = timeout(self.bounds.hello, TlsAcceptor::from(config).accept(io));
        match self.ending.run_until_cancelled(accept).await? {
            Ok(Ok(stream)) => {
                let certificate = tls.peer(stream.get_ref().1);
                Some((Box::new(stream), certificate))
            }
            Ok(Err(error)) => {
                let reason = handshake_fault(&error);
                self.doors.closed(peer, reason, &error.to_string());
                None
            }
            Err(_) => {
                let reason = "handshake_timeout";
                self.doors
                    .closed(peer, reason, "the TLS handshake took too long");
                None
            }
        }
    }
}

/// Why a handshake failed.
fn handshake_fault(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(_)) => "wrong_certificate",
        _ => "handshake",
    }
}

/// What a client did that ended its connection, if it was more than to go away.
fn fault(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
            return match (error.is_remote(), error.is_io()) {
                (false, false) if calm => Some("flood"),
                (false, false) => Some("protocol"),
                _ => None,
            };
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse_too_large() {
                return Some("headers");
            }
            if error.is_timeout() {
                return Some("slow_headers");
            }
            if error.is_parse() {
                return Some("protocol");
            }
        }
        cause = error.source();
    }
    None
}

/// A reason in words, for the log.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "silent" => "the client did not say which HTTP it speaks",
        "stranger" => "nothing that came over it was let in",
        "made_room" => "nothing that came over it was let in, and others wait",
        "cancelled_requests" => "the client cancelled more requests than it let be answered",
        "certificate_revoked" => "its client's certificate is no longer taken",
        _ => "",
    }
}

/// Resolves when requests in flight have had their time after the end.
async fn cut_off(stop: &CancellationToken, ending: &CancellationToken) {
    let after = async |token: &CancellationToken, grace| {
        token.cancelled().await;
        sleep(grace).await;
    };
    tokio::select! {
        () = after(stop, LEAVE_GRACE) => {}
        () = after(ending, STOP_GRACE) => {}
    }
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}
