//! Reading an answer: what was taken, or why nothing was.
//!
//! The body of a refusal is a `google.rpc.Status`, in the encoding that its
//! content type names; a proxy's is any text.

use super::classify::Refusal;
use crate::{
    exporters::shared::otlp::{MAX_ANSWER, Observer, inflated, response},
    r#gen::rpc,
    net::{http::Answer, retry_after, words},
    profile::otlp::json,
};
use bytes::Bytes;
use http::{Response, StatusCode, header, response::Parts};
use http_body_util::{BodyExt, Limited};
use prost::Message;

pub(super) const PROTO: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";

/// Tells `observer` what a backend that took the request says about it.
///
/// # Errors
///
/// What it says when it did not take the request, or when what answered is no
/// receiver of OTLP.
pub(super) async fn read(answer: Response<Answer>, observer: &Observer) -> Result<(), Refusal> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER as usize).collect().await;
    let body = body.map_or(Bytes::new(), |body| body.to_bytes());
    let body = inflated(&body, head.headers.get(header::CONTENT_ENCODING)).unwrap_or_default();
    if !head.status.is_success() {
        return Err(refusal(&head, &body));
    }
    match kind(&head) {
        // Nothing was rejected.
        _ if body.is_empty() => {}
        JSON => match json::response_from_json(&body) {
            Ok(said) => observer.taken(&said),
            Err(error) => observer.unreadable(&error.to_string()),
        },
        PROTO => response(&body, None, observer),
        "text/html" => return Err(page(head.status)),
        other => observer.unreadable(&format!("its content type is {other:?}")),
    }
    Ok(())
}

/// The content type without its parameters.
fn kind(head: &Parts) -> &str {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

fn page(status: StatusCode) -> Refusal {
    Refusal {
        status,
        retry_after: None,
        message: "the answer is a web page, so this is no receiver of OTLP: check the address"
            .into(),
    }
}

fn refusal(head: &Parts, body: &Bytes) -> Refusal {
    let status = match kind(head) {
        JSON => json::status_from_json(body).ok(),
        PROTO => rpc::Status::decode(body.clone()).ok(),
        _ => None,
    };
    let message = match status {
        Some(status) => status.message,
        None if head.status.is_redirection() => redirect(head),
        None => words(body),
    };
    Refusal {
        status: head.status,
        retry_after: retry_after(&head.headers),
        message,
    }
}

fn redirect(head: &Parts) -> String {
    let location = head.headers.get(header::LOCATION);
    let location =
        location.map_or_else(Default::default, |l| String::from_utf8_lossy(l.as_bytes()));
    format!("it redirects to {location:?}: set profiles_endpoint to that address")
}
