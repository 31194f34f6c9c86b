//! `WriteArrow`, `Write` and debug symbols, as three generations of Parca have them.
//!
//! Measured on 0.27.1 and a later one than 0.28; 0.25 by its source.

use super::{
    Fault,
    server::{Answer, Wire, ok, plan},
};
use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use profile_relay::{
    r#gen::{
        debuginfo::{
            InitiateUploadRequest, InitiateUploadResponse, MarkUploadFinishedRequest,
            ShouldInitiateUploadRequest, ShouldInitiateUploadResponse, UploadInfo,
            UploadInstructions, UploadRequest, UploadResponse, upload_instructions::UploadStrategy,
            upload_request::Data,
        },
        profilestore::{WriteArrowRequest, WriteRequest, WriteResponse},
    },
    profile::arrow::stacks_request,
};
use prost::Message;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Code;

pub(super) const WRITE: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/Write";
const WRITE_ARROW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteArrow";
const SHOULD: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
const INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/InitiateUpload";
const FINISHED: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/MarkUploadFinished";
pub(super) const UPLOAD: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/Upload";

/// The whole exchange of a `Write`.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// Which Parca it is, as far as `WriteArrow` goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// It does not know the method.
    V0_25,
    /// It has the method and never takes anything by it.
    #[default]
    V0_27,
    /// It stores schema v2.
    V0_28,
}

/// Which stacks a `Write` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// All that the samples name, in their order, as every Parca does.
    #[default]
    All,
    /// Those of this record, as a store with a cache might.
    These(Bytes),
    /// None: the call ends with success.
    Nothing,
}

/// An Arrow profile that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArrow {
    /// The samples of schema v1, or all of schema v2.
    pub samples: Bytes,
    /// The stacks of schema v1.
    pub stacks: Option<Bytes>,
}

/// A file of debug symbols that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    pub build_id: String,
    pub upload_id: String,
    /// Bytes of all chunks.
    pub size: u64,
    /// A checksum of all chunks.
    pub crc: u32,
}

/// The answer to a unary call of these; nothing to another one.
pub(super) fn unary(path: &str, body: &Bytes, wire: &Wire) -> Option<Answer> {
    let shared = &wire.process.shared;
    let generation = shared.behaviour().generation;
    Some(match path {
        WRITE_ARROW => write_arrow(generation, body, wire),
        SHOULD => {
            let request = ShouldInitiateUploadRequest::decode(body.clone()).expect("a message");
            let known = shared
                .log()
                .files
                .iter()
                .any(|f| f.build_id == request.build_id);
            shared.record(|log| log.asked.push(request.build_id));
            let answer = ShouldInitiateUploadResponse {
                should_initiate_upload: !known,
                reason: match known {
                    true => "Debuginfo already exists and is not marked as invalid, therefore no new upload is needed.",
                    false => "First time we see this Build ID, and it does not exist in debuginfod, therefore please upload!",
                }
                .to_owned(),
            };
            Answer::Message(answer.encode_to_vec().into())
        }
        INITIATE => {
            let request = InitiateUploadRequest::decode(body.clone()).expect("a message");
            let answer = InitiateUploadResponse {
                upload_instructions: Some(UploadInstructions {
                    upload_id: format!("upload-{}", request.build_id),
                    build_id: request.build_id,
                    upload_strategy: UploadStrategy::Grpc.into(),
                    ..UploadInstructions::default()
                }),
            };
            Answer::Message(answer.encode_to_vec().into())
        }
        FINISHED => {
            let request = MarkUploadFinishedRequest::decode(body.clone()).expect("a message");
            shared.record(|log| log.finished.push(request.upload_id));
            Answer::Message(Bytes::new())
        }
        _ => return None,
    })
}

fn is_stream(buffer: &[u8]) -> bool {
    buffer.starts_with(&[0xff; 4])
}

fn write_arrow(generation: Generation, body: &Bytes, wire: &Wire) -> Answer {
    let shared = &wire.process.shared;
    let request = WriteArrowRequest::decode(body.clone());
    let buffer = request
        .map(|request| request.ipc_buffer)
        .unwrap_or_default();
    match generation {
        Generation::V0_25 => {
            let text = "unknown method WriteArrow for service \
                        parca.profilestore.v1alpha1.ProfileStoreService";
            Answer::Grpc(Code::Unimplemented, text.into())
        }
        // The stream is read first.
        _ if !is_stream(&buffer) => Answer::Grpc(Code::InvalidArgument, "failed to read".into()),
        Generation::V0_27 => Answer::Grpc(
            Code::Unimplemented,
            "WriteArrow is not yet implemented".into(),
        ),
        Generation::V0_28 => match plan(shared.fault(false)) {
            (answer, false) => answer,
            (answer, true) => {
                let stored = StoredArrow {
                    samples: buffer,
                    stacks: None,
                };
                shared.record(|log| log.arrow.push(stored));
                answer
            }
        },
    }
}

/// The exchange of a `Write`, within 5 s.
pub(super) async fn write(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    wire: &Wire,
) -> Option<Answer> {
    match timeout(WRITE_TIME, exchange(request.into_body(), respond, wire)).await {
        Ok(answer) => answer,
        Err(_) => Some(Answer::Grpc(
            Code::DeadlineExceeded,
            "context deadline exceeded".into(),
        )),
    }
}

/// Nothing when it has answered already.
async fn exchange(
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
    wire: &Wire,
) -> Option<Answer> {
    let shared = &wire.process.shared;
    let asked = shared.behaviour().asked.clone();
    let mut said = Said::new(body, wire);
    let first = match said.record().await {
        Ok(first) => first,
        Err(answer) => return Some(answer),
    };
    let invalid = |text: &str| Some(Answer::Grpc(Code::InvalidArgument, text.into()));
    let Some(samples) = first.filter(|samples| is_stream(samples)) else {
        return invalid("failed to read samples");
    };
    let (answer, store) = plan(shared.fault(false));
    if !store {
        return Some(answer);
    }
    let record_asked = match asked {
        Asked::All => question(&samples),
        Asked::These(record) => record,
        Asked::Nothing => return Some(answer),
    };
    let head = Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a valid head");
    let mut stream = respond.send_response(head, false).ok()?;
    let question = WriteResponse {
        record: record_asked,
    };
    stream
        .send_data(framed(&question.encode_to_vec()), false)
        .ok()?;
    let second = said.record().await.ok()?;
    let ending = match second {
        Some(stacks) if is_stacks(&stacks) => {
            let stored = StoredArrow {
                samples,
                stacks: Some(stacks),
            };
            shared.record(|log| log.arrow.push(stored));
            tonic::Status::ok("")
        }
        Some(_) => tonic::Status::invalid_argument("missing stacktrace ID"),
        None => tonic::Status::invalid_argument("EOF"),
    };
    let mut trailers = HeaderMap::new();
    let code = (ending.code() as i32).to_string();
    trailers.insert(
        "grpc-status",
        HeaderValue::from_str(&code).expect("a number"),
    );
    let text = HeaderValue::from_str(ending.message()).expect("a text");
    trailers.insert("grpc-message", text);
    let _ = stream.send_trailers(trailers);
    None
}

/// The record that asks for all stacks of samples.
fn question(samples: &Bytes) -> Bytes {
    stacks_request(samples, u64::MAX).expect("readable samples")
}

fn is_stacks(record: &[u8]) -> bool {
    let column = b"is_complete";
    is_stream(record) && record.windows(column.len()).any(|found| found == column)
}

/// The messages of a stream.
struct Said {
    body: RecvStream,
    read: BytesMut,
    /// What a proxy lets through, as far as it is left.
    left: usize,
}

// === impl Said ===

impl Said {
    fn new(body: RecvStream, wire: &Wire) -> Self {
        let limit = wire.process.shared.behaviour().max_http_body;
        Self {
            body,
            read: BytesMut::new(),
            left: limit.unwrap_or(usize::MAX),
        }
    }

    /// The record of the next message.
    async fn record(&mut self) -> Result<Option<Bytes>, Answer> {
        let message = self.next().await?;
        Ok(message.and_then(|message| Some(WriteRequest::decode(message).ok()?.record)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Answer> {
        loop {
            if let Some(head) = self.read.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return Ok(Some(self.read.split_to(length).freeze()));
                }
            }
            let chunk = match self.body.data().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(_)) => return Err(Answer::Nothing),
                None => return Ok(None),
            };
            let _ = self.body.flow_control().release_capacity(chunk.len());
            self.left = self
                .left
                .checked_sub(chunk.len())
                .ok_or(Answer::Http(413))?;
            self.read.extend_from_slice(&chunk);
        }
    }
}

/// An `Upload`, chunk by chunk.
pub(super) async fn upload(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    wire: &Wire,
) -> Option<Answer> {
    let shared = &wire.process.shared;
    let mut said = Said::new(request.into_body(), wire);
    let mut info: Option<UploadInfo> = None;
    let (mut size, mut crc) = (0, crc32fast::Hasher::new());
    loop {
        let message = match said.next().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(answer) => {
                shared.record(|log| log.cut += 1);
                return Some(answer);
            }
        };
        match UploadRequest::decode(message).ok().and_then(|m| m.data) {
            Some(Data::Info(first)) if info.is_none() => info = Some(first),
            Some(Data::ChunkData(chunk)) if info.is_some() => {
                size += chunk.len() as u64;
                crc.update(&chunk);
            }
            // Measured on all there are.
            _ => return wire.process.crash("an upload without info").await,
        }
        if shared.behaviour().faults.front() == Some(&Fault::Reset) && size > 0 {
            shared.behaviour().faults.pop_front();
            shared.record(|log| log.cut += 1);
            return Some(Answer::ResetConnection);
        }
    }
    let info = info?;
    let answer = UploadResponse {
        build_id: info.build_id.clone(),
        size,
    };
    shared.record(|log| {
        log.files.push(StoredFile {
            build_id: info.build_id,
            upload_id: info.upload_id,
            size,
            crc: crc.finalize(),
        });
    });
    ok(respond, &answer.encode_to_vec());
    None
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}
