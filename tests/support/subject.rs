//! A Parca exporter under test, and what it is fed with.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use crate::far_end::{
    damage::{self, Case, Expected},
    rules,
};
use profile_relay::{
    exporters::parca::{ParcaExporter, Settings},
    r#gen::{
        pprof::Profile as Plain,
        profilestore::{Label, LabelSet, RawProfileSeries, RawSample, WriteRawRequest},
    },
    pipeline::{Budget, Context, ExportError, Exporter, Part, Prepared, Reason},
    profile::{
        Batch, Body, Origin, Profile,
        pprof::{Frame, Pprof, ProfileWriter},
    },
    settings::Duration,
    telemetry::{Metrics, Status},
};
use prost::Message;
use std::{collections::BTreeMap, net::SocketAddr, time::SystemTime};

/// An exporter and its metrics.
pub struct Subject {
    pub exporter: ParcaExporter,
    pub metrics: Metrics,
}

// === impl Subject ===

impl Subject {
    pub fn new(addr: SocketAddr) -> Self {
        Self::with(addr, |_| {})
    }

    pub fn with(addr: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.client.endpoint = format!("http://{addr}");
        settings.client.timeout = Duration::from_secs(20);
        change(&mut settings);
        let metrics = Metrics::default();
        let context = Context {
            id: "parca".parse().expect("an id"),
            metrics: metrics.clone(),
            status: Status::default(),
            memory: Budget::new(1 << 30),
            sockets: Default::default(),
            ending: Default::default(),
        };
        Self {
            exporter: settings.build(&context).expect("good settings"),
            metrics,
        }
    }

    pub async fn export(&self, parts: Vec<Part>) -> Result<(), ExportError> {
        let profiles = parts.into_iter().map(|part| part.profile).collect();
        let batch = Batch::new(Origin::default(), profiles);
        self.exporter.export(&batch).await
    }

    /// What is sent for one profile.
    pub fn prepare(&self, profile: Profile) -> Prepared {
        let prepared = self.exporter.prepare(&[profile], &Budget::new(1 << 30));
        prepared.expect("there is memory").remove(0)
    }

    /// Prepares one profile and sends all its parts in one request.
    pub async fn send(&self, profile: Profile) -> Result<(), ExportError> {
        let parts = self.prepare(profile).expect("it can be sent");
        self.export(parts).await
    }

    pub fn counted(&self, metric: &str, rule: &str) -> u64 {
        let text = self.metrics.encode().expect("metrics are text");
        let line = format!(
            r#"profile_relay_exporter_{metric}_profiles_total{{exporter="parca",rule="{rule}"}} "#
        );
        text.lines()
            .find_map(|l| l.strip_prefix(&line))
            .map_or(0, |n| n.parse().expect("a number"))
    }
}

pub fn profile(labels: &[(&str, &str)], body: bytes::Bytes) -> Profile {
    Profile {
        labels: labels.iter().copied().collect(),
        body: Body::Pprof(Pprof::new(body)),
        received: SystemTime::now(),
    }
}

pub fn of_case(case: &Case) -> Profile {
    let mut profile = profile(&case.labels, case.body.clone());
    let mut edit = profile.labels.edit();
    edit.set("case", case.name);
    profile.labels = edit.build();
    profile
}

pub fn good(job: &str) -> Profile {
    let body = damage::gzip(&damage::base().encode_to_vec());
    profile(&[("__name__", "process_cpu"), ("job", job)], body)
}

pub fn body(part: &Part) -> &bytes::Bytes {
    let Some(pprof) = part.profile.body.as_pprof() else {
        panic!("no pprof")
    };
    pprof.bytes()
}

pub fn decode(body: &bytes::Bytes) -> Plain {
    Plain::decode(rules::inflate(body).expect("gzip or plain")).expect("a pprof")
}

/// Prepares a case and checks what became of it; the parts to send.
pub fn prepare(subject: &Subject, case: &Case) -> Vec<Part> {
    let before = of_case(case);
    let labels = before.labels.clone();
    let rule = match case.expected {
        Expected::Same => "",
        Expected::Mended(rule) | Expected::Dropped(rule) => rule,
    };
    let repaired = subject.counted("repaired", rule);
    let dropped = subject.counted("unrepairable", rule);
    let result = subject.prepare(before);
    match case.expected {
        Expected::Same => {
            let parts = result.expect(case.name);
            assert_eq!(parts.len(), 1, "{}", case.name);
            assert_eq!(body(&parts[0]), &case.body, "{}", case.name);
            assert_eq!(parts[0].profile.labels, labels, "{}", case.name);
            parts
        }
        Expected::Mended(_) => {
            let parts = result.expect(case.name);
            assert_eq!(parts.len(), 1, "{}", case.name);
            let counted = subject.counted("repaired", rule);
            assert_eq!(counted, repaired + 1, "{}: {rule}", case.name);
            parts
        }
        Expected::Dropped(_) => {
            assert_eq!(result.err(), Some(Reason::InvalidProfile), "{}", case.name);
            let counted = subject.counted("unrepairable", rule);
            assert_eq!(counted, dropped + 1, "{}: {rule}", case.name);
            Vec::new()
        }
    }
}

/// A case as somebody without an exporter would send it.
pub fn unchecked(case: &Case) -> WriteRawRequest {
    let labels = case.labels.iter().copied().chain([("case", case.name)]);
    let labels = labels.map(|(name, value)| Label {
        name: name.into(),
        value: value.into(),
    });
    WriteRawRequest {
        series: vec![RawProfileSeries {
            labels: Some(LabelSet {
                labels: labels.collect(),
            }),
            samples: vec![RawSample {
                raw_profile: case.body.clone(),
                executable_info: Vec::new(),
            }],
        }],
        ..WriteRawRequest::default()
    }
}

/// The sum of each sample type's values.
pub fn sum_of<'a>(bodies: impl IntoIterator<Item = &'a bytes::Bytes>) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for body in bodies {
        let profile = decode(body);
        for sample in &profile.sample {
            for (kind, value) in profile.sample_type.iter().zip(&sample.value) {
                let name = profile.string_table[kind.r#type as usize].clone();
                *sums.entry(name).or_default() += value;
            }
        }
    }
    sums
}

/// A profile whose samples carry the label `pod` with `pods` values.
pub fn with_pods(pods: usize) -> bytes::Bytes {
    let now = SystemTime::now();
    let kinds = [("samples", "count")];
    let second = std::time::Duration::from_secs(1);
    let mut writer = ProfileWriter::new(&kinds, ("cpu", "nanoseconds"), 1, now, second);
    let main = Frame {
        function: "main",
        ..Frame::default()
    };
    for pod in 0..pods {
        writer.sample(&[main], &[1], &[("pod", &format!("pod-{pod}"))]);
    }
    writer.sample(&[main], &[100], &[]);
    writer.finish()
}

/// What a fault of the store is to delivery.
pub fn meaning(result: &Result<(), ExportError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(ExportError::Retry { after: None, .. }) => "retry",
        Err(ExportError::Retry { .. }) => "retry after",
        Err(ExportError::Unsent) => "unsent",
        Err(ExportError::Died { .. }) => "died",
        Err(ExportError::Split {
            too_large: true, ..
        }) => "too large",
        Err(ExportError::Split { .. }) => "bad part",
        Err(ExportError::Unknown { .. }) => "unknown",
        Err(ExportError::Rejected { .. }) => "rejected",
        Err(ExportError::Unauthorized { .. }) => "unauthorized",
    }
}
