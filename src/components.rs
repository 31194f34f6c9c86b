//! The only list of component types.
//!
//! A new component is one file of its own, one line here, and one example in
//! `config/`. Nothing else knows a concrete component.

use crate::{
    exporters,
    pipeline::{
        Blueprint, Budget, Context, DeliverySettings, Exporter, FileStorageSettings,
        PipelineBlueprint, Processor, Receiver,
    },
    processors, receivers,
    settings::{
        Catalogue, ComponentSettings, ComponentType, Id, Kind, Loaded, Node, Problem, Report,
        Settings,
    },
    telemetry::{Metrics, Status},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Reads a component's settings and builds it.
type Build<C> = fn(&Node, &Context) -> Result<C, Report>;

/// An exporter and how profiles are delivered to it.
type BuiltExporter = (Arc<dyn Exporter>, DeliverySettings);

/// How a receiver is built.
struct ReceiverType {
    ty: ComponentType,
    build: Build<Box<dyn Receiver>>,
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
}

/// All component types, for loading a configuration.
pub fn catalogue() -> Catalogue {
    let receivers = RECEIVERS.iter().map(|c| c.ty);
    let processors = PROCESSORS.iter().map(|c| c.ty);
    let exporters = EXPORTERS.iter().map(|c| c.ty);
    let extensions = EXTENSIONS.iter().copied();
    let components = receivers.chain(processors).chain(exporters);
    Catalogue::new(components.chain(extensions).collect())
}

/// Builds everything a configuration describes. On error the report holds the
/// problems of all components. May read files and create folders.
pub fn build(loaded: &Loaded, shared: &Shared) -> Result<Blueprint, Report> {
    let settings = &loaded.settings;
    let mut report = Report::default();
    let mut blueprint = Blueprint::default();
    for (id, node) in &settings.receivers {
        let ty = RECEIVERS.iter().find(|c| c.ty.name == id.kind());
        let receiver = ty.map(|ty| (ty.build)(node, &shared.for_intake(id)));
        if let Some(receiver) = keep(&mut report, receiver) {
            blueprint.receivers.push((id.clone(), receiver));
        }
    }
    for (id, node) in &settings.exporters {
        let ty = EXPORTERS.iter().find(|c| c.ty.name == id.kind());
        let exporter = ty.map(|ty| (ty.build)(node, &shared.context(id)));
        if let Some((exporter, delivery)) = keep(&mut report, exporter) {
            if let Some(problem) = missing_storage(&delivery, settings) {
                report.merge(node.locate([problem]));
            }
            blueprint.exporters.push((id.clone(), exporter, delivery));
        }
    }
    blueprint.storages = storages(loaded).unwrap_or_else(|problems| {
        report.merge(problems);
        Vec::new()
    });
    for pipeline in settings.service.pipelines.values() {
        let processors = pipeline.processors.iter();
        let processors = processors.filter_map(|id| {
            let processor = processor(id, &settings.processors, shared)?;
            Some((id.clone(), keep(&mut report, Some(processor))?))
        });
        blueprint.pipelines.push(PipelineBlueprint {
            processors: processors.collect(),
            receivers: pipeline.receivers.clone(),
            exporters: pipeline.exporters.clone(),
        });
    }
    if report.is_empty() {
        Ok(blueprint)
    } else {
        Err(report)
    }
}

/// The storages that run, by id.
pub fn storages(loaded: &Loaded) -> Result<Vec<(Id, FileStorageSettings)>, Report> {
    let settings = &loaded.settings;
    let mut report = Report::default();
    let mut storages = Vec::new();
    for id in &settings.service.extensions {
        let storage = settings.extensions.get(id).map(Node::typed);
        if let Some(storage) = keep(&mut report, storage) {
            storages.push((id.clone(), storage));
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

fn processor(
    id: &Id,
    nodes: &BTreeMap<Id, Node>,
    shared: &Shared,
) -> Option<Result<Box<dyn Processor>, Report>> {
    let ty = PROCESSORS.iter().find(|c| c.ty.name == id.kind())?;
    Some((ty.build)(nodes.get(id)?, &shared.context(id)))
}

/// What is wrong when a queue is to be in a storage that does not run.
fn missing_storage(delivery: &DeliverySettings, settings: &Settings) -> Option<Problem> {
    let storage = delivery.sending_queue.storage.as_ref()?;
    let running = &settings.service.extensions;
    if running.contains(storage) {
        return None;
    }
    let way_out = if settings.extensions.contains_key(storage) {
        "list it under service.extensions".to_owned()
    } else {
        format!(
            "write extensions: {{{storage}: {{directory: /var/lib/profile-relay}}}} and service: {{extensions: [{storage}]}}"
        )
    };
    let message = format!("the extension {storage} does not run: {way_out}");
    Some(Problem::new("sending_queue.storage", message))
}

/// The component, or nothing and a longer report.
fn keep<C>(report: &mut Report, built: Option<Result<C, Report>>) -> Option<C> {
    built?.map_err(|problems| report.merge(problems)).ok()
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
    fn context(&self, id: &Id) -> Context {
        Context {
            id: id.clone(),
            metrics: self.metrics.clone(),
            status: self.status.clone(),
            memory: self.memory.clone(),
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
