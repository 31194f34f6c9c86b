//! `WriteArrow`: schema v2, one message that stands for itself.

use super::{
    arrow::{self, Kind as ArrowKind},
    intake::{Intake, Parcel, Taken},
};
use crate::{
    r#gen::profilestore::WriteArrowRequest,
    net::serve::{
        Failure, Kind,
        grpc::{Head, MessageBody, Method},
    },
    profile::{
        Body, Profile,
        arrow::{Arrow, Schema},
    },
    receivers::shared::Requests,
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::{sync::Arc, time::SystemTime};

/// The path of the method.
pub(super) const PATH: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteArrow";

/// `ProfileStoreService/WriteArrow`.
#[derive(Debug)]
pub(super) struct WriteArrow {
    intake: Arc<Intake>,
    requests: Requests,
}

// === impl WriteArrow ===

impl WriteArrow {
    pub(super) fn new(intake: Arc<Intake>, requests: Requests) -> Self {
        Self { intake, requests }
    }

    async fn write(&self, head: &Head, body: MessageBody) -> Result<(), Failure> {
        let message = body.read(&self.intake.reading).await?;
        let received = self.intake.plain(message).await?;
        let request = WriteArrowRequest::decode(received.bytes).map_err(|error| {
            let message = format!("the message is no WriteArrowRequest: {error}");
            Failure::new(Kind::Invalid, message)
        })?;
        let buffer = request.ipc_buffer;
        let key = self.intake.key("WriteArrow", head, &[&buffer]);
        let look = {
            let buffer = buffer.clone();
            move || profile(buffer)
        };
        let profile = self.intake.work(buffer.len(), look).await??;
        let parcel = Parcel {
            profiles: profile.into_iter().collect(),
            permit: received.permit,
            key,
        };
        if !parcel.profiles.is_empty() && self.intake.take(head, parcel).await? == Taken::Now {
            self.intake.counts.arrow(Schema::V2);
        }
        Ok(())
    }
}

#[async_trait]
impl Method for WriteArrow {
    async fn call(&self, head: Head, body: MessageBody) -> Result<Bytes, Failure> {
        let writing = self.write(&head, body);
        self.intake.serve(&self.requests, &head, writing).await?;
        // The answer has no fields.
        Ok(Bytes::new())
    }
}

/// The profile in a buffer; nothing when it has no rows.
fn profile(buffer: Bytes) -> Result<Option<Profile>, Failure> {
    let invalid = |message: String| Failure::new(Kind::Invalid, message);
    let outline = arrow::outline(&buffer).map_err(invalid)?;
    if outline.kind != ArrowKind::V2 {
        return Err(invalid(
            "WriteArrow takes schema v2, and this is v1: send it by Write".to_owned(),
        ));
    }
    if outline.rows == 0 {
        return Ok(None);
    }
    let arrow = Arrow::v2(buffer);
    Ok(Some(Profile {
        labels: arrow::constant_labels(&arrow),
        body: Body::ParcaArrow(arrow),
        received: SystemTime::now(),
    }))
}
