use crate::{
    r#gen::{
        opentelemetry::proto::collector::profiles::v1development::{
            ExportProfilesPartialSuccess, ExportProfilesServiceResponse,
        },
        rpc::{RetryInfo, Status},
    },
    profile::otlp::json::{response_from_json, response_to_json, status_from_json, status_to_json},
};
use prost::Message;
use prost_types::{Any, Duration};

fn partial(rejected_profiles: i64, error_message: &str) -> ExportProfilesServiceResponse {
    ExportProfilesServiceResponse {
        partial_success: Some(ExportProfilesPartialSuccess {
            rejected_profiles,
            error_message: error_message.to_owned(),
        }),
    }
}

fn retry_info(retry_delay: Option<(i64, i32)>) -> Any {
    let retry_delay = retry_delay.map(|(seconds, nanos)| Duration { seconds, nanos });
    Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo { retry_delay }.encode_to_vec(),
    }
}

fn refusal(details: Vec<Any>) -> Status {
    Status {
        code: 8,
        message: "too much".to_owned(),
        details,
    }
}

#[test]
fn responses_are_written_and_read() {
    for (response, json) in [
        (ExportProfilesServiceResponse::default(), "{}"),
        (partial(0, ""), r#"{"partialSuccess":{}}"#),
        (
            partial(3, "no"),
            r#"{"partialSuccess":{"rejectedProfiles":"3","errorMessage":"no"}}"#,
        ),
    ] {
        assert_eq!(response_to_json(&response), json);
        assert_eq!(response_from_json(json.as_bytes()), Ok(response));
    }
    let json = br#"{"partialSuccess":{"rejectedProfiles":3},"new":1}"#;
    assert_eq!(response_from_json(json), Ok(partial(3, "")));
    let error = response_from_json(br#"{"partialSuccess":[]}"#).unwrap_err();
    assert!(error.to_string().starts_with("partialSuccess: "), "{error}");
}

#[test]
fn statuses_are_written_and_read() {
    for (delay, text) in [
        ((5, 0), "5s"),
        ((0, 1), "0.000000001s"),
        ((1, 500_000_000), "1.500s"),
        ((-1, -500_000_000), "-1.500s"),
        ((0, 0), "0s"),
    ] {
        let status = refusal(vec![retry_info(Some(delay))]);
        let json = format!(
            r#"{{"code":8,"message":"too much","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{text}"}}]}}"#
        );
        assert_eq!(status_to_json(&status), json);
        assert_eq!(status_from_json(json.as_bytes()), Ok(status));
    }
    let json = r#"{"code":3,"message":"bad request"}"#;
    let status = Status {
        code: 3,
        message: "bad request".to_owned(),
        details: vec![],
    };
    assert_eq!(status_to_json(&status), json);
    assert_eq!(status_from_json(json.as_bytes()), Ok(status));
}

#[test]
fn details_that_are_not_known_are_left_out() {
    let other = Any {
        type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
        value: vec![10, 0],
    };
    let endless = retry_info(Some((i64::MIN, 0)));
    let known = retry_info(None);
    let status = refusal(vec![other.clone(), known.clone(), endless, other.clone()]);
    let json = r#"{"code":8,"message":"too much","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo"}]}"#;
    assert_eq!(status_to_json(&status), json);
    let status = refusal(vec![other]);
    assert_eq!(
        status_to_json(&status),
        r#"{"code":8,"message":"too much"}"#
    );
    let json = br#"{"code":8,"message":"too much","details":[
        {"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"a"}]},
        {},
        {"x":[{}],"@type":"type.googleapis.com/google.rpc.RetryInfo"}]}"#;
    assert_eq!(status_from_json(json), Ok(refusal(vec![known])));
}

#[test]
fn a_delay_that_is_none_is_named() {
    for delay in ["5", "1.5 s", "1e3s", "s", "315576000001s"] {
        let json =
            format!(r#"{{"details":[{{"@type":"google.rpc.RetryInfo","retryDelay":"{delay}"}}]}}"#);
        let error = status_from_json(json.as_bytes()).unwrap_err().to_string();
        let expected = format!("details[0]: {delay:?} is no duration");
        assert!(error.starts_with(&expected), "{error}");
    }
}
