//! What a queue on disk keeps ready in memory is handed out once, in its order, and
//! does not come from disk again.

use super::super::*;
use crate::{
    pipeline::{
        Budget, Ledger, Queue, QueueSettings,
        queue::{DrainSettings, Queued},
    },
    profile::{Body, Origin, Profile, pprof::Pprof},
    settings::{ByteSize, FilePath, Id},
};
use std::path::Path;

fn batch(number: u8) -> Batch {
    let profile = Profile {
        labels: Default::default(),
        body: Body::Pprof(Pprof::new(vec![number; 1_000].into())),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), vec![profile])
}

/// A queue that keeps two or three of these batches ready.
async fn open(folder: &Path, newest_first: bool) -> Queue {
    let settings = FileStorageSettings {
        directory: FilePath(folder.to_owned()),
        segment_bytes: ByteSize::new(8_000),
        read_ahead_bytes: ByteSize::new(2_500),
        ..FileStorageSettings::default()
    };
    let id: Id = "file_storage".parse().unwrap();
    let storage = Storage::open(id, settings).await.unwrap();
    let settings = QueueSettings {
        storage: Some("file_storage".parse().unwrap()),
        drain: DrainSettings {
            newest_first,
            ..DrainSettings::default()
        },
        ..QueueSettings::default()
    };
    let exporter: Id = "parca".parse().unwrap();
    let storage = Arc::new(storage);
    let queue = storage.queue(&exporter, settings, Budget::new(1 << 20));
    queue.await.unwrap()
}

async fn put(queue: &Queue, number: u8) {
    let room = queue.reserve(&batch(number)).unwrap();
    room.store().await.unwrap().commit(batch(number));
}

async fn take(queue: &Queue) -> (u8, Queued) {
    let queued = queue.take().await;
    let number = queued.profiles[0].0.body.as_pprof().unwrap().bytes()[0];
    (number, queued)
}

fn send(queued: Queued) {
    for (profile, ticket) in queued.profiles {
        ticket.sent(profile.byte_len());
    }
}

/// Puts thirty in, some of them while others are under way; the order in which they
/// come out.
async fn pass(queue: &Queue) -> Vec<u8> {
    let (mut order, mut flying) = (Vec::new(), Vec::new());
    for number in 0..20 {
        put(queue, number).await;
    }
    for _ in 0..5 {
        let (number, queued) = take(queue).await;
        order.push(number);
        flying.push(queued);
    }
    for number in 20..30 {
        put(queue, number).await;
    }
    for _ in 5..30 {
        let (number, queued) = take(queue).await;
        order.push(number);
        flying.push(queued);
        if flying.len() > 7 {
            send(flying.remove(3));
        }
    }
    flying.into_iter().for_each(send);
    order
}

fn sent_thirty(ledger: &Ledger) -> bool {
    let balance = ledger.balance();
    balance.holds() && (balance.sent, balance.queued) == (30, 0)
}

#[tokio::test]
async fn what_is_handed_out_from_memory_does_not_come_from_disk_too() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path(), false).await;
    assert_eq!(pass(&queue).await, (0..30).collect::<Vec<_>>());
    assert!(sent_thirty(queue.ledger()), "{:?}", queue.ledger());
    queue.close(Reason::Shutdown).await;
}

#[tokio::test]
async fn nor_when_the_newest_are_first() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path(), true).await;
    let mut order = pass(&queue).await;
    assert_ne!(order[0], 0);
    order.sort_unstable();
    assert_eq!(order, (0..30).collect::<Vec<_>>());
    assert!(sent_thirty(queue.ledger()), "{:?}", queue.ledger());
    queue.close(Reason::Shutdown).await;
}
