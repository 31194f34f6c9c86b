//! The conversions before other people's eyes: another implementation's messages
//! of OTLP, and Go's own reader of pprof.
#![allow(clippy::expect_used, reason = "what cannot be set up has failed")]

#[path = "../src/profile/convert/tests/rules.rs"]
mod rules;
mod support;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest as Judged;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::{
        Labels,
        convert::{
            Converted, OriginalPayload, OtlpOptions, PprofOptions, RequestBuilder, to_pprof,
        },
        pprof::{FlatValue, Pprof, RuleSet, SyntheticProfile, summarize, top},
    },
};
use prost::Message;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use support::skipped;

const MAX: u64 = 1 << 28;

fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn labels(name: &str) -> Labels {
    [("__name__", "memory"), ("job", name)]
        .into_iter()
        .collect()
}

fn request(pprofs: &[(String, Pprof)]) -> Bytes {
    let mut builder = RequestBuilder::new(OtlpOptions {
        original_payload: OriginalPayload::Keep,
        ..OtlpOptions::default()
    });
    for (name, pprof) in pprofs {
        let add = |plain: &[u8]| builder.add(&labels(name), received(), pprof, plain);
        pprof.read(MAX, add).expect(name).expect(name);
    }
    builder.finish()
}

/// What the messages of a request become, healthy and gzip.
fn back(encoded: &[u8]) -> Vec<Converted> {
    let request = ExportProfilesServiceRequest::decode(encoded).expect("our own messages");
    let dictionary = request.dictionary.as_ref().expect("a dictionary");
    let options = PprofOptions {
        received: received(),
        max_inflated: MAX,
        series_attributes: &[],
        max_series: 0,
        original_payload: false,
        gzip: true,
    };
    let mut all = Vec::new();
    for (place, resource) in request.resource_profiles.iter().enumerate() {
        let of = labels(&place.to_string());
        all.extend(to_pprof(&of, resource, dictionary, &options).expect("indices of ours"));
    }
    for converted in &all {
        let checked = converted.pprof.check(MAX).expect("a pprof");
        assert_eq!(checked.broken, RuleSet::EMPTY);
    }
    all
}

fn synthetic() -> Vec<(String, Pprof)> {
    let with_labels = SyntheticProfile {
        labels: vec![("tenant".to_owned(), 4)],
        duration: Duration::from_secs(10),
        ..SyntheticProfile::heap(2)
    };
    vec![
        (
            "heap".to_owned(),
            Pprof::new(SyntheticProfile::heap(1).encode()),
        ),
        ("labels".to_owned(), Pprof::new(with_labels.encode())),
    ]
}

/// Real profiles, where a checkout has them beside it in `../shared/fixtures`, or
/// where `PPROF_FIXTURES` says.
fn real(test: &str) -> Vec<(String, Pprof)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/pprof");
    let root = std::env::var_os("PPROF_FIXTURES").map_or(root, Into::into);
    let mut found = Vec::new();
    for folder in ["parca", "captured"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            skipped(test, "no ../shared/fixtures");
            return Vec::new();
        };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let bytes = fs::read(&path).expect("a file");
            found.push((name, Pprof::new(bytes.into())));
        }
    }
    assert!(found.len() > 40);
    found
}

type Flat = BTreeMap<String, i64>;

/// The flat values by function of the sample type at `place`, as our own reader
/// has them.
fn flat(pprof: &Pprof, place: usize) -> Flat {
    let read = |plain: &[u8]| {
        let summary = summarize(plain).expect("a pprof");
        let kind = summary.sample_types[place].r#type.clone();
        top(plain, Some(&kind), usize::MAX).expect("a pprof")
    };
    let values = pprof.read(MAX, read).expect("a pprof").into_iter();
    let pair = |FlatValue { function, flat }: FlatValue| (function, flat);
    values.map(pair).collect()
}

/// The same of OTLP, through the other implementation.
fn judged_flat(request: &Judged, resource: usize, place: usize) -> Flat {
    let dictionary = request.dictionary.as_ref().expect("a dictionary");
    let scope = &request.resource_profiles[resource].scope_profiles[0];
    let mut flat = Flat::new();
    for sample in &scope.profiles[place].samples {
        let stack = &dictionary.stack_table[sample.stack_index as usize];
        let name = stack.location_indices.first().map(|leaf| {
            let location = &dictionary.location_table[*leaf as usize];
            let function = location.lines.first().map(|line| {
                let function = &dictionary.function_table[line.function_index as usize];
                dictionary.string_table[function.name_strindex as usize].clone()
            });
            function.unwrap_or_else(|| format!("{:#x}", location.address))
        });
        *flat
            .entry(name.unwrap_or("(no stack)".to_owned()))
            .or_default() += sample.values[0];
    }
    flat.retain(|_, value| *value != 0);
    flat
}

#[test]
fn another_implementation_reads_the_same_numbers() {
    let pprofs = [
        synthetic(),
        real("another_implementation_reads_the_same_numbers"),
    ]
    .concat();
    let encoded = request(&pprofs);
    let judged = Judged::decode(encoded.as_ref()).expect("the other's messages");
    assert_eq!(rules::broken(&judged), [""; 0]);
    assert_eq!(judged.resource_profiles.len(), pprofs.len());
    for (resource, (name, pprof)) in pprofs.iter().enumerate() {
        let types = pprof.check(MAX).expect("a pprof").sample_types as usize;
        for place in 0..types {
            let (found, expected) = (judged_flat(&judged, resource, place), flat(pprof, place));
            assert!(found == expected, "{name}, sample type {place}");
        }
        let profiles = &judged.resource_profiles[resource].scope_profiles[0].profiles;
        assert_eq!(profiles.len(), types, "{name}");
        assert_eq!(
            profiles[0].original_payload,
            pprof.bytes().as_ref(),
            "{name}"
        );
    }
}

#[test]
fn what_another_implementation_writes_is_read() {
    let pprofs = synthetic();
    let encoded = request(&pprofs);
    let judged = Judged::decode(encoded.as_ref()).expect("the other's messages");
    let converted = back(&judged.encode_to_vec());
    assert_eq!(converted.len(), pprofs.len());
    for (converted, (name, pprof)) in converted.iter().zip(&pprofs) {
        for place in 0..4 {
            assert_eq!(flat(&converted.pprof, place), flat(pprof, place), "{name}");
        }
    }
}

/// `go tool pprof`, offline.
fn go_tool_pprof(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none"])
        .args(arguments)
        .arg(file)
        .output()
        .expect("go");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Flat and cumulative values by function, in the smallest unit.
fn go_top(file: &Path, place: usize) -> BTreeMap<String, (String, String)> {
    let sample_index = format!("-sample_index={place}");
    let everything = [
        "-top",
        "-nodecount=1000000",
        "-nodefraction=0",
        "-unit=minimum",
        &sample_index,
    ];
    let text = go_tool_pprof(&everything, file);
    let rows = text
        .lines()
        .skip_while(|line| !line.contains("flat%"))
        .skip(1);
    let rows = rows.map(|row| {
        let mut words = row.split_whitespace();
        let mut word = || words.next().expect(row).to_owned();
        let (flat, _, _, cumulative) = (word(), word(), word(), word());
        let name = words.skip(1).collect::<Vec<_>>().join(" ");
        (name, (flat, cumulative))
    });
    rows.collect()
}

/// What Go reads of a profile but its samples and their tables: all up to the
/// line that names the sample types.
fn go_head(file: &Path) -> Vec<String> {
    let text = go_tool_pprof(&["-raw"], file);
    let place = text.lines().position(|line| line == "Samples:");
    let place = place.expect("samples");
    text.lines().take(place + 2).map(str::to_owned).collect()
}

#[test]
fn go_shows_the_same_before_and_after() {
    let test = "go_shows_the_same_before_and_after";
    if Command::new("go").arg("version").output().is_err() {
        return skipped(test, "go is not installed");
    }
    // A process for each sample type takes its time: what is alike is left out.
    let is_alike = |name: &str| name.starts_with("1.") || name.starts_with("2.");
    let mut pprofs = [synthetic(), real(test)].concat();
    pprofs.retain(|(name, pprof)| {
        let broken = pprof.check(MAX).expect("a pprof").broken;
        !is_alike(name) && broken.is_empty()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let converted = back(&request(&pprofs));
    assert_eq!(converted.len(), pprofs.len());
    let mut compared = 0;
    for (converted, (name, pprof)) in converted.iter().zip(&pprofs) {
        fs::write(&before, pprof.bytes()).expect("a file");
        fs::write(&after, converted.pprof.bytes()).expect("a file");
        assert_eq!(go_head(&after), go_head(&before), "{name}");
        let types = pprof.check(MAX).expect("a pprof").sample_types as usize;
        for place in 0..types {
            let (found, expected) = (go_top(&after, place), go_top(&before, place));
            assert!(found == expected, "{name}, sample type {place}");
            compared += found.len();
        }
    }
    assert!(compared > 1_000, "{compared} functions");
}
