//! Which of a name's addresses gets the next request.
//!
//! Requests go to addresses that are connected; the others are connected beside
//! them. When none is, all are tried at once and the first that answers wins,
//! even those that failed just now: whoever calls has its own backoff, and
//! another one here would only lose time.
//!
//! Names are looked up again when their addresses are older than
//! `resolve_interval` and when connecting fails, by the calls themselves: an
//! idle channel does nothing.

use super::{
    backend::{Backend, Sender},
    settings::{BalancerName, GrpcClientSettings, Keepalive},
    target::{Place, Target},
};
use crate::{
    net::{
        connect::{self, ConnectError, Connector, Phase},
        resolve::Resolve,
    },
    runtime::Tasks,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// A failure to connect looks the name up again, but not more often than this.
const RESOLVE_AFTER_FAILURE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// The addresses of one target.
pub(super) struct Balancer {
    target: Target,
    connector: Connector,
    resolver: Arc<dyn Resolve>,
    interval: Duration,
    lookup_timeout: Duration,
    policy: BalancerName,
    keepalive: Option<Keepalive>,
    tasks: Tasks,
    /// One lookup at a time.
    resolving: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    backends: Vec<(Option<SocketAddr>, Arc<Backend>)>,
    resolved: Option<Instant>,
    next: usize,
}

// === impl Balancer ===

impl Balancer {
    pub(super) fn new(
        settings: &GrpcClientSettings,
        target: Target,
        connector: Connector,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let this = Self {
            target,
            connector,
            resolver,
            interval: settings.resolve_interval.get(),
            lookup_timeout: settings.connect_timeout.get(),
            policy: settings.balancer_name,
            keepalive: settings.keepalive.clone(),
            tasks: Tasks::default(),
            resolving: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        };
        if let Some(only) = this.only_connector() {
            this.lock().backends = vec![(None, this.backend(only))];
        }
        this
    }

    /// A connection that takes a request now.
    pub(super) async fn pick(self: &Arc<Self>) -> Result<Sender, ConnectError> {
        self.refresh().await?;
        if let Some(sender) = self.next_ready() {
            return Ok(sender);
        }
        // Apart, so that requests that find a connection stay small.
        Box::pin(self.connect()).await
    }

    /// A new connection, to where the name points by now.
    async fn connect(&self) -> Result<Sender, ConnectError> {
        let error = match self.connect_any().await {
            Ok(sender) => return Ok(sender),
            Err(error) => error,
        };
        // The name may have moved.
        if self.is_fixed() || !self.is_older_than(RESOLVE_AFTER_FAILURE) {
            return Err(error);
        }
        let before = self.addresses();
        if self.resolve().await.is_err() || self.addresses() == before {
            return Err(error);
        }
        self.connect_any().await
    }

    /// The next requests go over new connections; those under way end on theirs.
    pub(super) fn leave(&self) {
        for (_, backend) in &self.lock().backends {
            backend.leave();
        }
    }

    /// The next connected backend; those that are not are connected meanwhile.
    fn next_ready(&self) -> Option<Sender> {
        let (backends, start) = {
            let mut state = self.lock();
            state.next = state.next.wrapping_add(1);
            let start = match self.policy {
                BalancerName::RoundRobin => state.next,
                BalancerName::PickFirst => 0,
            };
            (state.backends.clone(), start)
        };
        let mut found = None;
        for offset in 0..backends.len() {
            let (_, backend) = &backends[(start.wrapping_add(offset)) % backends.len()];
            match backend.ready() {
                Some(sender) => found = found.or(Some(sender)),
                None if self.policy == BalancerName::PickFirst => {}
                None if backend.is_resting() => {}
                None if backends.len() > 1 => backend.connect_in_background(),
                None => {}
            }
        }
        found
    }

    async fn connect_any(&self) -> Result<Sender, ConnectError> {
        let backends: Vec<_> = self.lock().backends.clone();
        if self.policy == BalancerName::PickFirst {
            return self.connect_in_order(backends).await;
        }
        let mut attempts: FuturesUnordered<_> = backends
            .into_iter()
            .map(|(_, backend)| {
                self.tasks
                    .spawn("grpc connect", async move { backend.connect().await })
            })
            .collect();
        let mut last = None;
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(Ok(sender)) => return Ok(sender),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| self.nowhere()))
    }

    async fn connect_in_order(
        &self,
        backends: Vec<(Option<SocketAddr>, Arc<Backend>)>,
    ) -> Result<Sender, ConnectError> {
        let mut last = None;
        for (_, backend) in backends {
            match backend.connect().await {
                Ok(sender) => return Ok(sender),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.nowhere()))
    }

    /// Looks the name up when that is due: at once if there is no address yet,
    /// else beside the call.
    async fn refresh(self: &Arc<Self>) -> Result<(), ConnectError> {
        if self.is_fixed() {
            return Ok(());
        }
        if self.lock().backends.is_empty() {
            return Box::pin(self.resolve()).await;
        }
        if self.is_older_than(self.interval) && self.resolving.try_lock().is_ok() {
            let this = self.clone();
            self.tasks.spawn("grpc resolve", async move {
                if let Err(error) = this.resolve().await {
                    warn!("{error}; the addresses known so far stay in use");
                }
            });
        }
        Ok(())
    }

    async fn resolve(&self) -> Result<(), ConnectError> {
        let asked = Instant::now();
        let _one = self.resolving.lock().await;
        if self.was_resolved_after(asked) {
            return Ok(());
        }
        let Place::Host { host, port } = &self.target.place else {
            return Ok(());
        };
        let failed = |cause: String| ConnectError::new(Phase::Resolve, host, cause);
        // A failed lookup is not repeated at once either.
        self.lock().resolved = Some(Instant::now());
        let found = timeout(self.lookup_timeout, self.resolver.resolve(host, *port))
            .await
            .map_err(|_| failed("the resolver does not answer".into()))?
            .map_err(|error| failed(format!("{error}: check the name and this machine's DNS")))?;
        self.adopt(found);
        Ok(())
    }

    /// Takes over `found`, keeping the connections of addresses that remain.
    fn adopt(&self, mut found: Vec<SocketAddr>) {
        if self.policy == BalancerName::RoundRobin {
            // The resolver's order changes from call to call.
            found.sort();
        }
        found.dedup();
        let mut state = self.lock();
        let known = std::mem::take(&mut state.backends);
        let changed = known.len() != found.len()
            || !known
                .iter()
                .all(|(at, _)| at.is_some_and(|at| found.contains(&at)));
        if changed {
            info!(endpoint = %self.target.origin, addresses = ?found, "addresses found");
        }
        state.backends = found
            .into_iter()
            .map(|address| {
                let kept = known.iter().find(|(at, _)| *at == Some(address));
                let backend = kept.map_or_else(
                    || self.backend(self.connector.at(connect::Place::Address(address))),
                    |(_, backend)| backend.clone(),
                );
                (Some(address), backend)
            })
            .collect();
    }

    fn backend(&self, connector: Connector) -> Arc<Backend> {
        Arc::new(Backend::new(
            connector,
            self.target.origin.clone(),
            self.keepalive.clone(),
            self.tasks.clone(),
        ))
    }

    /// The one connector of a target that needs no lookup: a socket, an address,
    /// or a name that a proxy looks up.
    fn only_connector(&self) -> Option<Connector> {
        match &self.target.place {
            Place::Unix(path) => Some(
                self.connector
                    .at(connect::Place::Unix(path.as_path().into())),
            ),
            Place::Host { host, port } => {
                let fixed =
                    host.parse::<IpAddr>().is_ok() || self.connector.is_proxied(host, *port);
                fixed.then(|| self.connector.clone())
            }
        }
    }

    fn is_fixed(&self) -> bool {
        matches!(self.lock().backends.first(), Some((None, _)))
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.lock().resolved.is_none_or(|at| at.elapsed() >= age)
    }

    fn was_resolved_after(&self, time: Instant) -> bool {
        let state = self.lock();
        !state.backends.is_empty() && state.resolved.is_some_and(|at| at > time)
    }

    fn addresses(&self) -> Vec<Option<SocketAddr>> {
        self.lock()
            .backends
            .iter()
            .map(|(address, _)| *address)
            .collect()
    }

    fn nowhere(&self) -> ConnectError {
        ConnectError::new(
            Phase::Resolve,
            &self.target.origin,
            "the name has no address",
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
