//! What a running relay waits for: reloads, one at a time, and its end.
//!
//! A reload is asked for by a hangup, by `POST /-/reload`, or by a file of the
//! configuration that changed. Whoever asks while one is under way gets the next
//! one, and all of those get the same. What it takes to prepare one is thrown
//! away when the process is asked to end; once that is over nothing stops half
//! way.

use super::{
    reload::{Prepared, Refused, Reloaded, Reloader, changed_parts, lines},
    show,
    signals::Signals,
    watch::Watched,
};
use crate::{
    pipeline::{Failure, Running},
    settings::Service,
    telemetry::{
        admin::AdminHandle,
        metrics::ConfigMetrics,
        reload::{ReloadAnswer, ReloadRequest},
    },
};
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// A relay that runs.
pub(super) struct Life {
    pub(super) running: Running,
    pub(super) service: Service,
    pub(super) reloader: Reloader,
    pub(super) admin: AdminHandle,
    pub(super) requests: mpsc::Receiver<ReloadRequest>,
    pub(super) changed: mpsc::Receiver<()>,
    pub(super) watched: watch::Sender<Watched>,
}

/// Why a running relay ends.
pub(super) enum End {
    Asked,
    Failed(Failure),
}

/// What asked for a reload.
enum Trigger {
    Hangup,
    Request(ReloadRequest),
    File,
}

// === impl Life ===

impl Life {
    /// Runs until it is asked to end, or a receiver ends by itself.
    pub(super) async fn live(&mut self, signals: &mut Signals) -> End {
        loop {
            let trigger = tokio::select! {
                biased;
                () = signals.stop.asked() => return End::Asked,
                failure = self.running.failure() => return End::Failed(failure),
                _ = signals.hangup.recv() => Trigger::Hangup,
                Some(request) = self.requests.recv() => Trigger::Request(request),
                Some(()) = self.changed.recv() => {
                    if !self.service.reload.watch {
                        // It was turned off when this was on its way.
                        continue;
                    }
                    Trigger::File
                }
            };
            let because = trigger.as_str();
            let mut waiting: Vec<_> = trigger.request().into_iter().collect();
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            let Some(answer) = self.reload(because, signals).await else {
                return End::Asked;
            };
            for request in waiting {
                request.answer(answer.clone());
            }
        }
    }

    /// One reload; nothing when the process was asked to end before it was in
    /// place.
    async fn reload(&mut self, because: &str, signals: &mut Signals) -> Option<ReloadAnswer> {
        let watched = self.watched.borrow().clone();
        let inventory = self.running.inventory();
        let prepare = self.reloader.prepare(inventory, &self.service, &watched);
        let prepared = tokio::select! {
            biased;
            () = signals.stop.asked() => return None,
            prepared = prepare => prepared,
        };
        Some(match prepared {
            Ok(prepared) => {
                let reloaded = self.put_in_place(prepared).await;
                say_reloaded(because, &reloaded);
                let answer = serde_json::to_value(&reloaded);
                ReloadAnswer::Loaded(answer.unwrap_or_default())
            }
            Err(refused) => {
                self.refuse(because, &refused);
                let answer = refused.answer();
                if let Refused::Configuration(_, files) = refused {
                    self.watched.send_modify(|watched| watched.files = files);
                }
                answer
            }
        })
    }

    async fn put_in_place(&mut self, prepared: Prepared) -> Reloaded {
        let Prepared {
            loaded,
            blueprint,
            left_out,
            admin,
        } = prepared;
        let service = loaded.settings.service.clone();
        self.reloader.configure(&service);
        let patience = service.shutdown_timeout.get();
        let mut changes = self.running.apply(blueprint, patience).await;
        let parts = changed_parts(&self.service, &service);
        changes.changed.extend(parts);
        show::configuration(&self.reloader.shared, &loaded);
        if let Some(admin) = admin {
            // The one before answers what it was asked, and ends.
            self.admin = admin;
        }
        self.watched.send_replace(Watched {
            files: loaded.files,
            settings: service.reload.clone(),
        });
        self.service = service;
        Reloaded {
            hash: loaded.hash,
            changes,
            left_out: lines(&left_out),
        }
    }

    /// Says everywhere that the configuration is not loaded.
    fn refuse(&self, because: &str, refused: &Refused) {
        let problems = refused.problems();
        for problem in &problems {
            error!(problem, "the configuration cannot be loaded");
        }
        warn!(
            because,
            problems = problems.len(),
            "reload failed, the configuration before runs on"
        );
        let config: ConfigMetrics = self.reloader.shared.metrics.set();
        config.reload_failed(problems.join("\n"), SystemTime::now());
    }
}

fn say_reloaded(because: &str, reloaded: &Reloaded) {
    let list = |names: &[String]| names.join(",");
    let changes = &reloaded.changes;
    if changes.is_empty() {
        info!(
            because,
            config = reloaded.hash,
            "configuration reloaded, nothing is different"
        );
        return;
    }
    info!(
        because,
        config = reloaded.hash,
        added = list(&changes.added),
        changed = list(&changes.changed),
        removed = list(&changes.removed),
        "configuration reloaded"
    );
}

// === impl Trigger ===

impl Trigger {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Request(_) => "/-/reload",
            Self::File => "a file changed",
        }
    }

    fn request(self) -> Option<ReloadRequest> {
        match self {
            Self::Request(request) => Some(request),
            Self::Hangup | Self::File => None,
        }
    }
}
