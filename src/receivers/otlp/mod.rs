//! The `otlp` receiver: profiles over OTLP, gRPC and HTTP
//! (opentelemetry-proto, `docs/specification.md`).
//!
//! ```text
//! gRPC ─┐                    Request::read             Entry::offer
//!       ├─ head ─▶ body ─▶ one shallow walk ─▶ bodies ────────────▶ answer
//! HTTP ─┘  refuse  charged   charged first      one a resource
//! ```
//!
//! - What a request's head tells is judged before its body is read: other
//!   signals, versions of the layout, compressions, sizes.
//! - A body is kept in the bytes in which it came, compressed or not. It is
//!   inflated once to be walked, in memory that was charged before.
//! - Success is answered once every exporter that must have the profiles has
//!   them. There is no partial success: a request is taken whole or refused.
//! - Senders are slowed down to the pace of what leaves before a queue fills (`receivers::shared`).
//! - Every refusal that may pass later tells the client how long to wait, in
//!   both protocols; without that a Collector gives up on some of them.
//! - The number of a request's profiles is counted by the pipeline; requests by
//!   their outcome are counted by what push receivers share.

mod grpc;
mod http;
mod intake;
mod settings;
mod version;

pub use self::settings::{GrpcProtocol, HttpProtocol, Protocols, Settings};
pub use crate::receivers::shared::Pacing;

use self::{grpc::Export, http::Profiles, intake::Intake};
use crate::{
    r#gen,
    net::serve::{Plan, Server, grpc::GrpcHandler},
    pipeline::{Context, Entry, Receiver, ReceiverError},
    receivers::shared::RequestMetrics,
    runtime::Tasks,
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A receiver that was built and has bound nothing.
#[derive(Debug)]
pub struct OtlpReceiver {
    context: Context,
    settings: Settings,
    grpc: Option<Plan>,
    http: Option<Plan>,
    bound: Option<Bound>,
}

/// A receiver whose addresses are bound.
#[derive(Debug)]
struct Bound {
    context: Context,
    settings: Settings,
    grpc: Option<Server>,
    http: Option<Server>,
}

// === impl Settings ===

impl Settings {
    /// The receiver, or all that is wrong with its settings. Reads certificates.
    pub fn build(self, context: &Context) -> Result<OtlpReceiver, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (grpc, http) = (&self.protocols.grpc, &self.protocols.http);
        let grpc = grpc
            .as_ref()
            .map(|p| p.server.plan(&p.endpoint))
            .transpose();
        let http = http
            .as_ref()
            .map(|p| p.server.plan(&p.endpoint))
            .transpose();
        match (grpc, http) {
            (Ok(grpc), Ok(http)) => Ok(OtlpReceiver {
                context: context.clone(),
                settings: self,
                grpc,
                http,
                bound: None,
            }),
            (grpc, http) => Err(settings::below(grpc.err(), http.err())),
        }
    }
}

// === impl OtlpReceiver ===

#[async_trait]
impl Receiver for OtlpReceiver {
    async fn bind(&mut self) -> Result<(), ReceiverError> {
        self.bound = Some(self.listen().await?);
        Ok(())
    }

    async fn run(
        mut self: Box<Self>,
        out: Entry,
        stop: CancellationToken,
    ) -> Result<(), ReceiverError> {
        let bound = match self.bound.take() {
            Some(bound) => bound,
            None => self.listen().await?,
        };
        bound.serve(out, stop).await;
        Ok(())
    }
}

impl OtlpReceiver {
    /// Both listeners, or none.
    async fn listen(&self) -> Result<Bound, ReceiverError> {
        Ok(Bound {
            grpc: listen(&self.context, "grpc", &self.grpc).await?,
            http: listen(&self.context, "http", &self.http).await?,
            context: self.context.clone(),
            settings: self.settings.clone(),
        })
    }
}

async fn listen(
    context: &Context,
    protocol: &'static str,
    plan: &Option<Plan>,
) -> Result<Option<Server>, ReceiverError> {
    let Some(plan) = plan else {
        return Ok(None);
    };
    let owner = format!("{} {protocol}", context.id);
    let plan = plan.clone();
    let plan = plan.observed(&context.metrics, &context.id, protocol);
    let bound = plan.bind(&context.sockets, &owner).await;
    bound.map(Some).map_err(|error| ReceiverError::Bind {
        endpoint: error.endpoint.clone(),
        source: error.into_source(),
    })
}

// === impl Bound ===

impl Bound {
    async fn serve(mut self, out: Entry, stop: CancellationToken) {
        let tasks = Tasks::default();
        if let Some(server) = self.grpc.take() {
            self.serve_grpc(server, out.clone(), &tasks, &stop);
        }
        if let Some(server) = self.http.take() {
            self.serve_http(server, out, &tasks, &stop);
        }
        tasks.wait().await;
    }

    fn serve_grpc(&self, server: Server, out: Entry, tasks: &Tasks, stop: &CancellationToken) {
        let Some(protocol) = &self.settings.protocols.grpc else {
            return;
        };
        self.say("grpc", &server);
        let intake = self.intake("grpc", out);
        let reading = protocol.server.reading(&self.context.memory);
        let unknown = intake.clone();
        let method = Export::new(intake, reading, protocol.server.include_metadata.picked());
        let handler = GrpcHandler::new(
            vec![(grpc::EXPORT, Arc::new(method))],
            r#gen::DESCRIPTORS,
            Box::new(move |path| unknown.unknown(path)),
            stop.clone(),
        );
        let (health, stopped) = (handler.health(), stop.clone());
        tasks.spawn("otlp grpc health", async move {
            health.serving().await;
            stopped.cancelled().await;
            health.ending().await;
        });
        let ending = self.context.ending.clone();
        let (memory, stop) = (self.context.memory.clone(), stop.clone());
        tasks.spawn("otlp grpc", async move {
            let handler = Arc::new(handler);
            server.run(handler, &memory, stop, ending).await;
        });
    }

    fn serve_http(&self, server: Server, out: Entry, tasks: &Tasks, stop: &CancellationToken) {
        let Some(protocol) = &self.settings.protocols.http else {
            return;
        };
        self.say("http", &server);
        let settings = &protocol.server;
        let reading = settings.reading(&self.context.memory);
        let picked = settings.include_metadata.picked();
        let handler = Arc::new(Profiles::new(self.intake("http", out), reading, picked));
        let ending = self.context.ending.clone();
        let (memory, stop) = (self.context.memory.clone(), stop.clone());
        tasks.spawn("otlp http", async move {
            server.run(handler, &memory, stop, ending).await;
        });
    }

    fn intake(&self, protocol: &'static str, out: Entry) -> Arc<Intake> {
        let metrics: RequestMetrics = self.context.metrics.set();
        let counters = metrics.protocol(&self.context.id, protocol);
        Arc::new(Intake::new(&self.context, out, &self.settings, counters))
    }

    fn say(&self, protocol: &'static str, server: &Server) {
        info!(
            receiver = %self.context.id,
            protocol,
            endpoint = server.address(),
            tls = server.is_tls(),
            "listening"
        );
    }
}

/// What is said about calls and paths of other signals.
fn other_signal(path: &str) -> Option<&'static str> {
    ["traces", "trace", "metrics", "logs"]
        .into_iter()
        .find(|signal| path.split(['/', '.']).any(|part| part == *signal))
        .map(|signal| if signal == "trace" { "traces" } else { signal })
}

#[cfg(test)]
mod tests;
