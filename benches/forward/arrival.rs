//! What the sink makes of a request that arrives: is it the one that was sent,
//! and when was that?

use crate::{
    Result,
    args::Coding,
    template::{Id, Template},
};
use bytes::Bytes;
use flate2::read::GzDecoder;
use profile_relay::r#gen::opentelemetry::proto::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    profiles::v1development::KeyValueAndUnit,
};
use prost::{Message, bytes::Buf};
use std::io::Read;

/// The fields down to the first profile's id, all of them with a length.
const PATH: [u64; 4] = [1, 2, 2, 7];
/// Of a compressed request that is not the one that was sent, so much is inflated
/// at first to find its id, in bytes.
const FIRST: usize = 4096;

/// How far one gets with the start of a message.
enum Found {
    Id(Id),
    /// So many bytes of the message are needed.
    Needs(usize),
    Nothing,
}

/// The id of the first profile, wherever it is; as little as possible is inflated.
pub(crate) fn id(body: &[u8], coding: Coding) -> Option<Id> {
    let mut plain = Vec::new();
    let mut inflate = GzDecoder::new(body);
    let mut needed = FIRST;
    loop {
        let start = match coding {
            Coding::None => body,
            Coding::Gzip => {
                let more = needed.saturating_sub(plain.len()) as u64;
                if inflate.by_ref().take(more).read_to_end(&mut plain).ok()? == 0 {
                    return None;
                }
                &plain
            }
        };
        match locate(start) {
            Found::Id(id) => return Some(id),
            Found::Needs(bytes) if coding == Coding::Gzip => needed = bytes.max(2 * needed),
            Found::Needs(_) | Found::Nothing => return None,
        }
    }
}

/// Goes down [`PATH`] from the start of a message.
fn locate(message: &[u8]) -> Found {
    let (mut at, mut end) = (0, usize::MAX);
    for field in PATH {
        loop {
            if at >= end {
                return Found::Nothing;
            }
            let Some((key, content)) = varint(message, at) else {
                return Found::Needs(at + FIRST);
            };
            let (start, after) = match key & 7 {
                0 => match varint(message, content) {
                    Some((_, after)) => (content, after),
                    None => return Found::Needs(at + FIRST),
                },
                1 => (content, content + 8),
                2 => match varint(message, content) {
                    Some((len, start)) => (start, start.saturating_add(len as usize)),
                    None => return Found::Needs(at + FIRST),
                },
                5 => (content, content + 4),
                _ => return Found::Nothing,
            };
            if key >> 3 == field && key & 7 == 2 {
                (at, end) = (start, after);
                break;
            }
            at = after;
        }
    }
    match message.get(at..end) {
        Some(bytes) => Id::read(bytes).map_or(Found::Nothing, Found::Id),
        None => Found::Needs(end),
    }
}

/// A number and where it ends.
fn varint(message: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut rest = message.get(at..)?;
    let before = rest.len();
    let number = prost::encoding::decode_varint(&mut rest).ok()?;
    Some((number, at + before - rest.remaining()))
}

/// Whether a body says the same as the template, in other bytes.
pub(crate) fn says_the_same(template: &Template, body: &[u8], coding: Coding) -> Result<bool> {
    let mut plain = Vec::new();
    match coding {
        Coding::None => plain.extend_from_slice(body),
        Coding::Gzip => drop(GzDecoder::new(body).read_to_end(&mut plain)?),
    }
    let sent = meaning(ExportProfilesServiceRequest::decode(&template.plain[..])?);
    let mut arrived = meaning(ExportProfilesServiceRequest::decode(&plain[..])?);
    // Attributes by index have their strings behind all others.
    if let (Some(sent), Some(arrived)) = (&sent.dictionary, &mut arrived.dictionary) {
        arrived.string_table.truncate(sent.string_table.len());
    }
    Ok(sent == arrived)
}

/// A request without what may be written in several ways: attributes of resources
/// and scopes by name or by index, zero values of tables, and
/// the id.
fn meaning(mut request: ExportProfilesServiceRequest) -> ExportProfilesServiceRequest {
    let Some(dictionary) = &mut request.dictionary else {
        return request;
    };
    let strings = std::mem::take(&mut dictionary.string_table);
    let inline = |attribute: &mut KeyValue| {
        let text = |at: i32| strings.get(at as usize).cloned().unwrap_or_default();
        if attribute.key.is_empty() {
            attribute.key = text(std::mem::take(&mut attribute.key_strindex));
        }
        let value = attribute.value.as_mut().and_then(|any| any.value.as_mut());
        if let Some(value) = value
            && let Value::StringValueStrindex(at) = value
        {
            *value = Value::StringValue(text(*at));
        }
    };
    for resource in &mut request.resource_profiles {
        let attributes = resource.resource.iter_mut().flat_map(|r| &mut r.attributes);
        attributes.for_each(inline);
        let scopes = resource.scope_profiles.iter_mut();
        let scopes = scopes.flat_map(|scope| scope.scope.as_mut());
        scopes.flat_map(|s| &mut s.attributes).for_each(inline);
    }
    dictionary.string_table = strings;
    if let Some(link) = dictionary.link_table.first_mut() {
        (link.trace_id, link.span_id) = (Bytes::new(), Bytes::new());
    }
    if let Some(attribute) = dictionary.attribute_table.first_mut() {
        *attribute = KeyValueAndUnit::default();
    }
    let profile = request.resource_profiles.first_mut();
    let profile = profile.and_then(|resource| resource.scope_profiles.first_mut());
    if let Some(profile) = profile.and_then(|scope| scope.profiles.first_mut()) {
        profile.profile_id = Bytes::new();
    }
    request
}
