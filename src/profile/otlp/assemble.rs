//! Bodies of one request as one request again.

use super::{
    Compression, Otlp, Request, Unreadable, attributes,
    attributes::Strings,
    outline::{Place, RESOURCE},
};
use crate::profile::{
    Labels,
    wire::{Wire, put_bytes},
};
use bytes::Bytes;

/// An encoded request as it can leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub bytes: Bytes,
    /// How they are compressed.
    pub compression: Compression,
}

/// One request of `parts`, all of them bodies of the same request, each with its
/// labels as they are now.
///
/// When all bodies are there and no label was edited, the result is the bytes
/// that arrived, compressed as they were. Else it is plain: resources whose
/// labels are unchanged keep their bytes, of the others the resource alone is
/// written anew, and the dictionary and all unknown fields stay.
///
/// A part of another request than the first is left out; callers group by
/// [`Otlp::is_of`].
pub fn assemble(parts: &[(&Labels, &Otlp)]) -> Result<Encoded, Unreadable> {
    let Some((_, first)) = parts.first() else {
        return Ok(Encoded {
            bytes: Bytes::new(),
            compression: Compression::None,
        });
    };
    if let Some(untouched) = untouched(parts) {
        return Ok(untouched);
    }
    let request = first.request();
    let plain = request.plain()?;
    let outline = request.outline();
    let dictionary: Vec<&[u8]> = outline
        .dictionary
        .iter()
        .map(|at| &plain[at.clone()])
        .collect();
    let mut strings = Strings::new(&dictionary);
    let mut out = Vec::with_capacity(plain.len() + 64);
    for (labels, otlp) in parts.iter().filter(|(_, otlp)| otlp.is_of(first)) {
        let resource = otlp.outlined();
        if *labels == otlp.labels() {
            out.extend_from_slice(&plain[resource.field.clone()]);
        } else {
            let content = &plain[resource.content.clone()];
            let place = Place::new(&plain, "resource_profiles");
            let edited = edit(content, &place, &mut strings, labels)?;
            put_bytes(&mut out, 1, &edited);
        }
    }
    for at in &outline.rest {
        out.extend_from_slice(&plain[at.clone()]);
    }
    Ok(Encoded {
        bytes: out.into(),
        compression: Compression::None,
    })
}

/// The bytes that arrived, when `parts` are all bodies of one request and no
/// label was edited; costs no copy.
pub fn untouched(parts: &[(&Labels, &Otlp)]) -> Option<Encoded> {
    let (_, first) = parts.first()?;
    let request = first.request();
    let whole = parts.iter().all(|(_, otlp)| otlp.is_of(first)) && is_whole(request, parts);
    whole.then(|| Encoded {
        bytes: request.wire().clone(),
        compression: request.compression(),
    })
}

/// Whether `parts` are all there is, as it was and in order.
fn is_whole(request: &Request, parts: &[(&Labels, &Otlp)]) -> bool {
    parts.len() == request.outline().resources.len()
        && parts
            .iter()
            .enumerate()
            .all(|(at, (labels, otlp))| otlp.at() == at && *labels == otlp.labels())
}

/// A `ResourceProfiles` with its `Resource` written anew.
fn edit<'a>(
    content: &'a [u8],
    place: &Place<'_>,
    strings: &mut Strings<'a>,
    labels: &Labels,
) -> Result<Vec<u8>, Unreadable> {
    let mut resource = Vec::new();
    let mut others = Vec::with_capacity(content.len());
    let mut wire = Wire(content);
    loop {
        let before = wire.0;
        let Some(key) = place.check(wire.0, wire.key())? else {
            break;
        };
        if key == RESOURCE {
            // Given twice, messages merge, which is to follow one another.
            resource.extend_from_slice(place.check(wire.0, wire.bytes())?);
        } else {
            place.check(wire.0, wire.skip(key))?;
            others.extend_from_slice(&before[..before.len() - wire.0.len()]);
        }
    }
    let edited = place.check(content, attributes::edited(&resource, strings, labels))?;
    let mut out = Vec::with_capacity(edited.len() + others.len() + 8);
    put_bytes(&mut out, RESOURCE >> 3, &edited);
    out.extend_from_slice(&others);
    Ok(out)
}
