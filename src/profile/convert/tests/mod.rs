//! Tests of the conversions; what they share is here.

mod arrow;
mod fixtures;
mod generate;
mod hostile;
mod meaning;
mod payload;
mod round_trip;
pub(crate) mod rules;
mod to_otlp;
mod to_pprof;

use super::{Converted, OtlpOptions, PprofOptions, RequestBuilder, to_pprof};
use crate::{
    r#gen::{
        opentelemetry::proto::{
            collector::profiles::v1development::ExportProfilesServiceRequest,
            common::v1::{AnyValue, any_value::Value},
        },
        pprof::Profile,
    },
    profile::{
        Labels,
        pprof::{Pprof, RuleSet},
    },
};
use bytes::Bytes;
use prost::Message;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAX: u64 = 1 << 28;

fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn options() -> PprofOptions<'static> {
    PprofOptions {
        received: received(),
        max_inflated: MAX,
        series_attributes: &[],
        max_series: 100,
        original_payload: false,
        gzip: false,
    }
}

/// Adds a pprof that is not compressed.
fn add(builder: &mut RequestBuilder, of: &Labels, profile: &Profile) -> u64 {
    let plain = Bytes::from(profile.encode_to_vec());
    let pprof = Pprof::new(plain.clone());
    builder.add(of, received(), &pprof, &plain).unwrap()
}

/// Encodes a request, has it judged, and decodes it.
fn finished(builder: RequestBuilder) -> ExportProfilesServiceRequest {
    let (len, profiles) = (builder.encoded_len(), builder.profiles());
    let encoded = builder.finish();
    assert_eq!(encoded.len(), len);
    let judged = opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest::decode(encoded.as_ref()).unwrap();
    assert_eq!(rules::broken(&judged), [""; 0]);
    let request = ExportProfilesServiceRequest::decode(encoded.as_ref()).unwrap();
    assert_eq!(request.encode_to_vec().len(), judged.encode_to_vec().len());
    let scopes = request
        .resource_profiles
        .iter()
        .flat_map(|r| &r.scope_profiles);
    let counted: usize = scopes.map(|s| s.profiles.len()).sum();
    assert_eq!(counted as u64, profiles);
    request
}

/// The request of one pprof.
fn request_of(of: &Labels, profile: &Profile) -> ExportProfilesServiceRequest {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    add(&mut builder, of, profile);
    finished(builder)
}

/// All pprofs of a request, each healthy.
fn back(request: &ExportProfilesServiceRequest, options: &PprofOptions<'_>) -> Vec<Converted> {
    let dictionary = request.dictionary.clone().unwrap_or_default();
    let mut all = Vec::new();
    for resource in &request.resource_profiles {
        let attributes = resource.resource.iter().flat_map(|r| &r.attributes);
        let of: Labels = attributes
            .filter_map(|a| Some((a.key.clone(), string(a.value.as_ref()?)?)))
            .collect();
        all.extend(to_pprof(&of, resource, &dictionary, options).unwrap());
    }
    all.iter().for_each(assert_healthy);
    all
}

fn string(value: &AnyValue) -> Option<String> {
    use crate::r#gen::opentelemetry::proto::common::v1::any_value::Value;
    match &value.value {
        Some(Value::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

/// What is known of a converted pprof is what a check finds, and no rule is broken.
fn assert_healthy(converted: &Converted) {
    let known = converted.pprof.check(MAX).unwrap();
    assert_eq!(known.broken, RuleSet::EMPTY);
    let anew = Pprof::new(converted.pprof.bytes().clone());
    assert_eq!(anew.check(MAX).unwrap(), known);
}

fn decoded(converted: &Converted) -> Profile {
    let decoded = converted.pprof.read(MAX, |plain| Profile::decode(plain));
    decoded.unwrap().unwrap()
}

/// A value of an attribute.
fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text_value(text: &str) -> Option<AnyValue> {
    any(Value::StringValue(text.to_owned()))
}
