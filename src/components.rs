//! The only list of component types.
//!
//! A new component is one file of its own, one line here, and one example in
//! `config/`. Nothing else knows a concrete component; what a configuration makes of
//! them is [`build`]'s.

mod builder;

pub use self::builder::{Built, Shared, build, storages};

use crate::{
    exporters,
    pipeline::{
        Context, DeliverySettings, Exporter, FileStorageSettings, Processor, Receiver, RouterPlan,
    },
    processors, receivers,
    settings::{Catalogue, ComponentSettings, ComponentType, Kind, Node, Problem, Report},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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

// === impl Delivered ===

impl<S: ComponentSettings> ComponentSettings for Delivered<S> {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.own.problems();
        problems.extend(self.delivery.problems());
        problems
    }
}
