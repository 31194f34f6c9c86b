//! `TelemetryService`: what agents tell of themselves.

use super::{counts::Counts, upstream::Upstream};
use crate::{
    r#gen::telemetry::ReportPanicRequest,
    net::serve::{
        Failure, Kind, Reading,
        grpc::{Head, MessageBody, Method},
    },
    receivers::shared::{Outcome, Requests},
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// The path of the method.
pub(super) const PATH: &str = "/parca.telemetry.v1alpha1.TelemetryService/ReportPanic";

/// The largest report, in bytes: an agent sends some 4 KiB.
const MAX_REPORT: u64 = 1 << 20;

/// The longest that the upstream is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest word of an agent that is logged.
const MAX_WORD: usize = 64;

/// The most that reports fill the log: a line each so often.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// `TelemetryService/ReportPanic`: logged, and passed on if that works. An agent has
/// nothing else to tell when it is over, so it always hears success.
#[derive(Debug)]
pub(super) struct ReportPanic {
    upstream: Option<Upstream>,
    counts: Arc<Counts>,
    requests: Requests,
    reading: Reading,
    logged: Mutex<Option<Instant>>,
}

// === impl ReportPanic ===

impl ReportPanic {
    pub(super) fn new(
        upstream: Option<Upstream>,
        counts: Arc<Counts>,
        requests: Requests,
        reading: &Reading,
    ) -> Self {
        Self {
            upstream,
            counts,
            requests,
            reading: Reading {
                max: reading.max.min(MAX_REPORT),
                ..reading.clone()
            },
            logged: Mutex::default(),
        }
    }

    async fn report(&self, head: &Head, body: MessageBody) -> Result<(), Failure> {
        let message = body.read(&self.reading).await?.received.bytes;
        let report = ReportPanicRequest::decode(message.clone())
            .map_err(|error| Failure::new(Kind::Invalid, error.to_string()))?;
        self.log(head, &report);
        if let Some(upstream) = &self.upstream {
            match timeout(PATIENCE, upstream.ask(PATH, head, message)).await {
                Ok(Ok(_)) => {}
                Ok(Err(refused)) => debug!(?refused, "a report was not passed on"),
                Err(_) => debug!("a report was not passed on in time"),
            }
        }
        Ok(())
    }

    fn log(&self, head: &Head, report: &ReportPanicRequest) {
        debug!(peer = %head.peer, stderr = report.stderr, "the last words of an agent");
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        *logged = Some(Instant::now());
        let word = |key: &str| {
            let value = report.metadata.get(key);
            let value = value.map_or("", String::as_str).chars().take(MAX_WORD);
            value.collect::<String>()
        };
        warn!(
            peer = %head.peer,
            version = word("agent_version"),
            exit_code = word("process_exit_code"),
            "an agent has ended in a panic"
        );
    }
}

#[async_trait]
impl Method for ReportPanic {
    async fn call(&self, head: Head, body: MessageBody) -> Result<Bytes, Failure> {
        self.counts.called(&head);
        let open = self.requests.open(&head.peer);
        let reported = self.report(&head, body).await;
        match &reported {
            Ok(()) => open.end(Outcome::Ok, ""),
            Err(failure) => open.end(Outcome::Failed(failure.kind()), failure.message()),
        }
        // The answer has no fields.
        reported.map(|()| Bytes::new())
    }
}
