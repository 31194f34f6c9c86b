use super::*;
use crate::{
    profile::{Body, Origin, Profile, pprof::Pprof},
    settings::{ByteSize, Duration},
};
use bytes::Bytes;
use std::time::SystemTime;

fn batch(bytes: usize) -> Batch {
    let profile = Profile {
        labels: Default::default(),
        body: Body::Pprof(Pprof::new(Bytes::from(vec![0; bytes]))),
        received: SystemTime::UNIX_EPOCH,
    };
    Batch::new(Origin::default(), vec![profile])
}

fn queue(on_full: OnFull) -> (Queue, Ledger) {
    let settings = QueueSettings {
        max_bytes: Some(ByteSize::new(100)),
        max_age: Some(Duration::from_secs(60)),
        on_full,
        ..QueueSettings::default()
    };
    let ledger = Ledger::new(100);
    (Queue::new(settings, ledger.clone()), ledger)
}

async fn put(queue: &Queue, bytes: usize) {
    let room = queue.reserve(&batch(bytes)).unwrap();
    room.store().await.unwrap().commit(batch(bytes));
}

#[tokio::test]
async fn a_full_queue_refuses_until_something_is_done() {
    let (queue, ledger) = queue(OnFull::Refuse);
    put(&queue, 60).await;
    let refusal = queue.reserve(&batch(41)).unwrap_err();
    assert_eq!(refusal, Refusal::retryable(Reason::QueueFull));
    let flying = queue.take().await;
    assert!(queue.reserve(&batch(41)).is_err(), "in flight counts");
    drop(flying);
    put(&queue, 41).await;
    assert!(ledger.balance().holds());
}

#[tokio::test]
async fn what_can_never_fit_is_refused_for_good() {
    let (queue, _) = queue(OnFull::Refuse);
    let refusal = queue.reserve(&batch(101)).unwrap_err();
    assert_eq!(refusal, Refusal::permanent(Reason::TooLarge));
}

#[tokio::test]
async fn room_that_is_not_used_comes_back() {
    let (queue, _) = queue(OnFull::Refuse);
    let room = queue.reserve(&batch(100)).unwrap();
    assert!(queue.reserve(&batch(1)).is_err());
    drop(room);
    assert!(queue.reserve(&batch(100)).is_ok());
}

#[tokio::test]
async fn the_oldest_make_room_for_the_newest() {
    let (queue, ledger) = queue(OnFull::DropOldest);
    for bytes in [40, 41, 42] {
        put(&queue, bytes).await;
    }
    let first = queue.take().await;
    assert_eq!(first.profiles[0].0.byte_len(), 41);
    let balance = ledger.balance();
    assert_eq!(balance.dropped[&Reason::QueueFull], 1);
    assert!(balance.holds());
}

#[tokio::test]
async fn the_newest_are_dropped_and_counted() {
    let (queue, ledger) = queue(OnFull::DropNewest);
    for bytes in [60, 60] {
        put(&queue, bytes).await;
    }
    let balance = ledger.balance();
    assert_eq!((balance.enqueued, balance.queued), (2, 1));
    assert_eq!(balance.dropped[&Reason::QueueFull], 1);
    assert!(balance.holds());
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_dropped_and_counted() {
    let (queue, ledger) = queue(OnFull::Refuse);
    put(&queue, 10).await;
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    put(&queue, 20).await;
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    queue.expire();
    assert_eq!(queue.take().await.profiles[0].0.byte_len(), 20);
    let balance = ledger.balance();
    assert_eq!(balance.dropped[&Reason::Expired], 1);
    assert!(balance.holds());
}

#[tokio::test(start_paused = true)]
async fn other_bounds_are_those_of_what_comes() {
    let (queue, ledger) = queue(OnFull::Refuse);
    put(&queue, 90).await;
    let configure = |max_bytes, on_full, max_age| {
        queue.configure(QueueSettings {
            max_bytes: Some(ByteSize::new(max_bytes)),
            max_age: Some(Duration::from_secs(max_age)),
            on_full,
            ..QueueSettings::default()
        });
    };
    configure(50, OnFull::Refuse, 60);
    assert_eq!(ledger.balance().capacity, 50);
    let refusal = queue.reserve(&batch(1)).unwrap_err();
    assert_eq!(refusal, Refusal::retryable(Reason::QueueFull));
    assert_eq!(ledger.balance().queued, 1, "what is there stays");
    configure(200, OnFull::Refuse, 60);
    put(&queue, 90).await;
    configure(200, OnFull::DropOldest, 60);
    put(&queue, 90).await;
    assert_eq!(ledger.balance().dropped[&Reason::QueueFull], 1);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    queue.expire();
    assert_eq!(ledger.balance().queued, 2);
    configure(200, OnFull::DropOldest, 10);
    queue.expire();
    assert_eq!(ledger.balance().queued, 0);
    assert!(ledger.balance().holds());
}
