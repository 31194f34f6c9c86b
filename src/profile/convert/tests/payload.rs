use super::{MAX, back, decoded, finished, labels, meaning::meaning, options, received};
use crate::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::{
        convert::{OriginalPayload, OtlpOptions, PprofOptions, RequestBuilder},
        pprof::{Pprof, SyntheticProfile, compress},
    },
};

fn with_payload(pprof: &Pprof) -> ExportProfilesServiceRequest {
    let mut builder = RequestBuilder::new(OtlpOptions {
        original_payload: OriginalPayload::Keep,
        ..OtlpOptions::default()
    });
    let of = labels(&[("__name__", "memory")]);
    let added = pprof.read(MAX, |plain| builder.add(&of, received(), pprof, plain));
    assert_eq!(added.unwrap(), Ok(4));
    finished(builder)
}

fn use_payloads() -> PprofOptions<'static> {
    PprofOptions {
        original_payload: true,
        ..options()
    }
}

fn heap() -> Pprof {
    Pprof::new(SyntheticProfile::heap(1).encode())
}

#[test]
fn the_payload_is_on_one_profile_and_leaves_as_it_came() {
    let pprof = heap();
    let request = with_payload(&pprof);
    let profiles = &request.resource_profiles[0].scope_profiles[0].profiles;
    let payloads: Vec<_> = profiles.iter().map(|p| p.original_payload.len()).collect();
    assert_eq!(payloads, [pprof.bytes().len(), 0, 0, 0]);
    assert_eq!(profiles[0].original_payload_format, "pprof");
    assert_eq!(profiles[1].original_payload_format, "");
    let converted = back(&request, &use_payloads());
    assert_eq!(converted[0].pprof.bytes(), pprof.bytes());
    assert_eq!((converted.len(), converted[0].profiles), (1, 4));
}

#[test]
fn nobody_asked_for_it_so_it_is_not_used() {
    let pprof = heap();
    let converted = back(&with_payload(&pprof), &options());
    assert_ne!(converted[0].pprof.bytes(), pprof.bytes());
    let names = ["absent".to_owned()];
    let series = PprofOptions {
        series_attributes: &names,
        ..use_payloads()
    };
    let converted = back(&with_payload(&pprof), &series);
    assert_ne!(converted[0].pprof.bytes(), pprof.bytes());
}

/// What is done to a request, and how many sample types the pprof then has.
type Case = (&'static str, fn(&mut ExportProfilesServiceRequest), usize);

#[test]
fn what_is_not_the_original_of_these_profiles_is_not_used() {
    let pprof = heap();
    let cases: &[Case] = &[
        ("a sample type was dropped", |r| _ = profiles(r).pop(), 3),
        (
            "other format",
            |r| profiles(r)[0].original_payload_format = "jfr".into(),
            4,
        ),
        (
            "no pprof",
            |r| profiles(r)[0].original_payload = "<html>".into(),
            4,
        ),
        (
            "cut short",
            |r| {
                let payload = &mut profiles(r)[0].original_payload;
                *payload = payload.slice(..payload.len() - 9);
            },
            4,
        ),
        (
            "two different ones",
            |r| {
                let other = SyntheticProfile::heap(2).encode();
                profiles(r)[1].original_payload_format = "pprof".into();
                profiles(r)[1].original_payload = other;
            },
            4,
        ),
        (
            "a bomb",
            |r| {
                profiles(r)[0].original_payload = compress(&vec![0; MAX as usize + 1]);
            },
            4,
        ),
    ];
    for (name, edit, types) in cases {
        let mut request = with_payload(&pprof);
        edit(&mut request);
        let expected = meaning(&decoded(&back(&request, &options())[0]));
        let converted = back(&request, &use_payloads());
        assert_eq!(converted.len(), 1, "{name}");
        let found = meaning(&decoded(&converted[0]));
        assert_eq!(found, expected, "{name}");
        assert_eq!(found.types.len(), *types, "{name}");
    }
}

#[test]
fn a_copy_on_each_profile_is_one_original() {
    let pprof = heap();
    let mut request = with_payload(&pprof);
    for profile in profiles(&mut request) {
        profile.original_payload_format = "pprof".into();
        profile.original_payload = pprof.bytes().clone();
    }
    let converted = back(&request, &use_payloads());
    assert_eq!(converted.len(), 1);
    assert_eq!(converted[0].pprof.bytes(), pprof.bytes());
}

fn profiles(
    request: &mut ExportProfilesServiceRequest,
) -> &mut Vec<crate::r#gen::opentelemetry::proto::profiles::v1development::Profile> {
    &mut request.resource_profiles[0].scope_profiles[0].profiles
}
