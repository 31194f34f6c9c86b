//! Tests of OTLP/JSON, by what they ask; what they share is here.

mod answers;
mod hostile;
mod read;
mod round_trip;
mod table;
mod write;

use super::{JsonError, request_from_json};
use crate::r#gen::opentelemetry::proto::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    profiles::v1development::{Profile, ProfilesDictionary, Sample},
};
use prost::Message;

/// The request that the JSON says.
fn request(json: &str) -> Result<ExportProfilesServiceRequest, JsonError> {
    let protobuf = request_from_json(json.as_bytes(), u64::MAX)?;
    Ok(ExportProfilesServiceRequest::decode(protobuf).unwrap())
}

/// The dictionary of a request that has no more.
fn dictionary(json: &str) -> Result<ProfilesDictionary, JsonError> {
    let request = request(&format!(r#"{{"dictionary":{json}}}"#))?;
    Ok(request.dictionary.unwrap())
}

/// The profile of a request that has no more.
fn profile(json: &str) -> Result<Profile, JsonError> {
    let scope = format!(r#"{{"scopeProfiles":[{{"profiles":[{json}]}}]}}"#);
    let mut request = request(&format!(r#"{{"resourceProfiles":[{scope}]}}"#))?;
    let mut resource = request.resource_profiles.remove(0);
    Ok(resource.scope_profiles.remove(0).profiles.remove(0))
}

/// The sample of a profile that has no more.
fn sample(json: &str) -> Result<Sample, JsonError> {
    let mut profile = profile(&format!(r#"{{"samples":[{json}]}}"#))?;
    Ok(profile.samples.remove(0))
}
