//! Values of attributes as text, by OpenTelemetry's rules for formats that have
//! no types (specification, `common/attribute-type-mapping`): bytes in base64,
//! arrays and maps as JSON.

use super::{ConvertError, lookup::Lookup};
use crate::r#gen::opentelemetry::proto::common::v1::{AnyValue, KeyValue, any_value::Value};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;

/// One of the values of an attribute, as a pprof can have it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain<'d> {
    /// Not empty.
    Text(Cow<'d, str>),
    Int(i64),
}

/// The values of an attribute: one, those of an array, or none. Empty strings are
/// none.
pub(super) fn plain<'d>(
    lookup: Lookup<'d>,
    value: &'d Option<AnyValue>,
) -> Result<Vec<Plain<'d>>, ConvertError> {
    let values = match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::ArrayValue(array)) => array.values.as_slice(),
        Some(_) => value.as_slice(),
        None => &[],
    };
    let values = values.iter().filter_map(|value| {
        let value = value.value.as_ref()?;
        match one(lookup, value) {
            Ok(Plain::Text(text)) if text.is_empty() => None,
            other => Some(other),
        }
    });
    values.collect()
}

fn one<'d>(lookup: Lookup<'d>, value: &'d Value) -> Result<Plain<'d>, ConvertError> {
    Ok(match value {
        Value::IntValue(number) => Plain::Int(*number),
        Value::StringValue(text) => Plain::Text(text.into()),
        Value::StringValueStrindex(index) => Plain::Text(
            lookup
                .text(("any_value.string_value_strindex", *index))?
                .into(),
        ),
        other => Plain::Text(match json(lookup, other)? {
            Json::String(text) => text.into(),
            json => json.to_string().into(),
        }),
    })
}

/// A value as text; none is empty.
pub(super) fn text<'d>(
    lookup: Lookup<'d>,
    value: &'d AnyValue,
) -> Result<Cow<'d, str>, ConvertError> {
    let value = value.value.as_ref().map(|value| one(lookup, value));
    Ok(match value.transpose()? {
        None => Cow::default(),
        Some(Plain::Text(text)) => text,
        Some(Plain::Int(number)) => number.to_string().into(),
    })
}

fn json(lookup: Lookup<'_>, value: &Value) -> Result<Json, ConvertError> {
    Ok(match value {
        Value::StringValue(text) => Json::from(text.as_str()),
        Value::StringValueStrindex(index) => {
            Json::from(lookup.text(("any_value.string_value_strindex", *index))?)
        }
        Value::BoolValue(value) => Json::from(*value),
        Value::IntValue(number) => Json::from(*number),
        Value::DoubleValue(number) => number_or_name(*number),
        Value::BytesValue(bytes) => Json::from(BASE64_STANDARD.encode(bytes)),
        Value::ArrayValue(array) => {
            let values = array.values.iter().map(|value| any(lookup, value));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
        Value::KvlistValue(list) => {
            let pairs = list.values.iter().map(|pair| {
                let value = pair.value.as_ref().map(|value| any(lookup, value));
                let value = value.transpose()?.unwrap_or_default();
                Ok((key(lookup, pair)?.to_owned(), value))
            });
            Json::Object(pairs.collect::<Result<Map<_, _>, ConvertError>>()?)
        }
    })
}

fn any(lookup: Lookup<'_>, value: &AnyValue) -> Result<Json, ConvertError> {
    let value = value.value.as_ref().map(|value| json(lookup, value));
    Ok(value.transpose()?.unwrap_or_default())
}

/// JSON has no name for what is no number.
fn number_or_name(number: f64) -> Json {
    match number.is_finite() {
        true => Json::from(number),
        false => Json::from(number.to_string()),
    }
}

/// A key, inline or of the table.
pub(super) fn key<'d>(lookup: Lookup<'d>, pair: &'d KeyValue) -> Result<&'d str, ConvertError> {
    match pair.key_strindex {
        0 => Ok(&pair.key),
        index => lookup.text(("key_value.key_strindex", index)),
    }
}
