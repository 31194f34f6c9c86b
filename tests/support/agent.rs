//! parca-agent, as far as its store sees it: one connection, the schedule of its
//! retries, both protocols of writing, the habits of old versions, and 25 workers for
//! debug symbols. From its source, v0.35.3 to v0.49; hours are made seconds by `pace`.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use profile_relay::r#gen::{
    debuginfo::{
        InitiateUploadRequest, MarkUploadFinishedRequest, ShouldInitiateUploadRequest, UploadInfo,
        UploadRequest, debuginfo_service_client::DebuginfoServiceClient,
        upload_instructions::UploadStrategy, upload_request::Data,
    },
    profilestore::{
        WriteArrowRequest, WriteRequest, profile_store_service_client::ProfileStoreServiceClient,
    },
    telemetry::{ReportPanicRequest, telemetry_service_client::TelemetryServiceClient},
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

/// What an agent keeps to itself after an answer about a file.
const IN_PROGRESS: &str =
    "A previous upload is still in-progress and not stale yet (only stale uploads can be retried).";

/// Attempts of one unary call.
const ATTEMPTS: u32 = 10;

/// Workers for debug symbols.
const WORKERS: usize = 25;

/// What files are cut into.
const CHUNK: usize = 8 << 20;

/// How an agent ends a `Write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Reads on until the end, since v0.39.2.
    ReadsOn,
    /// Half-closes and leaves, as v0.35.3.
    Leaves,
}

/// What an agent thinks of a file from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Never asked again.
    ForGood,
    /// Asked again after five minutes, if it shows up.
    FiveMinutes,
    /// Asked again when it shows up, after six hours or later.
    None,
}

/// A file that an agent has seen.
#[derive(Clone, Debug)]
pub struct File {
    pub build_id: String,
    pub bytes: Bytes,
}

/// How an agent connects by TLS.
#[derive(Clone)]
struct Tls {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// An agent.
#[derive(Clone)]
pub struct Agent {
    channel: Channel,
    /// How much longer its minutes would be.
    pace: f64,
    /// Metadata of every call.
    token: Option<String>,
    /// What became of its calls, in order.
    pub log: Arc<Mutex<Vec<(&'static str, Code)>>>,
}

// === impl Tls ===

impl Service<Uri> for Tls {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::from(address.ip());
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

// === impl Agent ===

impl Agent {
    /// Dials as an agent does: blocking, 3 s an attempt, five retries. `pace` is how
    /// often faster it waits than a real one.
    pub async fn dial(address: SocketAddr, pace: f64) -> Self {
        Self::dial_by(address, pace, None).await
    }

    /// The same over TLS.
    pub async fn dial_tls(address: SocketAddr, pace: f64, tls: Arc<ClientConfig>) -> Self {
        Self::dial_by(address, pace, Some(Tls { address, tls })).await
    }

    async fn dial_by(address: SocketAddr, pace: f64, tls: Option<Tls>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .user_agent("parca-agent/0.49 grpc-go/1.75.0")
            .expect("a name")
            .connect_timeout(Duration::from_secs(3));
        for attempt in 0..=5 {
            let dialled = match tls.clone() {
                None => endpoint.connect().await,
                Some(tls) => endpoint.connect_with_connector(tls).await,
            };
            if let Ok(channel) = dialled {
                return Self {
                    channel,
                    pace,
                    token: None,
                    log: Arc::default(),
                };
            }
            assert!(attempt < 5, "an agent ends when its store is not there");
            sleep(Duration::from_secs(60).div_f64(pace)).await;
        }
        unreachable!("it has dialled");
    }

    /// The same agent with a token.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let token = token.parse().expect("a token");
            request.metadata_mut().insert("authorization", token);
        }
        request
    }

    fn note(&self, call: &'static str, code: Code) {
        self.log.lock().expect("a lock").push((call, code));
    }

    /// A unary call with an agent's retries: five minutes in all, two an attempt,
    /// waits of 1 s and twice as long each time.
    async fn retrying<T, R, F>(
        &self,
        call: &'static str,
        message: T,
        once: impl Fn(Request<T>) -> F,
    ) -> Result<R, Status>
    where
        T: Clone,
        F: Future<Output = Result<R, Status>>,
    {
        let began = Instant::now();
        let total = Duration::from_secs(300).div_f64(self.pace);
        let mut wait = Duration::from_secs(1).div_f64(self.pace);
        let mut last = Status::unknown("never tried");
        for attempt in 0..ATTEMPTS {
            let mut request = self.request(message.clone());
            request.set_timeout(Duration::from_secs(120));
            if attempt > 0 {
                let number = attempt.to_string().parse().expect("a number");
                request.metadata_mut().insert("x-retry-attempt", number);
            }
            let limit = Duration::from_secs(120).div_f64(self.pace);
            let answer = timeout(limit, once(request)).await;
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("2 min")));
            match answer {
                Ok(answer) => {
                    self.note(call, Code::Ok);
                    return Ok(answer);
                }
                Err(status) => {
                    self.note(call, status.code());
                    last = status;
                }
            }
            let again = [
                Code::Unavailable,
                Code::ResourceExhausted,
                Code::DeadlineExceeded,
                Code::Cancelled,
            ];
            if !again.contains(&last.code()) || began.elapsed() + wait > total {
                break;
            }
            sleep(wait).await;
            wait *= 2;
        }
        Err(last)
    }

    /// `WriteArrow`, schema v2. After an error the batch is lost.
    pub async fn write_arrow(&self, buffer: &Bytes) -> Result<(), Status> {
        let client = ProfileStoreServiceClient::new(self.channel.clone());
        let message = WriteArrowRequest {
            ipc_buffer: buffer.clone(),
        };
        self.retrying("write_arrow", message, |request| {
            let mut client = client.clone();
            async move { client.write_arrow(request).await.map(|_| ()) }
        })
        .await
    }

    /// `Write`, schema v1: no deadline, no retry. The stacks are those of the
    /// samples, in the order in which the store asks for them: what it asks, and the
    /// end as far as it is read.
    pub async fn write(
        &self,
        samples: &Bytes,
        stacks: &Bytes,
        habit: Habit,
    ) -> Result<Option<Bytes>, Status> {
        let mut client = ProfileStoreServiceClient::new(self.channel.clone());
        let (say, said) = mpsc::channel(1);
        let said = stream::unfold(said, async |mut said| {
            let record: Bytes = said.recv().await?;
            Some((WriteRequest { record }, said))
        });
        say.send(samples.clone()).await.expect("a stream");
        let mut answers = client.write(self.request(said)).await?.into_inner();
        let Some(question) = answers.message().await? else {
            return Ok(None);
        };
        if question.record.is_empty() {
            return Ok(None);
        }
        let _ = say.send(stacks.clone()).await;
        drop(say);
        match habit {
            Habit::ReadsOn => while answers.message().await?.is_some() {},
            // Its stream stays open, and nobody reads it.
            Habit::Leaves => std::mem::forget(answers),
        }
        Ok(Some(question.record))
    }

    /// Half of a `Write`, and nothing more: how it ends.
    pub async fn write_half(&self, samples: &Bytes) -> Status {
        let mut client = ProfileStoreServiceClient::new(self.channel.clone());
        let record = samples.clone();
        let first = stream::iter([WriteRequest { record }]);
        let said = first.chain(stream::pending());
        let mut answers = match client.write(self.request(said)).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return status,
        };
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    /// The end of a process that an agent watches.
    pub async fn report_panic(&self) -> Result<(), Status> {
        let mut client = TelemetryServiceClient::new(self.channel.clone());
        let report = ReportPanicRequest {
            stderr: "panic: for a test".to_owned(),
            metadata: [("agent_version".to_owned(), "v0.49.0".to_owned())].into(),
        };
        client.report_panic(self.request(report)).await.map(|_| ())
    }

    /// Debug symbols of all files, 25 at a time; what it thinks of each afterwards.
    pub async fn upload_all(&self, files: &[File]) -> BTreeMap<String, Mark> {
        let uploads = files.iter().map(|file| async move {
            let mark = self.upload(file).await;
            (file.build_id.clone(), mark)
        });
        stream::iter(uploads)
            .buffer_unordered(WORKERS)
            .collect()
            .await
    }

    /// Debug symbols of one file.
    pub async fn upload(&self, file: &File) -> Mark {
        let client = DebuginfoServiceClient::new(self.channel.clone());
        let request = ShouldInitiateUploadRequest {
            build_id: file.build_id.clone(),
            build_id_type: 1,
            ..ShouldInitiateUploadRequest::default()
        };
        let should = self.retrying("should", request, |request| {
            let mut client = client.clone();
            async move { client.should_initiate_upload(request).await }
        });
        let should = match should.await {
            Ok(answer) => answer.into_inner(),
            Err(_) => return Mark::None,
        };
        if !should.should_initiate_upload {
            return match should.reason == IN_PROGRESS {
                true => Mark::FiveMinutes,
                false => Mark::ForGood,
            };
        }
        let request = InitiateUploadRequest {
            build_id: file.build_id.clone(),
            build_id_type: 1,
            hash: "0".repeat(32),
            size: file.bytes.len() as i64,
            ..InitiateUploadRequest::default()
        };
        let initiated = self.retrying("initiate", request, |request| {
            let mut client = client.clone();
            async move { client.initiate_upload(request).await }
        });
        let instructions = match initiated.await {
            Ok(answer) => answer.into_inner().upload_instructions,
            Err(status) => {
                return match status.code() {
                    Code::FailedPrecondition => Mark::FiveMinutes,
                    Code::AlreadyExists | Code::InvalidArgument => Mark::ForGood,
                    _ => Mark::None,
                };
            }
        };
        let Some(instructions) = instructions else {
            return Mark::ForGood;
        };
        // An agent would PUT to a signed URL itself: nothing may ask it to.
        if instructions.upload_strategy() != UploadStrategy::Grpc {
            return Mark::ForGood;
        }
        let upload_id = instructions.upload_id;
        if self.stream(file, &upload_id).await.is_err() {
            return Mark::None;
        }
        let request = MarkUploadFinishedRequest {
            build_id: file.build_id.clone(),
            upload_id,
            ..MarkUploadFinishedRequest::default()
        };
        let finished = self.retrying("finished", request, |request| {
            let mut client = client.clone();
            async move { client.mark_upload_finished(request).await }
        });
        match finished.await {
            Ok(_) => Mark::ForGood,
            Err(_) => Mark::None,
        }
    }

    /// `Upload`: no deadline, no retry.
    async fn stream(&self, file: &File, upload_id: &str) -> Result<(), Status> {
        let info = UploadRequest {
            data: Some(Data::Info(UploadInfo {
                build_id: file.build_id.clone(),
                upload_id: upload_id.to_owned(),
                ..UploadInfo::default()
            })),
        };
        let bytes = file.bytes.clone();
        let chunks = (0..bytes.len().div_ceil(CHUNK)).map(move |at| {
            let end = bytes.len().min((at + 1) * CHUNK);
            UploadRequest {
                data: Some(Data::ChunkData(bytes.slice(at * CHUNK..end))),
            }
        });
        let messages = stream::iter([info].into_iter().chain(chunks));
        let mut client = DebuginfoServiceClient::new(self.channel.clone());
        let uploaded = client.upload(self.request(messages)).await;
        let code = uploaded.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.note("upload", code);
        uploaded.map(|_| ())
    }
}
