//! The Parca behind the relay, as far as calls are passed on to it.

use crate::{
    net::{
        GrpcChannel, GrpcClientSettings, TransportFailure,
        grpc::{Message, classify_transport, http_status},
        serve::{Answer, Failure, Kind, Picked, grpc::Head},
    },
    profile::Labels,
    settings::{Duration, Problem},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header};
use tonic::{Code, Status, body::Body};

/// Metadata of a call that says how its messages are to be read, and what traces
/// hang on.
const OF_CALLS: [HeaderName; 5] = [
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The Parca that is asked.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// For questions, which have a deadline.
    asks: GrpcChannel,
    /// For what is streamed, over connections of its own: uploads must not stand in
    /// the way of questions.
    streams: GrpcChannel,
    picked: Picked,
}

/// What an agent hears instead of an answer.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    /// What the upstream itself says.
    Upstream(Status),
    /// What the relay says.
    Relay(Failure),
}

// === impl Upstream ===

impl Upstream {
    /// Connects when it is first asked. Reads certificates and tokens.
    pub(super) fn new(settings: &GrpcClientSettings, picked: Picked) -> Result<Self, Vec<Problem>> {
        let without_deadline = GrpcClientSettings {
            timeout: Duration::default(),
            ..settings.clone()
        };
        Ok(Self {
            asks: GrpcChannel::new(settings)?,
            streams: GrpcChannel::new(&without_deadline)?,
            picked,
        })
    }

    /// One question and its answer, both encoded.
    pub(super) async fn ask(
        &self,
        path: &'static str,
        head: &Head,
        question: Bytes,
    ) -> Result<Bytes, Refused> {
        let message = Message {
            bytes: question,
            encoding: None,
        };
        let answer = self.asks.unary(path, self.metadata(head), message).await;
        Self::answer(answer)
    }

    /// A streamed call of one answer.
    pub(super) async fn stream(
        &self,
        path: &'static str,
        head: &Head,
        body: Body,
    ) -> Result<Bytes, Refused> {
        let path = Uri::from_static(path);
        let answer = self.streams.streamed(&path, self.metadata(head), body);
        Self::answer(answer.await)
    }

    /// Passes any call on.
    pub(super) async fn pass(
        &self,
        path: &Uri,
        head: &Head,
        body: Body,
    ) -> Result<Response<Body>, Refused> {
        let mut headers = self.metadata(head);
        for name in OF_CALLS {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let answer = self.streams.pass(path, headers, body).await;
        answer.map_err(|status| Refused::of(&status))
    }

    fn answer(answer: Result<Option<Message>, Status>) -> Result<Bytes, Refused> {
        match answer {
            Ok(Some(Message {
                bytes,
                encoding: None,
            })) => Ok(bytes),
            Ok(_) => {
                let message = "the upstream's answer is none that the relay can read";
                Err(Refused::Relay(Failure::new(Kind::Unavailable, message)))
            }
            Err(status) => Err(Refused::of(&status)),
        }
    }

    /// What of an agent's metadata goes on, and what it is known by.
    pub(super) fn whom(&self, head: &Head) -> Labels {
        head.peer.metadata(self.picked.of(&head.headers).collect())
    }

    fn metadata(&self, head: &Head) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for label in &self.whom(head) {
            let pair = (
                HeaderName::try_from(&*label.name),
                HeaderValue::try_from(&*label.value),
            );
            if let (Ok(name), Ok(value)) = pair
                && name != header::AUTHORIZATION
            {
                headers.insert(name, value);
            }
        }
        headers
    }
}

// === impl Refused ===

impl Refused {
    /// What a failed call means to an agent: what may pass later is UNAVAILABLE,
    /// which agents try again for five minutes. That the relay's own credentials are
    /// wrong is no fault of theirs either.
    fn of(status: &Status) -> Self {
        let unavailable = |message: String| Self::Relay(Failure::new(Kind::Unavailable, message));
        if classify_transport(status) != TransportFailure::NotTransport {
            let message = status.message();
            return unavailable(format!("the upstream cannot be asked: {message}"));
        }
        if let Some(http) = http_status(status) {
            let message = status.message();
            return unavailable(format!(
                "something before the upstream answered HTTP {http}: {message}"
            ));
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                let message = status.message();
                unavailable(format!("the upstream refuses the relay: {message}"))
            }
            Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable => unavailable(format!(
                "the upstream has no answer now: {}",
                status.message()
            )),
            _ => Self::Upstream(Status::with_details(
                status.code(),
                status.message(),
                Bytes::copy_from_slice(status.details()),
            )),
        }
    }

    /// The answer for the agent.
    pub(super) fn to_grpc(&self) -> Response<Answer> {
        match self {
            Self::Relay(failure) => failure.to_grpc(),
            Self::Upstream(status) => {
                let response = status.clone().into_http::<()>();
                response.map(|()| Answer::empty())
            }
        }
    }

    /// What it is to who counts: those that are answers of the protocol are none.
    pub(super) fn as_failure(&self) -> Option<Failure> {
        let status = match self {
            Self::Relay(failure) => return Some(failure.clone()),
            Self::Upstream(status) => status,
        };
        let kind = match status.code() {
            Code::Ok | Code::AlreadyExists | Code::FailedPrecondition => return None,
            Code::InvalidArgument => Kind::Invalid,
            Code::ResourceExhausted => Kind::Busy,
            Code::Unimplemented => Kind::Unimplemented,
            _ => Kind::Internal,
        };
        Some(Failure::new(kind, status.message()))
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Relay(failure)
    }
}
