//! OTLP/JSON ⇄ protobuf, from bytes to bytes.
//!
//! One [`table`] of messages and fields drives both directions; no message is
//! built in between, so nothing is held but the input and the output.
//!
//! The rules are those of OTLP's JSON encoding (opentelemetry-proto,
//! `docs/specification.md`, "JSON Protobuf Encoding") over proto3's JSON mapping:
//!
//! | | written | read |
//! |---|---|---|
//! | names | lowerCamelCase | lowerCamelCase; unknown ones are passed over |
//! | default values | left out | may be left out, or `null` |
//! | 64-bit integers | decimal strings | strings or numbers |
//! | `traceId`, `spanId`, `profileId` | hex | hex in any case, or base64 |
//! | other bytes | base64 | base64 or base64url, padded or not |
//! | NaN, infinite | `"NaN"`, `"Infinity"`, `"-Infinity"` | these, numbers, numeric strings |
//! | details of a `google.rpc.Status` | `RetryInfo` | `RetryInfo`; others are left out |
//!
//! Invariants:
//! - Reading makes at most [`MAX_GROWTH_FROM_JSON`] bytes of protobuf from a byte
//!   of JSON, writing at most [`MAX_GROWTH_TO_JSON`] bytes of JSON from a byte of
//!   protobuf.
//! - Messages are nested at most [`MAX_DEPTH`] deep, either way.
//! - What is read is encoded as any encoder would: packed, without defaults, in
//!   the order in which the fields came.
//! - Fields that the table does not know cannot be said in JSON, and are lost.

mod detail;
mod error;
mod from_json;
mod scalar;
mod table;
mod to_json;

pub use self::error::JsonError;

use super::Unreadable;
use crate::r#gen::{
    opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceResponse,
    rpc::Status,
};
use bytes::Bytes;
use prost::Message as _;

/// How deep messages may be nested, the request being the first.
pub const MAX_DEPTH: usize = 64;

/// Bytes of protobuf from one byte of JSON: `0,` in a list of times is 8 bytes.
pub const MAX_GROWTH_FROM_JSON: usize = 4;

/// Bytes of JSON from one byte of protobuf: the longest names stand for one byte.
pub const MAX_GROWTH_TO_JSON: usize = 16;

/// The encoded `ExportProfilesServiceRequest` that `json` says; never more than
/// `max` bytes.
pub fn request_from_json(json: &[u8], max: u64) -> Result<Bytes, JsonError> {
    from_json::read(&table::REQUEST, json, max)
}

/// An encoded `ExportProfilesServiceRequest` as JSON, without its unknown fields.
pub fn request_to_json(protobuf: &[u8]) -> Result<Bytes, Unreadable> {
    to_json::write(&table::REQUEST, protobuf)
}

/// The answer to a request, from JSON.
pub fn response_from_json(json: &[u8]) -> Result<ExportProfilesServiceResponse, JsonError> {
    let protobuf = from_json::read(&table::RESPONSE, json, u64::MAX)?;
    ExportProfilesServiceResponse::decode(protobuf).map_err(JsonError::undecodable)
}

/// The answer to a request, as JSON.
pub fn response_to_json(response: &ExportProfilesServiceResponse) -> Bytes {
    known_to_json(&table::RESPONSE, &response.encode_to_vec())
}

/// A `google.rpc.Status`, the body of a refusal over HTTP, from JSON. Of its
/// details only `google.rpc.RetryInfo` is kept.
pub fn status_from_json(json: &[u8]) -> Result<Status, JsonError> {
    let protobuf = from_json::read(&table::STATUS, json, u64::MAX)?;
    Status::decode(protobuf).map_err(JsonError::undecodable)
}

/// A `google.rpc.Status` as JSON. Details that are no `google.rpc.RetryInfo` are
/// left out.
pub fn status_to_json(status: &Status) -> Bytes {
    known_to_json(&table::STATUS, &status.encode_to_vec())
}

/// What was just encoded is well formed.
fn known_to_json(message: &'static table::Message, protobuf: &[u8]) -> Bytes {
    to_json::write(message, protobuf).unwrap_or_else(|_| Bytes::from_static(b"{}"))
}

#[cfg(test)]
mod tests;
