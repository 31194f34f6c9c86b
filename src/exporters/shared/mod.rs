//! What several exporters have in common; they never import each other.
//!
//! - [`transport`]: what a broken connection means for delivery
//! - [`RuleObserver`]: what is said about bodies that break a rule
//! - [`Quiet`]: which log lines are repeated
//! - [`Metadata`]: the metadata of requests, on its way out
//! - [`halves`]: a pprof that is too large
//! - `arrow`: bodies of parca-agent for exporters that send something else
//! - `pprofs`: OTLP bodies for exporters that send pprofs
//! - [`otlp`]: what OTLP is over gRPC and over HTTP alike

pub(super) mod arrow;
mod halves;
mod metadata;
pub mod otlp;
pub(super) mod pprofs;
mod quiet;
mod rules;
#[cfg(test)]
pub(super) mod testing;
mod transport;

pub use self::{
    halves::halves,
    metadata::Metadata,
    quiet::Quiet,
    rules::{ExporterLabels, RuleObserver},
    transport::{retry_after, transport},
};
