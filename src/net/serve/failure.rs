//! Why a request was not served, said to gRPC and to HTTP in their own words.
//!
//! | kind | gRPC | HTTP | again? |
//! |---|---|---|---|
//! | `Invalid` | INVALID_ARGUMENT | 400 | no |
//! | `TooLarge` | RESOURCE_EXHAUSTED | 413 | no |
//! | `Unauthenticated` | UNAUTHENTICATED | 401 | no |
//! | `Denied` | PERMISSION_DENIED | 403 | no |
//! | `Busy` | RESOURCE_EXHAUSTED, RetryInfo | 429, Retry-After | yes |
//! | `Unavailable` | UNAVAILABLE, RetryInfo | 503, Retry-After | yes |
//! | `Late` | DEADLINE_EXCEEDED, RetryInfo | 503, Retry-After | yes |
//! | `Unimplemented` | UNIMPLEMENTED | 404 | no |
//! | `Method` | UNIMPLEMENTED | 405 | no |
//! | `MediaType` | UNIMPLEMENTED | 415 | no |
//! | `Broken` | CANCELLED | 400 | nobody hears it |
//! | `Internal` | INTERNAL | 500 | no |
//!
//! Clients of OTLP retry exactly 429, 502, 503 and 504, and RESOURCE_EXHAUSTED
//! only with RetryInfo. The wait they are told varies, because they obey it to
//! the millisecond and would all come back at once.

use super::Answer;
use crate::r#gen::rpc;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prost::Message;
use std::{fmt, time::Duration};
use tonic::Code;

/// The longest message that is sent; it travels in a header.
const MAX_MESSAGE: usize = 1_024;

/// The shortest wait that is told when nobody knows better.
const WAIT: Duration = Duration::from_secs(1);

/// The type of [`rpc::RetryInfo`] within `Any`.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
    retry_after: Option<Duration>,
}

/// What a failure means for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The request is wrong, and stays so.
    Invalid,
    /// The request is larger than a bound.
    TooLarge,
    /// It is not known who asks.
    Unauthenticated,
    /// Who asks may not.
    Denied,
    /// Too many requests at a time.
    Busy,
    /// It may pass later.
    Unavailable,
    /// It took longer than a deadline.
    Late,
    /// There is no such thing here.
    Unimplemented,
    /// HTTP: the path is right, the method is not.
    Method,
    /// HTTP: a content type or encoding that is not understood.
    MediaType,
    /// The client went away.
    Broken,
    /// The fault is ours.
    Internal,
}

/// How the body of an HTTP answer is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    #[default]
    Json,
}

// === impl Failure ===

impl Failure {
    /// A failure of a kind. Those that may pass later tell the client to wait
    /// for one to two seconds.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE)
                .rev()
                .find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or(0));
        }
        Self {
            kind,
            message,
            retry_after: kind.is_retryable().then(wait),
        }
    }

    /// The same, with a wait that somebody knows.
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        if let (Some(known), Some(_)) = (wait, self.retry_after) {
            self.retry_after = Some(known);
        }
        self
    }

    /// What it means.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The reason and the way out.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the client is told to wait; never absent when it may try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The message of both protocols.
    pub fn to_rpc(&self) -> rpc::Status {
        let details = self.retry_after.map(|wait| prost_types::Any {
            type_url: RETRY_INFO.to_owned(),
            value: retry_info(wait).encode_to_vec(),
        });
        rpc::Status {
            code: self.kind.code().into(),
            message: self.message.clone(),
            details: details.into_iter().collect(),
        }
    }

    /// A response that has headers only.
    pub fn to_grpc(&self) -> Response<Answer> {
        let details = match self.retry_after {
            Some(_) => Bytes::from(self.to_rpc().encode_to_vec()),
            None => Bytes::new(),
        };
        let status = tonic::Status::with_details(self.kind.code(), self.message.as_str(), details);
        status.into_http::<()>().map(|()| Answer::empty())
    }

    /// A response with a `google.rpc.Status` for a body.
    pub fn to_http(&self, encoding: Encoding) -> Response<Answer> {
        let body = match encoding {
            Encoding::Protobuf => self.to_rpc().encode_to_vec(),
            Encoding::Json => self.to_json().into_bytes(),
        };
        let mut response = Response::new(Answer::full(body));
        *response.status_mut() = self.kind.http();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, encoding.content_type());
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        response
    }

    fn to_json(&self) -> String {
        let details: Vec<_> = self
            .retry_after
            .iter()
            .map(|wait| {
                let delay = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
                serde_json::json!({"@type": RETRY_INFO, "retryDelay": delay})
            })
            .collect();
        let code: i32 = self.kind.code().into();
        serde_json::json!({"code": code, "message": self.message, "details": details}).to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

fn retry_info(wait: Duration) -> rpc::RetryInfo {
    rpc::RetryInfo {
        retry_delay: Some(prost_types::Duration {
            seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(wait.subsec_nanos()).unwrap_or(0),
        }),
    }
}

/// `Retry-After` has no fractions, and 0 would mean at once.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn wait() -> Duration {
    WAIT + WAIT.mul_f64(rand::random::<f64>())
}

// === impl Kind ===

impl Kind {
    /// Whether the same request may pass later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Late)
    }

    /// The status of gRPC.
    pub const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Denied => Code::PermissionDenied,
            Self::TooLarge | Self::Busy => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Late => Code::DeadlineExceeded,
            Self::Unimplemented | Self::Method | Self::MediaType => Code::Unimplemented,
            Self::Broken => Code::Cancelled,
            Self::Internal => Code::Internal,
        }
    }

    /// The status of HTTP.
    pub const fn http(self) -> StatusCode {
        match self {
            Self::Invalid | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unimplemented => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

// === impl Encoding ===

impl Encoding {
    /// What a body is, by its `content-type` without parameters.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let ty = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let ty = ty.split(';').next()?.trim();
        [
            ("application/x-protobuf", Self::Protobuf),
            ("application/json", Self::Json),
        ]
        .into_iter()
        .find_map(|(known, encoding)| known.eq_ignore_ascii_case(ty).then_some(encoding))
    }

    /// The value of `content-type`.
    pub const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retryable_failure_always_tells_the_wait() {
        for kind in [Kind::Busy, Kind::Unavailable, Kind::Late] {
            let failure = Failure::new(kind, "later").after(None);
            let wait = failure.retry_after().unwrap();
            assert!(wait >= WAIT && wait <= 2 * WAIT, "{wait:?}");
            assert_eq!(failure.to_rpc().details.len(), 1);
            let http = failure.to_http(Encoding::Json);
            let seconds = http.headers()[header::RETRY_AFTER].to_str().unwrap();
            assert!(["1", "2"].contains(&seconds), "{seconds}");
        }
    }

    #[test]
    fn a_permanent_failure_tells_no_wait() {
        let known = Some(Duration::from_secs(9));
        for kind in [Kind::Invalid, Kind::TooLarge, Kind::Unimplemented] {
            let failure = Failure::new(kind, "no").after(known);
            assert_eq!(failure.retry_after(), None);
            assert!(failure.to_rpc().details.is_empty());
            let http = failure.to_http(Encoding::Protobuf);
            assert!(!http.headers().contains_key(header::RETRY_AFTER));
            assert!(
                !failure
                    .to_grpc()
                    .headers()
                    .contains_key("grpc-status-details-bin")
            );
        }
    }

    #[test]
    fn a_known_wait_is_rounded_up_for_http_and_exact_for_grpc() {
        let failure =
            Failure::new(Kind::Unavailable, "full").after(Some(Duration::from_millis(2_300)));
        let http = failure.to_http(Encoding::Json);
        assert_eq!(http.headers()[header::RETRY_AFTER], "3");
        assert!(failure.to_json().contains(r#""retryDelay":"2.300s""#));
        let status = tonic::Status::from_header_map(failure.to_grpc().headers()).unwrap();
        let details = rpc::Status::decode(status.details()).unwrap();
        let info = rpc::RetryInfo::decode(&*details.details[0].value).unwrap();
        let delay = info.retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (2, 300_000_000));
        assert_eq!(details.details[0].type_url, RETRY_INFO);
    }

    #[test]
    fn a_message_of_any_length_and_script_fits_a_header() {
        let failure = Failure::new(Kind::Invalid, "ü".repeat(5_000));
        let status = tonic::Status::from_header_map(failure.to_grpc().headers()).unwrap();
        assert_eq!(status.message(), "ü".repeat(MAX_MESSAGE / 2));
    }
}
