//! What the guards count bounds what decoding takes.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::{otlp::census, pprof},
};
use prost::Message;
use support::peak;

/// An empty message is no memory, and yet something.
const SLACK: u64 = 1024;

fuzz_target!(|data: &[u8]| {
    let plain = Bytes::from(support::message(data));
    let (census, walk) = peak(|| census(&plain));
    assert!(walk <= 4096, "the walk itself took {walk} bytes");
    if let Ok(census) = census {
        let (_, taken) = peak(|| ExportProfilesServiceRequest::decode(plain.clone()));
        assert!(
            taken as u64 <= census.decoded + SLACK,
            "{taken} bytes were taken for {census:?} of {} bytes",
            plain.len()
        );
    }
    let (checked, walk) = peak(|| pprof::check(&plain));
    // Ids are collected where they do not count up.
    assert!(
        walk <= 16 * plain.len() + 4096,
        "the check took {walk} bytes"
    );
    if let Ok(checked) = checked {
        let (_, taken) = peak(|| pprof::summarize(&plain));
        assert!(
            taken as u64 <= checked.decoded + plain.len() as u64 + SLACK,
            "{taken} bytes were taken for {checked:?}"
        );
    }
});
