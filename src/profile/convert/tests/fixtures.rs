//! Real profiles, where a checkout has them beside it in `../shared/fixtures`, or
//! where `PPROF_FIXTURES` says; skipped elsewhere.

use super::{
    MAX, back, decoded, finished, labels,
    meaning::{Meaning, meaning},
    options, received,
};
use crate::{
    r#gen::pprof::{Profile, ValueType},
    profile::{
        convert::{Converted, OriginalPayload, OtlpOptions, RequestBuilder},
        pprof::{Pprof, repair},
    },
};
use bytes::Bytes;
use prost::Message;
use std::{fs, io::Write, path::Path};

/// All profiles of both folders of fixtures, if there are any.
fn fixtures(test: &str) -> Vec<(String, Pprof)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/pprof");
    let root = std::env::var_os("PPROF_FIXTURES").map_or(root, Into::into);
    let mut found = Vec::new();
    for folder in ["captured", "parca"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            // Written past the capture of output, which the summary does not see.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: no ../shared/fixtures");
            return Vec::new();
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push((name, Pprof::new(Bytes::from(fs::read(&path).unwrap()))));
        }
    }
    assert!(found.len() > 40);
    found
}

/// What must come back: what any store is sent.
fn expected(pprof: &Pprof) -> Profile {
    let broken = pprof.check(MAX).unwrap().broken;
    let mended = |plain: &[u8]| repair(plain, broken, received()).unwrap().bytes;
    let sound = match broken.is_empty() {
        true => pprof.clone(),
        false => Pprof::new(pprof.read(MAX, mended).unwrap()),
    };
    let decoded = sound.read(MAX, |plain| Profile::decode(plain));
    let mut profile = decoded.unwrap().unwrap();
    let default = profile.default_sample_type;
    let is_default = |t: &ValueType| t.r#type == default;
    if !profile.sample_type.iter().any(is_default) {
        profile.default_sample_type = 0;
    }
    profile
}

fn assert_same(name: &str, converted: &Converted, pprof: &Pprof) {
    let (found, expected) = (meaning(&decoded(converted)), meaning(&expected(pprof)));
    assert_eq!(found.samples.len(), expected.samples.len(), "{name}");
    for (stack, values) in &expected.samples {
        assert_eq!(found.samples.get(stack), Some(values), "{name}: {stack}");
    }
    // Not compared with `assert_eq!`, which would print megabytes.
    let rest = |mut meaning: Meaning| {
        meaning.samples.clear();
        meaning
    };
    assert_eq!(rest(found), rest(expected), "{name}");
}

#[test]
fn real_profiles_come_back_one_by_one_and_all_together() {
    let fixtures = fixtures("real_profiles_come_back_one_by_one_and_all_together");
    let mut all = RequestBuilder::new(OtlpOptions::default());
    for (name, pprof) in &fixtures {
        let of = labels(&[("__name__", "memory"), ("file", name)]);
        let mut one = RequestBuilder::new(OtlpOptions::default());
        pprof
            .read(MAX, |plain| {
                one.add(&of, received(), pprof, plain).unwrap();
                all.add(&of, received(), pprof, plain).unwrap();
            })
            .unwrap();
        let converted = back(&finished(one), &options());
        assert_eq!(converted.len(), 1, "{name}");
        assert_same(name, &converted[0], pprof);
    }
    for converted in back(&finished(all), &options()) {
        let name = converted.labels.get("file").unwrap();
        let (_, pprof) = fixtures.iter().find(|(file, _)| file == name).unwrap();
        assert_same(name, &converted, pprof);
    }
}

#[test]
fn original_payloads_of_real_profiles_come_back_byte_for_byte() {
    for (name, pprof) in fixtures("original_payloads_of_real_profiles_come_back_byte_for_byte") {
        let mut builder = RequestBuilder::new(OtlpOptions {
            original_payload: OriginalPayload::Keep,
            ..OtlpOptions::default()
        });
        let of = labels(&[("file", &name)]);
        let added = pprof.read(MAX, |plain| builder.add(&of, received(), &pprof, plain));
        added.unwrap().unwrap();
        let request = finished(builder);
        let with = super::PprofOptions {
            original_payload: true,
            ..options()
        };
        let converted = back(&request, &with);
        match pprof.check(MAX).unwrap().broken.is_empty() {
            true => assert_eq!(converted[0].pprof.bytes(), pprof.bytes(), "{name}"),
            false => assert_same(&name, &converted[0], &pprof),
        }
        assert_same(&name, &back(&request, &options())[0], &pprof);
    }
}
