//! Which profiles of an address are fetched: the defaults of each known name,
//! and what a job says over them.

use super::settings::{PprofConfig, ScrapeConfig};
use crate::settings::Problem;
use std::collections::BTreeMap;

/// One profile of a job, ready to become targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileSpec {
    /// The value of `__name__`.
    pub(crate) name: Box<str>,
    /// The value of `__profile_path__`, prefix and query included.
    pub(crate) path: Box<str>,
    /// The seconds the target is asked to collect for.
    pub(crate) seconds: Option<u64>,
    /// The sample types (type, unit) to keep; empty keeps all.
    pub(crate) keep: Vec<(String, String)>,
}

/// A name that is known before anybody configures it.
struct Known {
    name: &'static str,
    path: &'static str,
    enabled: bool,
    delta: bool,
}

const KNOWN: &[Known] = &[
    known("memory", "/debug/pprof/allocs", true, false),
    known("block", "/debug/pprof/block", true, false),
    known("goroutine", "/debug/pprof/goroutine", true, false),
    known("mutex", "/debug/pprof/mutex", true, false),
    known("process_cpu", "/debug/pprof/profile", true, true),
    known("fgprof", "/debug/fgprof", false, true),
    // github.com/grafana/pyroscope-go/godeltaprof: each answer holds what
    // happened since the last request, so `seconds` is not asked for.
    known(
        "godeltaprof_memory",
        "/debug/pprof/delta_heap",
        false,
        false,
    ),
    known(
        "godeltaprof_mutex",
        "/debug/pprof/delta_mutex",
        false,
        false,
    ),
    known(
        "godeltaprof_block",
        "/debug/pprof/delta_block",
        false,
        false,
    ),
];

const fn known(name: &'static str, path: &'static str, enabled: bool, delta: bool) -> Known {
    Known {
        name,
        path,
        enabled,
        delta,
    }
}

/// More than a day is a mistake.
const MAX_SECONDS: u64 = 86_400;

/// The profiles of a job, sorted by name.
pub(crate) fn specs(config: &ScrapeConfig) -> Vec<ProfileSpec> {
    enabled(config)
        .map(|(name, merged)| spec(config, name, &merged))
        .collect()
}

/// What is wrong with a job's profiles; paths begin at the job.
pub(crate) fn problems(config: &ScrapeConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, merged) in enabled(config) {
        let at = |key: &str| match config.profiling_config.pprof_config.contains_key(name) {
            true => format!("profiling_config.pprof_config.{name}{key}"),
            false => String::new(),
        };
        if name == "trace" {
            let message = "trace is Go's execution trace, which is no profile: no profile store \
                           reads it; remove it";
            problems.push(Problem::new(at(""), message));
            continue;
        }
        if merged.path.as_deref().unwrap_or_default().is_empty() {
            let message = format!("{name} has no default path: give one, as /debug/pprof/{name}");
            problems.push(Problem::new(at(".path"), message));
        }
        if merged.seconds > MAX_SECONDS {
            let message = format!("seconds must not be more than {MAX_SECONDS}");
            problems.push(Problem::new(at(".seconds"), message));
        }
        let timeout = config.timeout();
        let seconds = spec(config, name, &merged).wait(&config.params);
        if let Some(seconds) = seconds
            && std::time::Duration::from_secs(seconds) >= timeout
        {
            let path = if config.scrape_timeout.is_zero() {
                at(".seconds")
            } else {
                "scrape_timeout".into()
            };
            problems.push(Problem::new(path, too_short(name, seconds, timeout)));
        }
        for (index, kept) in merged.keep_sample_type.iter().enumerate() {
            if kept.kind.is_empty() || kept.unit.is_empty() {
                let message = "needs a type and a unit, as {type: inuse_space, unit: bytes}";
                let path = at(&format!(".keep_sample_type[{index}]"));
                problems.push(Problem::new(path, message));
            }
        }
    }
    problems
}

/// What works but is probably not meant; paths begin at the job.
pub(crate) fn warnings(config: &ScrapeConfig) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (name, merged) in enabled(config) {
        let spec = spec(config, name, &merged);
        let wait = spec.wait(&config.params);
        let go_cpu = spec.path.ends_with("/debug/pprof/profile");
        if wait.is_none() && go_cpu && config.timeout().as_secs() <= 30 {
            let message = format!(
                "{name} does not say for how long to collect, and Go then takes 30s, which the \
                 timeout cuts: set delta: true"
            );
            warnings.push(Problem::new("profiling_config", message));
        }
        let left = wait.map(|seconds| {
            config
                .timeout()
                .saturating_sub(std::time::Duration::from_secs(seconds))
        });
        if left.is_some_and(|left| left.as_millis() < 1_000) {
            let message = format!(
                "{name} leaves less than 1s of the timeout for connecting and reading: raise \
                 scrape_timeout or leave it out (interval + 3s)"
            );
            warnings.push(Problem::new("scrape_timeout", message));
        }
    }
    warnings
}

/// Why a scrape that waits for `seconds` cannot end in time.
pub(crate) fn too_short(name: &str, seconds: u64, timeout: std::time::Duration) -> String {
    format!(
        "{name} is collected over {seconds}s, which does not fit into the scrape_timeout of \
         {timeout:?}: leave scrape_timeout out (interval + 3s), raise it above {seconds}s, or set \
         a smaller seconds for {name}"
    )
}

/// Every name that is on, with its settings over the defaults of the name.
fn enabled(config: &ScrapeConfig) -> impl Iterator<Item = (&str, PprofConfig)> {
    let given = &config.profiling_config.pprof_config;
    let mut merged: BTreeMap<&str, PprofConfig> = KNOWN
        .iter()
        .map(|known| (known.name, known.over(&PprofConfig::default())))
        .collect();
    for (name, config) in given {
        let known = KNOWN.iter().find(|known| known.name == name);
        let over = known.map_or_else(|| config.clone(), |known| known.over(config));
        merged.insert(name, over);
    }
    merged
        .into_iter()
        .filter(|(_, config)| config.enabled == Some(true))
}

fn spec(config: &ScrapeConfig, name: &str, merged: &PprofConfig) -> ProfileSpec {
    let path = merged.path.as_deref().unwrap_or_default();
    let prefix = config.profiling_config.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let path = format!("{slash}{prefix}/{}", path.trim_start_matches('/'));
    let by_user = merged.seconds == 0
        && (config.params.contains_key("seconds") || seconds_in(&path).is_some());
    let delta = merged.delta == Some(true);
    let interval = config.scrape_interval.get().as_secs().max(1);
    ProfileSpec {
        name: name.into(),
        path: path.into(),
        seconds: match merged.seconds {
            _ if !delta || by_user => None,
            0 => Some(interval),
            seconds => Some(seconds),
        },
        keep: merged
            .keep_sample_type
            .iter()
            .map(|kept| (kept.kind.clone(), kept.unit.clone()))
            .collect(),
    }
}

/// The `seconds` of a path's query.
pub(crate) fn seconds_in(path_and_query: &str) -> Option<u64> {
    let (_, query) = path_and_query.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "seconds")
        .and_then(|(_, value)| value.parse().ok())
        .filter(|seconds| *seconds > 0)
}

// === impl ProfileSpec ===

impl ProfileSpec {
    /// For how long the target will collect, whoever asked for it.
    pub(crate) fn wait(&self, params: &BTreeMap<String, Vec<String>>) -> Option<u64> {
        self.seconds.or_else(|| seconds_in(&self.path)).or_else(|| {
            let given = params.get("seconds")?.first()?.parse().ok()?;
            (given > 0).then_some(given)
        })
    }
}

// === impl Known ===

impl Known {
    /// Fills in what `given` leaves open, `delta` included.
    fn over(&self, given: &PprofConfig) -> PprofConfig {
        let path = given.path.clone().filter(|path| !path.is_empty());
        PprofConfig {
            enabled: given.enabled.or(Some(self.enabled)),
            path: path.or_else(|| Some(self.path.into())),
            delta: given.delta.or(Some(self.delta)),
            ..given.clone()
        }
    }
}

#[cfg(test)]
mod tests;
