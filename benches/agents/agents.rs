//! The role `agents`: senders that each have a connection of their own and one call
//! in flight. All are one thread.
//!
//! *Closed*: the next call follows the answer. *Every*: an agent reports when its
//! time has come, give or take a fifth, and not before its last call was answered;
//! the agents' times are spread over the interval.

use crate::{
    Result,
    args::{Tls, Work},
    body::Body,
    child::{self, Ordered},
    client::Client,
    sent::{Reply, Tally},
};
use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use profile_relay::runtime::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc::UnboundedReceiver, time};

/// How an agent's calls follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) enum Load {
    /// At once.
    Closed,
    /// With so much time between them.
    Every(Duration),
}

/// To make calls for a time.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) load: Load,
    pub(crate) length: Duration,
}

struct Agents {
    clients: Vec<Client>,
    body: Body,
    number: Cell<u32>,
    /// Copies whose calls were answered.
    buffers: RefCell<Vec<BytesMut>>,
    tally: RefCell<Tally>,
}

/// Before somebody who was refused tries again, with nothing else to wait for.
const PAUSE: Duration = Duration::from_millis(2);

/// Carries out one order for each line on stdin.
pub(crate) fn run(to: SocketAddr, count: usize, work: Work, tls: &Tls) -> Result<()> {
    child::runtime()?.block_on(async {
        let tasks = Tasks::default();
        let config = tls.client()?;
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Client::connect(to, work.call, config.clone(), &tasks).await?);
        }
        let agents = Agents {
            clients,
            body: Body::new(work)?,
            number: Cell::default(),
            buffers: RefCell::default(),
            tally: RefCell::default(),
        };
        agents.obey(child::orders()).await;
        Ok(())
    })
}

// === impl Agents ===

impl Agents {
    async fn obey(&self, mut ordered: UnboundedReceiver<Ordered<Order>>) {
        while let Some((order, answer)) = ordered.recv().await {
            let start = Instant::now();
            let until = start + order.length;
            let all = self.clients.iter().enumerate();
            let mut all: FuturesUnordered<_> = all
                .map(|(at, client)| async move {
                    match order.load {
                        Load::Closed => self.one_after_another(client, until).await,
                        Load::Every(interval) => {
                            let phase = interval.mul_f64(at as f64 / self.clients.len() as f64);
                            self.every(client, interval, start + phase, until).await;
                        }
                    }
                })
                .collect();
            while all.next().await.is_some() {}
            // Whoever ordered it may have gone.
            let _ = answer.send(json!(self.tally.take().sum()));
        }
    }

    async fn one_after_another(&self, client: &Client, until: Instant) {
        while Instant::now() < until {
            match self.call(client, Instant::now()).await {
                Next::Call => {}
                Next::Wait => time::sleep(PAUSE).await,
                Next::Leave => return,
            }
        }
    }

    async fn every(&self, client: &Client, interval: Duration, first: Instant, until: Instant) {
        let mut due = first;
        while due < until {
            time::sleep_until(due.into()).await;
            if self.call(client, due).await == Next::Leave {
                return;
            }
            let next = due + interval.mul_f64(rand::random_range(0.8..1.2));
            due = next.max(Instant::now());
        }
    }

    /// Makes the call that was due then.
    async fn call(&self, client: &Client, due: Instant) -> Next {
        let buffer = self.buffers.borrow_mut().pop();
        let mut first = buffer.unwrap_or_else(|| BytesMut::from(&self.body.first[..]));
        let number = self.number.get();
        self.number.set(number.wrapping_add(1));
        self.body.stamp(&mut first, number);
        let first = first.freeze();
        let (lag, start) = (due.elapsed(), Instant::now());
        let reply = client.call(first.clone(), self.body.second.clone()).await;
        if let Ok(buffer) = first.try_into_mut() {
            self.buffers.borrow_mut().push(buffer);
        }
        let next = match &reply {
            Reply::Accepted => Next::Call,
            Reply::Refused => Next::Wait,
            Reply::Failed(_) => Next::Leave,
        };
        self.tally.borrow_mut().add(reply, start.elapsed(), lag);
        next
    }
}

/// What an agent does after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Call,
    Wait,
    /// A connection that is broken stays so.
    Leave,
}
