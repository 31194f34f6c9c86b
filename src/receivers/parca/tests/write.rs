//! `Write`, by agents of all manners.

use super::{
    wire::{Wire, framed},
    *,
};
use crate::{
    r#gen::profilestore::{WriteRequest, WriteResponse},
    profile::arrow::Schema,
};

const PATH: &str = super::super::write::PATH;

fn message(record: &'static [u8]) -> Vec<u8> {
    let request = WriteRequest {
        record: Bytes::from_static(record),
    };
    request.encode_to_vec()
}

/// Asserts that an answer asks for the stacks of the samples.
fn assert_asks(answer: &Bytes) {
    let record = WriteResponse::decode(answer.clone()).unwrap().record;
    let holds = |wanted: &[u8]| record.windows(wanted.len()).any(|found| found == wanted);
    assert!(holds(b"stacktrace_id"));
    assert!(IDS.iter().all(|id| holds(id)));
}

/// Asserts that both messages went on as one profile.
async fn assert_went_on(subject: &mut Subject) {
    let batch = subject.next().await;
    assert_eq!(batch.profiles.len(), 1);
    let arrow = batch.profiles[0].body.as_arrow().unwrap();
    assert_eq!(arrow.schema(), Schema::V1);
    assert_eq!(arrow.samples(), SAMPLES);
    assert_eq!(arrow.stacks().unwrap(), STACKS);
    let labels = batch.profiles[0].labels.to_string();
    assert_eq!(labels, r#"{comm="api", node="n1"}"#);
}

/// With deadlines that tests can wait for.
async fn hasty() -> Subject {
    Subject::with(|settings| {
        settings.write.idle_timeout = "200ms".parse().unwrap();
        settings.write.timeout = "1s".parse().unwrap();
    })
    .await
}

async fn until(mut wish: impl FnMut() -> bool) {
    let wait = async {
        while !wish() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(MANY, wait).await.is_ok());
}

#[tokio::test]
async fn the_relay_asks_for_the_stacks_itself_and_both_messages_are_one_profile() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    let mut call = wire.begin(PATH, &[]).await;
    call.say(&message(SAMPLES));
    assert_asks(&call.hear().await);
    call.say(&message(STACKS));
    let (status, rest) = call.end().await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert!(rest.is_empty());
    assert_went_on(&mut subject).await;
    subject.until_over("write", "ok").await;
    let counted = r#"profile_relay_receiver_arrow_profiles_total{receiver="parca",schema="v1"}"#;
    assert_eq!(subject.metric(counted), 1);
    subject.end().await;
}

#[tokio::test]
async fn a_generated_client_does_the_same() {
    let mut subject = Subject::start().await;
    let (say, said) = mpsc::channel(1);
    let said = futures_util::stream::unfold(said, async |mut said| {
        let record: &'static [u8] = said.recv().await?;
        let record = Bytes::from_static(record);
        Some((WriteRequest { record }, said))
    });
    say.send(SAMPLES).await.unwrap();
    let mut answers = subject.client().write(said).await.unwrap().into_inner();
    let question = answers.message().await.unwrap().unwrap();
    assert_asks(&question.encode_to_vec().into());
    say.send(STACKS).await.unwrap();
    drop(say);
    assert!(answers.message().await.unwrap().is_none());
    assert_went_on(&mut subject).await;
}

#[tokio::test]
async fn an_agent_that_does_not_read_on_has_delivered() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    for _ in 0..3 {
        let mut call = wire.begin(PATH, &[]).await;
        call.say(&message(SAMPLES));
        call.hear().await;
        call.say(&message(STACKS));
        // It half-closes, and forgets the call without a reset.
        let answer = call.leave();
        assert_went_on(&mut subject).await;
        drop(answer);
    }
    subject.end().await;
}

#[tokio::test]
async fn a_reset_behind_the_stacks_loses_nothing() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    let mut call = wire.begin(PATH, &[]).await;
    call.say(&message(SAMPLES));
    call.hear().await;
    call.say(&message(STACKS));
    // The bytes must be out before the reset is.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(call);
    assert_went_on(&mut subject).await;
}

#[tokio::test]
async fn both_messages_at_once_are_taken_and_what_follows_is_not_read() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    let all = [SAMPLES, STACKS, SAMPLES].map(|record| framed(&message(record)));
    let status = wire.call(PATH, &[], all.concat()).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert_went_on(&mut subject).await;
    subject.until_over("write", "ok").await;
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_that_falls_silent_hears_of_it_and_leaves_nothing() {
    let mut subject = hasty().await;
    let mut wire = Wire::connect(subject.address).await;
    for first in [None, Some(SAMPLES)] {
        let mut call = wire.begin(PATH, &[]).await;
        if let Some(first) = first {
            call.say(&message(first));
            call.hear().await;
        }
        let (status, _) = call.end().await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(
            status.message().contains("write.idle_timeout"),
            "{status:?}"
        );
    }
    subject.until_over("write", "late").await;
    assert_eq!(subject.counted("write", "late"), 2);
    assert!(subject.batches.try_recv().is_err());
    subject.end().await;
}

#[tokio::test]
async fn an_agent_that_dribbles_is_ended_by_the_total_time() {
    let mut subject = hasty().await;
    let mut wire = Wire::connect(subject.address).await;
    let call = wire.begin(PATH, &[]).await;
    let say = call.say.clone();
    let dribble = Tasks::default().spawn("dribble", async move {
        let mut bytes = framed(&message(SAMPLES)).into_iter();
        while say.send(vec![bytes.next().unwrap()].into()).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (status, _) = call.end().await;
    dribble.abort();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("write.timeout"), "{status:?}");
    subject.until_over("write", "late").await;
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_that_reads_nothing_cannot_hold_memory() {
    let subject = hasty().await;
    // Not even the question fits.
    let mut wire = Wire::with_window(subject.address, 0).await;
    let call = wire.begin(PATH, &[]).await;
    // What the connection may send unread is taken as long as a call is in flight.
    let before = subject.memory.used();
    call.say(&message(SAMPLES));
    subject.until_counted("write", "late").await;
    until(|| subject.memory.used() <= before).await;
    drop(call);
    subject.until_free().await;
    subject.end().await;
}

#[tokio::test]
async fn half_a_profile_goes_nowhere() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    let half = framed(&message(SAMPLES));
    let cut = half[..half.len() / 2].to_vec();
    for (sent, word) in [
        (half, "stacks are missing"),
        (cut, "ends after"),
        (Vec::new(), "no message"),
        (framed(b""), "Arrow"),
        (framed(b"\xff"), "WriteRequest"),
        (framed(&message(STACKS)), "samples come first"),
        (framed(&message(V2)), "WriteArrow"),
        (
            [framed(&message(SAMPLES)), framed(&message(SAMPLES))].concat(),
            "no stacks",
        ),
        (
            [framed(&message(SAMPLES)), framed(&message(b""))].concat(),
            "Arrow",
        ),
    ] {
        let status = wire.call(PATH, &[], sent).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(word), "{word}: {status:?}");
    }
    subject.until_over("write", "invalid").await;
    assert_eq!(subject.counted("write", "invalid"), 9);

    let mut call = wire.begin(PATH, &[]).await;
    call.say(&message(SAMPLES));
    call.hear().await;
    drop(call);
    subject.until_over("write", "broken").await;
    assert!(subject.batches.try_recv().is_err());
    subject.end().await;
}

#[tokio::test]
async fn a_full_queue_is_said_at_the_end_of_the_call() {
    let subject = Subject::stuck(10).await;
    let mut wire = Wire::connect(subject.address).await;
    let mut call = wire.begin(PATH, &[]).await;
    call.say(&message(SAMPLES));
    call.hear().await;
    call.say(&message(STACKS));
    let (status, _) = call.end().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    subject.until_over("write", "too_large").await;
}

#[tokio::test]
async fn an_agent_that_tries_again_has_delivered_once() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    for attempt in ["0", "1", "2"] {
        let headers = [("x-retry-attempt", attempt)];
        let both = [SAMPLES, STACKS].map(|record| framed(&message(record)));
        let status = wire.call(PATH, &headers, both.concat()).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }
    assert_went_on(&mut subject).await;
    assert_eq!(subject.duplicates(), 2);
    assert!(subject.batches.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_that_stops_finishes_the_calls_it_has() {
    let mut subject = Subject::start().await;
    let mut wire = Wire::connect(subject.address).await;
    let mut call = wire.begin(PATH, &[]).await;
    call.say(&message(SAMPLES));
    call.hear().await;
    subject.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    call.say(&message(STACKS));
    let (status, _) = call.end().await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert_went_on(&mut subject).await;
    subject.end().await;
}
