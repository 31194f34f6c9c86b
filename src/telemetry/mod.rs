//! What the relay says about itself: logs, metrics, the admin endpoint.
//!
//! Knows no component.

pub mod metrics;
pub mod status;

pub use self::{
    metrics::{MetricSet, Metrics},
    status::Status,
};
