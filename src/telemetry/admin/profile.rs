//! `/debug/pprof/*`, as Go programs have it.

use super::{AdminState, reply};
use crate::telemetry::self_profile::{self, SelfProfileError};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use std::time::Duration;

/// Go's default.
const DEFAULT_SECONDS: u64 = 30;

/// How long to profile.
#[derive(Deserialize)]
pub(super) struct Length {
    seconds: Option<u64>,
}

pub(super) async fn index() -> Response {
    reply::text(
        StatusCode::OK,
        "profiles of this process, in pprof's format\n\n\
         /debug/pprof/profile   CPU; ?seconds=N, 30 by default\n",
    )
}

/// A CPU profile of this process as gzipped pprof. One at a time; it ends when
/// the client goes away.
pub(super) async fn cpu(
    State(_): State<AdminState>,
    method: Method,
    length: Result<Query<Length>, QueryRejection>,
) -> Response {
    let Ok(Query(Length { seconds })) = length else {
        return reply::text(
            StatusCode::BAD_REQUEST,
            "seconds is a whole number of seconds\n",
        );
    };
    if method == Method::HEAD {
        return download(Vec::new().into());
    }
    let seconds = seconds.filter(|n| *n > 0).unwrap_or(DEFAULT_SECONDS);
    match self_profile::cpu_profile(Duration::from_secs(seconds)).await {
        Ok(profile) => download(profile),
        Err(error) => {
            let status = match error {
                SelfProfileError::InUse => StatusCode::CONFLICT,
                SelfProfileError::Unavailable(_) => StatusCode::INTERNAL_SERVER_ERROR,
                SelfProfileError::NoMemory { .. } => StatusCode::INSUFFICIENT_STORAGE,
            };
            reply::text(status, format!("{error}\n"))
        }
    }
}

fn download(profile: bytes::Bytes) -> Response {
    let mut response = reply::with_type("application/octet-stream", profile);
    response.headers_mut().insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"profile\""),
    );
    response
}
