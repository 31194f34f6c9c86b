//! `Write`: schema v1, in two steps.
//!
//! ```text
//! agent ── samples ──▶ relay
//!       ◀── which stacks ── all that the samples name, asked by the relay itself
//!       ── stacks ──▶     both messages are one profile from here on
//!       ◀── trailers ──
//! ```
//!
//! Old agents wait without a deadline and never try again, so every step has one, and
//! once both messages are here they are taken even if nobody waits any more (agents of
//! v0.35 do not read on). What an agent sends behind the stacks is not read. Half a
//! profile goes nowhere.

use super::intake::{Intake, Parcel, Taken};
use crate::{
    r#gen::profilestore::{WriteRequest, WriteResponse},
    net::serve::{
        Failure, Kind, Patience, Received,
        grpc::{Conversation, Head, Messages, Replies},
    },
    profile::arrow::Schema,
    receivers::shared::{Requests, no_memory},
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// The path of the method.
pub(super) const PATH: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/Write";

/// `ProfileStoreService/Write`.
#[derive(Debug)]
pub(super) struct Write {
    intake: Arc<Intake>,
    requests: Requests,
    /// The longest that a call may take.
    total: Patience,
}

// === impl Write ===

impl Write {
    pub(super) fn new(intake: Arc<Intake>, requests: Requests, total: Patience) -> Self {
        Self {
            intake,
            requests,
            total,
        }
    }

    async fn write(
        &self,
        head: &Head,
        mut messages: Messages,
        replies: &Replies,
    ) -> Result<(), Failure> {
        let Some(first) = self.record(&mut messages).await? else {
            return Err(invalid("the call has no message"));
        };
        let samples = first.bytes;
        let mut look = self.intake.look(first.permit);
        let looking = {
            let samples = samples.clone();
            move || (look.question(&samples), look)
        };
        let (question, mut look) = self.intake.work(samples.len(), looking).await?;
        let Some(question) = question? else {
            // No rows, so there is nothing to ask for.
            return Ok(());
        };
        self.ask(question, replies)?;
        let Some(second) = self.record(&mut messages).await? else {
            return Err(invalid(
                "the call ended behind the samples: their stacks are missing",
            ));
        };
        let stacks = second.bytes;
        look.permit.absorb(second.permit);
        let key = self.intake.key("Write", head, &[&samples, &stacks]);
        let size = samples.len() + stacks.len();
        let looking = move || (look.both(samples, stacks), look.permit);
        let (profile, permit) = self.intake.work(size, looking).await?;
        let parcel = Parcel {
            profiles: vec![profile?],
            permit,
            key,
        };
        if self.intake.take(head, parcel).await? == Taken::Now {
            self.intake.counts.arrow(Schema::V1);
        }
        Ok(())
    }

    /// The record of the next message.
    async fn record(&self, messages: &mut Messages) -> Result<Option<Received>, Failure> {
        let Some(message) = messages.next().await? else {
            return Ok(None);
        };
        let Received { bytes, permit } = self.intake.plain(message).await?;
        let request = WriteRequest::decode(bytes)
            .map_err(|error| invalid(format!("the message is no WriteRequest: {error}")))?;
        Ok(Some(Received {
            bytes: request.record,
            permit,
        }))
    }

    /// Asks the agent for stacks.
    fn ask(&self, question: Bytes, replies: &Replies) -> Result<(), Failure> {
        let needed = 2 * question.len() as u64;
        let charge = self.intake.reading.memory.try_take(needed);
        let charge = charge.ok_or_else(|| no_memory(needed, &self.intake.reading))?;
        let answer = WriteResponse { record: question };
        replies.send(&answer.encode_to_vec(), charge);
        Ok(())
    }
}

#[async_trait]
impl Conversation for Write {
    async fn talk(
        &self,
        head: &Head,
        messages: Messages,
        replies: &Replies,
    ) -> Result<(), Failure> {
        let writing = self.write(head, messages, replies);
        let writing = self
            .total
            .bound(head.deadline, "the call was not over", writing);
        self.intake.serve(&self.requests, head, writing).await
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Invalid, message)
}
