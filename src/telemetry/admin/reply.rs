//! Answers: none is cached, none is guessed at by a browser.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use std::time::Duration;

/// The longest a view of components may take.
const VIEW_DEADLINE: Duration = Duration::from_secs(5);

/// Plain text.
pub(super) fn text(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = with_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

/// A good answer of some content type.
pub(super) fn with_type(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A good answer in JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => with_type("application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Answers with what `view` makes. It runs on a helper thread: a component's
/// view that takes long or hangs holds up no other page.
pub(super) async fn from_view(view: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::time::timeout(VIEW_DEADLINE, crate::runtime::blocking(view)).await {
        Ok(Some(response)) => response,
        Ok(None) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the view failed; the log says why\n",
        ),
        Err(_) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("a component did not answer within {VIEW_DEADLINE:?}\n"),
        ),
    }
}
