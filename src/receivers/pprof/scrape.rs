//! One scrape: ask, read, look inside, make a batch.
//!
//! - Every byte is charged to the memory budget before it is kept, and the
//!   inflated bytes before they exist.
//! - Small bodies are looked at where they are read; large ones off the async
//!   threads, as many at a time as there are cores.
//! - Any failure says what came back and what to do, and names no secret.

use super::{explain, job::BodyLimits, job::Job, metrics::Outcome, target::Target};
use crate::{
    net::http::{Answer, HttpClient, HttpError},
    pipeline::{Budget, Permit, Refusal},
    profile::{
        Batch, Body, Origin, Profile, Transport,
        pprof::{Checked, Pprof, Unreadable, keep_sample_types, measure},
    },
    runtime::computing,
};
use bytes::Bytes;
use http::{Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

/// What all scrapes of a receiver share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The receiver's id.
    pub(crate) receiver: Arc<str>,
    /// The process's memory.
    pub(crate) memory: Budget,
    /// Places for looking into large bodies.
    pub(crate) cores: Arc<Semaphore>,
}

/// Why a scrape brought no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The deadline passed.
    #[error("no complete answer within {after:?}, while {stage}")]
    Timeout {
        after: Duration,
        stage: &'static str,
    },
    /// No connection, or it broke.
    #[error("{0}")]
    Connect(String),
    /// Another status than 200.
    #[error("{0}")]
    Status(String),
    /// The body is no profile.
    #[error("{0}")]
    Invalid(String),
    /// The body is above a limit.
    #[error("{0}")]
    TooLarge(String),
    /// The memory budget was used up on the way.
    #[error("the memory budget (service.memory.limit) was used up while the body came in")]
    Memory,
    /// The memory budget was used up before the scrape began.
    #[error("skipped: the memory budget (service.memory.limit) is used up")]
    NoMemory,
    /// The pipelines did not take it.
    #[error("the pipeline refused the profile: {} ({})", .0.reason, .0.reason.describe())]
    Refused(Refusal),
    /// The receiver was stopped.
    #[error("stopped")]
    Cancelled,
}

/// A body being read, and its charge.
struct Reading {
    bytes: Vec<u8>,
    permit: Permit,
    limit: u64,
}

/// Charged before a body's size is known, in bytes.
const FIRST: u64 = 16 * 1024;
/// How often a scrape that waits for memory looks again.
const MEMORY_POLL: Duration = Duration::from_millis(100);
/// A body is looked at on an async thread up to this size, in bytes.
const SMALL: usize = 64 * 1024;
/// The same, inflated.
const SMALL_INFLATED: u64 = 256 * 1024;
/// Of an answer that is no profile, this much is quoted at most, in bytes.
const QUOTED: usize = 300;

// === impl Failure ===

impl Failure {
    /// What it is counted as.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout { .. } => Outcome::Timeout,
            Self::Connect(_) => Outcome::ConnectError,
            Self::Status(_) => Outcome::HttpError,
            Self::Invalid(_) => Outcome::Invalid,
            Self::TooLarge(_) => Outcome::TooLarge,
            Self::Memory => Outcome::MemoryLimit,
            Self::NoMemory => Outcome::SkippedMemory,
            Self::Refused(_) => Outcome::Refused,
            Self::Cancelled => Outcome::Cancelled,
        }
    }

    /// Whether the scrape did not take place.
    pub(crate) fn is_skip(&self) -> bool {
        matches!(self, Self::NoMemory | Self::Cancelled)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Connect(error.to_string())
    }
}

// === impl Shared ===

impl Shared {
    /// Fetches a target's profile. `expected` is the size of its last one.
    pub(crate) async fn fetch(
        &self,
        job: &Job,
        target: &Target,
        expected: u64,
    ) -> Result<Batch, Failure> {
        let patience = (job.interval / 4).min(Duration::from_secs(5));
        let permit = self.room(expected.max(FIRST), patience).await?;
        // Who collects for seconds holds no memory meanwhile.
        let permit = target.wait.is_none().then_some(permit);
        let uri: Uri = target
            .url
            .parse()
            .map_err(|_| Failure::Connect(format!("{} is no URL", target.url)))?;
        let timeout = job.plan.timeout;
        let deadline = Instant::now() + timeout;
        let response = ask(&job.client, &uri, deadline, timeout).await?;
        if response.status() != StatusCode::OK {
            let (status, headers) = (response.status(), response.headers().clone());
            let quote = quote(response, deadline).await;
            return Err(Failure::Status(explain::status(
                status, &headers, &uri, &quote,
            )));
        }
        let permit = match permit {
            Some(permit) => permit,
            None => self.memory.try_take(FIRST).ok_or(Failure::Memory)?,
        };
        let mut body = Reading::new(permit, job.body.received);
        body.read(response, deadline, timeout).await?;
        let (bytes, mut permit) = body.finish();
        let pprof = self
            .look(
                Pprof::new(bytes),
                &mut permit,
                job.body,
                &job.plan.specs[target.spec].keep,
            )
            .await?;
        Ok(self.batch(target, pprof, permit))
    }

    /// Waits for `bytes` of memory, but not for long.
    async fn room(&self, bytes: u64, patience: Duration) -> Result<Permit, Failure> {
        let until = Instant::now() + patience;
        loop {
            if let Some(permit) = self.memory.try_take(bytes) {
                return Ok(permit);
            }
            if Instant::now() >= until {
                return Err(Failure::NoMemory);
            }
            sleep(MEMORY_POLL).await;
        }
    }

    /// Checks a body and reduces it to the sample types to keep.
    async fn look(
        &self,
        pprof: Pprof,
        permit: &mut Permit,
        limits: BodyLimits,
        keep: &[(String, String)],
    ) -> Result<Pprof, Failure> {
        let held = permit.bytes();
        let (pprof, checked) = self.check(pprof, permit, limits.inflated).await?;
        if keep.is_empty() {
            permit.shrink_to(held);
            return Ok(pprof);
        }
        if !permit.grow(checked.decoded) {
            return Err(Failure::Memory);
        }
        let keep = keep.to_vec();
        let reduced = self
            .off_thread(move || {
                let reduced = pprof
                    .read(limits.inflated, |inflated| {
                        keep_sample_types(inflated, &keep)
                    })
                    .map_err(|error| error.to_string())?
                    .map_err(|error| error.to_string())?;
                Ok(reduced.map_or(pprof, Pprof::new))
            })
            .await?
            .map_err(Failure::Invalid)?;
        let kept = reduced.bytes().len() as u64;
        let decoded = permit.bytes();
        permit.shrink_to(kept.min(decoded));
        Ok(reduced)
    }

    /// Looks inside once. The bytes that inflating may take are charged first:
    /// what the body claims, and only if that is not true, the limit.
    async fn check(
        &self,
        pprof: Pprof,
        permit: &mut Permit,
        limit: u64,
    ) -> Result<(Pprof, Checked), Failure> {
        let claimed = pprof.claimed_size();
        if claimed > limit {
            // A bomb, or damage: told apart without the memory of either.
            let body = pprof.bytes().clone();
            let measured = move || measure(&body, limit);
            self.off_thread(measured)
                .await?
                .map_err(|error| unreadable(&error))?;
        }
        if pprof.bytes().len() <= SMALL && claimed <= SMALL_INFLATED {
            let cap = limit.min(SMALL_INFLATED);
            match pprof.check(cap).cloned() {
                Ok(checked) => return Ok((pprof, checked)),
                Err(Unreadable::TooLarge { .. }) if cap < limit => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        let mut charged = 0;
        for cap in [limit.min(claimed.max(SMALL_INFLATED)), limit] {
            if !permit.grow(cap - charged) {
                return Err(Failure::Memory);
            }
            charged = cap;
            // Anew, because a body remembers what the first look told.
            let pprof = Pprof::new(pprof.bytes().clone());
            let looked = pprof.clone();
            let check = move || looked.check(cap).cloned().map_err(Clone::clone);
            match self.off_thread(check).await?.as_ref() {
                Ok(checked) => return Ok((pprof, checked.clone())),
                Err(Unreadable::TooLarge { .. }) if cap < limit => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Err(Failure::Cancelled)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let _place = self.cores.acquire().await;
        computing(work).await.ok_or(Failure::Cancelled)
    }

    fn batch(&self, target: &Target, pprof: Pprof, permit: Permit) -> Batch {
        let origin = Origin {
            receiver: self.receiver.clone(),
            transport: Transport::Scrape,
            peer: Some(target.url.clone()),
            ..Origin::default()
        };
        let profile = Profile {
            labels: target.labels.clone(),
            body: Body::Pprof(pprof),
            received: SystemTime::now(),
        };
        Batch::new(origin, vec![profile]).charged(Arc::new(permit))
    }
}

fn unreadable(error: &Unreadable) -> Failure {
    match error {
        Unreadable::TooLarge { max } => Failure::TooLarge(format!(
            "the body inflates to more than body_size_limit_uncompressed, {max} bytes: raise the \
             limit of the job if this is no bomb"
        )),
        other => Failure::Invalid(other.to_string()),
    }
}

/// Sends the request and waits for the head of the answer.
pub(crate) async fn ask(
    client: &HttpClient,
    uri: &Uri,
    deadline: Instant,
    timeout: Duration,
) -> Result<Response<Answer>, Failure> {
    let late = |_| Failure::Timeout {
        after: timeout,
        stage: "waiting for the answer to begin",
    };
    Ok(timeout_at(deadline, client.get(uri))
        .await
        .map_err(late)??)
}

/// The beginning of a body that is no profile, in one line.
pub(crate) async fn quote(response: Response<Answer>, deadline: Instant) -> String {
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < QUOTED {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => text.extend(frame.into_data().unwrap_or_default()),
            _ => break,
        }
    }
    text.truncate(QUOTED);
    explain::one_line(&String::from_utf8_lossy(&text))
}

// === impl Reading ===

impl Reading {
    fn new(permit: Permit, limit: u64) -> Self {
        Self {
            bytes: Vec::new(),
            permit,
            limit,
        }
    }

    async fn read(
        &mut self,
        response: Response<Answer>,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let announced = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .or_else(|| response.body().size_hint().exact());
        if let Some(length) = announced {
            self.reserve(length)?;
        }
        let mut body = response.into_body();
        loop {
            let frame = timeout_at(deadline, body.frame()).await;
            match frame {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.reserve(self.bytes.len() as u64 + data.len() as u64)?;
                        self.bytes.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(error))) => return Err(self.broken(&error)),
                Err(_) => {
                    return Err(Failure::Timeout {
                        after: timeout,
                        stage: "reading the body",
                    });
                }
            }
        }
    }

    /// Makes room for a body of `length` bytes, charged first.
    fn reserve(&mut self, length: u64) -> Result<(), Failure> {
        if length > self.limit {
            return Err(Failure::TooLarge(format!(
                "the body is larger than body_size_limit, {} bytes: raise the limit of the job",
                self.limit
            )));
        }
        let capacity = self.bytes.capacity() as u64;
        if length <= capacity {
            return Ok(());
        }
        // Doubling keeps copying cheap where the length is not announced.
        let wanted = length.max((capacity * 2).min(self.limit));
        // While it moves, the buffer stands twice.
        let missing = (wanted + capacity).saturating_sub(self.permit.bytes());
        if missing > 0 && !self.permit.grow(missing) {
            return Err(Failure::Memory);
        }
        let more = usize::try_from(wanted).unwrap_or(usize::MAX) - self.bytes.len();
        self.bytes
            .try_reserve_exact(more)
            .map_err(|_| Failure::Memory)?;
        self.permit.shrink_to(wanted);
        Ok(())
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failure::Connect(format!(
            "the connection broke after {} bytes of the body: {cause}",
            self.bytes.len()
        ))
    }

    /// The body in a buffer of its size, and the charge for it.
    fn finish(mut self) -> (Bytes, Permit) {
        self.permit.shrink_to(self.bytes.len() as u64);
        (Bytes::from(self.bytes.into_boxed_slice()), self.permit)
    }
}

#[cfg(test)]
mod tests;
