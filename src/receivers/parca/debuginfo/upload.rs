//! `Upload`: to the upstream, or to the signed URL that it named.

use super::{
    Debuginfo, UPLOAD,
    chunks::{Broken, Chunks, Passing, Trace},
    first::First,
    signed::Signed,
};
use crate::{
    r#gen::debuginfo::UploadResponse,
    net::serve::{
        Failure, Kind,
        grpc::{Head, MessageBody},
    },
    receivers::parca::{
        counts::Strategy,
        upstream::{Refused, Upstream},
    },
};
use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use prost::Message;
use tonic::{Code, Status, body::Body};

// === impl Debuginfo ===

impl Debuginfo {
    /// Waits for its turn, which costs nothing but the frames that HTTP/2 holds back,
    /// then passes one upload on.
    pub(super) async fn upload(&self, head: &Head, body: MessageBody) -> Result<Bytes, Refused> {
        let upstream = self.upstream()?;
        let _turn = self.uploads.acquire().await;
        let trace = Trace::default();
        let passing = async {
            let passed = self.pass(upstream, head, body.into_inner(), &trace).await;
            Ok::<_, Failure>(passed)
        };
        let bounded = self
            .total
            .bound(head.deadline, "the upload was not over", passing);
        bounded.await?
    }

    async fn pass(
        &self,
        upstream: &Upstream,
        head: &Head,
        mut body: Incoming,
        trace: &Trace,
    ) -> Result<Bytes, Refused> {
        let first = First::read(&mut body, &self.idle).await?;
        let id = first.info.upload_id.clone();
        match self.signed.get(&id) {
            Some(signed) => {
                let answer = self.put(&signed, first, body, trace).await;
                if answer.is_ok() {
                    self.signed.remove(&id);
                }
                self.counts.uploaded(Strategy::SignedUrl, trace.bytes());
                answer
            }
            None => {
                let answer = self.stream(upstream, head, first, body, trace).await;
                self.counts.uploaded(Strategy::Grpc, trace.bytes());
                answer
            }
        }
    }

    async fn stream(
        &self,
        upstream: &Upstream,
        head: &Head,
        first: First,
        body: Incoming,
        trace: &Trace,
    ) -> Result<Bytes, Refused> {
        let mut held = BytesMut::from(&*first.framed);
        held.extend_from_slice(&first.rest);
        let passing = Passing::new(held.freeze(), body, self.idle.clone(), trace);
        let answer = upstream.stream(UPLOAD, head, Body::new(passing)).await;
        answer.map_err(|refused| {
            if let Some(broken) = trace.fault() {
                return broken.as_failure().into();
            }
            match &refused {
                // A store that hands out signed URLs, and a relay that has
                // forgotten to which one this upload goes.
                Refused::Upstream(status) if status.code() == Code::Unimplemented => {
                    let message = "the relay does not know this upload any more: initiate it again";
                    Refused::Upstream(Status::failed_precondition(message))
                }
                _ => refused,
            }
        })
    }

    async fn put(
        &self,
        signed: &Signed,
        first: First,
        body: Incoming,
        trace: &Trace,
    ) -> Result<Bytes, Refused> {
        let passing = Passing::new(first.rest, body, self.idle.clone(), trace);
        let chunks = Chunks::new(passing, signed.size, trace);
        let unavailable = |message: String| Failure::new(Kind::Unavailable, message);
        match self.client.put(&signed.url, chunks).await {
            Ok((status, _)) if status.is_success() => {
                let answer = UploadResponse {
                    build_id: first.info.build_id,
                    size: signed.size,
                };
                Ok(answer.encode_to_vec().into())
            }
            Ok((status, text)) => {
                let text: String = text.chars().take(200).collect();
                let message = format!("the signed URL refuses the upload: {status} {text}");
                Err(unavailable(message).into())
            }
            Err(error) => {
                if let Some(broken) = trace.fault() {
                    return Err(broken.as_failure().into());
                }
                let message = format!("the signed URL cannot be reached: {error}");
                Err(unavailable(message).into())
            }
        }
    }
}

// === impl Broken ===

impl Broken {
    fn as_failure(&self) -> Failure {
        match self {
            Self::Gone(message) => Failure::new(Kind::Broken, message.clone()),
            Self::Silent(message) => Failure::new(Kind::Late, message.clone()),
            Self::Invalid(message) => Failure::new(Kind::Invalid, message.clone()),
        }
    }
}
