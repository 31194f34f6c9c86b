//! Senders that are known, and those that are not.

use super::{wire::Wire, *};
use crate::net::{auth::ServerAuth, serve::Cors};
use futures_util::FutureExt;
use serde_json::json;
use std::fs;
use tempfile::TempDir;
use tonic::Code;

/// Three that are known by their tokens, by either protocol.
async fn guarded(auth: serde_json::Value) -> (Subject, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "alice a\nbob b\ncarol c\n").unwrap();
    let mut auth: ServerAuth = serde_json::from_value(auth).unwrap();
    auth.bearer_token_file = Some(crate::settings::FilePath(path));
    let subject = Subject::with(
        |settings| {
            settings.protocols.grpc.as_mut().unwrap().server.auth = Some(auth.clone());
            let http = &mut settings.protocols.http.as_mut().unwrap().server;
            http.auth = Some(auth);
            http.cors = Some(Cors {
                allowed_origins: vec!["https://app.example".into()],
                allowed_headers: vec!["authorization".into()],
                ..Cors::default()
            });
        },
        256 << 20,
    )
    .await;
    (subject, folder)
}

fn turned_away(subject: &Subject, protocol: &str, reason: &str) -> u64 {
    let text = subject.metrics.encode().unwrap();
    let line = format!(
        r#"profile_relay_receiver_turned_away_requests_total{{receiver="otlp",protocol="{protocol}",reason="{reason}"}} "#
    );
    let found = text.lines().find_map(|l| l.strip_prefix(&line));
    found.map_or(0, |number| number.parse().unwrap())
}

async fn export(subject: &Subject, headers: &[(&str, &str)], message: &[u8]) -> tonic::Status {
    let mut wire = Wire::connect(subject.grpc).await;
    wire.export(headers, false, message).await
}

const ALICE: (&str, &str) = ("authorization", "Bearer a");
const BOB: (&str, &str) = ("authorization", "Bearer b");
const CAROL: (&str, &str) = ("authorization", "Bearer c");
const WRONG: (&str, &str) = ("authorization", "Bearer hunter2");

#[tokio::test]
async fn who_is_not_known_hears_so_in_the_words_of_the_protocol() {
    let (mut subject, _folder) = guarded(json!({})).await;
    for (headers, reason) in [
        (&[][..], "no_credentials"),
        (&[WRONG][..], "wrong_credentials"),
    ] {
        let status = export(&subject, headers, &plain()).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(!status.message().contains("hunter2"), "{status:?}");
        let told = subject.post(headers, plain()).await;
        assert_eq!(told.status, StatusCode::UNAUTHORIZED);
        let challenge = told.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        for protocol in ["grpc", "http"] {
            assert_eq!(
                turned_away(&subject, protocol, reason),
                1,
                "{protocol} {reason}"
            );
        }
    }
    // All that the port serves: as in the Collector, health too.
    let mut wire = Wire::connect(subject.grpc).await;
    let health = wire
        .call("/grpc.health.v1.Health/Check", &[], vec![0; 5])
        .await;
    assert_eq!(health.code(), Code::Unauthenticated);
    let health = wire
        .call("/grpc.health.v1.Health/Check", &[ALICE], vec![0; 5])
        .await;
    assert_eq!(health.code(), Code::Ok);
    let nothing = wire.call("/no.Such/Call", &[], vec![0; 5]).await;
    assert_eq!(nothing.code(), Code::Unauthenticated);

    assert_eq!(export(&subject, &[ALICE], &plain()).await.code(), Code::Ok);
    assert_eq!(subject.post(&[BOB], plain()).await.status, StatusCode::OK);
    subject.next().await;
    subject.next().await;
    assert!(subject.batches.recv().now_or_never().is_none());
    subject.end().await;
}

#[tokio::test]
async fn a_browser_asks_before_it_has_credentials_and_may_read_that_it_needs_some() {
    let (subject, _folder) = guarded(json!({})).await;
    let preflight = Request::options("/v1development/profiles")
        .header("host", "relay")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .body(Full::default())
        .unwrap();
    let told = subject.ask(preflight).await;
    assert_eq!(told.status, StatusCode::NO_CONTENT);
    assert_eq!(
        told.headers["access-control-allow-origin"],
        "https://app.example"
    );
    let told = subject
        .post(&[("origin", "https://app.example")], plain())
        .await;
    assert_eq!(told.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        told.headers["access-control-allow-origin"],
        "https://app.example"
    );
}

#[tokio::test]
async fn nobody_writes_anothers_labels() {
    let (mut subject, _folder) = guarded(json!({"identities": {
        "alice": {
            "labels": {"juju_model": "{name}", "service.name": ""},
            "metadata": {"x-scope-orgid": "{name}"},
        },
        "bob": {"allow": {"labels": {"service.name": ["web|db"]}}},
    }}))
    .await;
    for way in ["grpc", "http"] {
        match way {
            "grpc" => {
                let status = export(&subject, &[ALICE], &plain()).await;
                assert_eq!(status.code(), Code::Ok);
            }
            _ => assert_eq!(subject.post(&[ALICE], plain()).await.status, 200),
        }
        let batch = subject.next().await;
        assert_eq!(
            batch.origin.metadata.to_string(),
            r#"{x-scope-orgid="alice"}"#
        );
        for profile in &batch.profiles {
            assert_eq!(profile.labels.to_string(), r#"{juju_model="alice"}"#);
        }
    }
    // One of two profiles is not bob's.
    let both = plain();
    let web = Bytes::from(request(&["web"]).encode_to_vec());
    let status = export(&subject, &[BOB], &both).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.details().is_empty(), "it must not be sent again");
    assert_eq!(
        subject.post(&[BOB], both.clone()).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(subject.counted("http", "denied"), 1);
    assert!(subject.batches.recv().now_or_never().is_none());
    assert_eq!(export(&subject, &[BOB], &web).await.code(), Code::Ok);
    assert_eq!(subject.next().await.profiles.len(), 1);
    // Who has no rules sends as it is.
    assert_eq!(export(&subject, &[CAROL], &both).await.code(), Code::Ok);
    assert_eq!(wire_of(&subject.next().await), both);
    subject.end().await;
}

#[tokio::test]
async fn what_others_may_read_otherwise_is_refused_to_who_has_rules() {
    let (mut subject, _folder) = guarded(json!({"identities": {
        "alice": {"labels": {"juju_model": "alice"}},
        "bob": {"allow": {"labels": {"juju_model": ["bob"]}}},
    }}))
    .await;
    let with = |models: &[&str]| {
        let mut request = request(&["web"]);
        let resource = request.resource_profiles[0].resource.as_mut().unwrap();
        let models = models.iter().map(|model| attribute("juju_model", model));
        resource.attributes.extend(models);
        request.encode_to_vec()
    };
    for (who, own) in [(ALICE, "alice"), (BOB, "bob")] {
        let status = export(&subject, &[who], &with(&[own])).await;
        assert_eq!(status.code(), Code::Ok, "{own}");
        subject.next().await;
        for other in [&[own, "root"][..], &["root", own]] {
            let status = export(&subject, &[who], &with(other)).await;
            assert_eq!(status.code(), Code::PermissionDenied, "{own}");
        }
        // Two messages of which a decoder makes one.
        let twice = [with(&[own])].concat();
        let mut request = ExportProfilesServiceRequest::decode(&*twice).unwrap();
        let more = Resource {
            attributes: vec![attribute("juju_model", "root")],
            ..Resource::default()
        };
        let mut first = request.resource_profiles[0].encode_to_vec();
        let more = more.encode_to_vec();
        first.splice(
            0..0,
            [&[0x0a, u8::try_from(more.len()).unwrap()], &more[..]].concat(),
        );
        request.resource_profiles.clear();
        let mut wire = request.encode_to_vec();
        wire.push(0x0a);
        prost::encoding::encode_varint(first.len() as u64, &mut wire);
        wire.extend(first);
        let status = export(&subject, &[who], &wire).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{own}: {status:?}");
        // Who has no rules is free to.
        assert_eq!(export(&subject, &[CAROL], &wire).await.code(), Code::Ok);
        subject.next().await;
    }
    // A number of that name does not stay beside the label.
    let mut request = request(&["web"]);
    let resource = request.resource_profiles[0].resource.as_mut().unwrap();
    let mut number = attribute("juju_model", "");
    number.value.as_mut().unwrap().value = Some(any_value::Value::IntValue(7));
    resource.attributes.push(number);
    let status = export(&subject, &[ALICE], &request.encode_to_vec()).await;
    assert_eq!(status.code(), Code::Ok);
    let batch = subject.next().await;
    let otlp = batch.profiles[0].body.as_otlp().unwrap();
    let sent = crate::profile::otlp::assemble(&[(&batch.profiles[0].labels, otlp)]).unwrap();
    let sent = ExportProfilesServiceRequest::decode(&*sent.bytes).unwrap();
    let resource = sent.resource_profiles[0].resource.as_ref().unwrap();
    let models = resource.attributes.iter().filter(|a| a.key == "juju_model");
    assert_eq!(
        models.cloned().collect::<Vec<_>>(),
        [attribute("juju_model", "alice")]
    );
    subject.end().await;
}

#[tokio::test]
async fn who_sends_too_often_is_told_when_to_come_again() {
    let (subject, _folder) = guarded(json!({"identities": {
        "*": {"max_requests_per_second": 1},
        "carol": {"max_requests_per_second": 0},
    }}))
    .await;
    let web = plain();
    assert_eq!(export(&subject, &[ALICE], &web).await.code(), Code::Ok);
    let status = export(&subject, &[ALICE], &web).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(!status.details().is_empty(), "it may be sent again");
    assert_eq!(turned_away(&subject, "grpc", "request_rate"), 1);
    // Another sender, and another listener.
    assert_eq!(export(&subject, &[BOB], &web).await.code(), Code::Ok);
    assert_eq!(
        subject.post(&[ALICE], web.clone()).await.status,
        StatusCode::OK
    );
    let told = subject.post(&[ALICE], web.clone()).await;
    assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(told.headers["retry-after"], "1");
    for _ in 0..20 {
        assert_eq!(export(&subject, &[CAROL], &web).await.code(), Code::Ok);
    }
    subject.end().await;
}

#[tokio::test]
async fn bytes_in_flight_are_each_senders_own() {
    let size = plain().len() as u64;
    let (subject, _folder) = guarded(json!({"identities": {
        "*": {"max_bytes_in_flight": size * 2},
    }}))
    .await;
    // Half of a request that does not go on.
    let framed = [
        &[0][..],
        &u32::try_from(size * 2).unwrap().to_be_bytes(),
        &plain(),
    ]
    .concat();
    let (pieces, body) = mpsc::unbounded_channel();
    pieces.send(Bytes::from(framed)).unwrap();
    let mut wire = Wire::connect(subject.grpc).await;
    let slow = wire.slow(&[ALICE], body);
    let mut slow = Box::pin(slow);
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut slow).await;
    assert!(waits.is_err());
    let status = export(&subject, &[ALICE], &plain()).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(!status.details().is_empty(), "it may be sent again");
    assert_eq!(turned_away(&subject, "grpc", "bytes_in_flight"), 1);
    assert_eq!(export(&subject, &[BOB], &plain()).await.code(), Code::Ok);
    // When it has ended, however, there is room again.
    drop((pieces, slow));
    let passes = async {
        while export(&subject, &[ALICE], &plain()).await.code() != Code::Ok {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(MANY, passes).await.unwrap();
    // What can never pass is not to be sent again.
    let huge = vec![0; usize::try_from(size * 2 + 1).unwrap()];
    let told = subject.post(&[BOB], huge).await;
    assert_eq!(told.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(turned_away(&subject, "http", "bytes_in_flight"), 1);
    subject.end().await;
}

#[tokio::test]
async fn an_open_listener_can_stamp_and_limit_all() {
    let auth: ServerAuth = serde_json::from_value(json!({"identities": {
        "*": {"labels": {"zone": "edge"}, "max_requests_per_second": 1},
    }}))
    .unwrap();
    let mut subject = Subject::with(
        |settings| settings.protocols.grpc.as_mut().unwrap().server.auth = Some(auth),
        256 << 20,
    )
    .await;
    assert_eq!(export(&subject, &[], &plain()).await.code(), Code::Ok);
    let batch = subject.next().await;
    assert_eq!(batch.profiles[0].labels.get("zone"), Some("edge"));
    assert_eq!(
        export(&subject, &[], &plain()).await.code(),
        Code::ResourceExhausted
    );
    assert_eq!(subject.post(&[], plain()).await.status, StatusCode::OK);
    subject.end().await;
}
