//! The details of a `google.rpc.Status`: a `google.protobuf.Any` each, which in
//! JSON is the message itself with an `@type`.
//!
//! The one that OTLP's peers act on is `google.rpc.RetryInfo`. Others cannot be
//! translated without their descriptors.

use crate::r#gen::rpc::RetryInfo;
use prost::Message;
use prost_types::{Any, Duration};
use serde::Deserialize;
use std::str::FromStr;

const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// proto3's JSON mapping knows no longer durations, in seconds.
const MAX_SECONDS: u64 = 315_576_000_000;

/// A detail as JSON has it.
#[derive(Deserialize)]
pub(super) struct Detail {
    #[serde(rename = "@type")]
    type_url: Option<String>,
    #[serde(rename = "retryDelay")]
    retry_delay: Option<String>,
}

/// A delay that is no duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no duration: write seconds, such as \"1.5s\"")]
pub(super) struct BadDelay(String);

// === impl Detail ===

impl Detail {
    /// The encoded `Any`; `None` for what is not known here.
    pub(super) fn encode(self) -> Result<Option<Vec<u8>>, BadDelay> {
        let Some(type_url) = self.type_url.filter(|url| is_retry_info(url)) else {
            return Ok(None);
        };
        let retry_delay = self.retry_delay.map(parse).transpose()?;
        let value = RetryInfo { retry_delay }.encode_to_vec();
        Ok(Some(Any { type_url, value }.encode_to_vec()))
    }
}

/// The JSON of an encoded `Any`; `None` for what is not known here.
pub(super) fn to_json(encoded: &[u8]) -> Option<String> {
    let any = Any::decode(encoded).ok()?;
    let known = is_retry_info(&any.type_url);
    let info = known
        .then(|| RetryInfo::decode(&*any.value).ok())
        .flatten()?;
    let mut object = serde_json::Map::new();
    object.insert("@type".to_owned(), any.type_url.into());
    if let Some(delay) = info.retry_delay {
        let delay = delay.normalized();
        let speakable = delay.seconds.unsigned_abs() <= MAX_SECONDS;
        let delay = speakable.then(|| delay.to_string())?;
        object.insert("retryDelay".to_owned(), delay.into());
    }
    Some(serde_json::Value::Object(object).to_string())
}

fn is_retry_info(type_url: &str) -> bool {
    type_url.rsplit('/').next() == Some(RETRY_INFO)
}

fn parse(delay: String) -> Result<Duration, BadDelay> {
    match Duration::from_str(&delay) {
        Ok(parsed) if parsed.seconds.unsigned_abs() <= MAX_SECONDS => Ok(parsed),
        _ => Err(BadDelay(delay)),
    }
}
