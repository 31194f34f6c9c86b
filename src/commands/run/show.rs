//! What the admin endpoint shows of the process as a whole.

use crate::{
    components::Shared,
    settings::{self, Id, Loaded},
    telemetry::{
        metrics::{BuildInfo, ConfigMetrics, MemoryUse, ProcessMetrics},
        status::{PipelineStatus, RunningConfig},
    },
};
use std::time::SystemTime;

/// Registers what is true of the process whatever its configuration.
pub(in super::super) fn process(shared: &Shared) -> MemoryUse {
    let metrics = &shared.metrics;
    metrics.set::<BuildInfo>();
    metrics.collect(ProcessMetrics::default());
    let (used, limit) = (shared.memory.clone(), shared.memory.clone());
    let memory = MemoryUse::new(move || used.used(), move || limit.limit());
    metrics.collect(memory.clone());
    memory
}

/// Shows the configuration that runs, in place of the one before.
pub(in super::super) fn configuration(shared: &Shared, loaded: &Loaded) {
    shared
        .metrics
        .set::<ConfigMetrics>()
        .loaded(&loaded.hash, SystemTime::now());
    shared.status.publish_config(RunningConfig {
        hash: loaded.hash.clone(),
        yaml: settings::to_yaml(&loaded.effective).into(),
    });
    let pipelines = loaded.settings.service.pipelines.iter();
    let names = |ids: &[Id]| ids.iter().map(Id::to_string).collect();
    let pipelines = pipelines.map(|(id, pipeline)| PipelineStatus {
        pipeline: id.to_string(),
        receivers: names(&pipeline.receivers),
        processors: names(&pipeline.processors),
        exporters: names(&pipeline.exporters),
    });
    shared.status.publish_pipelines(pipelines.collect());
}
