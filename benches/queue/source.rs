//! The role `sources`: senders that each have a connection of their own and wait for
//! the answer to a request before they send the next.

use crate::{Result, child, figures::quantile, request};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// How long to send.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// For a time.
    For(Duration),
    /// Until so many are accepted.
    Until(u64),
}

/// What became of an [`Order`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    /// What the first of these said.
    pub(crate) failure: Option<String>,
    /// Until the answer to an accepted request, in seconds.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
}

/// An order, and where to say what became of it.
type Ordered = (Order, mpsc::Sender<Value>);

struct Sources {
    connections: Vec<SendRequest<Full<Bytes>>>,
    uri: String,
    body: Bytes,
    /// How many are still to be sent.
    left: Cell<u64>,
    sent: RefCell<Sent>,
    /// In microseconds.
    answers: RefCell<Vec<u64>>,
}

const PATH: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
/// gRPC's codes of refusals: RESOURCE_EXHAUSTED and UNAVAILABLE.
const REFUSALS: [&str; 2] = ["8", "14"];
/// Before somebody who was refused tries again.
const PAUSE: Duration = Duration::from_millis(2);

/// Carries out one order for each line on stdin.
pub(crate) fn run(to: SocketAddr, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let tasks = Tasks::default();
        let sources = Sources::connect(to, count, &tasks).await?;
        let (orders, ordered) = unbounded_channel::<Ordered>();
        child::obey(&json!("ready"), move |line| {
            let (answer, answered) = mpsc::channel();
            match serde_json::from_str(line) {
                Ok(order) => drop(orders.send((order, answer))),
                Err(error) => return json!({ "error": error.to_string() }),
            }
            answered.recv().unwrap_or_default()
        });
        sources.obey(ordered).await;
        Ok(())
    })
}

// === impl Sources ===

impl Sources {
    async fn connect(to: SocketAddr, count: usize, tasks: &Tasks) -> Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (sender, connection) = handshake.await?;
            tasks.spawn("connection", connection);
            connections.push(sender);
        }
        Ok(Self {
            connections,
            uri: format!("http://{to}{PATH}"),
            body: request::framed()?,
            left: Cell::default(),
            sent: RefCell::default(),
            answers: RefCell::default(),
        })
    }

    async fn obey(&self, mut ordered: UnboundedReceiver<Ordered>) {
        while let Some((order, answer)) = ordered.recv().await {
            let (count, until) = match order {
                Order::For(length) => (u64::MAX, Some(Instant::now() + length)),
                Order::Until(count) => (count, None),
            };
            self.left.set(count);
            let all = self.connections.iter();
            let mut all: FuturesUnordered<_> = all.map(|one| self.send(one, until)).collect();
            while all.next().await.is_some() {}
            // Whoever ordered it may have gone.
            let _ = answer.send(json!(self.sum()));
        }
    }

    /// One request after the other.
    async fn send(&self, connection: &SendRequest<Full<Bytes>>, until: Option<Instant>) {
        while self.left.get() > 0 && until.is_none_or(|until| Instant::now() < until) {
            self.left.set(self.left.get() - 1);
            let start = Instant::now();
            let status = self.call(connection.clone()).await;
            let mut refused = false;
            {
                let mut sent = self.sent.borrow_mut();
                match status {
                    Ok(status) if status == "0" => {
                        sent.accepted += 1;
                        let micros = u64::try_from(start.elapsed().as_micros());
                        self.answers.borrow_mut().push(micros.unwrap_or(u64::MAX));
                    }
                    Ok(status) if REFUSALS.contains(&status.as_str()) => {
                        sent.refused += 1;
                        refused = true;
                    }
                    other => {
                        sent.failed += 1;
                        sent.failure.get_or_insert(format!("{other:?}"));
                        // A connection that is broken stays so.
                        return;
                    }
                }
            }
            if refused {
                self.left.set(self.left.get() + 1);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The status of the answer.
    async fn call(&self, mut connection: SendRequest<Full<Bytes>>) -> Result<String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(self.body.clone()))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            if let Ok(more) = frame?.into_trailers() {
                trailers = more;
            }
        }
        let status = trailers.get("grpc-status");
        let status = status.or(head.headers.get("grpc-status"));
        Ok(status.ok_or("no status")?.to_str()?.to_owned())
    }

    fn sum(&self) -> Sent {
        let mut answers = self.answers.take();
        answers.sort_unstable();
        let seconds = |q| quantile(&answers, q).map(|micros| micros as f64 / 1e6);
        Sent {
            answer_p50: seconds(0.5),
            answer_p99: seconds(0.99),
            ..self.sent.take()
        }
    }
}
