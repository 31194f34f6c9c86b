//! What is true of the process as a whole: build, memory budget, configuration.

use super::{MetricSet, gauge};
use crate::telemetry::status::rfc3339;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::info::Info,
    registry::Registry,
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source, from `PROFILE_RELAY_REVISION` at compile time.
pub const REVISION: &str = match option_env!("PROFILE_RELAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// `profile_relay_build_info{version,revision}`.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo;

/// `profile_relay_memory_used_bytes` and `profile_relay_memory_limit_bytes`,
/// asked at every scrape.
#[derive(Clone)]
pub struct MemoryUse {
    used: Arc<dyn Fn() -> u64 + Send + Sync>,
    limit: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// `profile_relay_config_*`: which configuration runs, and how the last attempt
/// to load one ended. Nothing is shown before the first [`Self::loaded`].
#[derive(Clone, Debug, Default)]
pub struct ConfigMetrics(Arc<Mutex<ConfigState>>);

/// How loading the configuration went, as on `/api/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ConfigState {
    /// The hash of what runs.
    pub hash: Option<String>,
    /// Whether the last attempt to load one succeeded.
    pub last_reload_successful: bool,
    /// When one was last loaded with success, RFC 3339 on the wire.
    #[serde(serialize_with = "rfc3339")]
    pub last_reload_success: Option<SystemTime>,
    /// When the last attempt failed, if it did, RFC 3339 on the wire.
    #[serde(serialize_with = "rfc3339")]
    pub last_reload_failure: Option<SystemTime>,
    /// Why.
    pub last_reload_error: Option<String>,
}

// === impl BuildInfo ===

impl MetricSet for BuildInfo {
    fn register(registry: &mut Registry) -> Self {
        registry.register(
            "profile_relay_build",
            "The version of the running program and the revision of its source",
            Info::new(vec![("version", VERSION), ("revision", REVISION)]),
        );
        Self
    }
}

// === impl MemoryUse ===

impl MemoryUse {
    /// Asks these two, in bytes. They must answer at once.
    pub fn new(
        used: impl Fn() -> u64 + Send + Sync + 'static,
        limit: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            used: Arc::new(used),
            limit: Arc::new(limit),
        }
    }

    /// The bytes taken from the budget.
    pub fn used(&self) -> u64 {
        (self.used)()
    }

    /// The most that may be taken.
    pub fn limit(&self) -> u64 {
        (self.limit)()
    }
}

impl Collector for MemoryUse {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        gauge(
            &mut encoder,
            "profile_relay_memory_used_bytes",
            "Bytes taken from the memory budget: bodies in flight, inflated and decoded data.",
            self.used(),
        )?;
        gauge(
            &mut encoder,
            "profile_relay_memory_limit_bytes",
            "The memory budget (service.memory.limit).",
            self.limit(),
        )
    }
}

impl fmt::Debug for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryUse")
    }
}

// === impl ConfigMetrics ===

impl MetricSet for ConfigMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }
}

impl ConfigMetrics {
    /// The configuration with this hash runs since `now`.
    pub fn loaded(&self, hash: &str, now: SystemTime) {
        *self.state() = ConfigState {
            hash: Some(hash.to_owned()),
            last_reload_successful: true,
            last_reload_success: Some(now),
            ..ConfigState::default()
        };
    }

    /// A configuration was refused; the one before keeps running.
    pub fn reload_failed(&self, error: String, now: SystemTime) {
        let mut state = self.state();
        state.last_reload_successful = false;
        state.last_reload_failure = Some(now);
        state.last_reload_error = Some(error);
    }

    /// How loading went so far.
    pub fn get(&self) -> ConfigState {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, ConfigState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for ConfigState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds;
        if let (Some(hash), Some(at)) = (&self.hash, self.last_reload_success) {
            writeln!(f, "configuration {hash}, loaded at {}", time(at))?;
        }
        if let (Some(error), Some(at)) = (&self.last_reload_error, self.last_reload_failure) {
            writeln!(
                f,
                "the reload at {} failed:\n{}",
                time(at),
                error.trim_end()
            )?;
        }
        Ok(())
    }
}

impl Collector for ConfigMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.get();
        let Some(hash) = state.hash else {
            return Ok(());
        };
        gauge(
            &mut encoder,
            "profile_relay_config_last_reload_successful",
            "Whether the last attempt to load the configuration succeeded.",
            u64::from(state.last_reload_successful),
        )?;
        gauge(
            &mut encoder,
            "profile_relay_config_last_reload_success_timestamp_seconds",
            "When a configuration was last loaded with success.",
            seconds(state.last_reload_success),
        )?;
        let info = Info::new(vec![("hash", hash)]);
        let kind = info.metric_type();
        let help = "The hash of the running configuration.";
        info.encode(encoder.encode_descriptor("profile_relay_config", help, None, kind)?)
    }
}

fn seconds(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{super::Metrics, *};
    use crate::telemetry::metrics::Format;
    use std::time::Duration;

    #[test]
    fn the_process_says_what_it_is_and_what_it_uses() {
        let metrics = Metrics::default();
        metrics.set::<BuildInfo>();
        metrics.collect(MemoryUse::new(|| 5, || 10));
        assert_eq!(
            metrics.encode_as(Format::Text).unwrap(),
            format!(
                "# HELP profile_relay_build_info The version of the running program and the revision of its source.\n\
                 # TYPE profile_relay_build_info gauge\n\
                 profile_relay_build_info{{version=\"{VERSION}\",revision=\"{REVISION}\"}} 1\n\
                 # HELP profile_relay_memory_used_bytes Bytes taken from the memory budget: bodies in flight, inflated and decoded data.\n\
                 # TYPE profile_relay_memory_used_bytes gauge\n\
                 profile_relay_memory_used_bytes 5\n\
                 # HELP profile_relay_memory_limit_bytes The memory budget (service.memory.limit).\n\
                 # TYPE profile_relay_memory_limit_bytes gauge\n\
                 profile_relay_memory_limit_bytes 10\n"
            )
        );
    }

    #[test]
    fn a_failed_reload_keeps_the_hash_of_what_runs() {
        let metrics = Metrics::default();
        let config: ConfigMetrics = metrics.set();
        assert_eq!(metrics.encode_as(Format::Text).unwrap(), "");
        config.loaded("abc", SystemTime::UNIX_EPOCH + Duration::from_secs(12));
        config.loaded("def", SystemTime::UNIX_EPOCH + Duration::from_secs(34));
        config.reload_failed("no such key".into(), SystemTime::UNIX_EPOCH);
        assert_eq!(
            config.get().to_string(),
            "configuration def, loaded at 1970-01-01T00:00:34Z\n\
             the reload at 1970-01-01T00:00:00Z failed:\nno such key\n"
        );
        let samples: Vec<_> = metrics
            .encode_as(Format::Text)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            samples,
            [
                "profile_relay_config_last_reload_successful 0",
                "profile_relay_config_last_reload_success_timestamp_seconds 34.0",
                "profile_relay_config_info{hash=\"def\"} 1",
            ]
        );
    }
}
