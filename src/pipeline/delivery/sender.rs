//! A sender: attempts until every part of a request has come to its end.

use super::{DeliverySettings, Health, Leftovers, Orders, Shipment};
use crate::{
    pipeline::{ExportError, Exporter, Ledger, Queue, Reason},
    settings::Id,
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::RwLock,
    time::{Instant, sleep, timeout},
};
use tracing::{error, warn};

/// The longest wait between attempts once the process is ending.
const DRAINING_PAUSE: Duration = Duration::from_millis(500);
/// Attempts that a closing connection may cost a request before it waits.
const SILENT_RESENDS: u32 = 3;

/// What the senders of one crew share.
pub(super) struct Sender {
    pub(super) id: Id,
    pub(super) exporter: Arc<dyn Exporter>,
    pub(super) settings: DeliverySettings,
    pub(super) queue: Queue,
    pub(super) ledger: Ledger,
    pub(super) health: Arc<Health>,
    pub(super) orders: Orders,
    pub(super) leftovers: Leftovers,
    /// Held shared by ordinary attempts, alone by a request on trial; the next
    /// crew has the same one.
    pub(super) court: Arc<RwLock<()>>,
}

/// What is left to do with a request after an attempt.
enum Next {
    /// Nothing.
    Done,
    /// These, the first first.
    Go(Vec<Shipment>),
    /// This, after a wait.
    Wait(Shipment, Option<Duration>),
}

// === impl Sender ===

impl Sender {
    /// The exporter's id.
    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    /// Returns when each part of `shipment` was sent, dropped, or left to the next
    /// crew.
    pub(super) async fn deliver(&self, shipment: Shipment) {
        let mut work = vec![shipment];
        while let Some(mut shipment) = work.pop() {
            shipment.expire(&self.queue);
            if shipment.parts.is_empty() {
                continue;
            }
            if self.orders.leaving.is_cancelled() {
                self.leftovers.leave(shipment);
                continue;
            }
            shipment.first.get_or_insert_with(Instant::now);
            match self.attempt(shipment).await {
                Next::Done => {}
                Next::Go(shipments) => work.extend(shipments.into_iter().rev()),
                Next::Wait(shipment, after) => work.extend(self.wait(shipment, after).await),
            }
        }
    }

    /// One attempt: on trial when a backend died under the request before.
    async fn attempt(&self, shipment: Shipment) -> Next {
        let result = if shipment.deaths == 0 {
            let Some(_crowd) = self.unless_leaving(self.court.read()).await else {
                return Next::Go(vec![shipment]);
            };
            self.export(&shipment).await
        } else {
            let Some(_alone) = self.unless_leaving(self.court.write()).await else {
                return Next::Go(vec![shipment]);
            };
            if let Err(error) = self.probe().await {
                // The backend is away: that says nothing about the request.
                self.health.failed(&self.id, "retrying", &error.to_string());
                return Next::Wait(shipment, None);
            }
            self.export(&shipment).await
        };
        match result {
            Ok(()) => {
                self.ledger.attempt("ok");
                self.health.succeeded(&self.id);
                shipment.sent();
                Next::Done
            }
            Err(error) => self.judge(shipment, error),
        }
    }

    /// Waits; nothing when this crew is to leave before.
    async fn unless_leaving<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        self.orders.leaving.run_until_cancelled(wait).await
    }

    async fn export(&self, shipment: &Shipment) -> Result<(), ExportError> {
        let batch = shipment.batch();
        let limit = self.settings.timeout.get();
        timeout(limit, self.exporter.export(&batch))
            .await
            .unwrap_or_else(|_| {
                Err(ExportError::Retry {
                    after: None,
                    cause: format!("no answer within {}", self.settings.timeout),
                })
            })
    }

    async fn probe(&self) -> Result<(), ExportError> {
        let limit = self.settings.timeout.get();
        timeout(limit, self.exporter.probe())
            .await
            .unwrap_or_else(|_| {
                Err(ExportError::Retry {
                    after: None,
                    cause: format!("no answer to a probe within {}", self.settings.timeout),
                })
            })
    }

    /// What an error means for the request it belongs to.
    fn judge(&self, mut shipment: Shipment, error: ExportError) -> Next {
        self.ledger.attempt(outcome(&error));
        match error {
            ExportError::Retry { after, cause } => {
                self.health.failed(&self.id, "retrying", &cause);
                Next::Wait(shipment, after)
            }
            ExportError::Unsent => {
                shipment.failures += 1;
                if shipment.failures <= SILENT_RESENDS {
                    Next::Go(vec![shipment])
                } else {
                    Next::Wait(shipment, None)
                }
            }
            ExportError::Died { cause } => self.died(shipment, &cause),
            ExportError::Split {
                too_large,
                reason,
                cause,
            } => self.split(shipment, too_large, reason, &cause),
            ExportError::Unknown { cause } => {
                shipment.unknowns += 1;
                if shipment.unknowns < self.settings.retry_on_failure.unknown_attempts {
                    self.health.failed(&self.id, "retrying", &cause);
                    Next::Wait(shipment, None)
                } else {
                    self.split(shipment, false, Reason::RejectedByBackend, &cause)
                }
            }
            ExportError::Rejected { reason, cause } => {
                self.drop_all(shipment, reason, &cause);
                Next::Done
            }
            ExportError::Unauthorized { cause } => {
                self.health.failed(&self.id, "unauthorized", &cause);
                let slowly = self.settings.retry_on_failure.max_interval.get();
                Next::Wait(shipment, Some(slowly))
            }
        }
    }

    /// Halves a request; divides or drops a part that is alone.
    fn split(&self, shipment: Shipment, too_large: bool, reason: Reason, cause: &str) -> Next {
        let [only] = shipment.parts.as_slice() else {
            return Next::Go(shipment.halves().into());
        };
        let pieces = too_large
            .then(|| self.exporter.divide(&only.part.profile))
            .flatten();
        match pieces {
            Some(pieces) => Next::Go(shipment.replaced(only, pieces)),
            None => {
                self.drop_all(shipment, reason, cause);
                Next::Done
            }
        }
    }

    /// A backend ended under the request; the first time it may be a bystander.
    fn died(&self, mut shipment: Shipment, cause: &str) -> Next {
        self.health.failed(&self.id, "retrying", cause);
        shipment.deaths += 1;
        let max = self.settings.retry_on_failure.max_deaths;
        if shipment.deaths < max {
            return Next::Wait(shipment, None);
        }
        if shipment.parts.len() > 1 {
            warn!(
                exporter = %self.id,
                profiles = shipment.parts.len(),
                deaths = shipment.deaths,
                "the backend dies under a request again and again, its profiles are tried one by one"
            );
            let mut singles = shipment.singles();
            for single in &mut singles {
                // One more death convicts: the company has been convicted already.
                single.deaths = max - 1;
            }
            return Next::Go(singles);
        }
        error!(
            exporter = %self.id,
            profile = shipment.describe(),
            deaths = shipment.deaths,
            "a profile is set aside: the backend died under it each time, having just answered a probe"
        );
        shipment.dropped(Reason::SuspectedKiller);
        Next::Done
    }

    fn drop_all(&self, shipment: Shipment, reason: Reason, cause: &str) {
        warn!(
            exporter = %self.id,
            profile = shipment.describe(),
            %reason,
            cause,
            "profiles dropped"
        );
        shipment.dropped(reason);
    }

    /// Waits before the next attempt; `None` when there will be none.
    async fn wait(&self, mut shipment: Shipment, after: Option<Duration>) -> Option<Shipment> {
        let retry = &self.settings.retry_on_failure;
        let elapsed = shipment.first.map_or(Duration::ZERO, |f| f.elapsed());
        let over = !retry.max_elapsed_time.is_zero() && elapsed > retry.max_elapsed_time.get();
        if over || !retry.enabled {
            self.drop_all(shipment, Reason::RetriesExhausted, "no attempts are left");
            return None;
        }
        let wait = after.unwrap_or_else(|| self.backoff(shipment.failures));
        shipment.failures += 1;
        self.pause(wait).await;
        Some(shipment)
    }

    /// Waits; while draining, no longer than a moment, for there may be no later.
    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = sleep(wait) => {}
            () = self.orders.leaving.cancelled() => {}
            () = self.orders.draining.cancelled() => sleep(wait.min(DRAINING_PAUSE)).await,
        }
    }

    /// Full jitter: anything between nothing and a bound that grows.
    fn backoff(&self, failures: u32) -> Duration {
        let retry = &self.settings.retry_on_failure;
        let bound = retry.initial_interval.get().as_secs_f64()
            * retry.multiplier.powi(failures.min(64) as i32);
        let bound = bound.min(retry.max_interval.get().as_secs_f64());
        Duration::from_secs_f64(bound * rand::rng().random::<f64>())
    }
}

/// The value of the label `outcome`.
fn outcome(error: &ExportError) -> &'static str {
    match error {
        ExportError::Retry { .. } => "retry",
        ExportError::Unsent => "unsent",
        ExportError::Died { .. } => "died",
        ExportError::Split { .. } => "split",
        ExportError::Unknown { .. } => "unknown",
        ExportError::Rejected { .. } => "rejected",
        ExportError::Unauthorized { .. } => "unauthorized",
    }
}
