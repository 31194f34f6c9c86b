//! A Parca to which calls are passed on, and a store of objects with signed URLs.

use super::*;
use crate::r#gen::{
    debuginfo::{
        InitiateUploadRequest, InitiateUploadResponse, MarkUploadFinishedRequest,
        MarkUploadFinishedResponse, ShouldInitiateUploadRequest, ShouldInitiateUploadResponse,
        UploadInfo, UploadRequest, UploadResponse,
        debuginfo_service_server::{DebuginfoService, DebuginfoServiceServer},
        upload_request::Data,
    },
    opentelemetry::proto::collector::profiles::v1development::{
        ExportProfilesServiceRequest, ExportProfilesServiceResponse,
        profiles_service_server::{ProfilesService, ProfilesServiceServer},
    },
    telemetry::{
        ReportPanicRequest, ReportPanicResponse,
        telemetry_service_server::{TelemetryService, TelemetryServiceServer},
    },
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard},
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// Files up to 64 MiB a message, as Parca.
const MAX_MESSAGE: usize = 64 << 20;

/// A Parca that runs until it is dropped.
pub(super) struct Parca {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
    /// Whether uploads are read.
    pub(super) reads: watch::Sender<bool>,
    /// Of its own, so that all its connections end with it.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

/// What it answers, and what it was asked.
pub(super) struct State {
    pub(super) should: Result<ShouldInitiateUploadResponse, Status>,
    pub(super) initiate: Result<InitiateUploadResponse, Status>,
    /// Answers nothing at all.
    pub(super) hangs: bool,
    pub(super) takes_uploads: bool,
    pub(super) asked: Vec<(&'static str, BTreeMap<String, String>)>,
    pub(super) uploads: Vec<(UploadInfo, u64, seen::Key)>,
    /// Uploads that ended before their end.
    pub(super) broken: usize,
    pub(super) finished: Vec<String>,
    pub(super) panics: Vec<String>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    reads: watch::Receiver<bool>,
}

/// What was PUT somewhere.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) path: String,
    pub(super) headers: http::HeaderMap,
    /// Nothing when it ended before its end.
    pub(super) body: Option<Bytes>,
}

/// A store of objects.
pub(super) struct Bucket {
    pub(super) address: SocketAddr,
    pub(super) puts: mpsc::UnboundedReceiver<Put>,
    running: JoinHandle<()>,
}

// === impl Parca ===

impl Parca {
    pub(super) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (reads, wait) = watch::channel(true);
        let service = Service {
            state: state.clone(),
            reads: wait,
        };
        let debuginfo = DebuginfoServiceServer::new(service.clone());
        let server = tonic::transport::Server::builder()
            .add_service(debuginfo.max_decoding_message_size(MAX_MESSAGE))
            .add_service(TelemetryServiceServer::new(service.clone()))
            .add_service(ProfilesServiceServer::new(service));
        let serving = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = futures_util::stream::unfold(listener, async |listener| {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                Some((accepted, listener))
            });
            let incoming = Box::pin(incoming);
            server
                .serve_with_incoming::<_, TcpStream, std::io::Error, _>(incoming)
                .await
                .unwrap();
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        Tasks::default().spawn("parca", serving);
        drop(entered);
        Self {
            address,
            state,
            reads,
            runtime: Mutex::new(Some(runtime)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How often a method was called.
    pub(super) fn asked(&self, method: &str) -> usize {
        let state = self.state();
        state
            .asked
            .iter()
            .filter(|(name, _)| *name == method)
            .count()
    }

    /// Ends it with all its connections.
    pub(super) fn kill(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Parca {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            should: Ok(ShouldInitiateUploadResponse {
                should_initiate_upload: true,
                reason: "First time we see this Build ID.".to_owned(),
            }),
            initiate: Err(Status::internal("no test said what to answer")),
            hangs: false,
            takes_uploads: true,
            asked: Vec::new(),
            uploads: Vec::new(),
            broken: 0,
            finished: Vec::new(),
            panics: Vec::new(),
        }
    }
}

/// An upload that counts as broken unless it came to its end: its handler is dropped
/// when the stream is reset.
struct Unfinished(Arc<Mutex<State>>, bool);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.lock().unwrap().broken += usize::from(self.1);
    }
}

// === impl Service ===

impl Service {
    async fn asked(&self, method: &'static str, metadata: &MetadataMap) {
        let headers = metadata.clone().into_headers();
        let headers = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        let hangs = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((method, headers.collect()));
            state.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
    }
}

#[tonic::async_trait]
impl DebuginfoService for Service {
    async fn should_initiate_upload(
        &self,
        request: Request<ShouldInitiateUploadRequest>,
    ) -> Result<Response<ShouldInitiateUploadResponse>, Status> {
        self.asked("should", request.metadata()).await;
        self.state.lock().unwrap().should.clone().map(Response::new)
    }

    async fn initiate_upload(
        &self,
        request: Request<InitiateUploadRequest>,
    ) -> Result<Response<InitiateUploadResponse>, Status> {
        self.asked("initiate", request.metadata()).await;
        self.state
            .lock()
            .unwrap()
            .initiate
            .clone()
            .map(Response::new)
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        self.asked("upload", request.metadata()).await;
        if !self.state.lock().unwrap().takes_uploads {
            return Err(Status::unimplemented("signed URL uploads are used"));
        }
        let mut reads = self.reads.clone();
        reads.wait_for(|reads| *reads).await.unwrap();
        let mut upload = Unfinished(self.state.clone(), true);
        let mut messages = request.into_inner();
        let (mut info, mut size, mut pieces) = (None, 0, Vec::new());
        while let Some(message) = messages.message().await? {
            match message.data.unwrap() {
                Data::Info(first) => info = Some(first),
                Data::ChunkData(chunk) => {
                    size += chunk.len() as u64;
                    pieces.push(seen::key("", [], &[&chunk]));
                }
            }
        }
        upload.1 = false;
        let info = info.unwrap();
        let build_id = info.build_id.clone();
        let digest = seen::key("", [], &[&pieces.concat()]);
        self.state
            .lock()
            .unwrap()
            .uploads
            .push((info, size, digest));
        Ok(Response::new(UploadResponse { build_id, size }))
    }

    async fn mark_upload_finished(
        &self,
        request: Request<MarkUploadFinishedRequest>,
    ) -> Result<Response<MarkUploadFinishedResponse>, Status> {
        self.asked("finished", request.metadata()).await;
        let id = request.into_inner().upload_id;
        self.state.lock().unwrap().finished.push(id);
        Ok(Response::new(MarkUploadFinishedResponse {}))
    }
}

#[tonic::async_trait]
impl TelemetryService for Service {
    async fn report_panic(
        &self,
        request: Request<ReportPanicRequest>,
    ) -> Result<Response<ReportPanicResponse>, Status> {
        self.asked("panic", request.metadata()).await;
        let stderr = request.into_inner().stderr;
        self.state.lock().unwrap().panics.push(stderr);
        Ok(Response::new(ReportPanicResponse {}))
    }
}

#[tonic::async_trait]
impl ProfilesService for Service {
    async fn export(
        &self,
        request: Request<ExportProfilesServiceRequest>,
    ) -> Result<Response<ExportProfilesServiceResponse>, Status> {
        self.asked("export", request.metadata()).await;
        let mut response = Response::new(ExportProfilesServiceResponse::default());
        response
            .metadata_mut()
            .insert("x-from", "upstream".parse().unwrap());
        Ok(response)
    }
}

// === impl Bucket ===

impl Bucket {
    /// One that answers with `status`.
    pub(super) async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (done, puts) = mpsc::unbounded_channel();
        let running = Tasks::default().spawn("bucket", async move {
            let tasks = Tasks::default();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let done = done.clone();
                tasks.spawn("put", async move {
                    let service = service_fn(move |request| put(request, status, done.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            puts,
            running,
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn put(
    request: http::Request<Incoming>,
    status: u16,
    done: mpsc::UnboundedSender<Put>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.method(), http::Method::PUT);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok().map(|body| body.to_bytes());
    let _ = done.send(Put {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
    });
    let mut response = http::Response::new(Full::from("<Error>why</Error>"));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}
