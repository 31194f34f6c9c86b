//! YAML to typed settings.
//!
//! The folder knows no component: it turns sources into one tree in which every
//! node has a file, a line and a column, and a tree into a type. [`load`] is the
//! way through:
//!
//! - `parse`: text to [`Node`]; `merge`: several trees and `--set` to one;
//!   `expand`: `${env:X}` in its scalars
//! - `graph`: each component against its [`ComponentType`], and the pipelines
//! - `shape`, `check`, `typed`: a node against a JSON Schema, then to a type
//! - `report`, `redact`, `nearest`, `key_path`: what people read when it fails
//! - `print`, `schema`, `reference`: what people read when it works

mod catalogue;
mod check;
mod digest;
mod expand;
mod graph;
mod id;
mod key_path;
mod load;
mod merge;
mod nearest;
mod parse;
mod print;
mod problem;
mod redact;
mod reference;
mod report;
mod routers;
mod schema;
mod service;
mod shape;
mod tree;
mod typed;
mod units;

pub use self::{
    catalogue::{
        Catalogue, ComponentSettings, ComponentType, Fingerprint, Kind, Outputs, RouterSettings,
    },
    digest::ReadFile,
    expand::Environment,
    id::Id,
    load::{Input, Loaded, Sources, load},
    print::to_yaml,
    problem::{FilePath, Problem},
    reference::{Table, reference},
    report::{Coloured, Finding, Report},
    schema::schema,
    service::{
        Admin, LogFormat, LogLevel, Logs, Memory, Pipeline, Reload, Service, Settings, Telemetry,
    },
    tree::{Entry, Node, Position, Scalar, ScalarKind, Source, Value},
    units::{ByteSize, Duration, Secret},
};

#[cfg(test)]
mod tests;
