//! What the relay says about itself: logs, metrics, the admin endpoint.
//!
//! Knows no component.

pub mod admin;
pub mod cgroup;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod reload;
pub mod self_profile;
pub mod status;

pub use self::{
    health::Health,
    metrics::{MetricSet, Metrics},
    status::Status,
};
