//! OTLP over gRPC: one unary method.

use super::{
    intake::{Intake, Parcel},
    version,
};
use crate::{
    net::serve::{
        Encoding, Failure, Picked, Reading,
        grpc::{Head, MessageBody, Method},
    },
    profile::Transport,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// The path of the method.
pub(super) const EXPORT: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// `ProfilesService/Export`.
#[derive(Debug)]
pub(super) struct Export {
    intake: Arc<Intake>,
    reading: Reading,
    metadata: Picked,
}

// === impl Export ===

impl Export {
    pub(super) fn new(intake: Arc<Intake>, reading: Reading, metadata: Picked) -> Self {
        Self {
            intake,
            reading,
            metadata,
        }
    }

    async fn export(&self, head: &Head, body: MessageBody) -> Result<(), Failure> {
        version::check(&head.headers)?;
        let message = body.read(&self.reading).await?;
        let parcel = Parcel {
            received: message.received,
            coding: message.coding,
            encoding: Encoding::Protobuf,
        };
        let metadata = self.metadata.of(&head.headers).collect();
        let origin = self.intake.origin(Transport::Grpc, &head.peer, metadata);
        let is_late = || head.is_late();
        self.intake
            .take(parcel, &self.reading, (&head.peer, origin), is_late)
            .await
    }
}

#[async_trait]
impl Method for Export {
    async fn call(&self, head: Head, body: MessageBody) -> Result<Bytes, Failure> {
        let peer = head.peer.clone();
        self.intake.serve(&peer, self.export(&head, body)).await?;
        // A full success has no fields.
        Ok(Bytes::new())
    }
}
