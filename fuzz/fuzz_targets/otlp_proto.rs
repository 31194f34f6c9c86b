//! OTLP requests: what is read passes unchanged, in whole and in part, and is
//! what prost would decode.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::{
        Labels,
        otlp::{Compression, Otlp, Request, assemble, census},
    },
};
use prost::Message;
use std::sync::Arc;

const MAX: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    match first & 15 {
        // Streams that are broken, or bombs.
        0 => _ = Request::read(Bytes::copy_from_slice(rest), Compression::Gzip, MAX),
        1 => _ = Request::read(Bytes::copy_from_slice(rest), Compression::Zstd, MAX),
        2 => passes(&support::message(rest), Compression::Gzip),
        3 => passes(&support::message(rest), Compression::Zstd),
        _ => passes(&support::message(rest), Compression::None),
    }
});

fn passes(plain: &[u8], compression: Compression) {
    let plain = Bytes::copy_from_slice(plain);
    let wire = compression.compress(&plain).expect("memory holds it");
    let Ok(request) = Request::read(wire.clone(), compression, MAX) else {
        return;
    };
    let request = Arc::new(request);
    assert_eq!(request.plain(), Ok(plain.clone()));
    let bodies = request.clone().bodies();
    let profiles: u64 = bodies.iter().map(|(_, otlp)| otlp.profiles()).sum();
    assert_eq!(profiles, request.profiles());
    let parts: Vec<_> = bodies.iter().map(|(labels, otlp)| (labels, otlp)).collect();
    if parts.is_empty() {
        return;
    }
    let whole = assemble(&parts).expect("what was read is assembled");
    assert_eq!((whole.bytes, whole.compression), (wire, compression));
    // Each copies the dictionary.
    for part in parts.iter().take(4) {
        alone(part);
        edited(part);
    }
    decodes(&plain, &bodies);
}

fn alone((labels, otlp): &(&Labels, &Otlp)) {
    let encoded = assemble(&[(labels, otlp)]).expect("a resource is assembled");
    let again = reread(encoded.bytes, encoded.compression);
    assert_eq!(again.profiles(), otlp.profiles());
    let bodies = again.bodies();
    assert_eq!(bodies[0].0, **labels);
}

fn edited((labels, otlp): &(&Labels, &Otlp)) {
    let mut edit = labels.edit();
    edit.set("a", "1");
    edit.remove("service.name");
    let edited = edit.build();
    let encoded = assemble(&[(&edited, otlp)]).expect("an edited resource is assembled");
    let again = reread(encoded.bytes, encoded.compression);
    assert_eq!(again.profiles(), otlp.profiles());
    assert_eq!(again.bodies()[0].0, edited);
}

fn reread(bytes: Bytes, compression: Compression) -> Arc<Request> {
    let request = Request::read(bytes, compression, 4 * MAX);
    Arc::new(request.expect("what was assembled is read"))
}

fn decodes(plain: &Bytes, bodies: &[(Labels, Otlp)]) {
    // What the guard refuses nobody decodes.
    if census(plain).is_err() {
        return;
    }
    let Ok(whole) = ExportProfilesServiceRequest::decode(plain.clone()) else {
        return;
    };
    let mut expected = whole.resource_profiles.iter().filter(|resource| {
        let mut scopes = resource.scope_profiles.iter();
        scopes.any(|scope| !scope.profiles.is_empty())
    });
    for (_, otlp) in bodies {
        let (resource, dictionary) = otlp.decode().expect("each part of it is decoded");
        let expected = expected.next().expect("as many");
        // A not-a-number is not equal to itself.
        assert_eq!(resource.encode_to_vec(), expected.encode_to_vec());
        let tables = whole.dictionary.clone().unwrap_or_default();
        assert_eq!(dictionary.encode_to_vec(), tables.encode_to_vec());
    }
    assert!(expected.next().is_none());
}
