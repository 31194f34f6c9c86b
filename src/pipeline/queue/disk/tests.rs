mod handing_out;

use super::*;
use crate::{
    pipeline::{Budget, Queue, QueueSettings, queue::Queued},
    profile::{Body, Origin, Profile, pprof::Pprof},
    settings::{ByteSize, FilePath},
};
use std::{collections::BTreeMap, time::Duration};

/// Bytes of a body.
const BODY: usize = 1_000;

/// A queue that keeps so many bytes ready.
async fn queue(folder: &std::path::Path, read_ahead: u64) -> Queue {
    let settings = FileStorageSettings {
        directory: FilePath(folder.to_owned()),
        min_free_bytes: ByteSize::new(0),
        segment_bytes: ByteSize::new(64 << 10),
        read_ahead_bytes: ByteSize::new(read_ahead),
        ..FileStorageSettings::default()
    };
    let storage = Storage::open("file_storage".parse().unwrap(), settings);
    let storage = Arc::new(storage.await.unwrap());
    let settings = QueueSettings {
        storage: Some(storage.id().clone()),
        ..QueueSettings::default()
    };
    let exporter = "otlp".parse().unwrap();
    let queue = storage.queue(&exporter, settings, Budget::new(64 << 20));
    queue.await.unwrap()
}

fn batch(number: usize) -> Batch {
    let profile = Profile {
        labels: [("number", number.to_string().as_str())]
            .into_iter()
            .collect(),
        body: Body::Pprof(Pprof::new(vec![7; BODY].into())),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), vec![profile])
}

async fn put(queue: &Queue, number: usize) {
    let room = queue.reserve(&batch(number)).unwrap();
    room.store().await.unwrap().commit(batch(number));
}

async fn take(queue: &Queue) -> Queued {
    let taken = tokio::time::timeout(Duration::from_secs(20), queue.take()).await;
    taken.expect("something is left")
}

fn number(queued: &Queued) -> usize {
    let number = queued.profiles[0].0.labels.get("number");
    number.unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_in_flight_is_not_read_back_when_more_waits_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), 3 * BODY as u64).await;
    let (mut flying, mut times) = (Vec::new(), BTreeMap::new());
    // Some are ready at once, others wait on disk; a third stays in flight.
    for at in 0..300 {
        put(&queue, at).await;
        if at % 3 == 0 {
            let taken = take(&queue).await;
            *times.entry(number(&taken)).or_insert(0) += 1;
            flying.push(taken);
        }
    }
    while !queue.is_empty() {
        let taken = take(&queue).await;
        *times.entry(number(&taken)).or_insert(0) += 1;
        taken.drop_all(Reason::Filtered);
    }
    assert_eq!(times.len(), 300, "each is handed out");
    assert!(times.values().all(|times| *times == 1), "once: {times:?}");
    flying
        .into_iter()
        .for_each(|f| f.drop_all(Reason::Filtered));
    let balance = queue.ledger().balance();
    assert!(balance.holds());
    assert_eq!((balance.queued, balance.queued_bytes), (0, 0));
}

#[tokio::test]
async fn many_at_once_are_each_handed_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), 5 * BODY as u64).await;
    let putting = futures_util::future::join_all((0..200).map(|at| put(&queue, at)));
    let taking = async {
        let mut times = BTreeMap::new();
        for _ in 0..200 {
            let taken = take(&queue).await;
            *times.entry(number(&taken)).or_insert(0) += 1;
            taken.drop_all(Reason::Filtered);
        }
        times
    };
    let (_, times) = tokio::join!(putting, taking);
    assert_eq!(times.len(), 200, "{times:?}");
    assert!(queue.is_empty());
}
