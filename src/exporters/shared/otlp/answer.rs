//! Reading answers.

use super::Observer;
use crate::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceResponse,
    profile::otlp::Compression,
};
use bytes::Bytes;
use http::HeaderValue;
use prost::Message;

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER: u64 = 64 << 10;

/// What a server says about itself is cut to this, in bytes.
const MAX_TEXT: usize = 512;

/// The answer to a request that was taken, compressed as `encoding` says: tells
/// `observer` what was not. The request was taken also when its answer cannot be
/// read.
pub fn response(answer: &Bytes, encoding: Option<&HeaderValue>, observer: &Observer) {
    let Some(plain) = inflated(answer, encoding) else {
        observer.unreadable("they are compressed in another way");
        return;
    };
    match ExportProfilesServiceResponse::decode(plain) {
        Ok(response) => observer.taken(&response),
        Err(error) => observer.unreadable(&error.to_string()),
    }
}

/// A server's own words, short enough for a log line.
pub fn shortened(text: &str) -> &str {
    let text = text.trim();
    let end = (0..=text.len().min(MAX_TEXT))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The plain bytes of an answer whose header names `encoding`.
pub fn inflated(answer: &Bytes, encoding: Option<&HeaderValue>) -> Option<Bytes> {
    let Some(encoding) = encoding else {
        return Some(answer.clone());
    };
    Compression::parse(encoding.to_str().ok()?)?
        .inflate(answer, MAX_ANSWER)
        .ok()
}
