//! What the runs of whole processes share.
//!
//! - [`args`]: the arguments that all have, and how they end
//! - [`child`]: processes that end with this one, however it ends
//! - [`running`]: a program under measurement: its log, its `/metrics`
//! - [`proc`](mod@proc), [`metrics`]: what the kernel and `/metrics` say about it
//! - [`sent`]: what becomes of requests that are sent
//! - [`figures`]: quantiles, medians, ratios, and how they are printed

#![allow(dead_code, reason = "each run uses a part of it")]

pub(crate) mod args;
pub(crate) mod child;
pub(crate) mod figures;
pub(crate) mod metrics;
pub(crate) mod proc;
pub(crate) mod running;
pub(crate) mod sent;

/// Whatever went wrong; a person reads it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
