//! The registry behind `/metrics`.
//!
//! Each area of the crate has a [`MetricSet`], a cheap struct of metric
//! families, and asks [`Metrics::set`] for it; the first who asks registers it.
//! Names are given in full (`profile_relay_…`), without the `_total` that the
//! format adds to counters. What is only known when somebody scrapes is a
//! [`Collector`], added with [`Metrics::collect`].
//!
//! Encoding holds the registry's lock, so a collector must answer from memory
//! or `/proc`, and must not ask [`Metrics`] for anything.

mod format;
mod own;
mod process;

pub use self::{
    format::Format,
    own::{BuildInfo, ConfigMetrics, ConfigState, MemoryUse, REVISION, VERSION},
    process::{ProcessMetrics, resident_bytes},
};

use prometheus_client::{
    collector::Collector,
    encoding::{self, DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The process's metrics.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<State>>);

/// The metric families of one area.
pub trait MetricSet: Clone + Send + 'static {
    /// Makes the families and registers them.
    fn register(registry: &mut Registry) -> Self;
}

#[derive(Default)]
struct State {
    registry: Registry,
    sets: HashMap<TypeId, Box<dyn Any + Send>>,
}

// === impl Metrics ===

impl Metrics {
    /// The one set of this type.
    pub fn set<S: MetricSet>(&self) -> S {
        let mut state = self.state();
        if let Some(set) = state
            .sets
            .get(&TypeId::of::<S>())
            .and_then(|set| set.downcast_ref::<S>())
        {
            return set.clone();
        }
        let set = S::register(&mut state.registry);
        state.sets.insert(TypeId::of::<S>(), Box::new(set.clone()));
        set
    }

    /// Adds metrics that are made when somebody scrapes.
    pub fn collect(&self, collector: impl Collector) {
        self.state()
            .registry
            .register_collector(Box::new(collector));
    }

    /// All metrics in OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encoding::text::encode(&mut text, &self.state().registry)?;
        Ok(text)
    }

    /// All metrics in a format of the caller's choice.
    pub fn encode_as(&self, format: Format) -> Result<String, fmt::Error> {
        let open_metrics = self.encode()?;
        Ok(match format {
            Format::OpenMetrics => open_metrics,
            Format::Text => format::to_text(&open_metrics),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Writes one gauge without labels.
fn gauge<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: N,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
