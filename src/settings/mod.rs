//! YAML to typed settings.
//!
//! The folder knows no component: it turns sources into one tree in which every
//! node has a file, a line and a column, and a tree into a type.

mod id;
mod problem;
mod units;

pub use self::{
    id::Id,
    problem::{FilePath, Problem},
    units::{ByteSize, Duration, Secret},
};
