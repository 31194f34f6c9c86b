//! One resource that is too large for a request, in two.
//!
//! Its profiles are dealt out at wire level, so unknown fields stay, and so does
//! the whole dictionary, in both halves: entries that only the other half refers
//! to are allowed, and costly only in bytes.

use super::{Compression, Otlp, Request, Unreadable, assemble};
use crate::profile::{
    Labels,
    wire::{Damage, Wire, len, put_bytes},
};
use std::ops::Range;

// Fields of `ExportProfilesServiceRequest`, `ResourceProfiles`, `ScopeProfiles`.
const RESOURCE_PROFILES: u32 = len(1);
const SCOPE_PROFILES: u32 = len(2);
const PROFILES: u32 = len(2);

/// Two requests with about half of the bytes of the profiles of `otlp` each,
/// under `labels`. `None` when it has one profile, or when its profiles weigh
/// less than what both halves must have, so that halving would not help.
pub fn halves(labels: &Labels, otlp: &Otlp) -> Result<Option<[Request; 2]>, Unreadable> {
    let alone = assemble(&[(labels, otlp)])?;
    let plain = match alone.compression {
        // Edited labels may have made it larger.
        Compression::None => alone.bytes,
        compressed => compressed.inflate(&alone.bytes, otlp.request().plain_len())?,
    };
    let undecodable = |damage: Damage| Unreadable::Undecodable(damage.to_string());
    let sizes = sizes(&plain).map_err(undecodable)?;
    let all: usize = sizes.iter().sum();
    if sizes.len() < 2 || all < plain.len() - all {
        return Ok(None);
    }
    let mut before = 0;
    let middle = sizes.iter().take_while(|size| {
        before += **size;
        before <= all / 2
    });
    let middle = middle.count().clamp(1, sizes.len() - 1);
    let half = |kept: Range<usize>| {
        let bytes = keep(&plain, &kept).map_err(undecodable)?;
        Request::read(bytes.into(), Compression::None, u64::MAX)
    };
    Ok(Some([half(0..middle)?, half(middle..sizes.len())?]))
}

/// The sizes of all profiles, in order.
fn sizes(plain: &[u8]) -> Result<Vec<usize>, Damage> {
    let mut sizes = Vec::new();
    let mut request = Wire(plain);
    while let Some(key) = request.key()? {
        if key != RESOURCE_PROFILES {
            request.skip(key)?;
            continue;
        }
        let mut resource = Wire(request.bytes()?);
        while let Some(key) = resource.key()? {
            if key != SCOPE_PROFILES {
                resource.skip(key)?;
                continue;
            }
            let mut scope = Wire(resource.bytes()?);
            while let Some(key) = scope.key()? {
                match key {
                    PROFILES => sizes.push(scope.bytes()?.len()),
                    _ => scope.skip(key)?,
                }
            }
        }
    }
    Ok(sizes)
}

/// The request with only the profiles `kept`, counted through all scopes.
fn keep(plain: &[u8], kept: &Range<usize>) -> Result<Vec<u8>, Damage> {
    let mut at = 0;
    copy(plain, RESOURCE_PROFILES, |resource, out| {
        let resource = copy(resource, SCOPE_PROFILES, |scope, out| {
            let scope = copy(scope, PROFILES, |profile, out| {
                if kept.contains(&at) {
                    put_bytes(out, PROFILES >> 3, profile);
                }
                at += 1;
                Ok(())
            })?;
            put_bytes(out, SCOPE_PROFILES >> 3, &scope);
            Ok(())
        })?;
        put_bytes(out, RESOURCE_PROFILES >> 3, &resource);
        Ok(())
    })
}

/// A copy of `message` in which `write` decides about the fields `chosen`.
fn copy(
    message: &[u8],
    chosen: u32,
    mut write: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Damage>,
) -> Result<Vec<u8>, Damage> {
    let mut out = Vec::with_capacity(message.len());
    let mut wire = Wire(message);
    loop {
        let before = wire.0;
        let Some(key) = wire.key()? else {
            return Ok(out);
        };
        if key == chosen {
            write(wire.bytes()?, &mut out)?;
        } else {
            wire.skip(key)?;
            out.extend_from_slice(&before[..before.len() - wire.0.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::Arc;

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, content);
        out
    }

    /// A request of one resource with two scopes of profiles of these sizes, and
    /// a field that no version knows at every level.
    fn otlp(scopes: [&[usize]; 2], dictionary: usize) -> (Labels, Otlp) {
        let profile = |size: &usize| field(2, &field(900, &vec![7; *size]));
        let scope = |sizes: &[usize]| {
            let profiles: Vec<u8> = sizes.iter().flat_map(profile).collect();
            field(2, &[field(901, b"scope"), profiles].concat())
        };
        let scopes: Vec<u8> = scopes.into_iter().flat_map(scope).collect();
        let resource = field(1, &[field(902, b"resource"), scopes].concat());
        let dictionary = field(2, &field(5, &vec![b'x'; dictionary]));
        let request = [resource, dictionary, field(903, b"request")].concat();
        let request = Request::read(request.into(), Compression::None, u64::MAX).unwrap();
        Arc::new(request).bodies().remove(0)
    }

    fn has(request: &Request, text: &[u8]) -> bool {
        request.wire().windows(text.len()).any(|part| part == text)
    }

    #[test]
    fn each_profile_is_in_one_half_and_all_else_in_both() {
        for (scopes, counts) in [
            ([&[100, 100][..], &[100, 100]], [2, 2]),
            ([&[1000, 10, 10], &[10]], [1, 3]),
            ([&[10, 10, 10], &[1000]], [3, 1]),
            ([&[100, 100], &[100]], [1, 2]),
        ] {
            let (labels, body) = otlp(scopes, 5);
            let halves = halves(&labels, &body).unwrap().unwrap();
            assert_eq!(halves.each_ref().map(Request::profiles), counts);
            for half in &halves {
                for known in [&b"scope"[..], b"resource", b"request", b"xxxxx"] {
                    assert!(has(half, known), "{scopes:?}");
                }
            }
        }
    }

    #[test]
    fn labels_are_those_of_now() {
        let (labels, body) = otlp([&[100, 100], &[]], 0);
        let mut edit = labels.edit();
        edit.set("service.name", "api");
        let edited = edit.build();
        let halves = halves(&edited, &body).unwrap().unwrap();
        for half in halves {
            assert_eq!(Arc::new(half).bodies()[0].0, edited);
        }
    }

    #[test]
    fn what_halving_does_not_help_stays_whole() {
        let (labels, single) = otlp([&[100], &[]], 0);
        assert!(halves(&labels, &single).unwrap().is_none());
        let (labels, heavy) = otlp([&[100, 100], &[]], 1_000);
        assert!(halves(&labels, &heavy).unwrap().is_none());
    }

    #[test]
    fn compressed_requests_are_inflated_for_it() {
        let (_, body) = otlp([&[100, 100], &[]], 0);
        let wire = Compression::Gzip.compress(body.request().wire()).unwrap();
        let request = Request::read(wire, Compression::Gzip, 1 << 20).unwrap();
        let (labels, body) = Arc::new(request).bodies().remove(0);
        let halves = halves(&labels, &body).unwrap().unwrap();
        let sizes = halves.map(|half: Request| Bytes::len(half.wire()));
        assert!(sizes.iter().all(|size| *size < 250), "{sizes:?}");
    }
}
