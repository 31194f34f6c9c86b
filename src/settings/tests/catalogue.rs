//! Component types with every shape that settings types have.

use crate::settings::{
    ByteSize, Catalogue, ComponentSettings, ComponentType, Duration, FilePath, Id, Kind, Problem,
    RouterSettings, Secret,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Listens.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Listen {
    /// The address to listen on.
    pub(super) endpoint: String,
    /// Jobs.
    pub(super) jobs: Vec<Job>,
}

/// A job.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub(super) struct Job {
    /// Its name.
    pub(super) job_name: String,
    /// How often.
    #[serde(default = "ten_seconds")]
    pub(super) interval: Duration,
    /// Labels of all targets.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Where to.
    #[serde(default)]
    pub(super) targets: Vec<String>,
    /// Profiles by name.
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, ProfileSettings>,
    /// The client.
    #[serde(flatten)]
    pub(super) client: Client,
}

/// One profile.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct ProfileSettings {
    /// Whether it is taken.
    pub(super) enabled: Option<bool>,
    /// Seconds.
    pub(super) seconds: u16,
}

/// An HTTP client.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Client {
    /// Follow redirects.
    pub(super) follow_redirects: bool,
    /// How many at once.
    pub(super) connections: u32,
    /// A token.
    pub(super) bearer_token: Option<Secret>,
    /// TLS.
    pub(super) tls: Option<Tls>,
}

/// TLS.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Tls {
    /// The authority.
    pub(super) ca_file: Option<FilePath>,
    /// The private key as PEM text.
    pub(super) key: Option<Secret>,
}

/// Sends.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Send {
    /// Where to.
    pub(super) endpoint: String,
    /// The queue.
    pub(super) queue: Queue,
    /// How hard.
    pub(super) level: Level,
    /// A share.
    pub(super) share: f64,
    /// Either shape.
    pub(super) compression: Compression,
    /// What to do.
    pub(super) actions: Vec<Action>,
    /// The client.
    pub(super) client: Client,
    /// Extra headers.
    pub(super) headers: BTreeMap<String, Secret>,
    /// Anything.
    pub(super) claims: BTreeMap<String, serde_json::Value>,
}

/// A queue.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Queue {
    /// Its size.
    pub(super) max_bytes: ByteSize,
    /// When full.
    pub(super) on_full: OnFull,
    /// Workers.
    #[schemars(range(min = 1, max = 64))]
    pub(super) workers: u64,
}

/// When full.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnFull {
    /// The source hears it.
    #[default]
    Refuse,
    /// The oldest goes.
    DropOldest,
}

/// A level without comments.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    #[default]
    Low,
    High,
}

/// A name or more.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Compression {
    /// A name.
    Name(String),
    /// With a level.
    Full {
        /// The name.
        name: String,
        /// The level.
        level: u8,
    },
}

/// One action.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "action", rename_all = "lowercase")]
pub(super) enum Action {
    /// Adds.
    Insert {
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
    /// Removes.
    Delete {
        /// The label.
        key: String,
    },
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            endpoint: "0.0.0.0:7070".into(),
            jobs: Vec::new(),
        }
    }
}

impl Default for Send {
    fn default() -> Self {
        Self {
            endpoint: "parca:7070".into(),
            queue: Queue::default(),
            level: Level::Low,
            share: 1.0,
            compression: Compression::Name("gzip".into()),
            actions: Vec::new(),
            client: Client::default(),
            headers: BTreeMap::new(),
            claims: BTreeMap::new(),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::new(64 << 20),
            on_full: OnFull::Refuse,
            workers: 4,
        }
    }
}

impl ComponentSettings for Listen {
    fn problems(&self) -> Vec<Problem> {
        let empty = self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.job_name.is_empty());
        empty
            .map(|(i, _)| Problem::new(format!("jobs[{i}].job_name"), "must not be empty"))
            .collect()
    }
}

impl ComponentSettings for Send {
    fn problems(&self) -> Vec<Problem> {
        if self.endpoint.contains(':') {
            return Vec::new();
        }
        vec![Problem::new(
            "endpoint",
            "a port is missing: write host:port",
        )]
    }
}

/// Nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Nothing {}

impl ComponentSettings for Nothing {
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Names other exporters.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Spread {
    /// The exporters.
    to: Vec<Id>,
}

impl ComponentSettings for Spread {
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl RouterSettings for Spread {
    fn outputs(&self) -> Vec<(String, Id)> {
        let ids = self.to.iter().enumerate();
        ids.map(|(i, id)| (format!("to[{i}]"), id.clone()))
            .collect()
    }
}

pub(super) fn catalogue() -> Catalogue {
    Catalogue::new(vec![
        ComponentType::new::<Listen>(Kind::Receiver, "listen", "listens for profiles"),
        ComponentType::new::<Nothing>(Kind::Processor, "pass", "passes profiles on"),
        ComponentType::new::<Send>(Kind::Exporter, "send", "sends profiles"),
        ComponentType::new::<Nothing>(Kind::Exporter, "debug", "logs profiles"),
        ComponentType::router::<Spread>("spread", "hands on to others"),
        ComponentType::new::<Nothing>(Kind::Extension, "storage", "keeps queues on disk"),
    ])
}
