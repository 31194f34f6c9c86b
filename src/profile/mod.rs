//! What travels: a [`Batch`] of [`Profile`]s, each with its [`Labels`] and its
//! [`Body`] as it arrived.
//!
//! The folder imports nothing else of this crate but the generated messages. A
//! body keeps the encoded bytes it came with; only a component that is asked
//! to change it looks inside.

pub mod arrow;
mod batch;
pub mod convert;
mod interned;
mod labels;
pub mod otlp;
pub mod pprof;
pub mod relabel;
mod wire;

pub use self::{
    batch::{Batch, Body, Charge, Origin, Profile, Transport},
    labels::{Label, Labels, LabelsBuilder, NAME},
};
