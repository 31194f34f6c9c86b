//! Which rules hold for whom.

use super::{
    Refused,
    identity::{Identity, Rules},
    settings::{IdentitySettings, ServerAuth},
    template::Template,
};
use crate::{
    net::{serve::metadata_problem, tls::CertificateNames},
    profile::relabel::Pattern,
    settings::Problem,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// Everybody.
const ANY: &str = "*";

/// In front of the name of a group.
const GROUP: &str = "group:";

/// The identities that are remembered, with what they have used of their limits.
const MAX_KNOWN: usize = 10_000;

/// All identities of a listener.
pub(super) struct Directory {
    settings: BTreeMap<String, IdentitySettings>,
    only_listed: bool,
    known: Mutex<HashMap<Key, Arc<Identity>>>,
}

/// A name, and the group whose rules hold.
type Key = (Box<str>, Option<Box<str>>);

// === impl Directory ===

impl Directory {
    pub(super) fn new(settings: &ServerAuth) -> Result<Self, Vec<Problem>> {
        Ok(Self {
            settings: settings.identities.clone(),
            only_listed: settings.only_listed,
            known: Mutex::default(),
        })
    }

    /// Who was let in and has no name.
    pub(super) fn anonymous(&self) -> Result<Arc<Identity>, Refused> {
        self.named(&[""], &[])
    }

    /// Who has a certificate: by the first of its names that is listed.
    pub(super) fn certificate(&self, names: &CertificateNames) -> Result<Arc<Identity>, Refused> {
        let names: Vec<_> = names.all().collect();
        if names.is_empty() {
            return self.anonymous();
        }
        self.named(&names, &[])
    }

    /// Who has these names, the first one being the name unless another one is
    /// listed, and is in these groups.
    pub(super) fn named(
        &self,
        names: &[&str],
        groups: &[String],
    ) -> Result<Arc<Identity>, Refused> {
        let is_listed = |name: &&&str| {
            **name != ANY && !name.starts_with(GROUP) && self.settings.contains_key(**name)
        };
        let listed = names.iter().find(is_listed);
        let group = groups
            .iter()
            .map(|group| format!("{GROUP}{group}"))
            .find(|group| self.settings.contains_key(group));
        if self.only_listed && listed.is_none() && group.is_none() {
            return Err(Refused::NotListed);
        }
        let name = listed.or(names.first()).copied().unwrap_or_default();
        let key = (Box::from(name), group.clone().map(String::into_boxed_str));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = known.get(&key) {
            return Ok(identity.clone());
        }
        let of_name = listed.and_then(|name| self.settings.get(*name));
        let of_group = group.and_then(|group| self.settings.get(&group));
        let layers = [self.settings.get(ANY), of_group, of_name];
        let merged = merge(layers.into_iter().flatten());
        // Checked before; what is wrong by itself is no better merged.
        let rules = compile(&merged).map_err(|_| Refused::NotListed)?;
        let identity = Arc::new(Identity::new(name, rules));
        if known.len() >= MAX_KNOWN {
            known.retain(|_, identity| Arc::strong_count(identity) > 1);
        }
        if known.len() < MAX_KNOWN {
            known.insert(key, identity.clone());
        }
        Ok(identity)
    }
}

/// Later ones go over earlier ones, key by key.
fn merge<'a>(layers: impl Iterator<Item = &'a IdentitySettings>) -> IdentitySettings {
    let mut merged = IdentitySettings::default();
    for layer in layers {
        merged.labels.extend(layer.labels.clone());
        merged.allow.labels.extend(layer.allow.labels.clone());
        let metadata = layer.metadata.iter();
        let metadata = metadata.map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        merged.metadata.extend(metadata);
        let requests = layer.max_requests_per_second;
        merged.max_requests_per_second = requests.or(merged.max_requests_per_second);
        let bytes = layer.max_bytes_in_flight;
        merged.max_bytes_in_flight = bytes.or(merged.max_bytes_in_flight);
    }
    merged
}

/// The rules, or all that is wrong with them.
pub(super) fn compile(settings: &IdentitySettings) -> Result<Rules, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut rules = Rules {
        max_requests_per_second: settings.max_requests_per_second,
        max_bytes_in_flight: settings.max_bytes_in_flight.map(|bytes| bytes.get()),
        ..Rules::default()
    };
    for (name, value) in &settings.labels {
        let path = format!("labels.{name}");
        match Template::parse(value) {
            _ if name.is_empty() => problems.push(Problem::new("labels", "a name is empty")),
            Ok(value) => rules.labels.push((name.as_str().into(), value)),
            Err(why) => problems.push(Problem::new(path, why)),
        }
    }
    for (name, value) in &settings.metadata {
        let path = format!("metadata.{name}");
        match (metadata_problem(name), Template::parse(value)) {
            (None, Ok(value)) => {
                let name = name.to_ascii_lowercase().into();
                rules.metadata.push((name, value));
            }
            (Some(why), _) => problems.push(Problem::new(path, why)),
            (None, Err(why)) => problems.push(Problem::new(path, why)),
        }
    }
    for (name, patterns) in &settings.allow.labels {
        let mut compiled = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            match Pattern::new(pattern) {
                Ok(pattern) => compiled.push(pattern),
                Err(error) => problems.push(Problem::new(
                    format!("allow.labels.{name}[{at}]"),
                    error.to_string(),
                )),
            }
        }
        rules.allow.push((name.as_str().into(), compiled));
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        Err(problems)
    }
}
