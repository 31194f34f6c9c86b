use super::{dictionary, request};
use crate::profile::otlp::{
    Unreadable,
    json::{
        JsonError, MAX_GROWTH_FROM_JSON, MAX_GROWTH_TO_JSON, request_from_json, request_to_json,
    },
};

/// An attribute whose value is a list in a list, so many times.
fn nested(times: usize) -> String {
    let (open, close) = (r#"{"arrayValue":{"values":["#, "]}}");
    let value = [&open.repeat(times), "{}", &close.repeat(times)].concat();
    format!(r#"{{"dictionary":{{"attributeTable":[{{"value":{value}}}]}}}}"#)
}

/// `content` as field `number` of a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    [field, content.to_vec()].concat()
}

#[test]
fn nesting_is_bounded_in_json() {
    // The request, its dictionary and the attribute, then two a list, and the last value.
    assert!(request(&nested(30)).is_ok());
    for times in [31, 100, 100_000] {
        let error = request(&nested(times)).unwrap_err().to_string();
        let expected = "messages are nested deeper than 64 (line 1, ";
        assert!(error.contains(expected), "{error}");
        assert!(
            error.starts_with("dictionary.attributeTable[0].value.arrayValue.values[0]."),
            "{error}"
        );
    }
    for text in ["[", "{\"dictionary\":", "{\"x\":", "{\"x\":["] {
        assert!(request(&text.repeat(100_000)).is_err());
    }
}

#[test]
fn nesting_is_bounded_in_protobuf() {
    let request = |times: usize| {
        let mut value = Vec::new();
        for _ in 0..times {
            value = field(5, &field(1, &value));
        }
        field(2, &field(6, &field(2, &value)))
    };
    assert!(request_to_json(&request(30)).is_ok());
    for times in [31, 5_000] {
        let refused = request_to_json(&request(times)).unwrap_err();
        assert!(
            matches!(refused, Unreadable::TooDeep { max: 64, .. }),
            "{refused}"
        );
    }
}

#[test]
fn growth_is_bounded_by_what_is_promised() {
    // The smallest JSON for the largest protobuf, and the other way round.
    let times = "0,".repeat(100_000);
    let sample = format!(r#"{{"timestampsUnixNano":[{times}0]}}"#);
    let values = "-1,".repeat(100_000);
    let sample = format!(r#"{sample},{{"values":[{values}-1]}}"#);
    let json = format!(
        r#"{{"resourceProfiles":[{{"scopeProfiles":[{{"profiles":[{{"samples":[{sample}]}}]}}]}}]}}"#
    );
    let protobuf = request_from_json(json.as_bytes(), u64::MAX).unwrap();
    assert!(protobuf.len() > json.len() * 3);
    assert!(protobuf.len() <= json.len() * MAX_GROWTH_FROM_JSON);
    for content in [
        field(1, &[0x10, 1]).repeat(50_000),
        field(3, &[0x10, 1]).repeat(50_000),
        field(3, &[8, 1, 16, 1, 24, 1, 32, 1]).repeat(50_000),
        field(2, &field(3, &[16, 1, 24, 1])).repeat(50_000),
        field(5, &[0; 50]).repeat(5_000),
        field(7, &[10, 2, 1, 1]).repeat(50_000),
        field(6, &[0x12, 2, 0x40, 1]).repeat(50_000),
    ] {
        let protobuf = field(2, &content);
        let json = request_to_json(&protobuf).unwrap();
        assert!(
            json.len() <= protobuf.len() * MAX_GROWTH_TO_JSON,
            "{} from {}: {:?}",
            json.len(),
            protobuf.len(),
            &content[..12]
        );
    }
}

#[test]
fn the_limit_holds_while_reading() {
    let objects = "{},".repeat(1_000_000);
    let json = format!(r#"{{"dictionary":{{"stackTable":[{objects}{{}}]}}}}"#);
    let refused = request_from_json(json.as_bytes(), 1_000);
    assert_eq!(refused, Err(JsonError::TooLarge { max: 1_000 }));
    let text = format!(
        r#"{{"dictionary":{{"stringTable":["{}"]}}}}"#,
        "x".repeat(994)
    );
    let protobuf = request_from_json(text.as_bytes(), 1_000).unwrap();
    assert_eq!(protobuf.len(), 1_000);
    let refused = request_from_json(text.as_bytes(), 999);
    assert_eq!(refused, Err(JsonError::TooLarge { max: 999 }));
}

#[test]
fn an_error_quotes_little_of_what_was_sent() {
    let huge = "ü".repeat(1_000_000);
    let json = format!(r#"{{"stackTable":"{huge}"}}"#);
    let error = dictionary(&json).unwrap_err().to_string();
    assert!(error.len() < 500, "{}", error.len());
    assert!(error.starts_with("dictionary.stackTable: invalid type: string \"üü"));
    assert!(
        error.contains("expected a list (line 1, column 2000030)"),
        "{error}"
    );
}

#[test]
fn a_message_in_parts_within_parts_is_not_copied_without_end() {
    let mut value = field(1, &[]).repeat(2_000);
    for _ in 0..25 {
        // Two parts each: all of it, and nothing.
        value = field(5, &[field(1, &value), field(1, &[])].concat());
        value = [value, field(5, &[])].concat();
    }
    let request = field(2, &field(6, &field(2, &value)));
    let refused = request_to_json(&request).unwrap_err();
    let expected = "the request cannot be decoded: arrayValue comes in too many parts";
    assert_eq!(refused.to_string(), expected);
}
