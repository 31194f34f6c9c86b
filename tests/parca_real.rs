//! The Parca exporter, and the far end of tests, against a real Parca; each test
//! is skipped where `PARCA_BIN` names none.
#![allow(clippy::expect_used, reason = "what cannot be set up has failed")]

#[path = "parca/arrow.rs"]
mod arrow;
mod far_end;
mod r#gen;
#[path = "support/requests.rs"]
mod requests;
#[path = "support/subject.rs"]
mod subject;
mod support;

use far_end::{
    damage::{self, Case},
    real::{RealParca, flat},
    rules,
};
use r#gen::query::query_request::ReportType;
use profile_relay::{
    exporters::parca::OtlpAs,
    r#gen::opentelemetry::proto::collector::profiles::v1development::ExportProfilesServiceRequest,
    pipeline::{Budget, ExportError, Exporter, Part},
    profile::pprof::SyntheticProfile,
    settings::ByteSize,
};
use std::time::SystemTime;
use subject::{Subject, body, decode, good, prepare, profile, unchecked, with_pods};

/// All times that the cases may have.
fn always() -> (i64, i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("a time").as_nanos() as i64;
    (0, now.max(damage::TIME) + 1_000_000_000)
}

/// Asks for the reports that can end a Parca over what a case stored, type by
/// type. Whether there was anything.
async fn look_at(parca: &RealParca, case: &Case) -> Result<bool, tonic::Status> {
    let mut found = false;
    for kind in parca.profile_types().await? {
        let query = format!("{kind}{{case={:?}}}", case.name);
        if parca.top(&query, always()).await? > 0 {
            found = true;
            parca
                .report(&query, always(), ReportType::Callgraph)
                .await?;
            let table = ReportType::FlamegraphTable;
            parca.report(&query, always(), table).await?;
        }
    }
    Ok(found)
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
        let stacks: usize = parts.iter().map(|part| stacks(body(part))).sum();
        if !parts.is_empty() {
            let result = subject.export(parts).await;
            assert!(result.is_ok(), "{}: {result:?}", case.name);
        }
        let found = look_at(&parca, &case).await;
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(found, stacks > 0, "{}: what was stored is found", case.name);
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
async fn no_mutant_harms_a_real_parca() {
    let Some(binary) = support::needs_env("no_mutant_harms_a_real_parca", "PARCA_BIN") else {
        return;
    };
    let mut parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    for (at, mutant) in damage::mutants(2_000).enumerate() {
        let labels = [("__name__", "process_cpu"), ("case", "mutant")];
        let Ok(parts) = subject.prepare(profile(&labels, mutant)) else {
            continue;
        };
        let result = subject.export(parts).await;
        assert!(result.is_ok(), "mutant {at}: {result:?}");
    }
    let types = parca.profile_types().await.expect("a profile list");
    for kind in types {
        let query = format!("{kind}{{case=\"mutant\"}}");
        for report in [
            ReportType::Top,
            ReportType::Callgraph,
            ReportType::FlamegraphTable,
        ] {
            let answer = parca.report(&query, always(), report).await;
            assert!(answer.is_ok(), "{kind}: {answer:?}");
        }
    }
    assert!(parca.is_alive());
}

/// The samples that show in a report: with a value and a location.
fn stacks(body: &bytes::Bytes) -> usize {
    let shows = |s: &&profile_relay::r#gen::pprof::Sample| {
        s.value.iter().any(|v| *v != 0) && !s.location_id.is_empty()
    };
    decode(body).sample.iter().filter(shows).count()
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
    for part in subject.prepare(heap).expect("parts") {
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
    let is_v27 = RealParca::version(&binary).contains("0.27");
    let mut parca = RealParca::start(&binary).await;
    for case in damage::cases() {
        let request = unchecked(&case);
        let real = parca.write(request.clone()).await;
        let crashed = real.is_err() && !parca.answers().await && parca.ends().await;
        match rules::write(&request) {
            Ok(_) => assert!(real.is_ok(), "{}: {real:?}", case.name),
            Err(rules::Fault::Refused(code, text)) => {
                let real = real.expect_err(case.name);
                assert_eq!(real.code(), code, "{}: {real}", case.name);
                let start = text.split(':').next().expect("a start");
                let start = start.split(" at row").next().expect("a start");
                assert!(real.message().starts_with(start), "{}: {real}", case.name);
            }
            // Later releases survive some of them.
            Err(rules::Fault::Crash(cause)) => {
                let must = is_v27 || cause.contains("negative");
                assert!(crashed || !must, "{}: {real:?}", case.name);
            }
        }
        if crashed {
            parca = RealParca::start(&binary).await;
        }
    }
}

#[tokio::test]
async fn the_far_end_foresees_what_a_real_parca_suffers() {
    let name = "the_far_end_foresees_what_a_real_parca_suffers";
    let Some(binary) = support::needs_env(name, "PARCA_BIN") else {
        return;
    };
    for case in damage::cases() {
        let Ok(outcome) = rules::write(&unchecked(&case)) else {
            continue;
        };
        let spoilt = outcome
            .harms
            .iter()
            .any(|harm| harm.contains("ProfileTypes"));
        if outcome.bombs.is_empty() && !spoilt {
            continue;
        }
        let mut parca = RealParca::start(&binary).await;
        parca.write(unchecked(&case)).await.expect(case.name);
        if spoilt {
            assert!(parca.profile_types().await.is_err(), "{}", case.name);
        } else {
            assert!(look_at(&parca, &case).await.is_err(), "{}", case.name);
            assert!(parca.ends().await, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn a_real_parca_that_closes_idle_connections_is_no_failure() {
    let name = "a_real_parca_that_closes_idle_connections_is_no_failure";
    let Some(binary) = support::needs_env(name, "PARCA_BIN") else {
        return;
    };
    let parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    for millis in [4_990, 5_000, 5_500, 0] {
        // A request that met a closing connection was not read: it goes again.
        let mut sent = subject.send(good("idle")).await;
        if matches!(sent, Err(ExportError::Unsent)) {
            sent = subject.send(good("idle")).await;
        }
        sent.expect("stored");
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    }
    let jobs = parca.values("job").await.expect("values");
    assert_eq!(jobs, ["idle"]);
}

/// Prepares the bodies of an OTLP request; what is dropped is left out.
fn prepare_otlp(subject: &Subject, request: &ExportProfilesServiceRequest) -> Vec<Part> {
    let bodies = requests::bodies(request);
    let memory = Budget::new(1 << 30);
    let prepared = subject.exporter.prepare(&bodies, &memory);
    let prepared = prepared.expect("there is memory").into_iter();
    prepared.filter_map(Result::ok).flatten().collect()
}

#[tokio::test]
async fn otlp_reaches_a_real_parca_under_its_own_names() {
    let Some(binary) =
        support::needs_env("otlp_reaches_a_real_parca_under_its_own_names", "PARCA_BIN")
    else {
        return;
    };
    let parca = RealParca::start(&binary).await;
    let subject = Subject::new(parca.addr());
    let parts = prepare_otlp(&subject, &requests::sound("names"));
    assert_eq!(parts.len(), 1);
    subject.export(parts).await.expect("stored");
    let types = parca.profile_types().await.expect("a profile list");
    let kind = types.iter().find(|t| t.starts_with("otlp_cpu:samples:"));
    let kind = kind.expect("the scope's name is the profile's");
    let query = format!("{kind}{{service_name=\"api\"}}");
    let got = parca.merged(&query, always(), &[]).await.expect("a report");
    let wanted = requests::FLAT.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(flat(&got), wanted.into());

    // What needs no names may go as OTLP, and arrives too.
    let passing = Subject::with(parca.addr(), |s| s.otlp_as = OtlpAs::Otlp);
    let parts = prepare_otlp(&passing, &requests::native("native"));
    assert!(parts[0].profile.body.as_otlp().is_some());
    passing.export(parts).await.expect("stored");
    assert!(
        parca
            .values("case")
            .await
            .expect("values")
            .contains(&"native".to_owned())
    );
    let parts = prepare_otlp(&passing, &requests::sound("lines"));
    assert!(parts[0].profile.body.as_pprof().is_some());
}

#[tokio::test]
async fn no_shape_of_otlp_harms_a_real_parca() {
    let Some(binary) = support::needs_env("no_shape_of_otlp_harms_a_real_parca", "PARCA_BIN")
    else {
        return;
    };
    let mut parca = RealParca::start(&binary).await;
    for otlp_as in [OtlpAs::Pprof, OtlpAs::Otlp] {
        let subject = Subject::with(parca.addr(), |s| s.otlp_as = otlp_as);
        for base in [requests::sound, requests::native] {
            for shape in requests::SHAPES {
                let mut request = base(shape.name);
                (shape.change)(&mut request);
                for part in prepare_otlp(&subject, &request) {
                    let sent = subject.export(vec![part]).await;
                    assert!(sent.is_ok(), "{}: {sent:?}", shape.name);
                }
                assert!(parca.answers().await, "{}", shape.name);
            }
        }
    }
    let types = parca.profile_types().await.expect("a profile list");
    for kind in types {
        for report in [
            ReportType::Top,
            ReportType::Callgraph,
            ReportType::FlamegraphTable,
        ] {
            let answer = parca.report(&kind, always(), report).await;
            assert!(answer.is_ok(), "{kind}: {answer:?}");
        }
    }
    assert!(parca.is_alive());
}
