//! Agents that are known, and those that are not.

use super::*;
use crate::{
    net::{ClientAuth, auth::ServerAuth},
    profile::pprof::SyntheticProfile,
    settings::{FilePath, Secret},
};
use futures_util::FutureExt;
use serde_json::json;
use tempfile::TempDir;

/// Two that are known by their tokens: one whose labels are stamped, one that may
/// send some.
async fn guarded() -> (Subject, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "alice a\nbob b\ncarol c\n").unwrap();
    let mut auth: ServerAuth = serde_json::from_value(json!({"identities": {
        "alice": {"labels": {"juju_model": "{name}"}, "metadata": {"x-tenant": "{name}"}},
        "bob": {"allow": {"labels": {"juju_model": ["bob"]}}},
    }}))
    .unwrap();
    auth.bearer_token_file = Some(FilePath(path));
    let subject = Subject::with(|settings| settings.server.auth = Some(auth)).await;
    (subject, folder)
}

fn agent(subject: &Subject, token: &str) -> ProfileStoreServiceClient<GrpcChannel> {
    let channel = GrpcChannel::new(&GrpcClientSettings {
        endpoint: format!("http://{}", subject.address),
        tls: ClientTls {
            insecure: true,
            ..ClientTls::default()
        },
        auth: ClientAuth {
            bearer_token: Some(Secret::from(token.to_owned())),
            ..ClientAuth::default()
        },
        ..GrpcClientSettings::default()
    });
    ProfileStoreServiceClient::new(channel.unwrap())
}

fn raw(model: &str) -> WriteRawRequest {
    let label = |name: &str, value: &str| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    WriteRawRequest {
        series: vec![RawProfileSeries {
            labels: Some(LabelSet {
                labels: vec![label("__name__", "memory"), label("juju_model", model)],
            }),
            samples: vec![RawSample {
                raw_profile: SyntheticProfile::heap(1).encode(),
                executable_info: Vec::new(),
            }],
        }],
        normalized: true,
        ..WriteRawRequest::default()
    }
}

#[tokio::test]
async fn no_call_is_served_to_who_is_not_known() {
    let (mut subject, _folder) = guarded().await;
    for mut client in [subject.client(), agent(&subject, "other")] {
        let refused = client.write_arrow(v2()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        let refused = client.write_raw(raw("bob")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        let refused = client.write(futures_util::stream::empty()).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    let away = |reason: &str| {
        subject.metric(&format!(
            r#"profile_relay_receiver_turned_away_requests_total{{receiver="parca",protocol="grpc",reason="{reason}"}}"#
        ))
    };
    assert_eq!((away("no_credentials"), away("wrong_credentials")), (3, 3));
    assert!(subject.batches.recv().now_or_never().is_none());
    agent(&subject, "c").write_arrow(v2()).await.unwrap();
    assert_eq!(
        subject.next().await.profiles[0]
            .body
            .as_arrow()
            .unwrap()
            .samples(),
        V2
    );
    subject.end().await;
}

#[tokio::test]
async fn an_agent_writes_its_own_labels_only() {
    let (mut subject, _folder) = guarded().await;
    let (mut alice, mut bob) = (agent(&subject, "a"), agent(&subject, "b"));
    alice.write_raw(raw("root")).await.unwrap();
    let batch = subject.next().await;
    assert_eq!(batch.profiles[0].labels.get("juju_model"), Some("alice"));
    assert_eq!(batch.origin.metadata.get("x-tenant"), Some("alice"));
    alice.write_arrow(v2()).await.unwrap();
    let batch = subject.next().await;
    assert_eq!(batch.profiles[0].labels.get("juju_model"), Some("alice"));

    bob.write_raw(raw("bob")).await.unwrap();
    subject.next().await;
    let refused = bob.write_raw(raw("root")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let refused = bob.write_arrow(v2()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(subject.batches.recv().now_or_never().is_none());
    subject.end().await;
}

#[tokio::test]
async fn the_same_bytes_of_somebody_else_are_no_retry() {
    let (mut subject, _folder) = guarded().await;
    agent(&subject, "c").write_arrow(v2()).await.unwrap();
    subject.next().await;
    let mut alice = agent(&subject, "a");
    alice.write_arrow(retried(v2(), "1")).await.unwrap();
    assert_eq!(
        subject.next().await.profiles[0].labels.get("juju_model"),
        Some("alice")
    );
    alice.write_arrow(retried(v2(), "2")).await.unwrap();
    assert_eq!(subject.duplicates(), 1);
    assert!(subject.batches.recv().now_or_never().is_none());
    subject.end().await;
}
