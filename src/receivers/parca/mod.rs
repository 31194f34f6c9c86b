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

mod counts;
mod debuginfo;
mod intake;
mod look;
mod others;
mod raw;
mod seen;
mod settings;
mod telemetry;
mod upstream;
mod write;
mod write_arrow;
mod write_raw;

pub use self::settings::{
    Debuginfo as DebuginfoSettings, Deduplicate, OtherServices, Settings, SignedUrls,
    Write as WriteSettings,
};

use self::{
    counts::{Counts, ParcaMetrics},
    debuginfo::{Call, Debuginfo, Method as Asked},
    intake::Intake,
    others::Others,
    telemetry::ReportPanic,
    upstream::Upstream,
    write::Write,
    write_arrow::WriteArrow,
    write_raw::WriteRaw,
};
use crate::{
    r#gen,
    net::{
        HttpClient,
        serve::{
            Plan, Server,
            grpc::{Conversing, Exchange, GrpcHandler, Method},
        },
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
    upstream: Option<Upstream>,
    /// For signed URLs of the upstream's.
    client: HttpClient,
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
        let plan = self.server.plan(&self.endpoint);
        let upstream = self.upstream();
        let client = Debuginfo::client(&self);
        match (plan, upstream, client) {
            (Ok(plan), Ok(upstream), Ok(client)) => Ok(ParcaReceiver {
                context: context.clone(),
                plan,
                upstream,
                client,
                settings: self,
                bound: None,
            }),
            (plan, upstream, client) => {
                let mut problems = plan.err().unwrap_or_default();
                problems.extend(upstream.err().unwrap_or_default());
                problems.extend(client.err().unwrap_or_default());
                Err(problems)
            }
        }
    }

    fn upstream(&self) -> Result<Option<Upstream>, Vec<Problem>> {
        let Some(upstream) = &self.upstream else {
            return Ok(None);
        };
        let below = |problem: Problem| problem.below("upstream");
        Upstream::new(upstream, self.server.include_metadata.picked())
            .map(Some)
            .map_err(|problems| problems.into_iter().map(below).collect())
    }
}

// === impl ParcaReceiver ===

#[async_trait]
impl Receiver for ParcaReceiver {
    async fn bind(&mut self) -> Result<(), ReceiverError> {
        let owner = self.context.id.to_string();
        let plan = self.plan.clone();
        let plan = plan.observed(&self.context.metrics, &self.context.id, "grpc");
        let bound = plan.bind(&self.context.sockets, &owner).await;
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
        let memory = &self.context.memory;
        server.run(Arc::new(handler), memory, stop, ending).await;
        tasks.wait().await;
    }

    fn handler(&self, out: Entry, tasks: &Tasks, stop: CancellationToken) -> GrpcHandler {
        let (context, settings) = (&self.context, &self.settings);
        let metrics: ParcaMetrics = context.metrics.set();
        let counts = Arc::new(metrics.counts(&context.id));
        let intake = Arc::new(Intake::new(context, settings, out, counts.clone()));
        let reading = &intake.reading;
        let max_inflated = settings.body_size_limit_uncompressed.get();
        let raw = WriteRaw::new(intake.clone(), self.requests("write_raw"), max_inflated);
        let arrow = WriteArrow::new(intake.clone(), self.requests("write_arrow"));
        let requests = self.requests("report_panic");
        let panics = ReportPanic::new(self.upstream.clone(), counts.clone(), requests, reading);
        let methods: Vec<(_, Arc<dyn Method>)> = vec![
            (write_raw::PATH, Arc::new(raw)),
            (write_arrow::PATH, Arc::new(arrow)),
            (telemetry::PATH, Arc::new(panics)),
        ];
        let debuginfo = self.debuginfo(&intake);
        let others = self.others(counts, &stop);
        let mut exchanges: Vec<(_, Arc<dyn Exchange>)> = debuginfo;
        exchanges.push((write::PATH, Arc::new(self.write(intake, tasks))));
        let unknown = self.unknown();
        GrpcHandler::new(methods, r#gen::DESCRIPTORS, Box::new(unknown), stop)
            .with(exchanges)
            .leaving(others)
    }

    fn debuginfo(&self, intake: &Intake) -> Vec<(&'static str, Arc<dyn Exchange>)> {
        let service = Arc::new(Debuginfo::new(
            &self.settings,
            self.upstream.clone(),
            self.client.clone(),
            intake.counts.clone(),
            &intake.reading,
        ));
        let call = |path, method, name| {
            let call = Call::new(service.clone(), method, self.requests(name));
            (path, Arc::new(call) as Arc<dyn Exchange>)
        };
        vec![
            call(
                debuginfo::SHOULD_INITIATE,
                Asked::ShouldInitiate,
                "should_initiate_upload",
            ),
            call(debuginfo::INITIATE, Asked::Initiate, "initiate_upload"),
            call(debuginfo::UPLOAD, Asked::Upload, "upload"),
            call(debuginfo::FINISHED, Asked::Finished, "mark_upload_finished"),
        ]
    }

    fn others(&self, counts: Arc<Counts>, stop: &CancellationToken) -> Option<Arc<dyn Exchange>> {
        let upstream = self.upstream.clone()?;
        match self.settings.other_services {
            OtherServices::Unimplemented => None,
            OtherServices::Proxy => Some(Arc::new(Others::new(
                upstream,
                counts,
                self.requests("other"),
                self.settings.max_concurrent_requests,
                stop.clone(),
            ))),
        }
    }

    fn unknown(&self) -> impl Fn(&str) -> String + Send + Sync + 'static {
        let requests = self.requests("other");
        move |path| {
            let message = unknown(path);
            requests.unsupported(&message);
            message
        }
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

#[cfg(test)]
mod tests;
