//! `WriteRawRequest`: what a profile weighs in it, and making one.

use crate::{
    r#gen::profilestore::{Label, LabelSet, RawProfileSeries, RawSample, WriteRawRequest},
    profile::{Batch, Labels, Profile},
};
use bytes::Bytes;
use prost::length_delimiter_len;
use std::collections::HashMap;

/// The bytes that a body and its labels take in an encoded request, when no
/// other profile shares its series.
pub(super) fn weigh(labels: &Labels, body: &Bytes) -> u64 {
    let set: usize = labels
        .iter()
        .map(|l| field(field(l.name.len()) + field(l.value.len())))
        .sum();
    let sample = field(field(body.len()));
    field(field(set) + sample) as u64
}

/// The bytes of a whole batch, at most.
pub(super) fn weigh_all(batch: &Batch) -> u64 {
    batch
        .profiles
        .iter()
        .filter_map(|profile| Some(weigh(&profile.labels, profile.body.as_pprof()?.bytes())))
        .sum()
}

/// A request of at least `bytes` bytes that says nothing: a field that nobody knows.
pub(super) fn saying_nothing(bytes: u64) -> Bytes {
    /// Field 15, length-delimited.
    const KEY: u8 = 0x7a;
    let len = usize::try_from(bytes).unwrap_or(usize::MAX);
    let head = 1 + length_delimiter_len(len);
    // Zeros that nobody has touched take no memory.
    let mut request = vec![0; head.saturating_add(len)];
    let mut delimiter = Vec::with_capacity(head);
    delimiter.push(KEY);
    prost::encoding::encode_varint(bytes, &mut delimiter);
    request[..head].copy_from_slice(&delimiter);
    request.into()
}

/// A length-delimited field of `len` bytes with a tag below 16.
fn field(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

/// One request; profiles of equal labels share a series, in the order in which
/// they come. The bodies are not copied.
pub(super) fn encode(profiles: &[Profile]) -> WriteRawRequest {
    let mut series: Vec<RawProfileSeries> = Vec::with_capacity(profiles.len());
    let mut places: HashMap<&Labels, usize> = HashMap::with_capacity(profiles.len());
    for profile in profiles {
        let Some(pprof) = profile.body.as_pprof().filter(|p| !p.bytes().is_empty()) else {
            continue;
        };
        let at = *places.entry(&profile.labels).or_insert_with(|| {
            series.push(RawProfileSeries {
                labels: Some(label_set(&profile.labels)),
                samples: Vec::with_capacity(1),
            });
            series.len() - 1
        });
        series[at].samples.push(RawSample {
            raw_profile: pprof.bytes().clone(),
            executable_info: Vec::new(),
        });
    }
    WriteRawRequest {
        series,
        ..WriteRawRequest::default()
    }
}

fn label_set(labels: &Labels) -> LabelSet {
    let label = |l: &crate::profile::Label| Label {
        name: l.name.to_string(),
        value: l.value.to_string(),
    };
    LabelSet {
        labels: labels.iter().map(label).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Body, NAME, pprof::Pprof};
    use prost::Message;
    use std::time::SystemTime;

    fn profile(job: &str, body: Vec<u8>) -> Profile {
        Profile {
            labels: [(NAME, "memory"), ("job", job)].into_iter().collect(),
            body: Body::Pprof(Pprof::new(body.into())),
            received: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_weight_is_the_encoded_length() {
        for (job, length) in [("a", 1), ("b", 119), ("c", 120), ("d", 40_000), ("", 3)] {
            let profile = profile(&job.repeat(length % 300), vec![1; length]);
            let pprof = profile.body.as_pprof().unwrap();
            let weight = weigh(&profile.labels, pprof.bytes());
            assert_eq!(weight, encode(&[profile]).encoded_len() as u64, "{length}");
        }
    }

    #[test]
    fn equal_labels_share_a_series() {
        let request = encode(&[
            profile("a", vec![1]),
            profile("b", vec![2]),
            profile("a", vec![3]),
            profile("c", vec![]),
        ]);
        let bodies: Vec<Vec<&[u8]>> = request
            .series
            .iter()
            .map(|s| s.samples.iter().map(|s| s.raw_profile.as_ref()).collect())
            .collect();
        assert_eq!(bodies, [vec![&[1u8][..], &[3]], vec![&[2]]]);
        assert!(request.series.iter().all(|s| s.labels.is_some()));
    }
}
