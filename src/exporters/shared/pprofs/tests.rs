use super::*;
use crate::profile::{
    Labels, NAME,
    arrow::SyntheticArrow,
    convert::{OtlpOptions, RequestBuilder},
    otlp::{Compression, Request},
    pprof::{Pprof, SyntheticProfile, summarize},
};
use std::{sync::Arc, time::UNIX_EPOCH};

const MAX: u64 = 16 << 20;

/// One OTLP request of these pprofs, a resource for each `job`.
pub(crate) fn as_otlp(pprofs: &[(&str, Pprof)], compression: Compression) -> Vec<Profile> {
    let mut builder = RequestBuilder::new(OtlpOptions::default());
    for (job, pprof) in pprofs {
        let labels: Labels = [(NAME, "memory"), ("job", job)].into_iter().collect();
        let add = |plain: &[u8]| builder.add(&labels, UNIX_EPOCH, pprof, plain);
        pprof.read(MAX, add).unwrap().unwrap();
    }
    let wire = compression.compress(&builder.finish()).unwrap();
    let request = Request::read(wire, compression, MAX).unwrap();
    let bodies = Arc::new(request).bodies().into_iter();
    bodies
        .map(|(labels, otlp)| Profile {
            labels,
            body: Body::Otlp(otlp),
            received: UNIX_EPOCH,
        })
        .collect()
}

fn heap(seed: u64) -> Pprof {
    Pprof::new(SyntheticProfile::heap(seed).encode())
}

fn totals(pprof: &Pprof) -> Vec<(String, i64)> {
    let summary = pprof.read(MAX, summarize).unwrap().unwrap();
    let types = summary.sample_types.into_iter();
    types.map(|t| (t.r#type, t.total)).collect()
}

const CONVERT: AsPprof = AsPprof { max_inflated: MAX };

#[test]
fn a_request_of_several_comes_back_as_their_pprofs() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (api, web) = (heap(1), heap(2));
        let pprofs = [("api", api.clone()), ("web", web.clone())];
        let mut profiles = as_otlp(&pprofs, compression);
        assert_eq!(profiles.len(), 2);
        profiles.push(Profile {
            labels: Labels::default(),
            body: Body::Pprof(api.clone()),
            received: UNIX_EPOCH,
        });
        let memory = Budget::new(u64::MAX);
        let all = CONVERT.all(&profiles, &memory).unwrap();
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        for (job, before, after) in [("api", &api, &all[0]), ("web", &web, &all[1])] {
            assert_eq!(after.len(), 1);
            assert_eq!(totals(after[0].body.as_pprof().unwrap()), totals(before));
            let labels = format!(r#"{{__name__="memory", job="{job}"}}"#);
            assert_eq!(after[0].labels.to_string(), labels);
        }
        assert_eq!(all[2][0].body.as_pprof().unwrap().bytes(), api.bytes());
        assert_eq!(memory.used(), 0);
    }
}

#[test]
fn without_memory_it_is_for_later() {
    let profiles = as_otlp(&[("api", heap(1))], Compression::Gzip);
    let plain = profiles[0].body.as_otlp().unwrap().request().plain_len();
    for limit in [plain - 1, plain + 1_000] {
        let memory = Budget::new(limit);
        let NoMemory { needed } = CONVERT.all(&profiles, &memory).unwrap_err();
        assert!(needed > limit);
        assert_eq!(memory.used(), 0);
    }
}

#[test]
fn what_cannot_be_decoded_is_told_and_alone_so() {
    // A profile whose sample type is beyond the string table, and one without
    // any dictionary.
    let bad = [0x0a, 8, 0x12, 6, 0x12, 4, 0x0a, 2, 0x08, 99];
    let request = Request::read(bad.to_vec().into(), Compression::None, MAX).unwrap();
    let mut profiles = as_otlp(&[("api", heap(1))], Compression::None);
    let body = Arc::new(request).bodies().remove(0).1;
    profiles.insert(
        0,
        Profile {
            labels: Labels::default(),
            body: Body::Otlp(body),
            received: UNIX_EPOCH,
        },
    );
    let all = CONVERT.all(&profiles, &Budget::new(u64::MAX)).unwrap();
    let error = all[0].as_ref().unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidProfile);
    assert!(error.to_string().contains("table"), "{error}");
    assert!(all[1].is_ok());
}

#[test]
fn what_parca_agent_pushed_becomes_pprofs_of_its_processes() {
    let synthetic = SyntheticArrow::busy(1);
    for arrow in [synthetic.v1().unwrap(), synthetic.v2().unwrap()] {
        let profile = Profile {
            labels: [("model", "apps")].into_iter().collect(),
            body: Body::ParcaArrow(arrow),
            received: UNIX_EPOCH,
        };
        let memory = Budget::new(u64::MAX);
        let all = CONVERT
            .all(std::slice::from_ref(&profile), &memory)
            .unwrap();
        assert_eq!(memory.used(), 0);
        let pprofs = all[0].as_ref().unwrap();
        assert_eq!(pprofs.len(), 12);
        let sum = |profile: &Profile| totals(profile.body.as_pprof().unwrap())[0].1;
        assert_eq!(pprofs.iter().map(sum).sum::<i64>(), 2_000);
        let labels = pprofs[0].labels.to_string();
        let expected = r#"{__name__="parca_agent", comm="proc-"#;
        assert!(labels.starts_with(expected), "{labels}");
        assert!(labels.ends_with(r#", model="apps"}"#), "{labels}");
        // Without memory it is for later.
        let needed = match &profile.body {
            Body::ParcaArrow(arrow) => arrow.decoded(MAX).unwrap(),
            _ => 0,
        };
        let memory = Budget::new(needed - 1);
        assert!(CONVERT.all(&[profile], &memory).is_err());
        assert_eq!(memory.used(), 0);
    }
}
