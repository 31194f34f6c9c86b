//! The version of the profiles signal while it is in development
//! (opentelemetry-proto PR 857): one positive integer in a header, raised at each
//! incompatible change, 1 when it is missing. Without it a message of another
//! version reads as nonsense, and often without an error.

use crate::net::serve::{Failure, Kind};
use http::{HeaderMap, HeaderName};

const HEADER: HeaderName = HeaderName::from_static("otlp-profiles-development-version");

/// What is spoken here: opentelemetry-proto 1.10.
const VERSION: u64 = 1;

/// Refuses what is not [`VERSION`], before anything is decoded.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    if values.next().is_some() {
        return Err(wrong("it is given more than once"));
    }
    let digits = value.to_str().unwrap_or_default();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u64>() {
        Ok(VERSION) if number => Ok(()),
        Ok(other) if number && other > 0 => Err(wrong(&format!(
            "{other} is not supported, only {VERSION}: upgrade profile-relay or use a sender of \
             opentelemetry-proto 1.10"
        ))),
        _ => Err(wrong("it must be one positive integer")),
    }
}

fn wrong(reason: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("{HEADER}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn verdict(values: &[&'static str]) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        check(&headers).map_err(|failure| {
            assert_eq!(failure.kind(), Kind::Invalid);
            failure.message().to_owned()
        })
    }

    #[test]
    fn one_is_the_only_version_and_the_default() {
        assert_eq!(verdict(&[]), Ok(()));
        assert_eq!(verdict(&["1"]), Ok(()));
        let newer = verdict(&["2"]).unwrap_err();
        assert!(newer.contains("2 is not supported"), "{newer}");
    }

    #[test]
    fn what_is_no_single_positive_integer_is_refused() {
        for value in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            "one",
            "1,1",
            "99999999999999999999",
        ] {
            let error = verdict(&[value]).unwrap_err();
            assert!(error.contains("positive integer"), "{value}: {error}");
        }
        assert!(verdict(&["1", "1"]).unwrap_err().contains("more than once"));
    }
}
