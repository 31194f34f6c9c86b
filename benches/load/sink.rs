//! The role `sink`: a profile store that counts what arrives and answers at once.

use crate::{
    Result, body, child,
    figures::{nanos, quantile},
};
use profile_relay::{
    r#gen::profilestore::{
        WriteArrowRequest, WriteArrowResponse, WriteRawRequest, WriteRawResponse, WriteRequest,
        WriteResponse,
        profile_store_service_server::{ProfileStoreService, ProfileStoreServiceServer},
    },
    runtime::Tasks,
};
use prost::Message;
use serde_json::json;
use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// What arrived since somebody asked.
#[derive(Default)]
struct Counts {
    requests: u64,
    message_bytes: u64,
    series: u64,
    profiles: u64,
    profile_bytes: u64,
    /// Bodies that are not those that a target gave.
    altered: u64,
    /// From a target's answer to the arrival here, in microseconds.
    delays: Vec<u64>,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Counts>>);

/// Parca's own limits, for what a client may send depends on them.
const MAX_MESSAGE: usize = 64 << 20;
const WINDOW: u32 = 1 << 20;
const MAX_STREAMS: u32 = 250;

/// Takes profiles until stdin ends. Prints its address as one line of JSON, then
/// an answer for each line on stdin: what arrived since the last.
pub(crate) fn run() -> Result<()> {
    child::runtime()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let sink = Sink::default();
        let service =
            ProfileStoreServiceServer::new(sink.clone()).max_decoding_message_size(MAX_MESSAGE);
        let server = Server::builder()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_frame_size(WINDOW)
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        child::obey(&json!(address), move |_| sink.take());
        let tasks = Tasks::default();
        tasks.spawn("sink", server).await??;
        Ok(())
    })
}

// === impl Sink ===

impl Sink {
    fn count(&self, request: &WriteRawRequest) {
        let now = nanos(SystemTime::now());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        counts.message_bytes += request.encoded_len() as u64;
        counts.series += request.series.len() as u64;
        for sample in request.series.iter().flat_map(|series| &series.samples) {
            counts.profiles += 1;
            counts.profile_bytes += sample.raw_profile.len() as u64;
            match body::stamp(&sample.raw_profile) {
                Some(given) => counts.delays.push(now.saturating_sub(given) / 1_000),
                None => counts.altered += 1,
            }
        }
    }

    fn take(&self) -> serde_json::Value {
        let mut counts = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *counts)
        };
        counts.delays.sort_unstable();
        let delay = |q: f64| quantile(&counts.delays, q).map(|micros| micros as f64 / 1e6);
        json!({
            "requests": counts.requests,
            "message_bytes": counts.message_bytes,
            "series": counts.series,
            "profiles": counts.profiles,
            "profile_bytes": counts.profile_bytes,
            "altered": counts.altered,
            "delay_p50": delay(0.5),
            "delay_p99": delay(0.99),
            "delay_max": delay(1.0),
        })
    }
}

#[tonic::async_trait]
impl ProfileStoreService for Sink {
    type WriteStream = tonic::codegen::BoxStream<WriteResponse>;

    async fn write_raw(
        &self,
        request: Request<WriteRawRequest>,
    ) -> std::result::Result<Response<WriteRawResponse>, Status> {
        self.count(request.get_ref());
        Ok(Response::new(WriteRawResponse {}))
    }

    async fn write(
        &self,
        _: Request<Streaming<WriteRequest>>,
    ) -> std::result::Result<Response<Self::WriteStream>, Status> {
        Err(Status::unimplemented("WriteRaw only"))
    }

    async fn write_arrow(
        &self,
        _: Request<WriteArrowRequest>,
    ) -> std::result::Result<Response<WriteArrowResponse>, Status> {
        Err(Status::unimplemented("WriteRaw only"))
    }
}
