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

use super::{
    arrow::{self, Kind as ArrowKind},
    intake::{Intake, Parcel, Taken},
};
use crate::{
    r#gen::profilestore::{WriteRequest, WriteResponse},
    net::serve::{
        Failure, Kind, Patience, Received,
        grpc::{Conversation, Head, Messages, Replies},
    },
    profile::{
        Body, Profile,
        arrow::{Arrow, Schema},
    },
    receivers::shared::{Requests, no_memory},
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::{sync::Arc, time::SystemTime};

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
        let first = self.record(&mut messages).await?;
        let Some(mut first) = first else {
            return Err(invalid("the call has no message"));
        };
        let samples = first.bytes;
        let look = {
            let samples = samples.clone();
            move || question(&samples)
        };
        let Some(question) = self.intake.work(samples.len(), look).await?? else {
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
        let key = self.intake.key("Write", head, &[&samples, &stacks]);
        let size = samples.len() + stacks.len();
        let profile = self
            .intake
            .work(size, move || profile(samples, stacks))
            .await??;
        first.permit.absorb(second.permit);
        let parcel = Parcel {
            profiles: vec![profile],
            permit: first.permit,
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

/// What is asked about samples; nothing when there are none.
fn question(samples: &Bytes) -> Result<Option<Bytes>, Failure> {
    let outline = arrow::outline(samples).map_err(invalid)?;
    match outline.kind {
        ArrowKind::Samples if outline.rows == 0 => Ok(None),
        ArrowKind::Samples => arrow::stacks_request(samples).map(Some).map_err(invalid),
        ArrowKind::V2 => Err(invalid(
            "Write takes schema v1, and this is v2: send it by WriteArrow",
        )),
        ArrowKind::Stacks => Err(invalid(
            "the first message holds stacks: samples come first",
        )),
    }
}

fn profile(samples: Bytes, stacks: Bytes) -> Result<Profile, Failure> {
    let outline = arrow::outline(&stacks).map_err(invalid)?;
    if outline.kind != ArrowKind::Stacks {
        return Err(invalid("the second message holds no stacks"));
    }
    let arrow = Arrow::v1(samples, stacks);
    Ok(Profile {
        labels: arrow::constant_labels(&arrow),
        body: Body::ParcaArrow(arrow),
        received: SystemTime::now(),
    })
}
