//! `WriteArrow`: schema v2, one message that stands for itself.

use super::intake::{Intake, Parcel, Taken};
use crate::{
    r#gen::profilestore::WriteArrowRequest,
    net::serve::{
        Failure, Kind,
        grpc::{Head, MessageBody, Method},
    },
    profile::arrow::Schema,
    receivers::shared::Requests,
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

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
        let mut look = self.intake.look(received.permit);
        let size = buffer.len();
        let looking = move || (look.whole(buffer), look.permit);
        let (profile, permit) = self.intake.work(size, looking).await?;
        let parcel = Parcel {
            profiles: profile?.into_iter().collect(),
            permit,
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
