//! The `parca` receiver: a Parca to its agents.
//!
//! | call | what becomes of it |
//! |---|---|
//! | `WriteRaw`, `Write`, `WriteArrow` | ends here: queued, then answered |
//! | `DebuginfoService` | passed on live, with guards ([`debuginfo`]) |
//! | `ReportPanic` | logged, and passed on if that works |
//! | others | by `other_services` |
//!
//! ```text
//! message ─▶ plain ─▶ a look ─▶ seen before? ─▶ Entry::offer ─▶ answer
//! charged    charged  no columns  retries only
//! ```
//!
//! - Bodies are kept in the bytes in which they came: pprofs, and Arrow whose columns
//!   nobody decodes here.
//! - Success is answered once every exporter that must have the profiles has them.
//!   A call is taken whole or refused.
//! - A retry of what was taken is answered with success and goes nowhere ([`seen`]).
//! - Each call ends, and hears how: agents wait without a deadline of their own.
//! - An agent never hears what would make it give a file's symbols up for good,
//!   unless the upstream itself says it.

mod arrow;
mod counts;
mod intake;
mod raw;
mod seen;
mod settings;
mod write;
mod write_arrow;
mod write_raw;

pub use self::settings::{
    Debuginfo, Deduplicate, OtherServices, Settings, SignedUrls, Write as WriteSettings,
};

use self::{
    counts::ParcaMetrics, intake::Intake, write::Write, write_arrow::WriteArrow,
    write_raw::WriteRaw,
};
use crate::{
    r#gen,
    net::serve::{
        Plan, Server,
        grpc::{Conversing, Exchange, GrpcHandler, Method},
    },
    pipeline::{Context, Entry, Receiver, ReceiverError},
    receivers::shared::{RequestMetrics, Requests},
    runtime::Tasks,
    settings::{ComponentSettings, Problem},
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A receiver that was built and has bound nothing, or its address.
#[derive(Debug)]
pub struct ParcaReceiver {
    context: Context,
    settings: Settings,
    plan: Plan,
    bound: Option<Server>,
}

// === impl Settings ===

impl Settings {
    /// The receiver, or all that is wrong with its settings. Reads certificates.
    pub fn build(self, context: &Context) -> Result<ParcaReceiver, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(ParcaReceiver {
            context: context.clone(),
            plan: self.server.plan(&self.endpoint)?,
            settings: self,
            bound: None,
        })
    }
}

// === impl ParcaReceiver ===

#[async_trait]
impl Receiver for ParcaReceiver {
    async fn bind(&mut self) -> Result<(), ReceiverError> {
        let owner = self.context.id.to_string();
        let bound = self.plan.clone().bind(&self.context.sockets, &owner).await;
        let bound = bound.map_err(|error| ReceiverError::Bind {
            endpoint: error.endpoint.clone(),
            source: error.into_source(),
        })?;
        self.bound = Some(bound);
        Ok(())
    }

    async fn run(
        mut self: Box<Self>,
        out: Entry,
        stop: CancellationToken,
    ) -> Result<(), ReceiverError> {
        if self.bound.is_none() {
            self.bind().await?;
        }
        if let Some(server) = self.bound.take() {
            self.serve(server, out, stop).await;
        }
        Ok(())
    }
}

impl ParcaReceiver {
    async fn serve(&self, server: Server, out: Entry, stop: CancellationToken) {
        info!(
            receiver = %self.context.id,
            protocol = "grpc",
            endpoint = server.address(),
            tls = server.is_tls(),
            "listening"
        );
        let tasks = Tasks::default();
        let handler = self.handler(out, &tasks, stop.clone());
        let (health, stopped) = (handler.health(), stop.clone());
        tasks.spawn("parca health", async move {
            health.serving().await;
            stopped.cancelled().await;
            health.ending().await;
        });
        let ending = self.context.ending.clone();
        server.run(Arc::new(handler), stop, ending).await;
        tasks.wait().await;
    }

    fn handler(&self, out: Entry, tasks: &Tasks, stop: CancellationToken) -> GrpcHandler {
        let (context, settings) = (&self.context, &self.settings);
        let metrics: ParcaMetrics = context.metrics.set();
        let counts = Arc::new(metrics.counts(&context.id));
        let intake = Arc::new(Intake::new(context, settings, out, counts));
        let max_inflated = settings.body_size_limit_uncompressed.get();
        let raw = WriteRaw::new(intake.clone(), self.requests("write_raw"), max_inflated);
        let arrow = WriteArrow::new(intake.clone(), self.requests("write_arrow"));
        let methods: Vec<(_, Arc<dyn Method>)> = vec![
            (write_raw::PATH, Arc::new(raw)),
            (write_arrow::PATH, Arc::new(arrow)),
        ];
        let exchanges: Vec<(_, Arc<dyn Exchange>)> =
            vec![(write::PATH, Arc::new(self.write(intake, tasks)))];
        let others = self.requests("other");
        let unknown = move |path: &str| {
            let message = unknown(path);
            others.unsupported(&message);
            message
        };
        GrpcHandler::new(methods, r#gen::DESCRIPTORS, Box::new(unknown), stop).with(exchanges)
    }

    fn write(&self, intake: Arc<Intake>, tasks: &Tasks) -> Conversing {
        let bounds = &self.settings.write;
        let idle = Intake::patience(bounds.idle_timeout, "write.idle_timeout");
        let total = Intake::patience(bounds.timeout, "write.timeout");
        let reading = intake.reading.clone();
        let write = Write::new(intake, self.requests("write"), total);
        Conversing::new(
            "parca write",
            Arc::new(write),
            (reading, idle),
            tasks.clone(),
        )
    }

    fn requests(&self, method: &'static str) -> Requests {
        let metrics: RequestMetrics = self.context.metrics.set();
        metrics.protocol(&self.context.id, method)
    }
}

/// What is said about a path that is not served.
fn unknown(path: &str) -> String {
    let is_otlp = path.starts_with("/opentelemetry.");
    let hint = if is_otlp && path.contains("Profiles") {
        ": send OTLP profiles to an otlp receiver"
    } else if is_otlp {
        ": other_services: proxy passes such calls on"
    } else {
        ""
    };
    format!(
        "this is profile-relay, which takes what is pushed to a Parca: there is no {path}{hint}"
    )
}

// #[cfg(test)]
// mod tests;
