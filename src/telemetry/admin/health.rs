//! `/healthz` and `/readyz`.

use super::{AdminState, reply};
use crate::telemetry::health::Phase;
use axum::{extract::State, http::StatusCode, response::Response};

/// 200 while everything that must beat does, else 503 and what fell silent.
/// Not ready is not unhealthy: a relay that starts or drains is not restarted.
pub(super) async fn healthz(State(state): State<AdminState>) -> Response {
    let silences = state.health.silences();
    if silences.is_empty() {
        return reply::text(StatusCode::OK, "ok\n");
    }
    let lines: String = silences
        .iter()
        .map(|silence| format!("{silence}\n"))
        .collect();
    reply::text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

/// 200 between being ready and being asked to stop, else 503 and why.
pub(super) async fn readyz(State(state): State<AdminState>) -> Response {
    let phase = state.health.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply::text(status, format!("{}\n", phase.describe()))
}
