//! The settings.

use crate::{
    net::{ClientTls, GrpcClientSettings, ProxySettings, serve::GrpcServerSettings},
    receivers::shared::Pacing,
    settings::{ByteSize, ComponentSettings, Duration, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// parca-agent, and whatever else pushes to a Parca, pushes here as if this were
/// the Parca. Profiles are taken by `WriteRaw` (pprof), `Write` (Arrow, agents up to
/// v0.47) and `WriteArrow` (Arrow, agents since v0.48); agents hear success as soon
/// as the profiles are queued. Debug symbols need `upstream`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// `host:port`, or `unix:/path`.
    pub endpoint: String,
    /// How it is served.
    #[serde(flatten)]
    pub server: GrpcServerSettings,
    /// Writes at a time; more are refused with a wait.
    pub max_concurrent_requests: u32,
    /// Senders that are faster than what is behind them.
    pub pacing: Pacing,
    /// The largest profile, inflated: a pprof of `WriteRaw`, or Arrow.
    pub body_size_limit_uncompressed: ByteSize,
    /// `Write`, the call in two steps.
    pub write: Write,
    /// Retries of a write that was taken.
    pub deduplicate: Deduplicate,
    /// The Parca that is asked about debug symbols and gets them, and that hears of
    /// agents that ended in a panic: mostly where the exporter sends to.
    /// What an agent sends as `authorization` ends here; `auth` is sent instead.
    /// Agents' other metadata is passed on if `include_metadata` names it.
    ///
    /// Without it no symbols are taken. Agents are then told that an upload of the
    /// same file is in progress, which they take as a "not now" and not, as any other
    /// "no", as an answer for good.
    pub upstream: Option<GrpcClientSettings>,
    /// Debug symbols, on their way to `upstream`.
    pub debuginfo: Debuginfo,
    /// Calls of any other service, such as the OTLP logs and traces of agents.
    pub other_services: OtherServices,
}

/// `Write`: an agent sends samples, is asked for the stacks that they name, and
/// sends those.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Write {
    /// The longest silence of an agent in the middle of a call.
    pub idle_timeout: Duration,
    /// The longest that the whole call may take.
    pub timeout: Duration,
}

/// How agents' retries are recognised: by `x-retry-attempt` and the same bytes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Deduplicate {
    /// How long a write that was taken is remembered; `0` for not at all.
    pub window: Duration,
    /// How many writes are remembered at most, some 150 bytes each. An agent makes
    /// twelve a minute.
    pub max_entries: usize,
}

/// How debug symbols are passed on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Debuginfo {
    /// How long it is remembered that the upstream has a file; `0` for not at all.
    /// Many agents that start at once ask about the same files.
    pub cache_ttl: Duration,
    /// How many files are remembered at most.
    pub cache_entries: usize,
    /// Uploads at a time; more wait for their turn.
    pub max_concurrent_uploads: u32,
    /// The longest silence of an agent in the middle of an upload.
    pub idle_timeout: Duration,
    /// The longest that one upload may take. Parca takes one for dead after 15 min.
    pub upload_timeout: Duration,
    /// How many uploads to signed URLs may be agreed upon and not finished. Where the
    /// upstream hands out such URLs (Polar Signals, a Parca before S3), the agent
    /// is told to upload here, and what it sends is PUT to the URL.
    pub max_signed_urls: usize,
    /// How signed URLs are reached.
    pub signed_urls: SignedUrls,
}

/// How signed URLs are reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct SignedUrls {
    /// TLS of `https` URLs.
    pub tls: ClientTls,
    /// The proxy.
    #[serde(flatten)]
    pub proxy: ProxySettings,
}

/// What is done with calls of other services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherServices {
    /// They are answered with UNIMPLEMENTED.
    #[default]
    Unimplemented,
    /// They are passed on to `upstream`, message by message.
    Proxy,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:7070".to_owned(),
            server: GrpcServerSettings::default(),
            max_concurrent_requests: 1_024,
            pacing: Pacing::default(),
            body_size_limit_uncompressed: ByteSize::new(128 << 20),
            write: Write::default(),
            deduplicate: Deduplicate::default(),
            upstream: None,
            debuginfo: Debuginfo::default(),
            other_services: OtherServices::default(),
        }
    }
}

impl ComponentSettings for Settings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.server.problems(&self.endpoint);
        let mut above_zero = |path: &str, good: bool| {
            if !good {
                problems.push(Problem::new(path, "it must be above 0"));
            }
        };
        let (write, debuginfo) = (&self.write, &self.debuginfo);
        above_zero("max_concurrent_requests", self.max_concurrent_requests > 0);
        above_zero(
            "body_size_limit_uncompressed",
            self.body_size_limit_uncompressed.get() > 0,
        );
        above_zero("write.idle_timeout", !write.idle_timeout.is_zero());
        above_zero("write.timeout", !write.timeout.is_zero());
        above_zero(
            "debuginfo.max_concurrent_uploads",
            debuginfo.max_concurrent_uploads > 0,
        );
        above_zero("debuginfo.idle_timeout", !debuginfo.idle_timeout.is_zero());
        above_zero(
            "debuginfo.upload_timeout",
            !debuginfo.upload_timeout.is_zero(),
        );
        above_zero("debuginfo.max_signed_urls", debuginfo.max_signed_urls > 0);
        if let Some(upstream) = &self.upstream {
            let below = upstream.problems().into_iter();
            problems.extend(below.map(|problem| problem.below("upstream")));
            if upstream.timeout.is_zero() {
                problems.push(Problem::new(
                    "upstream.timeout",
                    "it must be above 0: an agent waits for the answer",
                ));
            }
        } else if self.other_services == OtherServices::Proxy {
            problems.push(Problem::new(
                "other_services",
                "there is no upstream to pass calls on to: set upstream, or unimplemented",
            ));
        }
        problems
    }
}

// === impl Write ===

impl Default for Write {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

// === impl Deduplicate ===

impl Default for Deduplicate {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            max_entries: 100_000,
        }
    }
}

// === impl Debuginfo ===

impl Default for Debuginfo {
    fn default() -> Self {
        Self {
            cache_ttl: Duration::from_secs(300),
            cache_entries: 10_000,
            max_concurrent_uploads: 64,
            idle_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(900),
            max_signed_urls: 1_024,
            signed_urls: SignedUrls::default(),
        }
    }
}
