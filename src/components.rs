//! The only list of component types.
//!
//! A new component is one file of its own, one line here, and one example in
//! `config/`. Nothing else knows a concrete component.

use crate::{
    exporters,
    net::serve::Sockets,
    pipeline::{
        Blueprint, Budget, Context, DeliverySettings, Exporter, FileStorageSettings, Inventory,
        Opened, PipelineBlueprint, Planned, Processor, Receiver, RouterPlan,
    },
    processors, receivers,
    settings::{
        Catalogue, ComponentSettings, ComponentType, Fingerprint, Id, Kind, Loaded, Node, Problem,
        Report,
    },
    telemetry::{Metrics, Status},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Reads a component's settings and builds it.
type Build<C> = fn(&Node, &Context) -> Result<C, Report>;

/// An exporter and how profiles are delivered to it.
type BuiltExporter = (Arc<dyn Exporter>, DeliverySettings);

/// A receiver, and what of it was left out and why.
type BuiltReceiver = (Box<dyn Receiver>, Report);

/// How a receiver is built.
struct ReceiverType {
    ty: ComponentType,
    build: Build<Box<dyn Receiver>>,
    /// Builds what is good of it beside one that runs.
    build_parts: Option<Build<BuiltReceiver>>,
}

/// How a processor is built.
struct ProcessorType {
    ty: ComponentType,
    build: Build<Box<dyn Processor>>,
}

/// How an exporter is built.
struct ExporterType {
    ty: ComponentType,
    build: Build<BuiltExporter>,
}

/// How an exporter that hands on to others is built.
struct RouterType {
    ty: ComponentType,
    build: Build<RouterPlan>,
}

const RECEIVERS: &[ReceiverType] = &[
    ReceiverType {
        ty: ComponentType::new::<receivers::otlp::Settings>(
            Kind::Receiver,
            "otlp",
            "takes OTLP profiles over gRPC and HTTP",
        ),
        build: |node, context| {
            Ok(Box::new(built(
                node,
                context,
                receivers::otlp::Settings::build,
            )?))
        },
        build_parts: None,
    },
    ReceiverType {
        ty: ComponentType::new::<receivers::parca::Settings>(
            Kind::Receiver,
            "parca",
            "takes what agents push to a Parca",
        ),
        build: |node, context| {
            Ok(Box::new(built(
                node,
                context,
                receivers::parca::Settings::build,
            )?))
        },
        build_parts: None,
    },
    ReceiverType {
        ty: ComponentType::new::<receivers::pprof::Settings>(
            Kind::Receiver,
            "pprof",
            "scrapes pprof endpoints, by Parca's scrape_configs",
        ),
        build: |node, context| {
            Ok(Box::new(built(
                node,
                context,
                receivers::pprof::Settings::build,
            )?))
        },
        build_parts: Some(|node, context| {
            let (receiver, left_out) =
                built(node, context, receivers::pprof::Settings::build_good_jobs)?;
            Ok((Box::new(receiver), node.locate(left_out)))
        }),
    },
];

const PROCESSORS: &[ProcessorType] = &[
    ProcessorType {
        ty: ComponentType::new::<processors::filter::FilterSettings>(
            Kind::Processor,
            "filter",
            "keeps or drops profiles by labels and type",
        ),
        build: |node, context| built(node, context, processors::filter::FilterSettings::build),
    },
    ProcessorType {
        ty: ComponentType::new::<processors::labels::LabelsSettings>(
            Kind::Processor,
            "labels",
            "inserts, updates and deletes labels",
        ),
        build: |node, context| built(node, context, processors::labels::LabelsSettings::build),
    },
    ProcessorType {
        ty: ComponentType::new::<processors::relabel::RelabelSettings>(
            Kind::Processor,
            "relabel",
            "edits labels by Prometheus' relabelling rules",
        ),
        build: |node, context| built(node, context, processors::relabel::RelabelSettings::build),
    },
];

const EXPORTERS: &[ExporterType] = &[
    ExporterType {
        ty: ComponentType::new::<Delivered<exporters::debug::DebugSettings>>(
            Kind::Exporter,
            "debug",
            "logs one readable line a profile",
        ),
        build: |node, context| delivered(node, context, exporters::debug::DebugSettings::build),
    },
    ExporterType {
        ty: ComponentType::new::<Delivered<exporters::file::FileSettings>>(
            Kind::Exporter,
            "file",
            "writes one .pb.gz file a profile",
        ),
        build: |node, context| delivered(node, context, exporters::file::FileSettings::build),
    },
    ExporterType {
        ty: ComponentType::new::<Delivered<exporters::otlp::Settings>>(
            Kind::Exporter,
            "otlp",
            "sends OTLP over gRPC",
        ),
        build: |node, context| {
            delivered(
                node,
                context,
                |settings: exporters::otlp::Settings, context| {
                    Ok(Box::new(settings.build(context)?))
                },
            )
        },
    },
    ExporterType {
        ty: ComponentType::new::<Delivered<exporters::otlp_http::Settings>>(
            Kind::Exporter,
            "otlp_http",
            "sends OTLP over HTTP, as protobuf or JSON",
        ),
        build: |node, context| {
            delivered(
                node,
                context,
                |settings: exporters::otlp_http::Settings, context| {
                    Ok(Box::new(settings.build(context)?))
                },
            )
        },
    },
    ExporterType {
        ty: ComponentType::new::<Delivered<exporters::parca::Settings>>(
            Kind::Exporter,
            "parca",
            "sends to Parca by WriteRaw over gRPC",
        ),
        build: |node, context| {
            delivered(
                node,
                context,
                |settings: exporters::parca::Settings, context| {
                    Ok(Box::new(settings.build(context)?))
                },
            )
        },
    },
];

/// Exporters that hand on to others.
const ROUTERS: &[RouterType] = &[
    RouterType {
        ty: ComponentType::router::<exporters::failover::Settings>(
            "failover",
            "hands on to the first exporter whose backend answers",
        ),
        build: |node, context| built(node, context, exporters::failover::Settings::build),
    },
    RouterType {
        ty: ComponentType::router::<exporters::load_balancing::Settings>(
            "load_balancing",
            "spreads series over exporters",
        ),
        build: |node, context| built(node, context, exporters::load_balancing::Settings::build),
    },
    RouterType {
        ty: ComponentType::router::<exporters::routing::Settings>(
            "routing",
            "hands on to other exporters by labels or metadata",
        ),
        build: |node, context| built(node, context, exporters::routing::Settings::build),
    },
];

/// `file_storage` is the only kind of extension.
const EXTENSIONS: &[ComponentType] = &[ComponentType::new::<FileStorageSettings>(
    Kind::Extension,
    "file_storage",
    "keeps the queues of exporters on disk",
)];

/// An exporter's own settings beside those of delivery.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
struct Delivered<S> {
    #[serde(flatten)]
    own: S,
    #[serde(flatten)]
    delivery: DeliverySettings,
}

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

/// All component types, for loading a configuration.
pub fn catalogue() -> Catalogue {
    let receivers = RECEIVERS.iter().map(|c| c.ty);
    let processors = PROCESSORS.iter().map(|c| c.ty);
    let exporters = EXPORTERS.iter().map(|c| c.ty);
    let extensions = EXTENSIONS.iter().copied();
    let routers = ROUTERS.iter().map(|c| c.ty);
    let components = receivers.chain(processors).chain(exporters).chain(routers);
    Catalogue::new(components.chain(extensions).collect())
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

/// Builds one exporter without a configuration around it.
pub fn exporter(name: &str, node: &Node, shared: &Shared) -> Result<Arc<dyn Exporter>, Report> {
    let unknown = || Report::about(name, [Problem::new("", "no such exporter")]);
    let ty = EXPORTERS
        .iter()
        .find(|c| c.ty.name == name)
        .ok_or_else(unknown)?;
    let id = name.parse().map_err(|_| unknown())?;
    Ok((ty.build)(node, &shared.context(&id))?.0)
}

/// Reads a component's settings and builds it.
fn built<S: ComponentSettings, C>(
    node: &Node,
    context: &Context,
    build: impl FnOnce(S, &Context) -> Result<C, Vec<Problem>>,
) -> Result<C, Report> {
    build(node.typed()?, context).map_err(|problems| node.locate(problems))
}

/// Reads an exporter's settings and builds it with its delivery.
fn delivered<S: ComponentSettings>(
    node: &Node,
    context: &Context,
    build: impl FnOnce(S, &Context) -> Result<Box<dyn Exporter>, Vec<Problem>>,
) -> Result<BuiltExporter, Report> {
    let Delivered { own, delivery } = node.typed::<Delivered<S>>()?;
    let exporter = build(own, context).map_err(|problems| node.locate(problems))?;
    Ok((exporter.into(), delivery))
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

// === impl Delivered ===

impl<S: ComponentSettings> ComponentSettings for Delivered<S> {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.own.problems();
        problems.extend(self.delivery.problems());
        problems
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

    fn context(&self, id: &Id) -> Context {
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
