//! When a server that refuses wishes to be asked again: `RetryInfo` in the
//! details of gRPC errors, `Retry-After` in HTTP.

use crate::r#gen::rpc;
use http::{HeaderMap, header};
use prost::Message;
use std::time::{Duration, SystemTime};
use tonic::Status;

/// The longest wish that is obeyed: a clock that is wrong must not silence a
/// sender for years.
const LONGEST: Duration = Duration::from_secs(3_600);

const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// The wish in the details of a gRPC error. `Some(0)` is one as well: it says
/// that trying again may help, and leaves the wait to the client.
pub fn retry_info(status: &Status) -> Option<Duration> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    details.iter().find_map(|detail| {
        let (_, name) = detail.type_url.rsplit_once('/')?;
        if name != RETRY_INFO {
            return None;
        }
        let info = rpc::RetryInfo::decode(detail.value.as_slice()).ok()?;
        let delay = info.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or_default();
        let nanos = u32::try_from(delay.nanos).unwrap_or_default();
        Some(Duration::new(seconds, nanos.min(999_999_999)).min(LONGEST))
    })
}

/// The wish of an HTTP answer: seconds, or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            // A date that has passed means now.
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{Any, Duration as Delay};
    use tonic::Code;

    fn status(delay: Option<Delay>, url: &str) -> Status {
        let info = rpc::RetryInfo { retry_delay: delay };
        let details = rpc::Status {
            details: vec![
                Any {
                    type_url: "type.googleapis.com/google.rpc.BadRequest".into(),
                    value: vec![0xff],
                },
                Any {
                    type_url: url.into(),
                    value: info.encode_to_vec(),
                },
            ],
            ..rpc::Status::default()
        };
        let details = details.encode_to_vec().into();
        Status::with_details(Code::Unavailable, "", details)
    }

    #[test]
    fn retry_info_is_found_among_other_details() {
        let url = "type.googleapis.com/google.rpc.RetryInfo";
        let delay = |seconds, nanos| Some(Delay { seconds, nanos });
        for (sent, heard) in [
            (delay(7, 500_000_000), Duration::from_millis(7_500)),
            (delay(0, 0), Duration::ZERO),
            (None, Duration::ZERO),
            (delay(-5, -1), Duration::ZERO),
            (delay(i64::MAX, i32::MAX), LONGEST),
        ] {
            assert_eq!(retry_info(&status(sent, url)), Some(heard), "{sent:?}");
        }
        let other = status(delay(7, 0), "type.googleapis.com/google.rpc.DebugInfo");
        assert_eq!(retry_info(&other), None);
        let broken = Status::with_details(Code::Unavailable, "", vec![0xff, 0xff].into());
        assert_eq!(retry_info(&broken), None);
        assert_eq!(retry_info(&Status::unavailable("")), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let heard = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(heard("120"), Some(Duration::from_secs(120)));
        assert_eq!(heard(" 0 "), Some(Duration::ZERO));
        assert_eq!(heard("99999999999"), Some(LONGEST));
        let date = SystemTime::now() + Duration::from_secs(90);
        let wait = heard(&httpdate::fmt_http_date(date)).unwrap();
        assert!((88..=90).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(heard("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(heard("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
