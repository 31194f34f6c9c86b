//! What a Parca server makes of one WriteRaw request.
//!
//! The order, the codes and the beginnings of the messages are those of v0.27;
//! HEAD ends under fewer requests, so what passes here passes both. Three things
//! can be wrong: the request is *refused* with a status, it *ends* the server at
//! once, or it is stored and does *harm* later: to a query that somebody asks,
//! to the profile list, to clients that decode answers.

use super::{StoredProfile, pprof};
use bytes::Bytes;
use profile_relay::r#gen::profilestore::{LabelSet, RawSample, WriteRawRequest};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};
use tonic::Code;

/// What a request comes to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is stored, in the order of the request.
    pub stored: Vec<StoredProfile>,
    /// A query over what is stored ends the server.
    pub bombs: Vec<String>,
    /// What is stored spoils answers.
    pub harms: Vec<String>,
}

/// Why nothing of a request is stored.
#[derive(Debug)]
pub enum Fault {
    /// An error that the client sees.
    Refused(Code, String),
    /// A panic: exit code 2, and the client sees its connection reset.
    Crash(String),
}

/// The five strings of a row's profile type.
type RowType = [Vec<u8>; 5];

/// Checks a request and says what a server keeps of it.
pub fn write(request: &WriteRawRequest) -> Result<Outcome, Fault> {
    let mut outcome = Outcome::default();
    let mut types = BTreeSet::new();
    for series in &request.series {
        let Some(set) = &series.labels else {
            return Err(Fault::Crash("series without labels".into()));
        };
        let labels = labels(set)?;
        for sample in &series.samples {
            let profile = open(sample)?;
            validate(&profile, sample)?;
            types.extend(row_types(&profile, &labels["__name__"]));
            later(&profile, &mut outcome);
            outcome.stored.push(StoredProfile {
                labels: labels.clone(),
                body: sample.raw_profile.clone(),
            });
        }
    }
    profile_types(&types, &mut outcome.harms)?;
    Ok(outcome)
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(Code::InvalidArgument, message.into()))
}

fn crash<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Crash(message.into()))
}

fn labels(set: &LabelSet) -> Result<BTreeMap<String, String>, Fault> {
    let mut labels = BTreeMap::new();
    for label in &set.labels {
        if label.name.is_empty() {
            return invalid("invalid label name: ");
        }
        let old = labels.insert(label.name.clone(), label.value.clone());
        if old.is_some() && label.name != "__name__" {
            return invalid(format!("duplicate label name: {}", label.name));
        }
    }
    match labels.get("__name__").map(String::as_str) {
        None | Some("") => invalid("missing __name__ label"),
        Some(_) => Ok(labels),
    }
}

/// Inflated and decoded.
fn open(sample: &RawSample) -> Result<pprof::Profile, Fault> {
    let raw = inflate(&sample.raw_profile).map_err(|error| {
        Fault::Refused(Code::Unknown, format!("decompressing profile: {error}"))
    })?;
    if raw.is_empty() {
        return crash("no bytes, hence no period_type");
    }
    pprof::Profile::decode(raw)
        .or_else(|error| invalid(format!("failed to parse profile: {error}")))
}

/// The plain bytes of a gzip or plain body.
pub fn inflate(body: &Bytes) -> std::io::Result<Bytes> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Ok(body.clone());
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(body.as_ref()).read_to_end(&mut plain)?;
    Ok(plain.into())
}

/// The server's own checks, in its order; then what it uses unchecked.
fn validate(profile: &pprof::Profile, sample: &RawSample) -> Result<(), Fault> {
    let strings = &profile.string_table;
    if strings.first().is_some_and(|first| !first.is_empty()) {
        return invalid("invalid profile: first item in string table is expected to be empty");
    }
    let infos = sample.executable_info.len();
    tables(profile, infos)?;
    if !profile.sample.is_empty() && profile.sample_type.is_empty() {
        return invalid("invalid profile: missing sample type information");
    }
    for kind in &profile.sample_type {
        within(strings, [kind.kind, kind.unit], "sample type")?;
    }
    let Some(period) = profile.period_type else {
        return crash("no period_type");
    };
    within(strings, [period.kind, period.unit], "period type")?;
    samples(profile)?;
    if strings.is_empty() && !profile.sample_type.is_empty() {
        return crash("sample types with an empty string table");
    }
    used(profile, period)
}

fn tables(profile: &pprof::Profile, infos: usize) -> Result<(), Fault> {
    let strings = &profile.string_table;
    for (at, mapping) in profile.mapping.iter().enumerate() {
        sequential(mapping.id, at, "mapping")?;
        within(strings, [mapping.filename, mapping.build_id], "mapping")?;
    }
    if infos > 0 && infos != profile.mapping.len() {
        return invalid("invalid profile: number of executable infos differs from mappings");
    }
    for (at, function) in profile.function.iter().enumerate() {
        sequential(function.id, at, "function")?;
        let texts = [function.name, function.system_name, function.filename];
        within(strings, texts, "function")?;
    }
    for (at, location) in profile.location.iter().enumerate() {
        sequential(location.id, at, "location")?;
        if location.mapping_id > profile.mapping.len() as u64 {
            return invalid("invalid profile: location has invalid mapping id");
        }
        for line in &location.line {
            if line.function_id > profile.function.len() as u64 {
                return invalid("invalid profile: location has invalid function id");
            }
        }
    }
    Ok(())
}

fn samples(profile: &pprof::Profile) -> Result<(), Fault> {
    for sample in &profile.sample {
        if sample.value.len() != profile.sample_type.len() {
            return invalid("invalid profile: mismatch of sample values and types");
        }
        for id in &sample.location_id {
            if *id == 0 || *id > profile.location.len() as u64 {
                return invalid("invalid profile: location number out of range");
            }
        }
        for label in &sample.label {
            if label.key == 0 {
                return invalid("invalid profile: label has no key");
            }
            within(&profile.string_table, [label.key, label.str], "label")?;
        }
    }
    Ok(())
}

/// Only the upper bound is checked by a server, and that one off by one.
fn within<const N: usize>(strings: &[Bytes], at: [i64; N], what: &str) -> Result<(), Fault> {
    match at.iter().any(|at| *at > strings.len() as i64) {
        true => invalid(format!("invalid profile: {what} has an invalid index")),
        false => Ok(()),
    }
}

/// What is left over by [`within`] ends the server when it is used.
fn used(profile: &pprof::Profile, period: pprof::ValueType) -> Result<(), Fault> {
    let types = profile.sample_type.iter().chain([&period]);
    let types = types.flat_map(|t| [t.kind, t.unit]);
    let mappings = profile.mapping.iter();
    let mappings = mappings.flat_map(|m| [m.filename, m.build_id]);
    let functions = profile.function.iter();
    let functions = functions.flat_map(|f| [f.name, f.system_name, f.filename]);
    let labels = profile.sample.iter().flat_map(|s| &s.label);
    let labels = labels.flat_map(|l| [l.key, l.str]);
    let len = profile.string_table.len() as i64;
    for at in types.chain(mappings).chain(functions).chain(labels) {
        if at < 0 {
            return crash("negative string index");
        }
        if at == len && at != 0 {
            return crash("string index equal to the table length");
        }
    }
    Ok(())
}

fn sequential(id: u64, at: usize, what: &str) -> Result<(), Fault> {
    if id == at as u64 + 1 {
        Ok(())
    } else {
        invalid(format!("invalid profile: {what} id is not sequential"))
    }
}

/// The types of the rows that are stored: values that are not zero.
fn row_types(profile: &pprof::Profile, name: &str) -> Vec<RowType> {
    let text = |at: i64| profile.string_table[at as usize].to_vec();
    let period = profile.period_type.unwrap_or_default();
    let stored = |column: usize| profile.sample.iter().any(|s| s.value[column] != 0);
    profile
        .sample_type
        .iter()
        .enumerate()
        .filter(|(column, _)| stored(*column))
        .map(|(_, kind)| {
            [
                name.as_bytes().to_vec(),
                text(kind.kind),
                text(kind.unit),
                text(period.kind),
                text(period.unit),
            ]
        })
        .collect()
}

fn profile_types(types: &BTreeSet<RowType>, harms: &mut Vec<String>) -> Result<(), Fault> {
    for (row, kind) in types.iter().enumerate() {
        let joined = kind.join(&b':');
        if !is_metric_name(&joined) {
            let shown = String::from_utf8_lossy(&joined).into_owned();
            return Err(Fault::Refused(
                Code::Unknown,
                format!("invalid profile type at row {row} ({shown})"),
            ));
        }
        if kind.iter().any(|part| part.contains(&b':')) {
            harms.push("a colon within a type: no query finds it".into());
        }
    }
    for (part, what) in ["sample type", "sample unit", "period type", "period unit"]
        .iter()
        .enumerate()
    {
        if !types.is_empty() && types.iter().all(|kind| kind[part + 1].is_empty()) {
            harms.push(format!("only empty strings as {what}: ProfileTypes fails"));
        }
    }
    Ok(())
}

fn is_metric_name(name: &[u8]) -> bool {
    let letter = |c: &u8| c.is_ascii_alphabetic() || matches!(c, b'_' | b':');
    name.first().is_some_and(letter) && name.iter().all(|c| letter(c) || c.is_ascii_digit())
}

/// What is stored and hurts later.
fn later(profile: &pprof::Profile, outcome: &mut Outcome) {
    let stored: BTreeSet<u64> = profile
        .sample
        .iter()
        .filter(|sample| sample.value.iter().any(|value| *value != 0))
        .flat_map(|sample| sample.location_id.iter().copied())
        .collect();
    for id in stored {
        for line in &profile.location[id as usize - 1].line {
            if line.function_id == 0 {
                outcome.bombs.push("line without function".into());
            } else if is_blank(profile, line.function_id) {
                outcome.bombs.push("function with all fields empty".into());
            }
        }
    }
    if profile
        .string_table
        .iter()
        .any(|s| std::str::from_utf8(s).is_err())
    {
        outcome.harms.push("text that is not UTF-8".into());
    }
    if profile.time_nanos <= 0 {
        outcome
            .harms
            .push("no time: stored as 1970 or before".into());
    }
    if profile.duration_nanos < 0 {
        outcome
            .harms
            .push("negative duration: no query finds it".into());
    }
}

fn is_blank(profile: &pprof::Profile, id: u64) -> bool {
    let function = profile.function[id as usize - 1];
    let blank = |at: i64| profile.string_table[at as usize].is_empty();
    blank(function.name)
        && blank(function.system_name)
        && blank(function.filename)
        && function.start_line == 0
}
