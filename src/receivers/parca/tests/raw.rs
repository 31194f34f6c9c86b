//! `WriteRaw`.

use super::*;
use crate::profile::{
    NAME, Transport,
    pprof::{SyntheticProfile, compress},
};
use tonic::codec::CompressionEncoding;

fn series(labels: &[(&str, &str)], bodies: &[Bytes]) -> RawProfileSeries {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let sample = |body: &Bytes| RawSample {
        raw_profile: body.clone(),
        executable_info: Vec::new(),
    };
    RawProfileSeries {
        labels: Some(LabelSet {
            labels: labels.iter().map(label).collect(),
        }),
        samples: bodies.iter().map(sample).collect(),
    }
}

fn request(series: Vec<RawProfileSeries>) -> WriteRawRequest {
    WriteRawRequest {
        series,
        normalized: true,
        ..WriteRawRequest::default()
    }
}

fn heap() -> WriteRawRequest {
    let body = SyntheticProfile::heap(1).encode();
    request(vec![series(
        &[(NAME, "memory"), ("job", "oomprof")],
        &[body],
    )])
}

#[tokio::test]
async fn each_sample_goes_on_as_it_came_with_the_labels_of_its_series() {
    let mut subject = Subject::start().await;
    let gzip = SyntheticProfile::heap(1).encode();
    let plain = Bytes::from(SyntheticProfile::heap(2).encode_plain());
    let message = request(vec![
        series(
            &[("job", "api"), (NAME, "memory")],
            &[gzip.clone(), plain.clone()],
        ),
        series(&[(NAME, "cpu")], std::slice::from_ref(&plain)),
    ]);
    let client = subject.client();
    let clients = [
        client.clone(),
        client.send_compressed(CompressionEncoding::Gzip),
    ];
    for mut client in clients {
        client.write_raw(message.clone()).await.unwrap();
        let batch = subject.next().await;
        let bodies = batch.profiles.iter().map(|profile| {
            let pprof = profile.body.as_pprof().unwrap();
            // What the look told stays beside the bytes.
            assert!(pprof.checked().is_some());
            pprof.bytes().clone()
        });
        let bodies: Vec<_> = bodies.collect();
        assert!(bodies == [gzip.clone(), plain.clone(), plain.clone()]);
        let labels = batch.profiles.iter().map(|p| p.labels.to_string());
        let labels: Vec<_> = labels.collect();
        assert_eq!(labels[0], r#"{__name__="memory", job="api"}"#);
        assert_eq!(
            labels[1..],
            [labels[0].clone(), r#"{__name__="cpu"}"#.to_owned()]
        );
        assert_eq!(batch.origin.transport, Transport::Grpc);
        assert_eq!(&*batch.origin.receiver, "parca");
        assert!(
            batch
                .origin
                .peer
                .as_deref()
                .unwrap()
                .starts_with("127.0.0.1:")
        );
    }
    assert_eq!(subject.counted("write_raw", "ok"), 2);
    subject.end().await;
}

#[tokio::test]
async fn one_bad_profile_refuses_the_request_and_nothing_goes_on() {
    let mut subject = Subject::start().await;
    let good = || series(&[(NAME, "memory")], &[SyntheticProfile::heap(1).encode()]);
    for (bad, word) in [
        (
            series(&[(NAME, "memory")], &[Bytes::from_static(b"<html>")]),
            "HTML",
        ),
        (series(&[("job", "api")], &[]), "missing __name__"),
    ] {
        let refused = subject.client().write_raw(request(vec![good(), bad])).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(word), "{refused:?}");
    }
    assert!(subject.batches.try_recv().is_err());
    subject.until_free().await;
}

#[tokio::test]
async fn a_probe_and_profiles_of_nothing_are_a_success_that_goes_nowhere() {
    let mut subject = Subject::start().await;
    let nothing = [Bytes::new(), compress(b"")];
    for series in [vec![], vec![series(&[(NAME, "memory")], &nothing)]] {
        subject.client().write_raw(request(series)).await.unwrap();
    }
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn a_bomb_is_refused_and_takes_nothing_with_it() {
    let subject = Subject::with(|settings| {
        settings.body_size_limit_uncompressed = crate::settings::ByteSize::new(1 << 20);
    })
    .await;
    let mut bomb = compress(&vec![0; 8 << 20]).to_vec();
    // It claims to be small.
    let end = bomb.len();
    bomb[end - 4..].copy_from_slice(&100_u32.to_le_bytes());
    let message = request(vec![series(&[(NAME, "memory")], &[bomb.into()])]);
    let refused = subject.client().write_raw(message).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("body_size_limit_uncompressed"));
    assert_eq!(retry_delay(&refused), None);
    subject.until_over("write_raw", "too_large").await;
}

#[tokio::test]
async fn a_full_queue_is_resource_exhausted_with_a_wait() {
    let size = heap().encoded_len() as u64;
    let subject = Subject::stuck(size + size / 2).await;
    subject.client().write_raw(heap()).await.unwrap();
    let full = subject.client().write_raw(heap()).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{full:?}");
    assert!(full.message().contains("queue is at its max_bytes"));
    assert!(retry_delay(&full).is_some());
    // It was not taken, so that its retry is none of what was taken.
    let retry = subject.client().write_raw(retried(heap(), "1")).await;
    // The first of these bytes was taken: this is what its lost answer looks like.
    assert!(retry.is_ok(), "{retry:?}");
    assert_eq!(subject.duplicates(), 1);
}

#[tokio::test]
async fn many_samples_of_one_byte_do_not_take_more_memory_than_there_is() {
    let subject = Subject::start().await;
    let body = Bytes::from_static(b"x");
    let bodies = vec![body; 1_000_000];
    let message = request(vec![series(&[(NAME, "memory")], &bodies)]);
    let refused = subject.client().write_raw(message).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(
        refused.message().contains("service.memory.limit"),
        "{refused:?}"
    );
    subject.until_over("write_raw", "too_large").await;
}
