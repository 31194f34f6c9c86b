//! The Parca exporter against a store that behaves as Parca does.
#![allow(clippy::expect_used, reason = "what cannot be set up has failed")]

mod far_end;
mod r#gen;
#[path = "support/subject.rs"]
mod subject;

use far_end::{
    Behaviour, FarEnd, Fault, StoredProfile,
    damage::{self, Case, Expected},
    generation::Generation,
    rules,
};
use profile_relay::{
    exporters::parca::Settings,
    pipeline::{ExportError, Exporter, Reason},
    profile::{
        Batch, Body, Labels, Origin, Profile, arrow::SyntheticArrow, pprof::SyntheticProfile,
    },
    settings::{ByteSize, Duration, Secret},
};
use prost::Message;
use std::{collections::BTreeSet, time::SystemTime};
use subject::{Subject, body, good, meaning, prepare, profile, sum_of, unchecked, with_pods};
use tonic::Code;

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

/// What an agent sends, in both schemas.
fn pushed() -> [Profile; 2] {
    let made = SyntheticArrow {
        rows: 200,
        stacks: 40,
        ..SyntheticArrow::busy(1)
    };
    [made.v1(), made.v2()].map(|arrow| Profile {
        labels: Labels::default(),
        body: Body::ParcaArrow(arrow.expect("a body")),
        received: SystemTime::now(),
    })
}

#[tokio::test]
async fn a_write_that_a_proxy_breaks_off_for_its_size_is_told_from_a_death() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    let [v1, _] = pushed();
    let parts = subject.prepare(v1).expect("parts");
    let arrow = parts[0].profile.body.as_arrow().expect("Arrow");
    // The samples pass, the stacks behind them do not.
    let limit = arrow.samples().len() + 1_000;
    assert!(arrow.byte_len() > limit + 1_000);
    store.set(|behaviour| behaviour.max_http_body = Some(limit));
    let result = subject.export(parts.clone()).await;
    let is_too_large = matches!(
        result,
        Err(ExportError::Split {
            too_large: true,
            reason: Reason::TooLarge,
            ..
        })
    );
    assert!(is_too_large, "{result:?}");
    store.set(|behaviour| behaviour.max_http_body = None);
    // A store that breaks it off for another reason takes a request of that size.
    store.set(|behaviour| behaviour.faults = [Fault::ResetStream(2)].into());
    let result = subject.export(parts.clone()).await;
    assert!(
        matches!(result, Err(ExportError::Died { .. })),
        "{result:?}"
    );
    subject.export(parts).await.expect("stored");
    assert_eq!(store.log().arrow.len(), 1);
    assert_eq!(store.crashes(), [""; 0]);
}

#[tokio::test]
async fn a_proxy_without_a_route_says_nothing_about_write_arrow() {
    let store = FarEnd::start(Behaviour {
        generation: Generation::V0_28,
        faults: [Fault::Http(404)].into(),
        ..Behaviour::default()
    });
    let subject = Subject::new(store.addr());
    let [_, v2] = pushed();
    let parts = subject.prepare(v2.clone()).expect("parts");
    let result = subject.export(parts).await;
    assert!(
        matches!(result, Err(ExportError::Retry { .. })),
        "{result:?}"
    );
    let parts = subject.prepare(v2).expect("parts");
    subject.export(parts).await.expect("stored");
    let log = store.log();
    assert_eq!(log.arrow.len(), 1);
    assert!(log.arrow[0].stacks.is_none(), "it was rewritten");
}

#[tokio::test]
async fn no_mutant_harms_the_store() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    let (mut harmful, mut sent) = (0, 0);
    for (at, mutant) in damage::mutants(1_500).enumerate() {
        let raw = unchecked(&Case {
            name: "mutant",
            labels: vec![("__name__", "process_cpu")],
            body: mutant.clone(),
            expected: Expected::Same,
        });
        let fine = |o: rules::Outcome| o.bombs.is_empty() && o.harms.is_empty();
        harmful += usize::from(!rules::write(&raw).is_ok_and(fine));
        let mutant = profile(&[("__name__", "process_cpu")], mutant);
        let Ok(parts) = subject.prepare(mutant) else {
            continue;
        };
        sent += parts.len();
        let result = subject.export(parts).await;
        assert!(result.is_ok(), "mutant {at}: {result:?}");
        let log = store.log();
        assert!(log.crashes.is_empty(), "mutant {at}: {:?}", log.crashes);
        assert!(log.harms.is_empty(), "mutant {at}: {:?}", log.harms);
        store.forget();
    }
    assert!(
        harmful > 300 && sent > 300,
        "{harmful} harmful, {sent} sent"
    );
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
        parts.extend(subject.prepare(profile).expect("a good profile"));
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
    let parts = subject.prepare(profile).expect("a good profile");
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
    let large = profile(&[("__name__", "memory")], whole.clone());
    let mut waiting = subject.prepare(large).expect("a good profile");
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
    let single = profile(&[("__name__", "memory")], one);
    assert!(subject.exporter.divide(&single).is_none());
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
    let series = |stored: &StoredProfile| {
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
    let limited = subject.prepare(profile(&labels, with_pods(9)));
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
    let result = subject.prepare(profile(&[("__name__", "m")], bomb));
    assert_eq!(result.err(), Some(Reason::TooLarge));
    assert_eq!(subject.counted("unrepairable", "inflated_size"), 1);
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
        let probe = subject.exporter.probe().await;
        assert!(probe.is_ok(), "after {fault:?}: {probe:?}");
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
async fn requests_carry_headers_credentials_and_compression() {
    let store = FarEnd::start(Behaviour {
        authorization: Some("Bearer t0ken".into()),
        ..Behaviour::default()
    });
    let plain = Subject::new(store.addr());
    assert_eq!(meaning(&plain.send(good("a")).await), "unauthorized");
    let subject = Subject::with(store.addr(), |s| {
        let text = r#"{"auth": {"bearer_token": "t0ken"}, "compression": "gzip",
                       "headers": {"x-scope": "team-a"}}"#;
        let given: Settings = serde_json::from_str(text).expect("good settings");
        let endpoint = std::mem::take(&mut s.client.endpoint);
        s.client = given.client;
        s.compression = given.compression;
        s.client.endpoint = endpoint;
    });
    subject.send(good("a")).await.expect("stored");
    let headers = &store.requests()[0].headers;
    assert_eq!(headers["grpc-encoding"], "gzip");
    assert_eq!(headers["x-scope"], "team-a");
    assert_eq!(
        store.stored()[0].body,
        damage::gzip(&damage::base().encode_to_vec())
    );
}

#[tokio::test]
async fn metadata_goes_out_as_headers_unless_the_settings_say_otherwise() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::with(store.addr(), |s| {
        let (name, value) = ("x-region".to_owned(), Secret::from("ours".to_owned()));
        s.client.headers.insert(name, value);
    });
    let metadata = [("x-scope-orgid", "apps"), ("x-region", "theirs")];
    let origin = Origin {
        metadata: metadata.into_iter().collect(),
        ..Origin::default()
    };
    let parts = subject.prepare(good("a")).expect("it can be sent");
    let profiles = parts.into_iter().map(|part| part.profile).collect();
    let sent = subject.exporter.export(&Batch::new(origin, profiles)).await;
    sent.expect("stored");
    let headers = &store.requests()[0].headers;
    assert_eq!(headers["x-scope-orgid"], "apps");
    assert_eq!(headers["x-region"], "ours");
}

#[tokio::test]
async fn a_probe_stores_nothing() {
    let store = FarEnd::start(Behaviour::default());
    let subject = Subject::new(store.addr());
    subject.exporter.probe().await.expect("an answer");
    assert_eq!((store.requests().len(), store.stored().len()), (1, 0));
}
