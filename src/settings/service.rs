//! The settings of the whole file: components by id, and how they are joined.

use super::{ByteSize, ComponentSettings, Duration, Id, Kind, Node, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole configuration whose graph is sound.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings of the receivers; [`Node::typed`] reads them.
    pub receivers: BTreeMap<Id, Node>,
    /// Settings of the processors.
    pub processors: BTreeMap<Id, Node>,
    /// Settings of the exporters.
    pub exporters: BTreeMap<Id, Node>,
    /// Settings of the extensions.
    pub extensions: BTreeMap<Id, Node>,
    /// What concerns the process.
    pub service: Service,
}

/// What concerns the process, and how components are joined. All of it follows a
/// reload of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Service {
    /// The extensions that run, by id.
    pub extensions: Vec<Id>,
    /// The admin endpoint.
    pub admin: Admin,
    /// The bound on memory.
    pub memory: Memory,
    /// When a changed configuration is loaded.
    pub reload: Reload,
    /// What the relay says about itself.
    pub telemetry: Telemetry,
    /// How long a shutdown may take to send what is queued.
    pub shutdown_timeout: Duration,
    /// The pipelines: `profiles`, or `profiles/name` where there are several.
    pub pipelines: BTreeMap<Id, Pipeline>,
}

/// The HTTP endpoint for people, probes and Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Admin {
    /// The address to listen on, as `host:port`.
    pub endpoint: String,
}

/// The bound on the memory that profiles in flight may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Memory {
    /// The memory of the process; without it, the limit of the container (cgroup)
    /// or a part of the machine's memory is taken.
    pub limit: Option<ByteSize>,
}

/// When a changed configuration is loaded. `SIGHUP` and `POST /-/reload` on the
/// admin endpoint load it at any time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Reload {
    /// Whether the files of the configuration, those behind `${file:…}`
    /// included, are watched, and loaded when their content changes.
    pub watch: bool,
    /// How often they are read for changes that the watch cannot see, as on
    /// network file systems. 0 means never.
    pub interval: Duration,
}

/// What the relay says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Telemetry {
    /// The log.
    pub logs: Logs,
}

/// The log on stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Logs {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// How severe an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, for developers.
    Trace,
    /// What helps to find out why.
    Debug,
    /// What changed.
    #[default]
    Info,
    /// What may need a look.
    Warn,
    /// What needs a look.
    Error,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `ts=… level=info msg=… key=value`.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// One way from receivers through processors to exporters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Pipeline {
    /// Where profiles come from.
    pub receivers: Vec<Id>,
    /// What happens to them, in this order.
    pub processors: Vec<Id>,
    /// Where they go; each exporter gets all of them, or what a router leaves to it.
    pub exporters: Vec<Id>,
}

// === impl Settings ===

impl Settings {
    /// The components of one kind.
    pub fn of(&self, kind: Kind) -> &BTreeMap<Id, Node> {
        match kind {
            Kind::Receiver => &self.receivers,
            Kind::Processor => &self.processors,
            Kind::Exporter => &self.exporters,
            Kind::Extension => &self.extensions,
        }
    }
}

// === impl Service ===

impl ComponentSettings for Service {
    fn problems(&self) -> Vec<Problem> {
        let port = self.admin.endpoint.rsplit_once(':');
        let valid = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if valid {
            return Vec::new();
        }
        let message = format!(
            "{:?} is no address to listen on: write host:port, as in 127.0.0.1:13133",
            self.admin.endpoint
        );
        vec![Problem::new("admin.endpoint", message)]
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            extensions: Vec::new(),
            admin: Admin::default(),
            memory: Memory::default(),
            reload: Reload::default(),
            telemetry: Telemetry::default(),
            shutdown_timeout: Duration::from_secs(20),
            pipelines: BTreeMap::new(),
        }
    }
}

// === impl Admin ===

impl Default for Admin {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".into(),
        }
    }
}

// === impl Reload ===

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: true,
            interval: Duration::from_secs(60),
        }
    }
}

// === impl LogLevel ===

impl LogLevel {
    /// The name as it is configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
