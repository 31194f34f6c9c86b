//! Debug symbols: passed on while they are asked about and sent, never kept.
//!
//! | call | upstream answers | relay answers |
//! |---|---|---|
//! | `ShouldInitiateUpload` | yes or no | the same; a no that is for good is remembered for a while |
//! | `InitiateUpload` | upload by gRPC | the same |
//! | | upload to a signed URL | upload by gRPC, to the relay |
//! | `Upload` | | piece by piece upstream, or as a PUT to that URL |
//! | any | an error of its own | the same |
//! | any | nothing, or not to this relay | UNAVAILABLE |
//!
//! An agent keeps to itself for good what it was refused, with few exceptions, and
//! holds one of 25 workers while it waits; it tries UNAVAILABLE again for five
//! minutes, and any other error when the executable shows up again, six hours later
//! at the earliest. So an outage is UNAVAILABLE and never "no", and every wait has an
//! end.
//!
//! Without an upstream the answer is the one "no" after which an agent asks again, an
//! upload in progress: nothing is given up for good, and no worker waits.

mod cache;
mod chunks;
mod first;
mod signed;
mod upload;

use self::{
    cache::{Cache, IN_PROGRESS},
    signed::{Signed, SignedUrls},
};
use super::{
    counts::Counts,
    settings::Settings,
    upstream::{Refused, Upstream},
};
use crate::{
    r#gen::debuginfo::{
        InitiateUploadRequest, InitiateUploadResponse, ShouldInitiateUploadRequest,
        ShouldInitiateUploadResponse, upload_instructions::UploadStrategy,
    },
    net::{
        HttpClient, HttpSenderSettings,
        serve::{
            Answer, Failure, Kind, Patience, Reading,
            grpc::{Exchange, Head, MessageBody, success},
        },
    },
    receivers::shared::{Outcome, Requests},
    settings::Problem,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, Uri};
use prost::Message;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::debug;

/// The paths of the methods.
pub(super) const SHOULD_INITIATE: &str =
    "/parca.debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
pub(super) const INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/InitiateUpload";
pub(super) const UPLOAD: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/Upload";
pub(super) const FINISHED: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/MarkUploadFinished";

/// The largest question, in bytes.
const MAX_QUESTION: u64 = 64 << 10;

/// `DebuginfoService`.
#[derive(Debug)]
pub(super) struct Debuginfo {
    upstream: Option<Upstream>,
    cache: Cache,
    signed: SignedUrls,
    /// For signed URLs.
    client: HttpClient,
    counts: Arc<Counts>,
    reading: Reading,
    /// Uploads at a time.
    uploads: Semaphore,
    idle: Patience,
    total: Patience,
}

/// One of its methods.
pub(super) struct Call {
    service: Arc<Debuginfo>,
    method: Method,
    requests: Requests,
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    ShouldInitiate,
    Initiate,
    Upload,
    Finished,
}

// === impl Debuginfo ===

impl Debuginfo {
    /// Reads certificates and tokens.
    pub(super) fn client(settings: &Settings) -> Result<HttpClient, Vec<Problem>> {
        let urls = &settings.debuginfo.signed_urls;
        let settings = HttpSenderSettings {
            tls: urls.tls.clone(),
            proxy: urls.proxy.clone(),
            force_attempt_http2: false,
            ..HttpSenderSettings::default()
        };
        let below = |problem: Problem| problem.below("debuginfo.signed_urls");
        HttpClient::sender(&settings).map_err(|problems| problems.into_iter().map(below).collect())
    }

    pub(super) fn new(
        settings: &Settings,
        upstream: Option<Upstream>,
        client: HttpClient,
        counts: Arc<Counts>,
        reading: &Reading,
    ) -> Self {
        let bounds = &settings.debuginfo;
        Self {
            upstream,
            cache: Cache::new(bounds.cache_ttl.get(), bounds.cache_entries),
            signed: SignedUrls::new(bounds.max_signed_urls),
            client,
            counts,
            reading: Reading {
                max: reading.max.min(MAX_QUESTION),
                ..reading.clone()
            },
            uploads: Semaphore::new(bounds.max_concurrent_uploads as usize),
            idle: Patience {
                limit: bounds.idle_timeout.get(),
                key: "debuginfo.idle_timeout",
            },
            total: Patience {
                limit: bounds.upload_timeout.get(),
                key: "debuginfo.upload_timeout",
            },
        }
    }

    async fn should_initiate(&self, head: &Head, body: MessageBody) -> Result<Bytes, Refused> {
        let message = self.question(body).await?;
        let request = decode::<ShouldInitiateUploadRequest>(&message)?;
        let Some(upstream) = &self.upstream else {
            return Ok(not_now());
        };
        let question = (request, upstream.whom(head));
        if let Some(answer) = self.cache.get(&question) {
            self.counts.cached();
            return Ok(answer.encode_to_vec().into());
        }
        let answer = upstream.ask(SHOULD_INITIATE, head, message).await?;
        // What cannot be read here may be read by the agent.
        if let Ok(known) = ShouldInitiateUploadResponse::decode(answer.clone()) {
            self.cache.put(question, &known);
        }
        Ok(answer)
    }

    async fn initiate(&self, head: &Head, body: MessageBody) -> Result<Bytes, Refused> {
        let message = self.question(body).await?;
        let request = decode::<InitiateUploadRequest>(&message)?;
        let answer = self.upstream()?.ask(INITIATE, head, message).await?;
        match InitiateUploadResponse::decode(answer.clone()) {
            Ok(known) => self.instructions(&request, known, answer),
            Err(_) => Ok(answer),
        }
    }

    /// Instructions by which nothing but the relay is needed.
    fn instructions(
        &self,
        request: &InitiateUploadRequest,
        mut response: InitiateUploadResponse,
        answer: Bytes,
    ) -> Result<Bytes, Refused> {
        let Some(instructions) = &mut response.upload_instructions else {
            return Ok(answer);
        };
        if instructions.upload_strategy() != UploadStrategy::SignedUrl {
            return Ok(answer);
        }
        let url = instructions.signed_url.parse::<Uri>();
        let size = u64::try_from(request.size);
        let (Ok(url), Ok(size)) = (url, size) else {
            let message = "the upstream's signed URL or the size of the upload cannot be used";
            return Err(Failure::new(Kind::Unavailable, message).into());
        };
        let id = instructions.upload_id.clone();
        debug!(
            build_id = request.build_id,
            upload_id = id,
            "an upload to a signed URL"
        );
        self.signed.put(id, Signed { url, size });
        instructions.set_upload_strategy(UploadStrategy::Grpc);
        instructions.signed_url.clear();
        Ok(response.encode_to_vec().into())
    }

    async fn finished(&self, head: &Head, body: MessageBody) -> Result<Bytes, Refused> {
        let message = self.question(body).await?;
        self.upstream()?.ask(FINISHED, head, message).await
    }

    async fn question(&self, body: MessageBody) -> Result<Bytes, Refused> {
        let message = body.read(&self.reading).await?;
        if message.coding != crate::net::serve::Coding::Identity {
            let message = "questions about symbols must not be compressed";
            return Err(Failure::new(Kind::Unimplemented, message).into());
        }
        Ok(message.received.bytes)
    }

    fn upstream(&self) -> Result<&Upstream, Refused> {
        self.upstream.as_ref().ok_or_else(|| {
            let message =
                "this profile-relay passes no symbols on: its parca receiver has no upstream";
            Refused::Upstream(Status::failed_precondition(message))
        })
    }
}

fn decode<M: Message + Default>(message: &Bytes) -> Result<M, Refused> {
    M::decode(message.clone()).map_err(|error| {
        // An agent gives a file up for good when it hears INVALID_ARGUMENT, and this
        // is what a newer one may send as well.
        let message = format!("the message cannot be read: {error}");
        Failure::new(Kind::Internal, message).into()
    })
}

/// The "no" that is not for good.
fn not_now() -> Bytes {
    let answer = ShouldInitiateUploadResponse {
        should_initiate_upload: false,
        reason: IN_PROGRESS.to_owned(),
    };
    answer.encode_to_vec().into()
}

// === impl Call ===

impl Call {
    pub(super) fn new(service: Arc<Debuginfo>, method: Method, requests: Requests) -> Self {
        Self {
            service,
            method,
            requests,
        }
    }

    async fn serve(&self, head: &Head, body: MessageBody) -> Result<Bytes, Refused> {
        let service = &self.service;
        match self.method {
            Method::ShouldInitiate => service.should_initiate(head, body).await,
            Method::Initiate => service.initiate(head, body).await,
            Method::Upload => service.upload(head, body).await,
            Method::Finished => service.finished(head, body).await,
        }
    }
}

#[async_trait]
impl Exchange for Call {
    async fn answer(&self, _: &str, head: Head, body: MessageBody) -> Response<Answer> {
        self.service.counts.called(&head);
        let open = self.requests.open(&head.peer);
        match self.serve(&head, body).await {
            Ok(message) => {
                open.end(Outcome::Ok, "");
                success(&message)
            }
            Err(refused) => {
                match refused.as_failure() {
                    Some(failure) => open.end(Outcome::Failed(failure.kind()), failure.message()),
                    None => open.end(Outcome::Ok, ""),
                }
                refused.to_grpc()
            }
        }
    }
}
