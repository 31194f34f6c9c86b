//! pprof → OTLP: several pprofs as one request with one dictionary.
//!
//! The pprof's format is google/pprof's `profile.proto`, the request's layout that
//! of opentelemetry-proto 1.10.
//!
//! | of a pprof | becomes |
//! |---|---|
//! | a pprof | one `ScopeProfiles` with a `Profile` for each sample type, in order |
//! | label `__name__` | `scope.name` |
//! | other labels | string attributes of the resource, under the same name and inline; pprofs with equal ones share a `ResourceProfiles`. A label `job` stays `job`: no `service.name` is made up, and `service_name` is not taken for it |
//! | sample | one `Sample` in each profile where its value is not 0; samples with equal stacks and labels are added up |
//! | sample whose values are all 0 | one `Sample` of value 0, in the first profile |
//! | sample type without samples | one `Sample` of value 0 without a stack, because receivers refuse or ignore a profile without any |
//! | label of a sample | attribute with the label's key: a string, or an integer with the label's unit |
//! | several labels of one key | an array; of units the first number's is kept, a number with another becomes text (`2 kb`) |
//! | sample types, period, period type, duration | kept |
//! | no period type | the default sample type, else the first: an empty one breaks Parca's list of profiles |
//! | time | kept; 0 or negative: the time of receipt |
//! | mapping | kept, `has_*` as attributes `pprof.mapping.*`, the build id as `process.executable.build_id.go` when it has slashes, else `….gnu` |
//! | location, line, column, function | kept; `is_folded` as attribute `pprof.location.is_folded` |
//! | comments, drop and keep frames, doc URL | attributes `pprof.profile.*` of each profile |
//! | default sample type | attribute `pprof.scope.default_sample_type` of the scope |
//! | the order of sample types | attribute `pprof.scope.sample_type_order` of the scope, when there are several |
//! | the pprof itself | `original_payload` of the first profile, when asked for: the bytes as they came, gzip or not |
//!
//! Lost, unless the original payload goes along: ids, unknown fields, the order of
//! a sample's labels, a unit of a string label, mappings and other entries that no
//! sample refers to, a mapping without any content, a negative duration or period
//! (becomes 0), and whatever breaks the tables (what is mended is in
//! [`crate::profile::pprof::Rule`]). There are no timestamps, links and profile ids.

use super::{
    ConvertError,
    dictionary::{Dictionary, Value, put_attribute},
    put::{field_len, put_message},
    source::Source,
    translation::{Scope, Translation},
};
use crate::{
    r#gen::{
        opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
        pprof::Profile,
    },
    profile::{
        Labels, NAME,
        pprof::{Pprof, Rule, RuleSet, decode},
        wire::put_bytes,
    },
};
use bytes::Bytes;
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// Whether the pprof itself goes along with what was made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OriginalPayload {
    /// It does not.
    #[default]
    None,
    /// It does, which about doubles the size.
    Keep,
}

/// How pprofs become a request.
#[derive(Clone, Copy, Debug)]
pub struct OtlpOptions {
    /// Whether the pprofs go along.
    pub original_payload: OriginalPayload,
    /// The bytes that a request may have before compression; a pprof beyond it
    /// is refused.
    pub max_bytes: u64,
}

/// A request in the making.
#[derive(Debug)]
pub struct RequestBuilder {
    options: OtlpOptions,
    dictionary: Dictionary,
    /// The contents of `ResourceProfiles`: the resource, then scopes.
    resources: Vec<Vec<u8>>,
    /// The bytes of all resources as fields.
    resources_len: usize,
    /// Places in `resources`.
    by_labels: HashMap<Labels, usize>,
    profiles: u64,
}

/// Receivers cannot take more, and indices have 31 bits.
const MAX_BYTES: u64 = i32::MAX as u64;
/// What is the matter with a pprof whose tables have to be mended first.
const TABLES: [Rule; 11] = [
    Rule::FirstString,
    Rule::InvalidUtf8,
    Rule::StringIndex,
    Rule::Ids,
    Rule::MappingReference,
    Rule::FunctionReference,
    Rule::LocationReference,
    Rule::LineWithoutFunction,
    Rule::EmptyFunction,
    Rule::ValueCount,
    Rule::LabelWithoutKey,
];

// === impl OtlpOptions ===

impl Default for OtlpOptions {
    fn default() -> Self {
        Self {
            original_payload: OriginalPayload::None,
            max_bytes: MAX_BYTES,
        }
    }
}

// === impl RequestBuilder ===

impl RequestBuilder {
    /// A request without profiles.
    pub fn new(options: OtlpOptions) -> Self {
        Self {
            options,
            dictionary: Dictionary::new(),
            resources: Vec::new(),
            resources_len: 0,
            by_labels: HashMap::new(),
            profiles: 0,
        }
    }

    /// Adds a pprof and returns how many OTLP profiles it is: one for each sample
    /// type. `inflated` are its bytes without gzip; `received` stands in for a
    /// missing time. On an error the request is as it was.
    ///
    /// One whose tables are broken is mended first, as before it goes to any
    /// other backend.
    pub fn add(
        &mut self,
        labels: &Labels,
        received: SystemTime,
        pprof: &Pprof,
        inflated: &[u8],
    ) -> Result<u64, ConvertError> {
        let checked = pprof.check(inflated.len() as u64);
        let broken = checked.map_err(Clone::clone)?.broken;
        if let Some(rule) = broken.fatal() {
            return Err(ConvertError::Broken(rule));
        }
        match tables_are_broken(broken) {
            false => self.add_sound(labels, received, pprof, inflated),
            true => {
                let (mended, _): (Profile, RuleSet) = decode(inflated)?;
                self.add_sound(labels, received, pprof, &mended.encode_to_vec())
            }
        }
    }

    /// The OTLP profiles so far.
    pub fn profiles(&self) -> u64 {
        self.profiles
    }

    /// The bytes of the request as it stands, before compression.
    pub fn encoded_len(&self) -> usize {
        self.resources_len + field_len(self.dictionary.encoded_len())
    }

    /// The encoded `ExportProfilesServiceRequest`.
    pub fn finish(self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len() + 16);
        for resource in &self.resources {
            put_bytes(&mut out, 1, resource);
        }
        self.dictionary.put(&mut out, 2);
        out.into()
    }

    /// The request as a message.
    pub fn finish_message(self) -> ExportProfilesServiceRequest {
        // Its own encoding, of strings that were checked.
        ExportProfilesServiceRequest::decode(self.finish()).unwrap_or_default()
    }

    /// The bytes that the request may have.
    pub(super) fn max_bytes(&self) -> u64 {
        self.options.max_bytes.min(MAX_BYTES)
    }

    /// Adds what `translate` makes with the dictionary: labels of resources, contents
    /// of scopes, and how many profiles those have. All of it, or nothing.
    pub(super) fn add_scopes(
        &mut self,
        translate: impl FnOnce(&mut Dictionary) -> Result<Vec<(Labels, Vec<u8>, u64)>, ConvertError>,
    ) -> Result<u64, ConvertError> {
        let mark = self.dictionary.mark();
        let max = self.max_bytes();
        let added = translate(&mut self.dictionary).and_then(|scopes| {
            let grown = scopes.iter().map(|(labels, content, _)| {
                // Each may be the first of its resource, and make lengths longer.
                field_len(content.len()) + labels.byte_len() + 40 * labels.len() + 32
            });
            let size = self.encoded_len() + grown.sum::<usize>();
            match size as u64 > max {
                true => Err(ConvertError::TooLarge { max }),
                false => Ok(scopes),
            }
        });
        let scopes = match added {
            Ok(scopes) => scopes,
            Err(error) => {
                self.dictionary.cut(mark);
                return Err(error);
            }
        };
        let mut profiles = 0;
        for (labels, content, count) in scopes {
            self.push(&labels, &content, u64::MAX)?;
            profiles += count;
        }
        self.profiles += profiles;
        Ok(profiles)
    }

    fn add_sound(
        &mut self,
        labels: &Labels,
        received: SystemTime,
        pprof: &Pprof,
        inflated: &[u8],
    ) -> Result<u64, ConvertError> {
        let source = Source::read(inflated)?;
        let profiles = source.sample_types.len() as u64;
        if profiles == 0 {
            return Ok(0);
        }
        let max = self.max_bytes();
        let keep = self.options.original_payload == OriginalPayload::Keep;
        let scope = Scope {
            name: labels.name().unwrap_or_default(),
            time: time(&source, received),
            payload: keep.then(|| pprof.bytes()),
            max: max as usize,
        };
        let mark = self.dictionary.mark();
        let content = Translation::new(&source, &mut self.dictionary).scope(&scope);
        let added = content.and_then(|content| self.push(labels, &content, max));
        match added {
            Ok(()) => {
                self.profiles += profiles;
                Ok(profiles)
            }
            Err(error) => {
                self.dictionary.cut(mark);
                Err(error)
            }
        }
    }

    /// Adds a scope to the resource with these labels, unless the request then
    /// has more than `max` bytes.
    fn push(&mut self, labels: &Labels, scope: &[u8], max: u64) -> Result<(), ConvertError> {
        let mut labels = labels.edit();
        labels.remove(NAME);
        let labels = labels.build();
        let known = self.by_labels.get(&labels).copied();
        let place = known.unwrap_or(self.resources.len());
        let mut resource = match known {
            Some(place) => std::mem::take(&mut self.resources[place]),
            None => resource(&labels),
        };
        let (len, before) = (resource.len(), self.resources_len);
        if known.is_some() {
            self.resources_len -= field_len(len);
        }
        put_bytes(&mut resource, 2, scope);
        self.resources_len += field_len(resource.len());
        let is_too_large = self.encoded_len() as u64 > max;
        if is_too_large {
            resource.truncate(len);
            self.resources_len = before;
        }
        match known {
            Some(place) => self.resources[place] = resource,
            None if is_too_large => {}
            None => {
                self.by_labels.insert(labels, place);
                self.resources.push(resource);
            }
        }
        match is_too_large {
            true => Err(ConvertError::TooLarge { max }),
            false => Ok(()),
        }
    }
}

/// The beginning of a `ResourceProfiles`: its resource, also when it says nothing,
/// because there are receivers that do not survive its absence.
fn resource(labels: &Labels) -> Vec<u8> {
    let mut content = Vec::with_capacity(labels.byte_len() + 32 * labels.len() + 8);
    put_message(&mut content, 1, |out| {
        for label in labels {
            put_attribute(out, 1, &label.name, Value::Text(label.value.as_bytes()));
        }
    });
    content
}

fn tables_are_broken(broken: RuleSet) -> bool {
    TABLES.into_iter().any(|rule| broken.contains(rule))
}

/// Start of collection, nanoseconds since the epoch.
fn time(source: &Source<'_>, received: SystemTime) -> u64 {
    match u64::try_from(source.time_nanos) {
        Ok(time @ 1..) => time,
        _ => {
            let since = received.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }
    }
}
