//! The registry behind `/metrics`.
//!
//! Each area of the crate has a [`MetricSet`], a cheap struct of metric
//! families, and asks [`Metrics::set`] for it; the first who asks registers it.
//! Names are given in full (`profile_relay_…`), without the `_total` that the
//! format adds to counters.

use prometheus_client::{encoding, registry::Registry};
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
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
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// All metrics in OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        encoding::text::encode(&mut text, &state.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
