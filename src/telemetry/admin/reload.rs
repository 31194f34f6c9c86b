//! `POST /-/reload`.

use super::{AdminState, reply};
use crate::telemetry::reload::ReloadAnswer;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

/// 200 with what changed, in JSON; 400 with the report of what is wrong; 500
/// when something is in the way, such as an address in use.
pub(super) async fn reload(State(state): State<AdminState>) -> Response {
    match state.reloads.ask().await {
        Some(ReloadAnswer::Loaded(changes)) => reply::json(&changes),
        Some(ReloadAnswer::Refused(report)) => reply::text(StatusCode::BAD_REQUEST, report),
        Some(ReloadAnswer::Failed(reason)) => {
            reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n"))
        }
        None => reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the process is ending, nothing is loaded any more\n",
        ),
    }
}

pub(super) async fn only_post() -> Response {
    let mut response = reply::text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
    let allowed = HeaderValue::from_static("POST");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
