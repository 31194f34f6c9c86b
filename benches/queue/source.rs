//! The role `sources`: senders that each have a connection of their own and wait for
//! the answer to a request before they send the next.

use crate::{
    Result,
    child::{self, Ordered},
    request,
    sent::{Reply, Tally},
};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::mpsc::UnboundedReceiver};

/// How long to send.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// For a time.
    For(Duration),
    /// Until so many are accepted.
    Until(u64),
}

struct Sources {
    connections: Vec<SendRequest<Full<Bytes>>>,
    uri: String,
    body: Bytes,
    /// How many are still to be sent.
    left: Cell<u64>,
    tally: RefCell<Tally>,
}

const PATH: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
/// Before somebody who was refused tries again.
const PAUSE: Duration = Duration::from_millis(2);

/// Carries out one order for each line on stdin.
pub(crate) fn run(to: SocketAddr, count: usize) -> Result<()> {
    child::runtime()?.block_on(async {
        let tasks = Tasks::default();
        let sources = Sources::connect(to, count, &tasks).await?;
        sources.obey(child::orders()).await;
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
            tally: RefCell::default(),
        })
    }

    async fn obey(&self, mut ordered: UnboundedReceiver<Ordered<Order>>) {
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
            let _ = answer.send(json!(self.tally.take().sum()));
        }
    }

    /// One request after the other.
    async fn send(&self, connection: &SendRequest<Full<Bytes>>, until: Option<Instant>) {
        while self.left.get() > 0 && until.is_none_or(|until| Instant::now() < until) {
            self.left.set(self.left.get() - 1);
            let start = Instant::now();
            let reply = match self.call(connection.clone()).await {
                Ok(status) => Reply::of_grpc(&status, ""),
                Err(error) => Reply::Failed(error.to_string()),
            };
            let (refused, failed) = (
                matches!(reply, Reply::Refused),
                matches!(reply, Reply::Failed(_)),
            );
            let took = start.elapsed();
            self.tally.borrow_mut().add(reply, took, Duration::ZERO);
            if failed {
                // A connection that is broken stays so.
                return;
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
}
