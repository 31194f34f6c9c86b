//! What the tests of both OTLP exporters share: batches, and a far end that
//! keeps whole requests as they arrived.

use crate::{
    r#gen::{
        opentelemetry::proto::collector::profiles::v1development::{
            ExportProfilesPartialSuccess, ExportProfilesServiceResponse,
        },
        rpc,
    },
    pipeline::{Budget, Context, ExportError, Exporter, Prepared, Reason},
    profile::{
        Batch, Body, NAME, Origin, Profile,
        otlp::{Compression, Request},
        pprof::{Pprof, SyntheticProfile},
    },
    runtime::Tasks,
    telemetry::{Metrics, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use prost::Message;
use rustls::ServerConfig;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What no version of OTLP knows yet, at each level.
pub(crate) const FUTURE: [&str; 11] = [
    "future request",
    "future dictionary",
    "future function",
    "future resource profiles",
    "future resource",
    "future attribute",
    "future scope profiles",
    "future scope",
    "future profile",
    "future sample",
    "future type",
];

/// A far end that speaks HTTP/1 and HTTP/2.
pub(crate) struct FarEnd {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    accepting: JoinHandle<()>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) version: http::Version,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<Vec<(&'static str, String)>>,
}

// === impl FarEnd ===

impl FarEnd {
    /// Answers each request with what `answer` makes of it and its number.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Arrived, usize) -> Reply + Clone + Send + Sync + 'static,
    {
        Self::on("127.0.0.1:0", None, answer).await
    }

    pub(crate) async fn on<F>(address: &str, tls: Option<Arc<ServerConfig>>, answer: F) -> Self
    where
        F: Fn(&Arrived, usize) -> Reply + Clone + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let record = arrived.clone();
        let accepting = Tasks::default().spawn("far end", async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, answer, tls) = (record.clone(), answer.clone(), tls.clone());
                served.spawn(async move {
                    match tls {
                        None => serve(stream, record, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, record, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            arrived,
            accepting,
        }
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Arrived {
        self.arrived().pop().unwrap()
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S, F>(stream: S, record: Arc<Mutex<Vec<Arrived>>>, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&Arrived, usize) -> Reply + Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (record, answer) = (record.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let arrived = Arrived::of(head, body);
            let number = {
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record.push(arrived.clone());
                record.len() - 1
            };
            Ok::<_, hyper::Error>(answer(&arrived, number).response())
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

// === impl Arrived ===

impl Arrived {
    fn of(head: Parts, body: Bytes) -> Self {
        Self {
            version: head.version,
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body,
        }
    }

    /// The message in the one frame of a gRPC request, and its compression.
    pub(crate) fn message(&self) -> (Bytes, Compression) {
        let length = u32::from_be_bytes(self.body[1..5].try_into().unwrap());
        assert_eq!(self.body.len(), 5 + length as usize, "one frame");
        let compression = self.compression("grpc-encoding");
        let flag = u8::from(compression != Compression::None);
        assert_eq!(self.body[0], flag);
        (self.body.slice(5..), compression)
    }

    pub(crate) fn compression(&self, header: &str) -> Compression {
        let said = self.headers.get(header);
        let said = said.map_or("", |said| said.to_str().unwrap());
        Compression::parse(said).unwrap()
    }
}

// === impl Reply ===

impl Reply {
    fn response(self) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
        let fields = |fields: Vec<(&'static str, String)>| -> HeaderMap {
            let field = |(name, value): (&'static str, String)| {
                let value = HeaderValue::try_from(value).unwrap();
                (HeaderName::from_static(name), value)
            };
            fields.into_iter().map(field).collect()
        };
        let trailers = self.trailers.map(|t| Frame::trailers(fields(t)));
        let frames = [Frame::data(self.body)].into_iter().chain(trailers);
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = fields(self.headers);
        response
    }

    /// gRPC's OK with this message.
    pub(crate) fn grpc(message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        Self {
            headers: vec![("content-type", "application/grpc".into())],
            body: [&[0], &length[..], message].concat().into(),
            trailers: Some(vec![("grpc-status", "0".into())]),
            ..Self::default()
        }
    }

    /// A refusal by gRPC, with RetryInfo of so many seconds.
    pub(crate) fn refused(code: tonic::Code, message: &str, retry: Option<i64>) -> Self {
        let mut reply = Self::grpc(b"");
        let code = (code as i32).to_string();
        let mut trailers = vec![("grpc-status", code), ("grpc-message", message.into())];
        if let Some(seconds) = retry {
            use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
            let status = status(message, Some(seconds)).encode_to_vec();
            let details = BASE64_STANDARD_NO_PAD.encode(status);
            trailers.push(("grpc-status-details-bin", details));
        }
        reply.body = Bytes::new();
        reply.trailers = Some(trailers);
        reply
    }

    /// An answer over HTTP.
    pub(crate) fn http(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        let headers = match kind {
            "" => vec![],
            kind => vec![("content-type", kind.to_owned())],
        };
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.into(),
            trailers: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// `google.rpc.Status`.
pub(crate) fn status(message: &str, retry: Option<i64>) -> rpc::Status {
    let details = retry.map(|seconds| prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
        value: rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration { seconds, nanos: 0 }),
        }
        .encode_to_vec(),
    });
    rpc::Status {
        code: 14,
        message: message.into(),
        details: details.into_iter().collect(),
    }
}

pub(crate) fn partial(rejected: i64, message: &str) -> ExportProfilesServiceResponse {
    ExportProfilesServiceResponse {
        partial_success: Some(ExportProfilesPartialSuccess {
            rejected_profiles: rejected,
            error_message: message.into(),
        }),
    }
}

// === settings and metrics ===

pub(crate) fn context() -> Context {
    Context {
        id: "otlp/test".parse().unwrap(),
        metrics: Metrics::default(),
        status: Status::default(),
        memory: Budget::new(1 << 30),
        sockets: Default::default(),
        ending: Default::default(),
    }
}

/// The value of a metric of the exporter; 0 when there is none.
pub(crate) fn counted(context: &Context, name: &str) -> u64 {
    let text = context.metrics.encode().unwrap();
    let line = format!("profile_relay_exporter_{name}");
    let line = text
        .lines()
        .find(|l| l.starts_with(&line) && l.contains(r#"exporter="otlp/test""#));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

// === batches ===

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: usize, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [
        varint(number << 3 | 2),
        varint(content.len()),
        content.to_vec(),
    ]
    .concat()
}

fn int(number: usize, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A request with a resource for each of `services`, `profiles` in each, and a
/// field that no version knows at every level.
pub(crate) fn future_request(services: &[&str], profiles: usize) -> Bytes {
    let future = |at: usize| field(900 + at, FUTURE[at]);
    let profile = |number: usize| {
        let sample = [int(1, 1), field(4, varint(number + 1)), future(9)].concat();
        let kind = [int(1, 1), int(2, 2), future(10)].concat();
        field(2, [field(1, kind), field(2, sample), future(8)].concat())
    };
    let resource = |service: &&str| {
        let value = field(1, service);
        let attribute = [field(1, "service.name"), field(2, value), future(5)].concat();
        let resource = field(1, [field(1, attribute), future(4)].concat());
        let scope = field(1, [field(1, "scope"), future(7)].concat());
        let profiles: Vec<u8> = (0..profiles).flat_map(profile).collect();
        let scopes = field(2, [scope, profiles, future(6)].concat());
        field(1, [resource, scopes, future(3)].concat())
    };
    let strings = ["", "samples", "count", "main"].map(|text| field(5, text));
    let function = field(3, [int(1, 3), future(2)].concat());
    let line = field(3, int(1, 1));
    let tables = [
        field(1, ""),
        [field(2, ""), field(2, line)].concat(),
        [field(3, ""), function].concat(),
        field(4, ""),
        strings.concat(),
        field(6, ""),
        [field(7, ""), field(7, field(1, varint(1)))].concat(),
        future(1),
    ];
    let resources: Vec<u8> = services.iter().flat_map(resource).collect();
    [resources, field(2, tables.concat()), future(0)]
        .concat()
        .into()
}

/// What came in one OTLP request.
pub(crate) fn otlp_batch(wire: &Bytes, compression: Compression) -> Batch {
    let request = Request::read(wire.clone(), compression, 64 << 20).unwrap();
    let bodies = Arc::new(request).bodies().into_iter();
    let profiles = bodies.map(|(labels, otlp)| Profile {
        labels,
        body: Body::Otlp(otlp),
        received: SystemTime::UNIX_EPOCH,
    });
    Batch::new(Origin::default(), profiles.collect())
}

pub(crate) fn pprof(job: &str, body: impl Into<Bytes>) -> Profile {
    Profile {
        labels: [(NAME, "memory"), ("job", job)].into_iter().collect(),
        body: Body::Pprof(Pprof::new(body.into())),
        received: SystemTime::UNIX_EPOCH,
    }
}

/// Heap profiles of so many programs.
pub(crate) fn pprof_batch(count: u64) -> Batch {
    let profile = |seed| {
        pprof(
            &format!("job-{seed}"),
            SyntheticProfile::heap(seed).encode(),
        )
    };
    Batch::new(Origin::default(), (0..count).map(profile).collect())
}

/// The sums of values by sample type, as another implementation reads them.
pub(crate) fn totals(plain: &[u8]) -> BTreeMap<String, i64> {
    let request = ExportProfilesServiceRequest::decode(plain).unwrap();
    let strings = request.dictionary.unwrap().string_table;
    let mut totals = BTreeMap::new();
    let scopes = request
        .resource_profiles
        .iter()
        .flat_map(|r| &r.scope_profiles);
    for profile in scopes.flat_map(|scope| &scope.profiles) {
        let kind = profile.sample_type.as_ref().unwrap().type_strindex;
        let values = profile.samples.iter().flat_map(|sample| &sample.values);
        *totals.entry(strings[kind as usize].clone()).or_default() += values.sum::<i64>();
    }
    totals
}

/// The same of pprofs.
pub(crate) fn pprof_totals(batch: &Batch) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for profile in &batch.profiles {
        let pprof = profile.body.as_pprof().unwrap();
        let decode = |plain: &[u8]| crate::r#gen::pprof::Profile::decode(plain).unwrap();
        let decoded = pprof.read(1 << 30, decode).unwrap();
        for sample in &decoded.sample {
            for (kind, value) in decoded.sample_type.iter().zip(&sample.value) {
                let name = decoded.string_table[kind.r#type as usize].clone();
                *totals.entry(name).or_default() += value;
            }
        }
    }
    totals
}

/// A word for an error.
pub(crate) fn meaning(result: &Result<(), ExportError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(ExportError::Retry { after: None, .. }) => "retry",
        Err(ExportError::Retry { .. }) => "retry after",
        Err(ExportError::Unsent) => "unsent",
        Err(ExportError::Died { .. }) => "died",
        Err(ExportError::Split {
            too_large: true,
            reason: Reason::TooLarge,
            ..
        }) => "too large",
        Err(ExportError::Split {
            reason: Reason::RejectedByBackend,
            ..
        }) => "bad part",
        Err(ExportError::Split { .. }) => "split",
        Err(ExportError::Unknown { .. }) => "unknown",
        Err(ExportError::Rejected {
            reason: Reason::RejectedByBackend,
            ..
        }) => "rejected",
        Err(ExportError::Rejected {
            reason: Reason::Unimplemented,
            ..
        }) => "unimplemented",
        Err(ExportError::Rejected { .. }) => "rejected otherwise",
        Err(ExportError::Unauthorized { .. }) => "unauthorized",
    }
}

/// What is sent for one profile.
pub(crate) fn prepare(exporter: &dyn Exporter, profile: Profile) -> Prepared {
    let prepared = exporter.prepare(&[profile], &Budget::new(u64::MAX));
    prepared.unwrap().remove(0)
}
