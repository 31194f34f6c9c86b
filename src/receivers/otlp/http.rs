//! OTLP over HTTP: one resource under two paths, in protobuf and JSON.

use super::{
    intake::{Intake, Parcel},
    version,
};
use crate::{
    net::serve::{
        Answer, Answering, Coding, Encoding, Failure, Handler, Kind, Peer, Picked, Reading, discard,
    },
    profile::Transport,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, request::Parts};
use hyper::body::Incoming;
use std::sync::Arc;

/// Where profiles are sent to: by the specification, and as it will be once the
/// signal is stable.
const PATHS: [&str; 2] = ["/v1development/profiles", "/v1/profiles"];

/// Takes profiles over HTTP.
#[derive(Debug)]
pub(super) struct Profiles {
    intake: Arc<Intake>,
    reading: Reading,
    metadata: Picked,
}

// === impl Profiles ===

impl Profiles {
    pub(super) fn new(intake: Arc<Intake>, reading: Reading, metadata: Picked) -> Self {
        Self {
            intake,
            reading,
            metadata,
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let encoding = Encoding::of(&parts.headers);
        if !PATHS.contains(&parts.uri.path()) {
            let failure = Failure::new(Kind::Unimplemented, self.intake.unknown(parts.uri.path()));
            discard(&parts, body).await;
            return failure.to_http(encoding.unwrap_or_default());
        }
        let mut body = Some(body);
        let served = self
            .intake
            .serve(&peer, self.post(&parts, &mut body, encoding, &peer))
            .await;
        // Refused by its head: who still sends would not hear why.
        if let Some(body) = body {
            discard(&parts, body).await;
        }
        match served {
            Ok(()) => success(encoding.unwrap_or_default()),
            Err(failure) => refusal(&failure, encoding.unwrap_or_default()),
        }
    }

    async fn post(
        &self,
        parts: &Parts,
        body: &mut Option<Incoming>,
        encoding: Option<Encoding>,
        peer: &Peer,
    ) -> Result<(), Failure> {
        if parts.method != Method::POST {
            let message = format!("{} is not supported here: POST profiles", parts.method);
            return Err(Failure::new(Kind::Method, message));
        }
        let encoding = encoding.ok_or_else(|| {
            let message = "the content-type must be application/x-protobuf or application/json";
            Failure::new(Kind::MediaType, message)
        })?;
        let coding = coding(&parts.headers)?;
        version::check(&parts.headers)?;
        self.reading.check(parts)?;
        let Some(body) = body.take() else {
            return Err(Failure::new(Kind::Internal, "the body is gone"));
        };
        let parcel = Parcel {
            received: self.reading.read(parts, body).await?,
            coding,
            encoding,
        };
        let metadata = self.metadata.of(&parts.headers).collect();
        let origin = self.intake.origin(Transport::Http, peer, metadata);
        self.intake
            .take(parcel, &self.reading, (peer, origin), || false)
            .await
    }
}

impl Handler for Profiles {
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering {
        Box::pin(async move { self.answer(request, peer).await })
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Failure> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(Coding::Identity);
    };
    let known = value.to_str().ok().and_then(Coding::parse);
    known.ok_or_else(|| {
        let message = format!(
            "content-encoding {value:?} is not supported: {}",
            Coding::ALL
        );
        Failure::new(Kind::MediaType, message)
    })
}

/// A full success has no fields.
fn success(encoding: Encoding) -> Response<Answer> {
    let body = match encoding {
        Encoding::Protobuf => Answer::empty(),
        Encoding::Json => Answer::full("{}"),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, encoding.content_type());
    response
}

fn refusal(failure: &Failure, encoding: Encoding) -> Response<Answer> {
    let mut response = failure.to_http(encoding);
    let headers = response.headers_mut();
    match failure.kind() {
        Kind::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        Kind::MediaType => {
            let all = HeaderValue::from_static(Coding::ALL);
            headers.insert(header::ACCEPT_ENCODING, all);
        }
        _ => {}
    }
    response
}
