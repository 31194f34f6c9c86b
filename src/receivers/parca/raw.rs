//! `WriteRawRequest`, read without decoding what it carries.
//!
//! The bodies stay slices of the message. What is wrong by Parca's rules is refused
//! by them: all or nothing, a name for each series, no label twice. `normalized` and
//! `executable_info` end here: no Parca does anything with them since v0.23.

use crate::profile::{Labels, LabelsBuilder, NAME, Profile};
use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The most labels of one series.
const MAX_LABELS: usize = 1_000;

/// About what a profile takes beside its body and labels, in bytes.
const PROFILE: u64 = size_of::<Profile>() as u64 + 200;

/// What a label takes beside its texts, in bytes.
const LABEL: u64 = 64;

/// Fields of `WriteRawRequest`, `RawProfileSeries`, `LabelSet`, `Label` and
/// `RawSample`.
const SERIES: u32 = 2;
const SERIES_LABELS: u32 = 1;
const SERIES_SAMPLES: u32 = 2;
const LABELS_LABEL: u32 = 1;
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
const SAMPLE_PROFILE: u32 = 1;

/// A profile of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) labels: Labels,
    /// Never empty.
    pub(super) body: Bytes,
}

/// Why a request is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// Not what it says it is.
    #[error("the message is no WriteRawRequest: {0}")]
    Undecodable(String),
    /// By Parca's rules.
    #[error("series {series}: {reason}")]
    Series {
        /// Its place, from 0.
        series: usize,
        reason: String,
    },
    /// There is no memory for so many profiles.
    #[error("there is no memory for the profiles of the message")]
    NoMemory,
}

/// The length-delimited fields of a message.
struct Fields(Bytes);

// === impl Fields ===

impl Fields {
    /// The next length-delimited field; others are passed over.
    fn next(&mut self) -> Result<Option<(u32, Bytes)>, Wrong> {
        let wrong = |error: prost::DecodeError| Wrong::Undecodable(error.to_string());
        while self.0.has_remaining() {
            let (number, wire) = decode_key(&mut self.0).map_err(wrong)?;
            if wire != WireType::LengthDelimited {
                let context = DecodeContext::default();
                skip_field(wire, number, &mut self.0, context).map_err(wrong)?;
                continue;
            }
            let length = decode_varint(&mut self.0).map_err(wrong)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > self.0.len() {
                return Err(Wrong::Undecodable(
                    "a field goes on after the end".to_owned(),
                ));
            }
            return Ok(Some((number, self.0.split_to(length))));
        }
        Ok(None)
    }

    /// The next field of this number.
    fn next_of(&mut self, wanted: u32) -> Result<Option<Bytes>, Wrong> {
        while let Some((number, content)) = self.next()? {
            if number == wanted {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }
}

/// The profiles of a request. What they take beside the message is taken by `grant`.
/// A series without samples and a sample without bytes are none.
pub(super) fn read(message: Bytes, grant: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Raw>, Wrong> {
    let mut found = Vec::new();
    let mut all = Fields(message);
    let mut place = 0;
    while let Some(series) = all.next_of(SERIES)? {
        let labels = labels_of(place, &series)?;
        place += 1;
        if !grant(labels.byte_len() as u64 + LABEL * labels.len() as u64) {
            return Err(Wrong::NoMemory);
        }
        let mut samples = Fields(series);
        while let Some(sample) = samples.next_of(SERIES_SAMPLES)? {
            let body = profile_of(sample)?;
            if body.is_empty() {
                continue;
            }
            if !grant(PROFILE) {
                return Err(Wrong::NoMemory);
            }
            found.push(Raw {
                labels: labels.clone(),
                body,
            });
        }
    }
    Ok(found)
}

/// The last one, as protobuf has it.
fn profile_of(sample: Bytes) -> Result<Bytes, Wrong> {
    let (mut body, mut fields) = (Bytes::new(), Fields(sample));
    while let Some(content) = fields.next_of(SAMPLE_PROFILE)? {
        body = content;
    }
    Ok(body)
}

/// The labels of a series, by Parca's rules.
fn labels_of(series: usize, content: &Bytes) -> Result<Labels, Wrong> {
    let refuse = |reason: String| Wrong::Series { series, reason };
    let mut builder = LabelsBuilder::default();
    let mut count = 0;
    let mut sets = Fields(content.clone());
    while let Some(set) = sets.next_of(SERIES_LABELS)? {
        let mut labels = Fields(set);
        while let Some(label) = labels.next_of(LABELS_LABEL)? {
            count += 1;
            if count > MAX_LABELS {
                return Err(refuse(format!("it has more than {MAX_LABELS} labels")));
            }
            let (name, value) = pair_of(label)?;
            set_label(&mut builder, &name, &value).map_err(refuse)?;
        }
    }
    if builder.get(NAME).is_none() {
        return Err(refuse("missing __name__ label".to_owned()));
    }
    Ok(builder.build())
}

fn pair_of(label: Bytes) -> Result<(Bytes, Bytes), Wrong> {
    let (mut name, mut value) = (Bytes::new(), Bytes::new());
    let mut fields = Fields(label);
    while let Some((number, content)) = fields.next()? {
        match number {
            LABEL_NAME => name = content,
            LABEL_VALUE => value = content,
            _ => {}
        }
    }
    Ok((name, value))
}

fn set_label(builder: &mut LabelsBuilder, name: &[u8], value: &[u8]) -> Result<(), String> {
    let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
        return Err("a label is not UTF-8".to_owned());
    };
    if name.is_empty() {
        return Err("invalid label name: it is empty".to_owned());
    }
    // Given twice, the last name of a profile counts.
    if name != NAME && builder.get(name).is_some() {
        return Err(format!("duplicate label name: {name}"));
    }
    builder.set(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r#gen::profilestore::{
        ExecutableInfo, Label, LabelSet, RawProfileSeries, RawSample, WriteRawRequest,
    };
    use prost::Message;

    fn series(labels: &[(&str, &str)], bodies: &[&'static str]) -> RawProfileSeries {
        let label = |(name, value): &(&str, &str)| Label {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let sample = |body: &&'static str| RawSample {
            raw_profile: Bytes::from_static(body.as_bytes()),
            executable_info: vec![ExecutableInfo::default()],
        };
        RawProfileSeries {
            labels: Some(LabelSet {
                labels: labels.iter().map(label).collect(),
            }),
            samples: bodies.iter().map(sample).collect(),
        }
    }

    fn encode(series: Vec<RawProfileSeries>) -> Bytes {
        let request = WriteRawRequest {
            series,
            normalized: true,
            ..WriteRawRequest::default()
        };
        request.encode_to_vec().into()
    }

    fn all(message: Bytes) -> Result<Vec<Raw>, Wrong> {
        read(message, &mut |_| true)
    }

    #[test]
    fn each_sample_is_a_profile_with_the_labels_of_its_series() {
        let message = encode(vec![
            series(&[(NAME, "memory"), ("job", "api")], &["one", "", "two"]),
            series(&[(NAME, "memory")], &[]),
            series(&[("job", "web"), (NAME, "cpu"), (NAME, "last")], &["three"]),
        ]);
        let found = all(message.clone()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|raw| (raw.labels.to_string(), raw.body.clone()))
            .collect();
        let api = r#"{__name__="memory", job="api"}"#.to_owned();
        let web = r#"{__name__="last", job="web"}"#.to_owned();
        assert_eq!(
            shown,
            [
                (api.clone(), Bytes::from("one")),
                (api, Bytes::from("two")),
                (web, Bytes::from("three")),
            ]
        );
        // Slices of the message.
        let within = message.as_ptr_range();
        assert!(found.iter().all(|raw| within.contains(&raw.body.as_ptr())));
    }

    #[test]
    fn what_parca_refuses_is_refused() {
        let good = || series(&[(NAME, "memory")], &["body"]);
        for (bad, reason) in [
            (series(&[("job", "api")], &["body"]), "missing __name__"),
            (series(&[(NAME, "")], &["body"]), "missing __name__"),
            (
                series(&[(NAME, "a"), ("b", "1"), ("b", "2")], &["body"]),
                "duplicate label name: b",
            ),
            (series(&[(NAME, "a"), ("", "1")], &[]), "invalid label name"),
            (
                RawProfileSeries {
                    labels: None,
                    samples: Vec::new(),
                },
                "missing __name__",
            ),
        ] {
            let error = all(encode(vec![good(), bad])).unwrap_err().to_string();
            assert!(error.starts_with("series 1: "), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let labels: Vec<_> = (0..=MAX_LABELS).map(|n| format!("l{n}")).collect();
        let labels: Vec<_> = labels.iter().map(|name| (name.as_str(), "x")).collect();
        let error = all(encode(vec![series(&labels, &[])])).unwrap_err();
        assert!(error.to_string().contains("more than 1000"), "{error}");
    }

    #[test]
    fn a_damaged_message_is_refused_wherever_it_is_cut() {
        let message = encode(vec![series(&[(NAME, "memory"), ("b", "c")], &["body"])]);
        for end in 1..message.len() {
            // Cut before `series` or behind it, it is a message still.
            let read = all(message.slice(..end));
            let decoded = WriteRawRequest::decode(message.slice(..end));
            assert_eq!(read.is_ok(), decoded.is_ok(), "{end}");
        }
    }

    #[test]
    fn profiles_are_paid_for_before_they_are_made() {
        let message = encode(vec![series(&[(NAME, "memory")], &["a"; 1_000])]);
        let mut taken = 0;
        read(message.clone(), &mut |more| {
            taken += more;
            true
        })
        .unwrap();
        assert!(taken >= 1_000 * PROFILE, "{taken}");
        let mut left: u64 = 10_000;
        let refused = read(message, &mut |more| {
            left = left.saturating_sub(more);
            left > 0
        });
        assert_eq!(refused.unwrap_err(), Wrong::NoMemory);
    }
}
