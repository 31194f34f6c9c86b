//! From what discovery found to what is scraped.
//!
//! One target is made for each address and enabled profile, as Parca does:
//! `job`, `__scheme__`, `__profile_path__`, `__name__` and `__param_*` are added,
//! relabelling runs, then the URL and the labels that leave are read off the
//! result. A target that cannot be built is a bad target with an error; it
//! never takes the others of its group with it, as it does in Parca.
//!
//! Pure: no I/O, no clock.

use super::profiles::{self, ProfileSpec};
use crate::profile::{
    Label, Labels, LabelsBuilder, NAME,
    relabel::{Decision, Rules},
};
use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc, time::Duration};
use url::form_urlencoded;

/// Addresses that share labels, as discovery found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// `host:port` each.
    pub(crate) addresses: Vec<Box<str>>,
    /// Labels of all of them, `__meta_*` included.
    pub(crate) labels: Labels,
}

/// All of a job that target building needs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The job's name.
    pub(crate) job: Box<str>,
    /// The scheme unless a label says otherwise.
    pub(crate) scheme: Box<str>,
    /// Query parameters of every request.
    pub(crate) params: BTreeMap<String, Vec<String>>,
    /// The profiles of each address.
    pub(crate) specs: Vec<ProfileSpec>,
    /// What the user does to targets.
    pub(crate) rules: Rules,
    /// The deadline of a scrape.
    pub(crate) timeout: Duration,
    /// What a target's labels may be.
    pub(crate) limits: LabelLimits,
}

/// Bounds of a target's labels; 0 means none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LabelLimits {
    /// How many.
    pub(crate) count: usize,
    /// Bytes of a name.
    pub(crate) name: usize,
    /// Bytes of a value.
    pub(crate) value: usize,
}

/// One profile of one address.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where it is fetched.
    pub(crate) url: Arc<str>,
    /// What its profiles are labelled with.
    pub(crate) labels: Labels,
    /// What discovery and the job said of the address, shared by its profiles.
    pub(crate) source: Labels,
    /// Which of the plan's profiles it is.
    pub(crate) spec: usize,
    /// Labels and URL in one number: what makes it the same target again, and
    /// its phase.
    pub(crate) hash: u64,
    /// For how long the target collects before it answers.
    pub(crate) wait: Option<Duration>,
}

/// A target that is not scraped.
#[derive(Clone, Debug)]
pub(crate) struct Unscraped {
    /// What discovery and the job said of the address.
    pub(crate) source: Labels,
    /// Which of the plan's profiles it is.
    pub(crate) spec: usize,
    /// Why, unless relabelling dropped it.
    pub(crate) error: Option<Box<str>>,
}

/// What became of some groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Built {
    /// To be scraped; may hold duplicates.
    pub(crate) targets: Vec<Arc<Target>>,
    /// Bad ones.
    pub(crate) bad: Vec<Unscraped>,
    /// Dropped by relabelling, as many as are kept.
    pub(crate) dropped: Vec<Unscraped>,
    /// How many relabelling dropped.
    pub(crate) dropped_total: usize,
}

// === impl Plan ===

impl Plan {
    /// The targets of `groups`, in their order. At most `keep_dropped` dropped
    /// ones are listed; 0 means all.
    pub(crate) fn build(&self, groups: &[Group], keep_dropped: usize) -> Built {
        let mut built = Built::default();
        for group in groups {
            for address in &group.addresses {
                let source = self.source(address, &group.labels);
                for spec in 0..self.specs.len() {
                    self.add(&mut built, &source, spec, keep_dropped);
                }
            }
        }
        built
    }

    /// The labels of a target before relabelling.
    pub(crate) fn discovered(&self, source: &Labels, spec: usize) -> LabelsBuilder {
        let mut labels = source.edit();
        if let Some(spec) = self.specs.get(spec) {
            labels.set("__profile_path__", &spec.path);
            labels.set(NAME, &spec.name);
            if let Some(seconds) = spec.seconds {
                labels.set("__param_seconds", &seconds.to_string());
            }
        }
        labels
    }

    fn source(&self, address: &str, group: &Labels) -> Labels {
        let mut labels = group.edit();
        labels.set("__address__", address);
        for (name, value) in [("job", &*self.job), ("__scheme__", &*self.scheme)] {
            if labels.get(name).is_none() {
                labels.set(name, value);
            }
        }
        for (name, values) in &self.params {
            if let Some(first) = values.first() {
                labels.set(&format!("__param_{name}"), first);
            }
        }
        labels.build()
    }

    fn add(&self, built: &mut Built, source: &Labels, spec: usize, keep_dropped: usize) {
        let unscraped = |error| Unscraped {
            source: source.clone(),
            spec,
            error,
        };
        match self.target(source, spec) {
            Ok(Some(target)) => built.targets.push(Arc::new(target)),
            Ok(None) => {
                built.dropped_total += 1;
                if keep_dropped == 0 || built.dropped.len() < keep_dropped {
                    built.dropped.push(unscraped(None));
                }
            }
            Err(error) => built.bad.push(unscraped(Some(error.into()))),
        }
    }

    /// One target; `None` when relabelling drops it, an error when it is bad.
    fn target(&self, source: &Labels, spec: usize) -> Result<Option<Target>, String> {
        let mut labels = self.discovered(source, spec);
        if self.rules.apply(&mut labels) == Decision::Drop {
            return Ok(None);
        }
        let scheme = labels.get("__scheme__").unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            return Err(format!("__scheme__ is {scheme:?}; write http or https"));
        }
        let address = labels
            .get("__address__")
            .ok_or("there is no __address__ after relabelling")?;
        let address = with_port(address, scheme)?;
        let path = labels
            .get("__profile_path__")
            .ok_or("there is no __profile_path__ after relabelling")?;
        let url: Arc<str> =
            format!("{scheme}://{address}{}", self.path_and_query(path, &labels)).into();
        if url.parse::<http::Uri>().is_err() {
            return Err(format!("{url} is no URL"));
        }
        let wait = profiles::seconds_in(&url);
        if let Some(seconds) = wait
            && Duration::from_secs(seconds) >= self.timeout
        {
            let name = labels.get(NAME).unwrap_or_default();
            return Err(profiles::too_short(name, seconds, self.timeout));
        }
        if labels.get("instance").is_none() {
            labels.set("instance", &address);
        }
        labels.retain(|label| *label.name == *NAME || !label.name.starts_with("__"));
        if labels.get(NAME).is_none() {
            return Err(format!("there is no {NAME} after relabelling"));
        }
        self.limits.check(labels.as_slice())?;
        let labels = labels.build();
        Ok(Some(Target {
            hash: identity(&labels, &url),
            wait: wait.map(Duration::from_secs),
            source: source.clone(),
            url,
            labels,
            spec,
        }))
    }

    /// The path, its own query, and the job's parameters, of which a
    /// `__param_x` label replaces the first value of `x`.
    fn path_and_query(&self, path: &str, labels: &LabelsBuilder) -> String {
        let (path, own_query) = path.split_once('?').unwrap_or((path, ""));
        let mut params: BTreeMap<&str, Vec<&str>> = self
            .params
            .iter()
            .map(|(name, values)| (&**name, values.iter().map(|value| &**value).collect()))
            .collect();
        for label in labels.as_slice() {
            if let Some(name) = label.name.strip_prefix("__param_") {
                let values = params.entry(name).or_default();
                match values.first_mut() {
                    Some(first) => *first = &label.value,
                    None => values.push(&label.value),
                }
            }
        }
        let mut query = form_urlencoded::Serializer::new(own_query.to_owned());
        for (name, values) in params {
            for value in values {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{slash}{}{mark}{}", escape(path), escape(&query))
    }
}

// === impl LabelLimits ===

impl LabelLimits {
    fn check(&self, labels: &[Label]) -> Result<(), String> {
        let over = |limit: usize, size: usize| limit != 0 && size > limit;
        if over(self.count, labels.len()) {
            return Err(format!(
                "it has {} labels, more than the label_limit of {}",
                labels.len(),
                self.count
            ));
        }
        for label in labels {
            let name: String = label.name.chars().take(50).collect();
            if over(self.name, label.name.len()) {
                return Err(format!(
                    "the name of label {name:?} has {} bytes, more than the \
                     label_name_length_limit of {}",
                    label.name.len(),
                    self.name
                ));
            }
            if over(self.value, label.value.len()) {
                return Err(format!(
                    "the value of label {name:?} has {} bytes, more than the \
                     label_value_length_limit of {}",
                    label.value.len(),
                    self.value
                ));
            }
        }
        Ok(())
    }
}

/// Checks an address and adds the scheme's port if it has none.
fn with_port(address: &str, scheme: &str) -> Result<String, String> {
    if address.contains('/') {
        return Err(format!(
            "address {address:?} holds a slash: an address is host:port; the scheme goes into \
             scheme, the path into profiling_config"
        ));
    }
    if address.contains('@') {
        return Err("an address is host:port; credentials go into basic_auth".into());
    }
    let port = if scheme == "https" { 443 } else { 80 };
    if address.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{address}]:{port}"));
    }
    let wrong = || format!("address {address:?} is not host:port");
    let authority: http::uri::Authority = address.parse().map_err(|_| wrong())?;
    let tail = address.strip_prefix(authority.host()).unwrap_or_default();
    match tail.strip_prefix(':') {
        _ if authority.host().is_empty() => Err(wrong()),
        None => Ok(format!("{address}:{port}")),
        Some(given) if given.parse::<u16>().is_ok() => Ok(address.to_owned()),
        Some(_) => Err(wrong()),
    }
}

/// Escapes what no URL may hold and leaves the rest, `%` included, as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"#<>?\\^`{|}".contains(&byte) => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// FNV-1a over labels and URL, mixed so that every bit counts in a remainder.
fn identity(labels: &Labels, url: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for label in labels {
        hash = fnv(hash, label.name.as_bytes());
        hash = fnv(hash, label.value.as_bytes());
    }
    mix(fnv(hash, url.as_bytes()))
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    // 0xff is in no UTF-8 text, so that names and values cannot run together.
    bytes.iter().chain(&[0xff]).fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of MurmurHash3.
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
