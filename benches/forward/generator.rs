//! The role `generator`: sends one request again and again.
//!
//! *Closed*: so many calls are always in flight. *Open*: a request is due at fixed
//! times, whatever became of those before; latency counts from the time at which a
//! request was due, so a receiver that stalls cannot hide it.

use crate::{
    Result,
    args::{Case, Protocol},
    child,
    client::{Client, Reply},
    figures::{nanos, quantile},
    template::{Id, Template},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::mpsc,
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

/// What became of an [`Order`], once all its calls were answered.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    /// What the first of these said.
    pub(crate) failure: Option<String>,
    /// Until the answer to an accepted request, in seconds.
    pub(crate) answer_p50: Option<f64>,
    pub(crate) answer_p99: Option<f64>,
    /// From the time at which requests were due to their sending, in seconds.
    pub(crate) lag_p99: Option<f64>,
}

/// An order, and where to say what became of it.
type Ordered = (Order, mpsc::Sender<Value>);

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

#[derive(Default)]
struct Tally {
    sent: Sent,
    /// In microseconds.
    answers: Vec<u64>,
    lags: Vec<u64>,
}

/// Carries out one order for each line on stdin.
pub(crate) fn run(to: SocketAddr, case: Case) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let tasks = Tasks::default();
        let generator = Generator::connect(to, case, &tasks).await?;
        let (orders, ordered) = unbounded_channel::<Ordered>();
        child::obey(&json!("ready"), move |line| {
            let (answer, answered) = mpsc::channel();
            match serde_json::from_str(line) {
                Ok(order) => drop(orders.send((order, answer))),
                Err(error) => return json!({ "error": error.to_string() }),
            }
            answered.recv().unwrap_or_default()
        });
        generator.obey(ordered).await;
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

    async fn obey(&self, mut ordered: UnboundedReceiver<Ordered>) {
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

// === impl Tally ===

impl Tally {
    fn add(&mut self, reply: Reply, took: Duration, lag: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.lags.push(micros(lag));
        match reply {
            Reply::Accepted => {
                self.sent.accepted += 1;
                self.answers.push(micros(took));
            }
            Reply::Refused => self.sent.refused += 1,
            Reply::Failed(text) => {
                self.sent.failed += 1;
                self.sent.failure.get_or_insert(text);
            }
        }
    }

    fn sum(mut self) -> Sent {
        self.answers.sort_unstable();
        self.lags.sort_unstable();
        let seconds = |sorted: &[u64], q| quantile(sorted, q).map(|micros| micros as f64 / 1e6);
        Sent {
            answer_p50: seconds(&self.answers, 0.5),
            answer_p99: seconds(&self.answers, 0.99),
            lag_p99: seconds(&self.lags, 0.99),
            ..self.sent
        }
    }
}
