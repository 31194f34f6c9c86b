//! The role `generator`: sends one request again and again.
//!
//! *Closed*: so many calls are always in flight. *Open*: a request is due at fixed
//! times, whatever became of those before; latency counts from the time at which a
//! request was due, so a receiver that stalls cannot hide it.

use crate::{
    Result,
    args::{Case, Protocol},
    child::{self, Ordered},
    client::Client,
    figures::nanos,
    sent::Tally,
    template::{Id, Template},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Calls in flight of a closed loop, and connections of HTTP/1.1.
pub(crate) const CALLS: usize = 16;
/// What stands before a message in gRPC.
const PREFIX: usize = 5;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) enum Load {
    /// [`CALLS`] are always in flight.
    Closed,
    /// So many a second.
    Open(f64),
}

/// To send requests for a time.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) load: Load,
    pub(crate) length: Duration,
}

struct Generator {
    client: Client,
    template: Template,
    /// A copy of the template, with what stands before it.
    start: Bytes,
    prefix: usize,
    number: Cell<u64>,
    /// Copies whose requests were answered.
    buffers: RefCell<Vec<BytesMut>>,
    tally: RefCell<Tally>,
}

/// Carries out one order for each line on stdin.
pub(crate) fn run(to: SocketAddr, case: Case) -> Result<()> {
    child::runtime()?.block_on(async {
        let tasks = Tasks::default();
        let generator = Generator::connect(to, case, &tasks).await?;
        generator.obey(child::orders()).await;
        Ok(())
    })
}

// === impl Generator ===

impl Generator {
    async fn connect(to: SocketAddr, case: Case, tasks: &Tasks) -> Result<Self> {
        let template = Template::new(case)?;
        let mut start = BytesMut::with_capacity(PREFIX + template.wire.len());
        if case.protocol == Protocol::Grpc {
            start.put_u8(u8::from(case.input.header().is_some()));
            start.put_u32(u32::try_from(template.wire.len())?);
        }
        let prefix = start.len();
        start.put_slice(&template.wire);
        Ok(Self {
            client: Client::connect(to, case.protocol, case.input, CALLS, tasks).await?,
            template,
            start: start.freeze(),
            prefix,
            number: Cell::default(),
            buffers: RefCell::default(),
            tally: RefCell::default(),
        })
    }

    async fn obey(&self, mut ordered: UnboundedReceiver<Ordered<Order>>) {
        while let Some((order, answer)) = ordered.recv().await {
            match order.load {
                Load::Closed => self.closed(order.length).await,
                Load::Open(rate) => self.open(rate, order.length).await,
            }
            // Whoever ordered it may have gone.
            let _ = answer.send(json!(self.tally.take().sum()));
        }
    }

    async fn closed(&self, length: Duration) {
        let until = Instant::now() + length;
        let one_after_another = async || {
            while Instant::now() < until {
                self.call(Instant::now()).await;
            }
        };
        let mut calls: FuturesUnordered<_> = (0..CALLS).map(|_| one_after_another()).collect();
        while calls.next().await.is_some() {}
    }

    async fn open(&self, rate: f64, length: Duration) {
        let mut due = times(rate, length);
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                // What is due goes first: answers can wait, they know their time.
                biased;
                Some(due) = due.recv() => calls.push(self.call(due)),
                Some(()) = calls.next() => {}
                else => break,
            }
        }
    }

    /// Sends the request that was due then.
    async fn call(&self, due: Instant) {
        let mut buffer = self.buffers.borrow_mut().pop();
        let mut request = buffer
            .take()
            .unwrap_or_else(|| BytesMut::from(&self.start[..]));
        let lag = due.elapsed();
        let number = self.number.get();
        self.number.set(number + 1);
        let id = Id::new(nanos(SystemTime::now() - lag), number);
        self.template.stamp(&mut request[self.prefix..], id);
        let request = request.freeze();
        let reply = self.client.call(request.clone()).await;
        let took = due.elapsed();
        if let Ok(buffer) = request.try_into_mut() {
            self.buffers.borrow_mut().push(buffer);
        }
        self.tally.borrow_mut().add(reply, took, lag);
    }
}

/// The times at which requests are due, each once it has come. tokio's own timer
/// counts in milliseconds, which is what is to be measured.
fn times(rate: f64, length: Duration) -> UnboundedReceiver<Instant> {
    let (times, due) = unbounded_channel();
    thread::spawn(move || {
        let start = Instant::now();
        for at in 0.. {
            let after = Duration::from_secs_f64(f64::from(at) / rate);
            if after >= length {
                return;
            }
            let time = start + after;
            thread::sleep(time.saturating_duration_since(Instant::now()));
            if times.send(time).is_err() {
                return;
            }
        }
    });
    due
}
