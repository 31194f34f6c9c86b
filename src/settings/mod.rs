//! YAML to typed settings.
//!
//! The folder knows no component: it turns sources into one tree in which every
//! node has a file, a line and a column, and a tree into a type.

mod catalogue;
mod id;
mod load;
mod problem;
mod report;
mod service;
mod tree;
mod units;

pub use self::{
    catalogue::{Catalogue, ComponentSettings, ComponentType, Kind},
    id::Id,
    load::{Environment, Input, Loaded, Sources, load},
    problem::{FilePath, Problem},
    report::{Finding, Report},
    service::{Admin, LogFormat, LogLevel, Logs, Memory, Pipeline, Service, Settings, Telemetry},
    tree::{Entry, Node, Position, Scalar, ScalarKind, Source, Value},
    units::{ByteSize, Duration, Secret},
};
