//! What a configuration makes of the components: all that it describes and that does
//! not run already, or all that is wrong with it.

use super::{BuiltExporter, EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS, ROUTERS};
use crate::{
    net::serve::Sockets,
    pipeline::{
        Blueprint, Budget, Context, FileStorageSettings, Inventory, Opened, PipelineBlueprint,
        Planned, Processor, Receiver, RouterPlan,
    },
    settings::{ComponentType, Fingerprint, Id, Loaded, Node, Problem, Report},
    telemetry::{Metrics, Status},
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all components of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The process's metrics.
    pub metrics: Metrics,
    /// The process's views for the admin endpoint.
    pub status: Status,
    /// The process's memory; receivers see the part of it that is for intake.
    pub memory: Budget,
    /// The process's listening sockets.
    pub sockets: Sockets,
    /// Fires when the process is asked to end.
    pub ending: CancellationToken,
}

/// What a configuration makes of itself beside what runs.
pub struct Built {
    /// What is to run.
    pub blueprint: Blueprint,
    /// Parts of receivers that are left out, and why: of a process that runs
    /// already only.
    pub left_out: Report,
}

/// Builds the components of a configuration that do not run already.
struct Builder<'a> {
    shared: &'a Shared,
    running: Option<&'a Inventory>,
    report: Report,
    left_out: Report,
}

/// Builds everything a configuration describes; beside what is `running` only
/// what has other settings there. On error the report holds the problems of all
/// components. May read files and create folders.
pub fn build(
    loaded: &Loaded,
    shared: &Shared,
    running: Option<&Inventory>,
) -> Result<Built, Report> {
    let settings = &loaded.settings;
    let mut builder = Builder {
        shared,
        running,
        report: Report::default(),
        left_out: Report::default(),
    };
    let receivers = settings.receivers.iter();
    let exporters = settings.exporters.iter();
    let pipelines = settings.service.pipelines.iter();
    let blueprint = Blueprint {
        receivers: receivers
            .filter_map(|(id, node)| builder.receiver(id, node))
            .collect(),
        exporters: exporters
            .filter_map(|(id, node)| builder.exporter(id, node))
            .collect(),
        routers: settings
            .exporters
            .iter()
            .filter_map(|(id, node)| builder.router(id, node))
            .collect(),
        pipelines: pipelines
            .map(|(id, pipeline)| PipelineBlueprint {
                id: id.clone(),
                receivers: pipeline.receivers.clone(),
                processors: pipeline
                    .processors
                    .iter()
                    .filter_map(|processor| {
                        let node = settings.processors.get(processor)?;
                        builder.processor(id, processor, node)
                    })
                    .collect(),
                exporters: pipeline.exporters.clone(),
            })
            .collect(),
        storages: settings
            .service
            .extensions
            .iter()
            .filter_map(|id| builder.storage(id, settings.extensions.get(id)?))
            .collect(),
        opened: Opened::default(),
    };
    for (id, node) in &settings.exporters {
        builder.check_storage(id, node);
    }
    if builder.report.is_empty() {
        Ok(Built {
            blueprint,
            left_out: builder.left_out,
        })
    } else {
        Err(builder.report)
    }
}

/// The storages that run, by id.
pub fn storages(loaded: &Loaded) -> Result<Vec<(Id, FileStorageSettings)>, Report> {
    let settings = &loaded.settings;
    let mut report = Report::default();
    let mut storages = Vec::new();
    for id in &settings.service.extensions {
        match settings.extensions.get(id).map(Node::typed) {
            Some(Ok(storage)) => storages.push((id.clone(), storage)),
            Some(Err(problems)) => report.merge(problems),
            None => {}
        }
    }
    if report.is_empty() {
        Ok(storages)
    } else {
        Err(report)
    }
}

// === impl Builder ===

impl Builder<'_> {
    fn receiver(&mut self, id: &Id, node: &Node) -> Option<Planned<Box<dyn Receiver>>> {
        let ty = RECEIVERS.iter().find(|c| c.ty.name == id.kind())?;
        let before = self.running.and_then(|running| running.receivers.get(id));
        let before = before.copied();
        let context = self.shared.for_intake(id);
        let parts = ty.build_parts.filter(|_| self.running.is_some());
        self.planned(&ty.ty, id, node, before, |builder| match parts {
            None => (ty.build)(node, &context),
            Some(build) => {
                let (receiver, left_out) = build(node, &context)?;
                builder.left_out.merge(left_out);
                Ok(receiver)
            }
        })
    }

    fn exporter(&mut self, id: &Id, node: &Node) -> Option<Planned<BuiltExporter>> {
        let ty = EXPORTERS.iter().find(|c| c.ty.name == id.kind())?;
        let before = self.running.and_then(|running| running.exporters.get(id));
        let before = before.copied();
        self.planned(&ty.ty, id, node, before, |builder| {
            (ty.build)(node, &builder.shared.context(id))
        })
    }

    fn router(&mut self, id: &Id, node: &Node) -> Option<Planned<RouterPlan>> {
        let ty = ROUTERS.iter().find(|c| c.ty.name == id.kind())?;
        let before = self.running.and_then(|running| running.routers.get(id));
        let before = before.copied();
        self.planned(&ty.ty, id, node, before, |builder| {
            (ty.build)(node, &builder.shared.context(id))
        })
    }

    fn processor(
        &mut self,
        pipeline: &Id,
        id: &Id,
        node: &Node,
    ) -> Option<Planned<Arc<dyn Processor>>> {
        let ty = PROCESSORS.iter().find(|c| c.ty.name == id.kind())?;
        let key = (pipeline.clone(), id.clone());
        let before = self
            .running
            .and_then(|running| running.processors.get(&key));
        let before = before.copied();
        self.planned(&ty.ty, id, node, before, |builder| {
            (ty.build)(node, &builder.shared.context(id)).map(Arc::from)
        })
    }

    fn storage(&mut self, id: &Id, node: &Node) -> Option<Planned<FileStorageSettings>> {
        let ty = EXTENSIONS.iter().find(|ty| ty.name == id.kind())?;
        let before = self.running.and_then(|running| running.storages.get(id));
        let before = before.map(|(settings, _)| *settings);
        let planned = self.planned(ty, id, node, before, |_| node.typed())?;
        if before.is_some() && planned.component.is_some() {
            let message = "cannot change while it runs: restart the relay, or add another extension beside it";
            self.report.merge(node.locate([Problem::new("", message)]));
        }
        Some(planned)
    }

    /// A queue stays where it is as long as its exporter does.
    fn check_storage(&mut self, id: &Id, node: &Node) {
        let queue = node.get("sending_queue");
        let name = queue.and_then(|queue| queue.get("storage"));
        let name = name.filter(|name| !name.is_null()).and_then(Node::text);
        let before = self.running.and_then(|running| running.places.get(id));
        if before.is_some_and(|before| before.as_ref().map(Id::as_str) != name) {
            let message = "cannot change while the exporter runs: restart the relay, or give the exporter another name";
            let problem = Problem::new("sending_queue.storage", message);
            self.report.merge(node.locate([problem]));
        }
    }

    /// A component with what its settings amount to, built unless it runs with
    /// the same; or nothing and a longer report.
    fn planned<C>(
        &mut self,
        ty: &ComponentType,
        id: &Id,
        node: &Node,
        before: Option<Fingerprint>,
        build: impl FnOnce(&mut Self) -> Result<C, Report>,
    ) -> Option<Planned<C>> {
        let plan = || {
            let settings = (ty.fingerprint)(node)?;
            let component = if before == Some(settings) {
                None
            } else {
                Some(build(self)?)
            };
            Ok(Planned {
                id: id.clone(),
                settings,
                component,
            })
        };
        match plan() {
            Ok(planned) => Some(planned),
            Err(problems) => {
                self.report.merge(problems);
                None
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// What a process begins with.
    pub fn new(memory: Budget) -> Self {
        Self {
            metrics: Metrics::default(),
            status: Status::default(),
            memory,
            sockets: Sockets::default(),
            ending: CancellationToken::new(),
        }
    }

    pub(super) fn context(&self, id: &Id) -> Context {
        Context {
            id: id.clone(),
            metrics: self.metrics.clone(),
            status: self.status.clone(),
            memory: self.memory.clone(),
            sockets: self.sockets.clone(),
            ending: self.ending.clone(),
        }
    }

    /// The context of a receiver, which leaves some memory to delivery.
    fn for_intake(&self, id: &Id) -> Context {
        Context {
            memory: self.memory.for_intake(),
            ..self.context(id)
        }
    }
}
