//! `/api/*`: what the components show, in JSON.

use super::{AdminState, reply};
use crate::telemetry::{
    health::{Phase, Silence},
    metrics::{ConfigMetrics, ConfigState, REVISION, VERSION},
    status::{ExporterStatus, Health as TargetHealth, OrphanStatus, PipelineStatus},
};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde::{Deserialize, Serialize};

/// `/api/status`.
#[derive(Serialize)]
struct RelayStatus {
    version: &'static str,
    revision: &'static str,
    phase: Phase,
    silent: Vec<Silence>,
    uptime_seconds: f64,
    memory: Memory,
    config: ConfigState,
    targets: TargetCounts,
    exporters: Vec<ExporterStatus>,
    /// Queues on disk that no exporter empties.
    orphans: Vec<OrphanStatus>,
}

#[derive(Serialize)]
struct Memory {
    used_bytes: u64,
    limit_bytes: u64,
}

/// Targets by health.
#[derive(Default, Serialize)]
struct TargetCounts {
    unknown: u64,
    up: u64,
    down: u64,
    dropped: u64,
}

/// `/api/pipelines`.
#[derive(Serialize)]
struct Pipelines {
    pipelines: Vec<PipelineStatus>,
}

/// The filters of `/api/targets`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    job: Option<String>,
    health: Option<TargetHealth>,
}

pub(super) async fn status(State(state): State<AdminState>) -> Response {
    reply::from_view(move || {
        let mut targets = TargetCounts::default();
        state
            .status
            .each_target(&mut |target| *targets.of(target.health) += 1);
        reply::json(&RelayStatus {
            version: VERSION,
            revision: REVISION,
            phase: state.health.phase(),
            silent: state.health.silences(),
            uptime_seconds: state.health.uptime().as_secs_f64(),
            memory: Memory {
                used_bytes: state.memory.used(),
                limit_bytes: state.memory.limit(),
            },
            config: state.metrics.set::<ConfigMetrics>().get(),
            targets,
            exporters: state.status.exporters(),
            orphans: state.status.orphans(),
        })
    })
    .await
}

pub(super) async fn targets(
    State(state): State<AdminState>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Response {
    let Ok(Query(filter)) = filter else {
        return reply::text(
            StatusCode::BAD_REQUEST,
            "job is a job's name, health one of up, down, unknown, dropped\n",
        );
    };
    reply::from_view(move || {
        // Written target by target: thousands of them never exist at once.
        let mut json = br#"{"targets":["#.to_vec();
        let mut problem = None;
        state.status.each_target(&mut |target| {
            let job_fits = filter.job.as_ref().is_none_or(|job| *job == target.job);
            let health_fits = filter.health.is_none_or(|health| health == target.health);
            if job_fits && health_fits {
                if json.last() != Some(&b'[') {
                    json.push(b',');
                }
                problem = serde_json::to_writer(&mut json, &target)
                    .err()
                    .or(problem.take());
            }
        });
        json.extend_from_slice(b"]}");
        match problem {
            None => reply::with_type("application/json", json),
            Some(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    })
    .await
}

pub(super) async fn pipelines(State(state): State<AdminState>) -> Response {
    reply::json(&Pipelines {
        pipelines: state.status.pipelines(),
    })
}

/// YAML; with its hash in JSON when the request accepts `application/json`.
pub(super) async fn config(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let Some(config) = state.status.config() else {
        return reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "no configuration is loaded yet\n",
        );
    };
    let wants_json = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    if wants_json {
        reply::json(&config)
    } else {
        reply::with_type("application/yaml", config.yaml.to_string())
    }
}

// === impl TargetCounts ===

impl TargetCounts {
    fn of(&mut self, health: TargetHealth) -> &mut u64 {
        match health {
            TargetHealth::Unknown => &mut self.unknown,
            TargetHealth::Up => &mut self.up,
            TargetHealth::Down => &mut self.down,
            TargetHealth::Dropped => &mut self.dropped,
        }
    }
}
