//! The Parca exporter against a store that behaves as Parca does, and against a
//! real Parca where `PARCA_BIN` names one.

mod far_end;
mod r#gen;
mod support;

use far_end::{
    Behaviour, FarEnd, Fault,
    damage::{self, Case, Expected},
    real::{RealParca, flat},
    rules,
};
use profile_relay::{
    exporters::parca::{ParcaExporter, Settings},
    r#gen::{
        pprof::Profile as Plain,
        profilestore::{Label, LabelSet, RawProfileSeries, RawSample, WriteRawRequest},
    },
    pipeline::{Budget, Context, ExportError, Exporter, Part, Reason},
    profile::{
        Batch, Body, Origin, Profile,
        pprof::{Frame, Pprof, ProfileWriter, synthetic::SyntheticProfile},
    },
    settings::{ByteSize, Duration},
    telemetry::{Metrics, Status},
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::SystemTime,
};
use tonic::Code;

/// An exporter and its metrics.
struct Subject {
    exporter: ParcaExporter,
    metrics: Metrics,
}

// === impl Subject ===

impl Subject {
    fn new(addr: SocketAddr) -> Self {
        Self::with(addr, |_| {})
    }

    fn with(addr: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
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
        };
        Self {
            exporter: settings.build(&context).expect("good settings"),
            metrics,
        }
    }

    async fn export(&self, parts: Vec<Part>) -> Result<(), ExportError> {
        let profiles = parts.into_iter().map(|part| part.profile).collect();
        let batch = Batch::new(Origin::default(), profiles);
        self.exporter.export(&batch).await
    }

    /// Prepares one profile and sends all its parts in one request.
    async fn send(&self, profile: Profile) -> Result<(), ExportError> {
        let parts = self.exporter.prepare(profile).expect("it can be sent");
        self.export(parts).await
    }

    fn counted(&self, metric: &str, rule: &str) -> u64 {
        let text = self.metrics.encode().expect("metrics are text");
        let line = format!(
            r#"profile_relay_exporter_{metric}_profiles_total{{exporter="parca",rule="{rule}"}} "#
        );
        text.lines()
            .find_map(|l| l.strip_prefix(&line))
            .map_or(0, |n| n.parse().expect("a number"))
    }
}

fn profile(labels: &[(&str, &str)], body: bytes::Bytes) -> Profile {
    Profile {
        labels: labels.iter().copied().collect(),
        body: Body::Pprof(Pprof::new(body)),
        received: SystemTime::now(),
    }
}

fn of_case(case: &Case) -> Profile {
    let mut profile = profile(&case.labels, case.body.clone());
    let mut edit = profile.labels.edit();
    edit.set("case", case.name);
    profile.labels = edit.build();
    profile
}

fn good(job: &str) -> Profile {
    let body = damage::gzip(&damage::base().encode_to_vec());
    profile(&[("__name__", "process_cpu"), ("job", job)], body)
}

fn body(part: &Part) -> &bytes::Bytes {
    let Body::Pprof(pprof) = &part.profile.body;
    pprof.bytes()
}

fn decode(body: &bytes::Bytes) -> Plain {
    Plain::decode(rules::inflate(body).expect("gzip or plain")).expect("a pprof")
}

/// Prepares a case and checks what became of it; the parts to send.
fn prepare(subject: &Subject, case: &Case) -> Vec<Part> {
    let before = of_case(case);
    let labels = before.labels.clone();
    let rule = match case.expected {
        Expected::Same => "",
        Expected::Mended(rule) | Expected::Dropped(rule) => rule,
    };
    let repaired = subject.counted("repaired", rule);
    let dropped = subject.counted("unrepairable", rule);
    let result = subject.exporter.prepare(before);
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
fn unchecked(case: &Case) -> WriteRawRequest {
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

#[tokio::test]
async fn nothing_damaged_reaches_the_store() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    let mut sent = 0;
    for case in damage::cases() {
        let parts = prepare(&subject, &case);
        sent += parts.len();
        if !parts.is_empty() {
            let result = subject.export(parts).await;
            assert!(result.is_ok(), "{}: {result:?}", case.name);
        }
        assert_eq!(store.crashes(), [""; 0], "{}", case.name);
        assert_eq!(store.harms(), [""; 0], "{}", case.name);
    }
    assert_eq!(store.stored().len(), sent);
}

#[test]
fn every_damage_would_have_done_harm() {
    for case in damage::cases() {
        let odd_label = case.name.starts_with("labels: ") || case.name.starts_with("numeric");
        let harmless = matches!(
            rules::write(&unchecked(&case)),
            Ok(outcome) if outcome.bombs.is_empty() && outcome.harms.is_empty()
        );
        match case.expected {
            Expected::Same => assert!(harmless, "{}", case.name),
            // Parca takes odd names of labels; only queries suffer.
            _ => assert!(!harmless || odd_label, "{}", case.name),
        }
    }
}

#[tokio::test]
async fn a_batch_leaves_byte_for_byte_and_equal_labels_share_a_series() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    let mut parts = Vec::new();
    for (seed, job) in [(1, "a"), (2, "b"), (3, "a")] {
        let labels = [("__name__", "memory"), ("job", job)];
        let profile = profile(&labels, SyntheticProfile::heap(seed).encode());
        parts.extend(subject.exporter.prepare(profile).expect("a good profile"));
    }
    let weight: u64 = parts.iter().map(|part| part.bytes).sum();
    let sent: BTreeSet<_> = parts.iter().map(|p| body(p).clone()).collect();
    subject.export(parts).await.expect("stored");
    let stored: BTreeSet<_> = store.stored().into_iter().map(|s| s.body).collect();
    assert_eq!(stored, sent);
    let request = &store.requests()[0];
    assert_eq!((request.series, request.profiles), (2, 3));
    assert!(
        request.bytes as u64 <= weight,
        "{} > {weight}",
        request.bytes
    );
    assert!(weight < request.bytes as u64 + 200, "the weight is close");
}

#[tokio::test]
async fn a_large_profile_is_divided_and_nothing_is_lost() {
    let store = FarEnd::start(Behaviour {
        max_http_body: Some(10_000),
        ..Behaviour::default()
    });
    let subject = Subject::with(store.addr(), |s| s.max_request_bytes = ByteSize::new(9_000));
    let whole = SyntheticProfile::heap(4).encode();
    let profile = profile(&[("__name__", "memory"), ("job", "a")], whole.clone());
    let parts = subject.exporter.prepare(profile).expect("a good profile");
    assert!(parts.len() > 1);
    for part in parts {
        assert!(part.bytes <= 9_000, "{}", part.bytes);
        subject.export(vec![part]).await.expect("small enough");
    }
    assert_eq!(
        sum_of(store.stored().iter().map(|s| &s.body)),
        sum_of([&whole])
    );
    assert!(store.crashes().is_empty() && store.harms().is_empty());
}

#[tokio::test]
async fn what_a_proxy_finds_too_large_can_be_divided_to_the_last_sample() {
    let store = FarEnd::start(Behaviour {
        max_http_body: Some(5_000),
        ..Behaviour::default()
    });
    let subject = Subject::new(store.addr());
    let whole = SyntheticProfile::heap(5).encode();
    let profile = profile(&[("__name__", "memory")], whole.clone());
    let mut waiting = subject.exporter.prepare(profile).expect("a good profile");
    while let Some(part) = waiting.pop() {
        match subject.export(vec![part.clone()]).await {
            Ok(()) => {}
            Err(ExportError::Split {
                too_large: true, ..
            }) => {
                let pieces = subject.exporter.divide(&part.profile).expect("divisible");
                assert!(pieces.len() > 1);
                waiting.extend(pieces);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(
        sum_of(store.stored().iter().map(|s| &s.body)),
        sum_of([&whole])
    );
    let one = {
        let mut profile = damage::base();
        profile.sample.truncate(1);
        damage::gzip(&profile.encode_to_vec())
    };
    let single = crate::profile(&[("__name__", "memory")], one);
    assert!(subject.exporter.divide(&single).is_none());
}

/// The sum of each sample type's values.
fn sum_of<'a>(bodies: impl IntoIterator<Item = &'a bytes::Bytes>) -> BTreeMap<String, i64> {
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
fn with_pods(pods: usize) -> bytes::Bytes {
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

#[tokio::test]
async fn labels_of_samples_become_labels_of_series() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::with(store.addr(), |s| {
        s.sample_labels = vec!["pod".into()];
        s.sample_label_series_limit = 3;
    });
    let labels = [("__name__", "cpu"), ("job", "a")];
    subject
        .send(profile(&labels, with_pods(2)))
        .await
        .expect("stored");
    let series = |stored: &far_end::StoredProfile| {
        let pod = stored.labels.get("pod").cloned();
        (pod, sum_of([&stored.body])["samples"])
    };
    let mut seen: Vec<_> = store.stored().iter().map(series).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            (None, 100),
            (Some("pod-0".into()), 1),
            (Some("pod-1".into()), 1)
        ]
    );
    let limited = subject.exporter.prepare(profile(&labels, with_pods(9)));
    assert_eq!(limited.expect("parts").len(), 4);
    let text = subject.metrics.encode().expect("metrics are text");
    let line = r#"profile_relay_exporter_sample_label_limited_profiles_total{exporter="parca"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(store.crashes().is_empty() && store.harms().is_empty());
}

#[tokio::test]
async fn a_body_that_inflates_too_far_is_dropped_as_too_large() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::with(store.addr(), |s| {
        s.max_inflated_bytes = ByteSize::new(1 << 20)
    });
    let bomb = damage::gzip(&vec![0; 2 << 20]);
    let result = subject
        .exporter
        .prepare(profile(&[("__name__", "m")], bomb));
    assert_eq!(result.err(), Some(Reason::TooLarge));
    assert_eq!(subject.counted("unrepairable", "inflated_size"), 1);
}

/// What a fault of the store is to delivery.
fn meaning(result: &Result<(), ExportError>) -> &'static str {
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

#[tokio::test]
async fn every_answer_of_a_store_is_understood() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    let status = |code, text: &str| Fault::Status(code, text.into());
    for (fault, expected) in [
        (Fault::Usual, "ok"),
        (
            status(Code::Unavailable, "the server is shutting down"),
            "retry",
        ),
        (
            status(Code::DeadlineExceeded, "context deadline exceeded"),
            "retry",
        ),
        (status(Code::ResourceExhausted, "quota"), "retry"),
        (
            Fault::Throttle(std::time::Duration::from_secs(3)),
            "retry after",
        ),
        (
            status(Code::ResourceExhausted, "grpc: received message larger"),
            "too large",
        ),
        (
            status(Code::InvalidArgument, "invalid profile: x"),
            "bad part",
        ),
        (
            status(Code::Unknown, "decompressing profile: x"),
            "bad part",
        ),
        (status(Code::Unknown, "disk full"), "unknown"),
        (status(Code::Unimplemented, "unknown service"), "rejected"),
        (status(Code::Unauthenticated, "who are you"), "unauthorized"),
        (Fault::Http(413), "too large"),
        (Fault::Http(401), "unauthorized"),
        (Fault::Http(403), "unauthorized"),
        (Fault::Http(404), "retry"),
        (Fault::Http(502), "died"),
        (Fault::Http(503), "retry"),
        (Fault::Http(504), "retry"),
        (Fault::ResetStream(7), "unsent"),
        (Fault::ResetStream(2), "died"),
        (Fault::Reset, "died"),
        (Fault::ResetEarly, "died"),
        (Fault::StoreThenReset, "died"),
        (Fault::Usual, "ok"),
    ] {
        store.set(|b| b.faults = [fault.clone()].into());
        let result = subject.send(good("a")).await;
        assert_eq!(meaning(&result), expected, "{fault:?}: {result:?}");
        assert!(subject.exporter.probe().await.is_ok(), "after {fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_dies_stops_and_comes_back_is_told_apart() {
    let store = FarEnd::start(Behaviour {
        killer: Some("poison".into()),
        ..Behaviour::default()
    });
    let subject = Subject::new(store.addr());
    assert_eq!(meaning(&subject.send(good("fine")).await), "ok");
    assert_eq!(meaning(&subject.send(good("poison")).await), "died");
    assert_eq!(
        meaning(&subject.send(good("fine")).await),
        "retry",
        "nobody listens"
    );
    assert_eq!(meaning(&subject.exporter.probe().await), "retry");
    store.restart();
    assert_eq!(meaning(&subject.send(good("fine")).await), "ok");
    assert_eq!(store.stored().len(), 2);
}

#[tokio::test]
async fn no_answer_in_time_is_tried_again_and_may_have_been_stored() {
    let store = FarEnd::start(Behaviour::after([
        Fault::Hang,
        Fault::Slow(std::time::Duration::from_secs(2)),
    ]));
    let subject = Subject::with(store.addr(), |s| {
        s.client.timeout = Duration::from_millis(300);
    });
    assert_eq!(meaning(&subject.send(good("a")).await), "retry");
    assert_eq!(meaning(&subject.send(good("b")).await), "retry");
    assert_eq!(store.stored().len(), 1, "a slow store has stored it");
    store.pause();
    assert_eq!(meaning(&subject.send(good("c")).await), "retry");
    store.resume();
}

#[tokio::test]
async fn an_idle_connection_that_is_closed_is_no_failure() {
    let idle = std::time::Duration::from_millis(100);
    let store = FarEnd::start(Behaviour {
        idle,
        ..Behaviour::default()
    });
    let subject = Subject::new(store.addr());
    for pause in [60, 99, 100, 101, 150, 98, 100, 102, 250, 100, 99, 100] {
        let result = subject.send(good("a")).await;
        // The request may have met the GOAWAY on its way: it was never read.
        assert!(matches!(meaning(&result), "ok" | "unsent"), "{result:?}");
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    }
    assert!(store.log().goaways > 2);
    let read = store.requests().len();
    assert_eq!(store.stored().len(), read);
}

#[tokio::test]
async fn a_probe_stores_nothing() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    subject.exporter.probe().await.expect("an answer");
    assert_eq!((store.requests().len(), store.stored().len()), (1, 0));
}

/// All times that the cases may have.
fn always() -> (i64, i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("a time").as_nanos() as i64;
    (0, now.max(damage::TIME) + 1_000_000_000)
}

#[tokio::test]
async fn nothing_damaged_reaches_a_real_parca() {
    let Some(binary) = support::needs_env("nothing_damaged_reaches_a_real_parca", "PARCA_BIN")
    else {
        return;
    };
    let mut parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    for case in damage::cases() {
        let parts = prepare(&subject, &case);
        if !parts.is_empty() {
            let result = subject.export(parts).await;
            assert!(result.is_ok(), "{}: {result:?}", case.name);
        }
        let types = parca.profile_types().await;
        let types = types.unwrap_or_else(|e| panic!("{}: no profile list: {e}", case.name));
        for kind in types.iter().filter(|kind| kind.starts_with("process_cpu")) {
            let query = format!("{kind}{{case={:?}}}", case.name);
            let top = parca.top(&query, always()).await;
            assert!(top.is_ok(), "{}: {kind}: {top:?}", case.name);
        }
        assert!(parca.is_alive(), "{}", case.name);
    }
    for kind in parca.profile_types().await.expect("a profile list") {
        let top = parca.top(&format!("{kind}{{}}"), always()).await;
        assert!(top.is_ok(), "{kind}: {top:?}");
        let points = parca.points(&format!("{kind}{{}}"), always()).await;
        assert!(!points.expect("points").is_empty(), "{kind} is found");
    }
    assert!(parca.is_alive() && parca.answers().await);
}

#[tokio::test]
async fn a_real_parca_gives_back_what_was_sent() {
    let Some(binary) = support::needs_env("a_real_parca_gives_back_what_was_sent", "PARCA_BIN")
    else {
        return;
    };
    let parca = RealParca::start(&binary).await;
    let subject = Subject::with(parca.addr(), |s| {
        s.max_request_bytes = ByteSize::new(9_000);
        s.sample_labels = vec!["pod".into()];
    });
    let whole = SyntheticProfile::heap(6).encode();
    let heap = profile(&[("__name__", "memory"), ("job", "e2e")], whole.clone());
    for part in subject.exporter.prepare(heap).expect("parts") {
        subject.export(vec![part]).await.expect("stored");
    }
    subject
        .send(profile(
            &[("__name__", "pods"), ("job", "pods")],
            with_pods(3),
        ))
        .await
        .expect("stored");

    let types = parca.profile_types().await.expect("a profile list");
    let sent = decode(&whole);
    let kind = &sent.string_table[sent.sample_type[0].r#type as usize];
    let memory = types
        .iter()
        .find(|t| t.starts_with(&format!("memory:{kind}:")))
        .expect("the type is listed");
    let got = parca
        .merged(&format!("{memory}{{job=\"e2e\"}}"), always(), &[])
        .await;
    assert_eq!(flat(&got.expect("a report")), flat(&sent));
    let mut pods = parca.values("pod").await.expect("values");
    pods.sort();
    assert_eq!(pods, ["pod-0", "pod-1", "pod-2"]);
    let kind = types
        .iter()
        .find(|t| t.starts_with("pods:"))
        .expect("listed");
    let one = parca
        .merged(&format!("{kind}{{pod=\"pod-1\"}}"), always(), &[])
        .await;
    assert_eq!(
        flat(&one.expect("a report")),
        [("main".to_owned(), 1)].into()
    );
}

#[tokio::test]
async fn the_far_end_judges_as_a_real_parca_does() {
    let Some(binary) = support::needs_env("the_far_end_judges_as_a_real_parca_does", "PARCA_BIN")
    else {
        return;
    };
    let mut parca = RealParca::start(&binary).await;
    for case in damage::cases() {
        let request = unchecked(&case);
        let real = parca.write(request.clone()).await;
        let crashed = real.is_err() && !parca.answers().await;
        match rules::write(&request) {
            Ok(_) => assert!(real.is_ok(), "{}: {real:?}", case.name),
            Err(rules::Fault::Refused(code, _)) => {
                let real = real.expect_err(case.name);
                assert_eq!(real.code(), code, "{}: {real}", case.name);
                assert!(!crashed, "{}", case.name);
            }
            // Later releases survive some of them.
            Err(rules::Fault::Crash(cause)) => {
                assert!(crashed || !cause.contains("negative"), "{}", case.name);
            }
        }
        if crashed {
            parca = RealParca::start(&binary).await;
        }
    }
}
