//! Target groups in files: Prometheus' `file_sd_configs`.
//!
//! A file that cannot be read keeps the targets it last had, and its error is
//! logged once and counted; a file that is gone takes its targets with it.

use super::super::{job::Job, settings::FileSdConfig, target::Group};
use crate::{
    profile::Labels,
    settings::{Node, Problem},
};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tracing::{info, warn};

/// A larger file is not read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// The files of one `file_sd_configs` entry, and what they last said.
#[derive(Debug)]
pub(super) struct FileSource {
    /// The job's place in the receiver.
    pub(super) at: usize,
    /// The entry's place in the job.
    pub(super) source: usize,
    /// The job itself.
    pub(super) job: Arc<Job>,
    /// How often the files are read without a reason.
    pub(super) refresh_interval: Duration,
    patterns: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Known>,
    errors: Counter,
    /// Whether groups were handed out once.
    told: bool,
    /// Whether it was said that no file matches.
    said_empty: bool,
}

#[derive(Debug, Default)]
struct Known {
    groups: Vec<Group>,
    /// Of the text the groups were read from.
    hash: Option<u64>,
    error: Option<String>,
}

/// Why a file's targets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {MAX_FILE} bytes")]
    TooLarge,
    #[error("it is no text in UTF-8")]
    NotText,
    #[error("it is no JSON: {0}")]
    Json(serde_json::Error),
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("{0}; write a list of {{targets: [\"host:port\"], labels: {{name: value}}}}")]
    Shape(String),
}

// === impl FileSource ===

impl FileSource {
    /// A source that has read nothing yet.
    pub(super) fn new(
        at: usize,
        source: usize,
        job: &Arc<Job>,
        config: &FileSdConfig,
        errors: Counter,
    ) -> Self {
        Self {
            at,
            source,
            job: job.clone(),
            refresh_interval: config.refresh_interval.get(),
            patterns: config.files.iter().map(|file| file.0.clone()).collect(),
            files: BTreeMap::new(),
            errors,
            told: false,
            said_empty: false,
        }
    }

    /// The folders whose changes matter.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        self.patterns
            .iter()
            .map(|pattern| folder(pattern).to_owned())
            .collect()
    }

    /// Reads all files; the groups of all of them if any changed.
    pub(super) fn refresh(&mut self) -> Option<Arc<[Group]>> {
        let found: BTreeSet<PathBuf> = self.patterns.iter().flat_map(|p| expand(p)).collect();
        self.say_empty(found.is_empty());
        let before = self.files.len();
        self.files.retain(|path, _| found.contains(path));
        let mut changed = self.files.len() != before;
        for path in found {
            changed |= self.refresh_file(path);
        }
        if !changed && self.told {
            return None;
        }
        self.told = true;
        let groups = self.files.values().flat_map(|known| known.groups.clone());
        Some(groups.collect())
    }

    fn refresh_file(&mut self, path: PathBuf) -> bool {
        let read = read(&path);
        let known = self.files.entry(path.clone()).or_default();
        let parsed = read.and_then(|text| {
            let hash = Some(hash(&text));
            if known.error.is_none() && known.hash == hash {
                return Ok(None);
            }
            let groups = parse(&path, &text)?;
            Ok(Some((groups, hash)))
        });
        match parsed {
            Ok(None) => false,
            Ok(Some((groups, hash))) => {
                if known.error.take().is_some() {
                    info!(job = %self.job.plan.job, file = %path.display(), "targets file is good again");
                }
                let changed = known.groups != groups;
                known.groups = groups;
                known.hash = hash;
                changed
            }
            Err(error) => {
                self.errors.inc();
                let error = error.to_string();
                if known.error.as_ref() != Some(&error) {
                    warn!(
                        job = %self.job.plan.job, file = %path.display(), %error,
                        groups_kept = known.groups.len(), "targets file is not usable",
                    );
                    known.error = Some(error);
                }
                false
            }
        }
    }

    fn say_empty(&mut self, empty: bool) {
        if empty && !self.said_empty {
            let files: Vec<_> = self.patterns.iter().map(|p| p.display()).collect();
            warn!(job = %self.job.plan.job, ?files, "no targets file matches yet");
        }
        self.said_empty = empty;
    }
}

/// What is wrong with a `file_sd_configs` entry.
pub(in super::super) fn problems(config: &FileSdConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    if config.files.is_empty() {
        problems.push(Problem::new("files", "name at least one file"));
    }
    if config.refresh_interval.get() < Duration::from_secs(1) {
        let message = "refresh_interval must be at least 1s";
        problems.push(Problem::new("refresh_interval", message));
    }
    for (index, file) in config.files.iter().enumerate() {
        let place = format!("files[{index}]");
        if folder(&file.0).to_string_lossy().contains(['*', '?']) {
            let message = "wildcards are understood in the last part of a path only";
            problems.push(Problem::new(place.clone(), message));
        }
        if !has_extension(&file.0) {
            let message = "a targets file ends in .json, .yml or .yaml";
            problems.push(Problem::new(place, message));
        }
    }
    problems
}

fn has_extension(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    matches!(&*extension.to_ascii_lowercase(), "json" | "yml" | "yaml")
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The files that a pattern stands for now.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains(['*', '?']) {
        return match pattern.exists() {
            true => vec![pattern.to_owned()],
            false => Vec::new(),
        };
    }
    let Ok(entries) = fs::read_dir(folder(pattern)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| matches(name.as_bytes(), entry.file_name().as_encoded_bytes()))
        .map(|entry| folder(pattern).join(entry.file_name()))
        .filter(|path| path.is_file())
        .collect()
}

/// Whether `name` fits a pattern of `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(b'?') => at = (at.0 + 1, at.1 + 1),
            Some(byte) if *byte == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => {
                let Some((in_pattern, in_name)) = star else {
                    return false;
                };
                star = Some((in_pattern, in_name + 1));
                at = (in_pattern + 1, in_name + 1);
            }
        }
    }
    pattern[at.0..].iter().all(|byte| *byte == b'*')
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(FileError::TooLarge);
    }
    Ok(fs::read(path)?)
}

/// The groups of a file, with the label that says where they came from.
fn parse(path: &Path, text: &[u8]) -> Result<Vec<Group>, FileError> {
    let text = std::str::from_utf8(text).map_err(|_| FileError::NotText)?;
    let is_json = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let value = if is_json {
        serde_json::from_str(text).map_err(FileError::Json)?
    } else {
        yaml(text)?
    };
    let groups = match value {
        Value::Null => Vec::new(),
        Value::Array(groups) => groups,
        _ => return Err(shape("it is not a list")),
    };
    groups
        .iter()
        .map(|value| group(value, &path.to_string_lossy()))
        .collect()
}

fn yaml(text: &str) -> Result<Value, FileError> {
    let node = Node::from_text("", text).map_err(|report| FileError::Yaml(report.to_string()))?;
    Ok(from_yaml(&node))
}

/// Scalars stay text: what is asked for here is text.
fn from_yaml(node: &Node) -> Value {
    if let Some(text) = node.text() {
        return if node.is_null() {
            Value::Null
        } else {
            text.into()
        };
    }
    if node.entries().is_empty() {
        return node.items().iter().map(from_yaml).collect();
    }
    let entries = node.entries().iter();
    entries
        .map(|entry| (entry.key.clone(), from_yaml(&entry.node)))
        .collect()
}

fn group(value: &Value, path: &str) -> Result<Group, FileError> {
    let map = value
        .as_object()
        .ok_or_else(|| shape("an entry is no map"))?;
    if let Some(key) = map
        .keys()
        .find(|key| !matches!(&***key, "targets" | "labels"))
    {
        return Err(shape(&format!("an entry has the unknown key {key:?}")));
    }
    let mut addresses = Vec::new();
    for target in list(map.get("targets"))? {
        let address = target
            .as_str()
            .ok_or_else(|| shape("a target is no text"))?;
        addresses.push(address.into());
    }
    let mut labels = Labels::default().edit();
    for (name, value) in pairs(map.get("labels"))? {
        let text = scalar(value).ok_or_else(|| shape(&format!("label {name:?} is no text")))?;
        labels.set(name, &text);
    }
    labels.set("__meta_filepath", path);
    Ok(Group {
        addresses,
        labels: labels.build(),
    })
}

fn list(value: Option<&Value>) -> Result<&[Value], FileError> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(shape("targets is no list")),
    }
}

fn pairs(value: Option<&Value>) -> Result<Vec<(&String, &Value)>, FileError> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) => Ok(map.iter().collect()),
        Some(_) => Err(shape("labels is no map")),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn shape(what: &str) -> FileError {
    FileError::Shape(what.to_owned())
}

#[cfg(test)]
mod tests;
