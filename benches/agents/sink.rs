//! The role `sink`: what is behind the relay. It decodes outer messages only, counts,
//! and answers at once.

use crate::{
    Result,
    args::{Far, Tls},
    child,
    client::Io,
};
use bytes::Bytes;
use futures_util::stream::try_unfold;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use profile_relay::{
    r#gen::profilestore::{
        WriteArrowRequest, WriteArrowResponse, WriteRawRequest, WriteRawResponse, WriteRequest,
        WriteResponse,
        profile_store_service_server::{ProfileStoreService, ProfileStoreServiceServer},
    },
    profile::arrow::stacks_request,
    runtime::Tasks,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, Streaming, body::Body, codegen::BoxStream};
use tower_service::Service;

/// What arrived since somebody asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    /// Not known of OTLP.
    pub(crate) profiles: u64,
    /// Of what is in messages: pprofs, Arrow, OTLP.
    pub(crate) bytes: u64,
}

#[derive(Clone)]
struct Sink(Arc<Shared>);

struct Shared {
    far: Far,
    arrived: Mutex<Arrived>,
    /// The questions for the stacks of samples, by the length of these: all bodies of
    /// a run have the same stacks, and to ask is not what is measured.
    questions: Mutex<HashMap<usize, Bytes>>,
}

/// Parca's own limits, for what a client may send depends on them.
const MAX_MESSAGE: usize = 64 << 20;
const WINDOW: u32 = 1 << 20;
const MAX_STREAMS: u32 = 250;
/// So much is inflated at most.
const MAX: u64 = 1 << 28;

/// Takes profiles until stdin ends. Prints its address as one line of JSON, then
/// answers each line on stdin with an [`Arrived`] since the last.
pub(crate) fn run(far: Far, tls: &Tls) -> Result<()> {
    let acceptor = tls.server()?.map(TlsAcceptor::from);
    child::runtime()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let sink = Sink(Arc::new(Shared {
            far,
            arrived: Mutex::default(),
            questions: Mutex::default(),
        }));
        let asked = sink.clone();
        child::obey(&json!(listener.local_addr()?), move |_| {
            json!(std::mem::take(&mut *asked.arrived()))
        });
        let tasks = Tasks::default();
        loop {
            let (stream, _) = listener.accept().await?;
            let (sink, acceptor) = (sink.clone(), acceptor.clone());
            tasks.spawn("connection", async move {
                // Whoever closes a connection has nothing more to send.
                let _ = sink.serve(stream, acceptor).await;
            });
        }
    })
}

// === impl Sink ===

impl Sink {
    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Result<()> {
        stream.set_nodelay(true)?;
        let io: Box<dyn Io> = match acceptor {
            Some(acceptor) => Box::new(acceptor.accept(stream).await?),
            None => Box::new(stream),
        };
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http2()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_frame_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS);
        let store =
            ProfileStoreServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        let service = service_fn(move |request: Request<Incoming>| {
            let (sink, mut store) = (self.clone(), store.clone());
            async move {
                match sink.0.far {
                    Far::Parca | Far::Old => store.call(request).await,
                    Far::Otlp => Ok(sink.export(request).await),
                }
            }
        });
        server.serve_connection(TokioIo::new(io), service).await
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        let arrived = self.0.arrived.lock();
        arrived.unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, profiles: usize, bytes: usize) {
        let mut arrived = self.arrived();
        arrived.requests += 1;
        arrived.profiles += profiles as u64;
        arrived.bytes += bytes as u64;
    }

    /// An OTLP request, of which nothing is decoded.
    async fn export(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut body, mut bytes) = (request.into_body(), 0);
        while let Some(frame) = body.frame().await {
            // A sender that breaks off tries again.
            let Ok(frame) = frame else { break };
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        self.count(0, bytes);
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let answer = Full::new(Bytes::from_static(&[0; 5]));
        let answer = answer.with_trailers(ready(Some(Ok::<_, Infallible>(trailers))));
        let mut response = Response::new(Body::new(answer));
        let content_type = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// Asks for all stacks, as Parca does.
    fn question(&self, samples: &Bytes) -> std::result::Result<Bytes, Status> {
        let questions = self.0.questions.lock();
        let mut questions = questions.unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = questions.get(&samples.len()) {
            return Ok(question.clone());
        }
        let question = stacks_request(samples, MAX);
        let question = question.map_err(|error| Status::invalid_argument(error.to_string()))?;
        questions.insert(samples.len(), question.clone());
        Ok(question)
    }
}

#[tonic::async_trait]
impl ProfileStoreService for Sink {
    type WriteStream = BoxStream<WriteResponse>;

    async fn write_raw(
        &self,
        request: tonic::Request<WriteRawRequest>,
    ) -> std::result::Result<tonic::Response<WriteRawResponse>, Status> {
        let samples = || request.get_ref().series.iter().flat_map(|s| &s.samples);
        let bytes = samples().map(|sample| sample.raw_profile.len()).sum();
        self.count(samples().count(), bytes);
        Ok(tonic::Response::new(WriteRawResponse {}))
    }

    async fn write(
        &self,
        request: tonic::Request<Streaming<WriteRequest>>,
    ) -> std::result::Result<tonic::Response<Self::WriteStream>, Status> {
        let sink = self.clone();
        let start = (request.into_inner(), None);
        let answers = try_unfold(start, move |(mut messages, samples)| {
            let sink = sink.clone();
            async move {
                let Some(message) = messages.message().await? else {
                    return Err(Status::invalid_argument("a message is missing"));
                };
                match samples {
                    None => {
                        let record = sink.question(&message.record)?;
                        let samples = Some(message.record.len());
                        Ok(Some((WriteResponse { record }, (messages, samples))))
                    }
                    Some(samples) => {
                        sink.count(1, samples + message.record.len());
                        Ok(None)
                    }
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(answers)))
    }

    async fn write_arrow(
        &self,
        request: tonic::Request<WriteArrowRequest>,
    ) -> std::result::Result<tonic::Response<WriteArrowResponse>, Status> {
        if self.0.far == Far::Old {
            return Err(Status::unimplemented("WriteArrow is not there yet"));
        }
        self.count(1, request.get_ref().ipc_buffer.len());
        Ok(tonic::Response::new(WriteArrowResponse {}))
    }
}
