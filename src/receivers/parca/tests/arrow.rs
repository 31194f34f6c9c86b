//! `WriteArrow`.

use super::*;
use crate::{
    net::{auth::ServerAuth, serve::IncludeMetadata},
    profile::arrow::{Schema, SyntheticArrow},
};
use serde_json::json;

#[tokio::test]
async fn a_message_of_schema_v2_goes_on_as_it_came() {
    let mut subject = Subject::start().await;
    subject.client().write_arrow(v2()).await.unwrap();
    let batch = subject.next().await;
    let arrow = batch.profiles[0].body.as_arrow().unwrap();
    assert_eq!(arrow.schema(), Schema::V2);
    assert_eq!(arrow.samples(), V2);
    assert_eq!(batch.count(), 1);
    // Those that all rows share.
    let labels = batch.profiles[0].labels.to_string();
    assert_eq!(labels, r#"{comm="api", node="n1"}"#);
    assert_eq!(subject.counted("write_arrow", "ok"), 1);
    let counted = r#"profile_relay_receiver_arrow_profiles_total{receiver="parca",schema="v2"}"#;
    assert_eq!(subject.metric(counted), 1);
    subject.end().await;
}

#[tokio::test]
async fn what_is_no_arrow_of_schema_v2_is_refused() {
    let mut subject = Subject::start().await;
    for (buffer, word) in [
        (&b""[..], "Arrow"),
        (b"no arrow", "Arrow"),
        (&V2[..100], "Arrow"),
        (SAMPLES, "send it by Write"),
        (STACKS, "send it by Write"),
    ] {
        let message = WriteArrowRequest {
            ipc_buffer: Bytes::from_static(buffer),
        };
        let refused = subject.client().write_arrow(message).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(word), "{refused:?}");
    }
    assert_eq!(subject.counted("write_arrow", "invalid"), 5);
    assert!(subject.batches.try_recv().is_err());
    subject.until_free().await;
}

#[tokio::test]
async fn a_batch_without_rows_is_a_success_that_goes_nowhere() {
    let mut subject = Subject::start().await;
    let empty = SyntheticArrow {
        rows: 0,
        ..SyntheticArrow::busy(1)
    };
    let message = WriteArrowRequest {
        ipc_buffer: empty.v2().unwrap().samples().clone(),
    };
    subject.client().write_arrow(message).await.unwrap();
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn what_inflates_to_more_than_is_allowed_is_refused_before_it_does() {
    let subject = Subject::with(|settings| {
        settings.body_size_limit_uncompressed = crate::settings::ByteSize::new(4 << 10);
    })
    .await;
    let refused = subject.client().write_arrow(v2()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("body_size_limit_uncompressed"));
    assert_eq!(retry_delay(&refused), None);
    subject.until_over("write_arrow", "too_large").await;
}

#[tokio::test]
async fn a_retry_of_what_was_taken_is_a_success_that_goes_nowhere() {
    let mut subject = Subject::start().await;
    let mut client = subject.client();
    client.write_arrow(v2()).await.unwrap();
    subject.next().await;
    for attempt in ["1", "2", "9"] {
        client.write_arrow(retried(v2(), attempt)).await.unwrap();
    }
    assert_eq!(subject.duplicates(), 3);
    // An agent that has never called before.
    client.write_arrow(retried(v2(), "0")).await.unwrap();
    subject.next().await;
    assert_eq!(subject.duplicates(), 3);
}

#[tokio::test]
async fn a_retry_of_what_was_refused_is_taken() {
    let subject = Subject::stuck(10).await;
    let mut client = subject.client();
    client.write_arrow(v2()).await.unwrap_err();
    let refused = client.write_arrow(retried(v2(), "1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(subject.duplicates(), 0);
}

#[tokio::test]
async fn the_same_bytes_of_another_tenant_are_no_retry() {
    let mut subject = Subject::with(|settings| {
        let names = vec!["x-scope-orgid".to_owned()];
        settings.server.include_metadata = IncludeMetadata::Names(names);
    })
    .await;
    for tenant in ["a", "b"] {
        let mut request = retried(v2(), "1");
        let headers = request.metadata_mut();
        headers.insert("x-scope-orgid", tenant.parse().unwrap());
        subject.client().write_arrow(request).await.unwrap();
        let origin = subject.next().await.origin;
        assert_eq!(origin.metadata.get("x-scope-orgid"), Some(tenant));
    }
    assert_eq!(subject.duplicates(), 0);
}

#[tokio::test]
async fn what_never_fits_is_permanent() {
    let subject = Subject::with(|settings| settings.server.max_recv_msg_size_mib = 1).await;
    let message = WriteArrowRequest {
        ipc_buffer: vec![0; 2 << 20].into(),
    };
    let refused = subject.client().write_arrow(message).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("max_recv_msg_size_mib"));
    assert_eq!(retry_delay(&refused), None);
}

#[tokio::test]
async fn nobody_writes_anothers_labels_or_hears_of_anothers_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "alice a\nbob b\ncarol c\n").unwrap();
    let mut auth: ServerAuth = serde_json::from_value(json!({"identities": {
        "alice": {
            "labels": {"juju_model": "{name}", "node": ""},
            "metadata": {"x-scope-orgid": "{name}"},
        },
        "bob": {"allow": {"labels": {"node": ["n2"]}}},
    }}))
    .unwrap();
    auth.bearer_token_file = Some(crate::settings::FilePath(path));
    let mut subject = Subject::with(|settings| settings.server.auth = Some(auth)).await;
    let send = async |token: &str| {
        let mut request = retried(v2(), "1");
        let token = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        subject.client().write_arrow(request).await.map(|_| ())
    };
    assert_eq!(send("x").await.unwrap_err().code(), Code::Unauthenticated);
    send("a").await.unwrap();
    let denied = send("b").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    assert_eq!(retry_delay(&denied), None);
    // The same bytes of somebody else are no retry.
    send("c").await.unwrap();
    send("c").await.unwrap();
    assert_eq!(subject.duplicates(), 1);
    assert_eq!(subject.counted("write_arrow", "denied"), 1);
    let alice = subject.next().await;
    let labels = alice.profiles[0].labels.to_string();
    assert_eq!(labels, r#"{comm="api", juju_model="alice"}"#);
    let tenant = alice.origin.metadata.get("x-scope-orgid");
    assert_eq!(tenant, Some("alice"));
    let carol = subject.next().await;
    assert_eq!(carol.profiles[0].labels.get("node"), Some("n1"));
    assert!(subject.batches.try_recv().is_err());
}
