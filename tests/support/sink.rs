//! An OTLP backend for tests, over gRPC and HTTP on one port, that keeps what it
//! takes. `opentelemetry-proto`'s messages, another implementation's, judge what
//! arrives.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profile_relay::{
    profile::otlp::{Compression, json},
    runtime::Tasks,
};
use prost::Message;
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

/// A backend that runs until it is dropped.
pub struct Sink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

/// A request that it took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// `grpc`, `proto` or `json`.
    pub way: &'static str,
    pub headers: HeaderMap,
    pub compression: Compression,
    /// The encoded message, as it came and inflated.
    pub wire: Bytes,
    pub plain: Bytes,
    pub request: ExportProfilesServiceRequest,
}

/// An answer other than that it is taken.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// UNAVAILABLE, or 503 with a Retry-After of 1 s.
    Unavailable,
    /// INTERNAL, or 500.
    Broken,
    /// Taken, but for so many profiles.
    Partial(u8),
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    faults: VecDeque<Fault>,
    /// Requests with profiles, taken or not.
    requests: usize,
    /// How long an answer takes.
    delay: Duration,
}

// === impl Sink ===

impl Sink {
    pub fn start() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub fn at(addr: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let (ready, listening) = mpsc::channel();
        let thread = thread::spawn({
            let (shared, stop) = (shared.clone(), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async move {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    socket.set_reuseaddr(true).expect("an option");
                    socket.bind(addr).expect("the port is free");
                    let listener = socket.listen(64).expect("it listens");
                    let addr = listener.local_addr().expect("an address");
                    ready.send(addr).expect("somebody waits");
                    let accepting = async {
                        let tasks = Tasks::default();
                        while let Ok((stream, _)) = listener.accept().await {
                            let shared = shared.clone();
                            tasks.spawn("sink", async move {
                                let service = service_fn(move |request| {
                                    let shared = shared.clone();
                                    async move { shared.answer(request).await }
                                });
                                let _ = auto::Builder::new(TokioExecutor::new())
                                    .serve_connection(TokioIo::new(stream), service)
                                    .await;
                            });
                        }
                    };
                    stop.run_until_cancelled(accepting).await;
                });
            }
        });
        Self {
            addr: listening.recv().expect("it listens"),
            shared,
            stop,
            thread: Some(thread),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers the next requests so.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// Lets every answer take so long.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.lock().taken.clone()
    }

    /// Requests with profiles, taken or not.
    pub fn requests(&self) -> usize {
        self.shared.lock().requests
    }

    /// Waits until what was taken is as wished; whether it became so.
    pub fn wait(&self, limit: Duration, wish: impl Fn(&[Taken]) -> bool) -> bool {
        let state = self.shared.lock();
        let missing = |state: &mut State| !wish(&state.taken);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, limit, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wish(&state.taken)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Shared ===

type Answer = Response<Box<dyn Body<Data = Bytes, Error = Infallible> + Send + Unpin>>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let kind = head.headers.get("content-type");
        let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
        let (way, wire, encoding) = if kind.starts_with("application/grpc") {
            ("grpc", body.slice(5..), "grpc-encoding")
        } else if kind == "application/json" {
            ("json", body, "content-encoding")
        } else {
            ("proto", body, "content-encoding")
        };
        let compression = head.headers.get(encoding);
        let compression = compression.map_or("", |c| c.to_str().expect("a name"));
        let compression = Compression::parse(compression).expect("it is known");
        let inflated = compression.inflate(&wire, 64 << 20).expect("it inflates");
        let plain = match way {
            "json" => json::request_from_json(&inflated, 64 << 20).expect("JSON"),
            _ => inflated,
        };
        let request = ExportProfilesServiceRequest::decode(plain.clone()).expect("a request");
        if request.resource_profiles.is_empty() {
            return Ok(answer(way, None));
        }
        let fault = {
            let mut state = self.lock();
            state.requests += 1;
            let fault = state.faults.pop_front();
            if !matches!(fault, Some(Fault::Unavailable | Fault::Broken)) {
                state.taken.push(Taken {
                    way,
                    headers: head.headers,
                    compression,
                    wire,
                    plain,
                    request,
                });
            }
            fault
        };
        self.changed.notify_all();
        let delay = self.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(answer(way, fault))
    }
}

fn answer(way: &'static str, fault: Option<Fault>) -> Answer {
    let partial = match fault {
        Some(Fault::Partial(count)) => vec![0x0a, 2, 0x08, count],
        _ => vec![],
    };
    let mut response = Response::builder();
    let (body, trailers) = if way == "grpc" {
        let code = match fault {
            Some(Fault::Unavailable) => "14",
            Some(Fault::Broken) => "13",
            _ => "0",
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().expect("a value"));
        response = response.header("content-type", "application/grpc");
        let length = partial.len() as u8;
        let body = [vec![0, 0, 0, 0, length], partial].concat();
        (body, Some(Frame::trailers(trailers)))
    } else {
        let status = match fault {
            Some(Fault::Unavailable) => 503,
            Some(Fault::Broken) => 500,
            _ => 200,
        };
        response = response.status(status).header("retry-after", "1");
        let body = match way {
            "json" => {
                response = response.header("content-type", "application/json");
                let count = partial.last().copied().unwrap_or_default();
                format!(r#"{{"partialSuccess":{{"rejectedProfiles":"{count}"}}}}"#).into_bytes()
            }
            _ => {
                response = response.header("content-type", "application/x-protobuf");
                partial
            }
        };
        (body, None)
    };
    let frames = [Frame::data(Bytes::from(body))].into_iter().chain(trailers);
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    let body: Box<dyn Body<Data = Bytes, Error = Infallible> + Send + Unpin> = Box::new(body);
    response.body(body).expect("an answer")
}

// === totals ===

/// What a profile shows: for each sample type and innermost function, the sum of
/// values.
pub type Totals = BTreeMap<(String, String), i64>;

/// The totals of all profiles of requests.
pub fn totals<'a>(requests: impl IntoIterator<Item = &'a ExportProfilesServiceRequest>) -> Totals {
    let mut totals = Totals::new();
    for request in requests {
        let tables = request.dictionary.as_ref().expect("a dictionary");
        let text = |at: i32| tables.string_table[at as usize].clone();
        let resources = request.resource_profiles.iter();
        let scopes = resources.flat_map(|resource| &resource.scope_profiles);
        for profile in scopes.flat_map(|scope| &scope.profiles) {
            let kind = profile.sample_type.as_ref().expect("a type").type_strindex;
            for sample in &profile.samples {
                let stack = &tables.stack_table[sample.stack_index as usize];
                let location = stack.location_indices.first().copied().unwrap_or_default();
                let lines = &tables.location_table[location as usize].lines;
                let function = lines.first().map_or(0, |line| line.function_index);
                let function = &tables.function_table[function as usize];
                let value: i64 = sample.values.iter().sum();
                if value != 0 {
                    let key = (text(kind), text(function.name_strindex));
                    *totals.entry(key).or_default() += value;
                }
            }
        }
    }
    totals
}

/// The totals of pprofs.
pub fn pprof_totals<'a>(bodies: impl IntoIterator<Item = &'a Bytes>) -> Totals {
    let mut totals = Totals::new();
    for body in bodies {
        let plain = profile_relay::profile::pprof::inflate(body, 64 << 20).expect("gzip");
        let profile = profile_relay::r#gen::pprof::Profile::decode(plain).expect("a pprof");
        let text = |at: i64| profile.string_table[at as usize].clone();
        for sample in &profile.sample {
            let leaf = sample.location_id.first().copied().unwrap_or_default();
            let location = profile.location.iter().find(|l| l.id == leaf);
            let line = location.and_then(|l| l.line.first());
            let function = line.map_or(0, |line| line.function_id);
            let function = profile.function.iter().find(|f| f.id == function);
            let name = function.map_or(String::new(), |f| text(f.name));
            for (kind, value) in profile.sample_type.iter().zip(&sample.value) {
                if *value != 0 {
                    let key = (text(kind.r#type), name.clone());
                    *totals.entry(key).or_default() += value;
                }
            }
        }
    }
    totals
}
