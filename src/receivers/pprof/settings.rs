//! The settings of the receiver: Parca's and Prometheus' own `scrape_configs`,
//! with the same names and defaults, and the limits that those lack.

use crate::{
    net::http::HttpClientSettings,
    profile::relabel::RelabelConfig,
    settings::{ByteSize, Duration, FilePath, Problem},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};
use std::{borrow::Cow, collections::BTreeMap};

/// Scrapes pprof endpoints. A job of a `parca.yaml` can be pasted in unchanged.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// The jobs.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Scrapes that may be under way at the same time, over all jobs. One that
    /// takes longer than a second gives its place to another, and its target has
    /// a place among the slow ones, of which there are four times as many, the
    /// next time: dead targets do not hold up the others.
    pub max_concurrent_scrapes: usize,
    /// The same for profiles that the target collects over some seconds. With
    /// `seconds` as long as the interval, every CPU profile is under way all the
    /// time: let it be no less than their number.
    pub max_concurrent_delta_scrapes: usize,
}

/// One scrape job.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ScrapeConfig {
    /// Required and unique. The value of the label `job` unless a target brings
    /// its own.
    pub job_name: String,
    /// Query parameters of every request. A `seconds` here goes to all profiles
    /// of the job.
    pub params: BTreeMap<String, Vec<String>>,
    /// The time between two scrapes of a profile.
    pub scrape_interval: Duration,
    /// The deadline of a scrape, connecting and reading included. 0 means the
    /// interval and 3 seconds. A profile that is collected over some seconds
    /// needs more than those.
    pub scrape_timeout: Duration,
    /// `http` or `https`.
    pub scheme: String,
    /// Accepted because Parca has it; has no effect, there neither.
    pub normalized_addresses: bool,
    /// Which profiles are fetched, and from where.
    pub profiling_config: ProfilingConfig,
    /// Prometheus' relabelling of targets. Sees `__address__`, `__scheme__`,
    /// `__profile_path__`, `__name__`, `__param_*` and `__meta_*`.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Targets listed here.
    pub static_configs: Vec<StaticConfig>,
    /// Targets listed in files that something else writes.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Targets above this number are not scraped and are shown as failed; 0
    /// means no limit. A target is one profile of one address.
    pub target_limit: usize,
    /// Dropped targets kept for the status page; 0 means no limit.
    pub keep_dropped_targets: usize,
    /// A target with more labels is not scraped; 0 means no limit.
    pub label_limit: usize,
    /// A target with a longer label name, in bytes, is not scraped; 0 means no
    /// limit.
    pub label_name_length_limit: usize,
    /// A target with a longer label value, in bytes, is not scraped; 0 means no
    /// limit.
    pub label_value_length_limit: usize,
    /// A larger answer, before inflating, fails the scrape; 0 means no limit.
    pub body_size_limit: ByteSize,
    /// An answer that inflates to more fails the scrape; 0 means no limit.
    pub body_size_limit_uncompressed: ByteSize,
    /// How targets are reached.
    #[serde(flatten)]
    pub http: HttpClientSettings,
    /// Kinds of discovery that Prometheus has and this receiver has not.
    #[serde(flatten)]
    pub other_discovery: OtherDiscovery,
}

/// Which profiles are fetched.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ProfilingConfig {
    /// By name, merged over the defaults: `memory`, `block`, `goroutine`, `mutex`
    /// and `process_cpu` are on; `fgprof`, `godeltaprof_memory`,
    /// `godeltaprof_mutex` and `godeltaprof_block` are known and off. Any other
    /// name needs `enabled: true` and a `path`.
    pub pprof_config: BTreeMap<String, PprofConfig>,
    /// Put in front of every path.
    pub path_prefix: String,
}

/// One profile; what is left out keeps the default of its name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct PprofConfig {
    /// Whether it is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where; may carry a query, as in `/debug/pprof/heap?gc=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Asks the target to collect over some seconds (`?seconds=N`), which CPU
    /// profiles need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<bool>,
    /// Keeps these sample types and drops the others; empty keeps all. A profile
    /// that has others is decoded and encoded again.
    pub keep_sample_type: Vec<SampleType>,
    /// The seconds of a `delta` profile; 0 means the interval.
    pub seconds: u64,
}

/// A sample type, as `alloc_space` and `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct SampleType {
    /// What is measured.
    #[serde(rename = "type")]
    pub kind: String,
    /// In which unit.
    pub unit: String,
}

/// Targets that share labels.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct StaticConfig {
    /// `host:port` each; without a port it is 80 or 443, by the scheme.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// Files with lists of targets, in JSON or YAML: `[{targets: [...], labels: {...}}]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct FileSdConfig {
    /// Paths ending in `.json`, `.yml` or `.yaml`; the last part may have the
    /// wildcards `*` and `?`.
    pub files: Vec<FilePath>,
    /// The files are read again when their folder changes, and this often in any
    /// case.
    pub refresh_interval: Duration,
}

/// The `*_sd_configs` of Prometheus that are not served here, so that a job that
/// has one is told what to do instead.
#[derive(Clone, Debug, Default)]
pub struct OtherDiscovery(Vec<String>);

/// Prometheus' kinds of discovery without `static` and `file`.
const OTHER_KINDS: &[&str] = &[
    "azure",
    "consul",
    "digitalocean",
    "dns",
    "docker",
    "dockerswarm",
    "ec2",
    "eureka",
    "gce",
    "hetzner",
    "http",
    "ionos",
    "kubernetes",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "nerve",
    "nomad",
    "openstack",
    "ovhcloud",
    "puppetdb",
    "scaleway",
    "serverset",
    "stackit",
    "triton",
    "uyuni",
    "vultr",
];

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            scrape_configs: Vec::new(),
            max_concurrent_scrapes: 256,
            max_concurrent_delta_scrapes: 20_000,
        }
    }
}

// === impl ScrapeConfig ===

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            params: BTreeMap::new(),
            scrape_interval: Duration::from_secs(10),
            scrape_timeout: Duration::default(),
            scheme: "http".into(),
            normalized_addresses: false,
            profiling_config: ProfilingConfig::default(),
            relabel_configs: Vec::new(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            target_limit: 50_000,
            keep_dropped_targets: 1_000,
            label_limit: 64,
            label_name_length_limit: 512,
            label_value_length_limit: 4_096,
            body_size_limit: ByteSize::new(64 << 20),
            body_size_limit_uncompressed: ByteSize::new(128 << 20),
            http: HttpClientSettings::default(),
            other_discovery: OtherDiscovery::default(),
        }
    }
}

impl ScrapeConfig {
    /// The deadline of a scrape.
    pub(crate) fn timeout(&self) -> std::time::Duration {
        if self.scrape_timeout.is_zero() {
            let slack = std::time::Duration::from_secs(3);
            self.scrape_interval.get().saturating_add(slack)
        } else {
            self.scrape_timeout.get()
        }
    }
}

// === impl FileSdConfig ===

impl Default for FileSdConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            refresh_interval: Duration::from_secs(300),
        }
    }
}

// === impl OtherDiscovery ===

impl OtherDiscovery {
    /// One problem for each kind that was asked for.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let way_out = "discovery here is static_configs and file_sd_configs: let something that \
                       knows the targets write them to a file and name it in file_sd_configs";
        self.0
            .iter()
            .map(|key| Problem::new(key, format!("{key} is not supported; {way_out}")))
            .collect()
    }
}

impl<'de> Deserialize<'de> for OtherDiscovery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rest = BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?;
        Ok(Self(rest.into_keys().filter(|key| is_other(key)).collect()))
    }
}

/// Empty: a configuration that has one of them is refused.
impl Serialize for OtherDiscovery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<(String, ())>())
    }
}

impl JsonSchema for OtherDiscovery {
    fn schema_name() -> Cow<'static, str> {
        "OtherDiscovery".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let properties: serde_json::Map<_, _> = OTHER_KINDS
            .iter()
            .map(|kind| {
                let about = serde_json::json!({
                    "description": "Not supported: write the targets to a file and use file_sd_configs.",
                    "deprecated": true,
                });
                (format!("{kind}_sd_configs"), about)
            })
            .collect();
        json_schema!({"type": "object", "properties": properties})
    }

    fn inline_schema() -> bool {
        true
    }
}

fn is_other(key: &str) -> bool {
    key.strip_suffix("_sd_configs")
        .is_some_and(|kind| OTHER_KINDS.contains(&kind))
}
