//! OTLP/JSON both ways: no panic, what one way writes the other reads, and
//! neither takes more than it promises.
#![no_main]

#[path = "../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use profile_relay::{
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    profile::otlp::json::{
        JsonError, MAX_GROWTH_FROM_JSON, MAX_GROWTH_TO_JSON, request_from_json, request_to_json,
        response_from_json, response_to_json, status_from_json, status_to_json,
    },
};
use prost::Message;
use support::peak;

const SLACK: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    match first & 3 {
        0 => from_json(rest),
        1 | 2 => to_json(&support::message(&data[1..])),
        _ => answers(rest),
    }
});

fn from_json(json: &[u8]) {
    let (read, taken) = peak(|| request_from_json(json, u64::MAX));
    // The output, and a string that is unescaped.
    let bound = (MAX_GROWTH_FROM_JSON + 2) * json.len() + SLACK;
    assert!(taken <= bound, "{taken} bytes for {}", json.len());
    let Ok(protobuf) = read else {
        return;
    };
    assert!(protobuf.len() <= MAX_GROWTH_FROM_JSON * json.len());
    let length = protobuf.len() as u64;
    if length > 0 {
        let refused = request_from_json(json, length - 1);
        assert_eq!(refused, Err(JsonError::TooLarge { max: length - 1 }));
    }
    ExportProfilesServiceRequest::decode(&*protobuf).expect("what was read is decoded");
    let written = request_to_json(&protobuf).expect("what was read is written");
    let again = request_from_json(&written, length).expect("what was written is read");
    let third = request_to_json(&again).expect("and written");
    assert_eq!(written, third);
}

fn to_json(protobuf: &[u8]) {
    let (written, taken) = peak(|| request_to_json(protobuf));
    let bound = (MAX_GROWTH_TO_JSON + 3) * protobuf.len() + SLACK;
    assert!(taken <= bound, "{taken} bytes for {}", protobuf.len());
    let Ok(json) = written else {
        return;
    };
    assert!(json.len() <= MAX_GROWTH_TO_JSON * protobuf.len() + 2);
    // prost also refuses what is wrong with a value that another one replaces.
    let Ok(decoded) = ExportProfilesServiceRequest::decode(protobuf) else {
        return;
    };
    let canonical = decoded.encode_to_vec();
    assert_eq!(
        json,
        request_to_json(&canonical).expect("canonical bytes are written")
    );
    match request_from_json(&json, u64::MAX) {
        // Not-a-numbers have many forms in protobuf and one in JSON.
        Ok(read) if read == canonical || contains(&json, b"\"NaN\"") => {}
        Ok(_) => panic!("{}", String::from_utf8_lossy(&json)),
        // Ids of other lengths can be written, so that they are seen.
        Err(error) => assert!(error.to_string().contains("hex digits"), "{error}"),
    }
}

fn answers(json: &[u8]) {
    if let Ok(response) = response_from_json(json) {
        let again = response_from_json(&response_to_json(&response));
        assert_eq!(again, Ok(response));
    }
    if let Ok(status) = status_from_json(json) {
        let again = status_from_json(&status_to_json(&status));
        assert_eq!(again, Ok(status));
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
