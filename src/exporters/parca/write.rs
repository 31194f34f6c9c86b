//! The conversation of `ProfileStoreService/Write`: samples, the question for
//! stacks, stacks.
//!
//! Parca gives all of it 5 s, and has everything from here within one answer's time.
//! It asks for all stacks; another store may ask for some, in its own order.

use super::with;
use crate::{
    r#gen::profilestore::{WriteRequest, profile_store_service_client::ProfileStoreServiceClient},
    net::GrpcChannel,
    profile::arrow::select_stacks,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use tokio::sync::oneshot;
use tonic::Status;

/// The largest question that is read, in bytes: 16 for a stack.
const MAX_QUESTION: usize = 64 << 20;

/// Sends both messages of a profile. `max` bounds the inflated bytes of the stacks
/// where some of them have to be picked.
pub(super) async fn write(
    client: &ProfileStoreServiceClient<GrpcChannel>,
    headers: HeaderMap,
    samples: &Bytes,
    stacks: &Bytes,
    max: u64,
) -> Result<(), Status> {
    let mut client = client.clone().max_decoding_message_size(MAX_QUESTION);
    let message = |record: Bytes| WriteRequest { record };
    let first = stream::iter([message(samples.clone())]);
    // Nothing can follow it, so it is the end as well.
    let (say, second) = oneshot::channel();
    let second = stream::once(second).filter_map(async |said| said.ok());
    let said = first.chain(Box::pin(second));
    let mut answers = client.write(with(headers, said)).await?.into_inner();
    let Some(question) = answers.message().await? else {
        return Ok(());
    };
    if question.record.is_empty() {
        return Ok(());
    }
    let wanted = select_stacks(stacks, &question.record, max);
    let wanted =
        wanted.map_err(|error| Status::internal(format!("its question is odd: {error}")))?;
    // Who hung up says so in its status.
    let _ = say.send(message(wanted));
    while answers.message().await?.is_some() {}
    Ok(())
}
