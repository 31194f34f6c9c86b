//! Requests that are meant to harm.

use super::{wire::Wire, *};
use crate::profile::pprof::compress;
use futures_util::future::join_all;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

const SMALL: u64 = 64 << 20;

/// Notes the most that a budget ever held.
fn watch(budget: &Budget) -> impl Fn() -> u64 + use<> {
    let (budget, peak) = (budget.clone(), Arc::new(Mutex::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (peak, over) = (peak.clone(), over.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                let mut peak = peak.lock().unwrap();
                *peak = budget.used().max(*peak);
                drop(peak);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let watcher = Mutex::new(Some(watcher));
    move || {
        over.store(true, Ordering::Relaxed);
        watcher.lock().unwrap().take().unwrap().join().unwrap();
        *peak.lock().unwrap()
    }
}

/// 4 MB of messages that are as small as messages get.
fn empty_messages(shape: &[u8]) -> Vec<u8> {
    shape.repeat((4 << 20) / shape.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_requests_of_empty_messages_pass_or_are_refused_within_the_budget() {
    // A resource without profiles, a dictionary, an unknown field, and a
    // resource with one empty profile.
    let shapes: [(&[u8], usize); 4] = [
        (&[0x0a, 0], 50),
        (&[0x12, 0], 8),
        (&[0x7a, 0], 8),
        (&[0x0a, 4, 0x12, 2, 0x12, 0], 8),
    ];
    for (shape, calls) in shapes {
        let mut subject = Subject::with(|_| {}, SMALL).await;
        let peak = watch(&subject.memory);
        let bomb = compress(&empty_messages(shape));
        assert!(bomb.len() < 50_000, "{}", bomb.len());
        let calls = (0..calls).map(|_| async {
            let mut wire = Wire::connect(subject.grpc).await;
            let headers = [("grpc-encoding", "gzip")];
            wire.export(&headers, true, &bomb).await.code()
        });
        let codes = join_all(calls).await;
        let known = [Code::Ok, Code::Unavailable, Code::ResourceExhausted];
        assert!(codes.iter().all(|code| known.contains(code)), "{codes:?}");
        assert!(peak() <= SMALL);
        // And nobody else is worse off once they are through.
        subject.batches.close();
        while subject.batches.recv().await.is_some() {}
        let mut wire = Wire::connect(subject.grpc).await;
        let retried = async {
            while wire.export(&[], false, &plain()).await.code() != Code::Ok {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(MANY, retried).await.unwrap();
    }
}

#[tokio::test]
async fn a_few_bytes_that_stand_for_many_labels_are_refused() {
    // 20,000 resources whose one attribute is an index to a megabyte.
    let attribute = [0x0a, 7, 0x0a, 1, b'k', 0x12, 2, 0x40, 1];
    let resource = [
        &[0x0a, 17, 0x0a, 9][..],
        &attribute,
        &[0x12, 4, 0x12, 2, 0x12, 0],
    ]
    .concat();
    assert_eq!(resource.len(), 2 + usize::from(resource[1]));
    let dictionary = ProfilesDictionary {
        string_table: vec![String::new(), "x".repeat(1 << 20)],
        ..ProfilesDictionary::default()
    };
    let tail = ExportProfilesServiceRequest {
        resource_profiles: Vec::new(),
        dictionary: Some(dictionary),
    };
    let message = [resource.repeat(20_000), tail.encode_to_vec()].concat();
    let subject = Subject::with(|_| {}, SMALL).await;
    let mut wire = Wire::connect(subject.grpc).await;
    let status = wire.export(&[], false, &message).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        status.message().contains("service.memory.limit"),
        "{status:?}"
    );
    assert_eq!(subject.memory.used(), 0);
}

#[tokio::test]
async fn bombs_end_at_the_limit() {
    let subject = Subject::with(|_| {}, 512 << 20).await;
    let zeros = vec![0; 80 << 20];
    let gzip = compress(&zeros);
    let zstd = zstd::encode_all(&*zeros, 1).unwrap();
    let mut lying = gzip.to_vec();
    // A gzip trailer that claims next to nothing.
    let end = lying.len() - 4;
    lying[end..].copy_from_slice(&[1, 0, 0, 0]);
    let mut wire = Wire::connect(subject.grpc).await;
    for (encoding, bomb) in [("gzip", &gzip[..]), ("gzip", &lying), ("zstd", &zstd)] {
        let status = wire
            .export(&[("grpc-encoding", encoding)], true, bomb)
            .await;
        assert_eq!(
            status.code(),
            Code::ResourceExhausted,
            "{encoding}: {status:?}"
        );
        assert!(
            status.message().contains("max_recv_msg_size_mib"),
            "{status:?}"
        );
        assert!(status.details().is_empty());
        assert_eq!(subject.memory.used(), 0);
    }
}

#[tokio::test]
async fn garbage_is_invalid_and_never_worse() {
    let subject = Subject::start().await;
    let mut wire = Wire::connect(subject.grpc).await;
    let nested = [0x0b_u8].repeat(100_000);
    let cases: [&[u8]; 6] = [
        // A varint that does not end, one of eleven bytes, a length beyond the end.
        &[0x0a, 0xff],
        &[
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ],
        &[0x0a, 0x7f, 1],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
        &[0x00],
        &nested,
    ];
    for case in cases {
        let status = wire.export(&[], false, case).await;
        let start = &case[..case.len().min(16)];
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{start:?}: {status:?}"
        );
    }
    for encoding in ["gzip", "zstd"] {
        let status = wire
            .export(&[("grpc-encoding", encoding)], true, b"garbage")
            .await;
        assert_eq!(status.code(), Code::InvalidArgument, "{encoding}");
    }
    // Two messages, and a prefix that is none.
    let two = [wire::framed(false, &plain()), wire::framed(false, &plain())].concat();
    assert_eq!(
        wire.call(EXPORT, &[], two).await.code(),
        Code::InvalidArgument
    );
    assert_eq!(
        wire.call(EXPORT, &[], &b"\x09abcdefgh"[..]).await.code(),
        Code::InvalidArgument
    );
    assert_eq!(
        wire.call(EXPORT, &[], Bytes::new()).await.code(),
        Code::InvalidArgument
    );
    assert_eq!(subject.memory.used(), 0);
}

#[tokio::test]
async fn json_that_says_nothing_at_length_stays_within_the_budget() {
    let subject = Subject::with(|_| {}, SMALL).await;
    let empty = format!(
        r#"{{"resourceProfiles":[{}{{}}]}}"#,
        "{},".repeat(1_000_000)
    );
    let headers = [("content-type", "application/json")];
    let told = subject.post(&headers, empty).await;
    assert!(
        [200, 503].contains(&told.status.as_u16()),
        "{}",
        told.status
    );
    let deep = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
    assert_eq!(subject.post(&headers, deep).await.status, 400);
    assert_eq!(subject.memory.used(), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let short = crate::settings::Duration::from_millis(100);
    let change = |settings: &mut Settings| {
        settings
            .protocols
            .grpc
            .as_mut()
            .unwrap()
            .server
            .read_timeout = short;
        settings
            .protocols
            .http
            .as_mut()
            .unwrap()
            .server
            .read_timeout = short;
    };
    let subject = Subject::with(change, SMALL).await;
    let mut wire = Wire::connect(subject.grpc).await;
    let (send, pieces) = mpsc::unbounded_channel();
    send.send(Bytes::from_static(b"\0\0\0\x10\0some")).unwrap();
    let status = wire.slow(&[], pieces).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        !status.details().is_empty(),
        "it may come faster another time"
    );

    let mut stream = TcpStream::connect(subject.http).await.unwrap();
    let head = "POST /v1development/profiles HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\
                content-type: application/x-protobuf\r\n\r\nsome";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(MANY, stream.read_to_string(&mut answer));
    // What is left of the answer is a protobuf.
    let _ = read.await.unwrap();
    subject.until_counted("http", "late").await;
    assert_eq!(subject.memory.used(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let subject = Subject::start().await;
    let (send, pieces) = mpsc::unbounded_channel();
    send.send(Bytes::from_static(b"\0\0\x01\0\0some")).unwrap();
    let mut wire = Wire::connect(subject.grpc).await;
    let call = Tasks::default().spawn("call", async move { wire.slow(&[], pieces).await });
    while subject.memory.used() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call.abort();
    subject.until_counted("grpc", "broken").await;
    assert_eq!(subject.memory.used(), 0);
    subject.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_and_not_the_end() {
    let subject = Subject::start().await;
    let stream = TcpStream::connect(subject.http).await.unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(true).unwrap();
    let request = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".repeat(1_000);
    // Until neither side takes any more.
    let mut blocked = 0;
    while blocked < 100 {
        use std::io::Write;
        match stream.write(request.as_bytes()) {
            // How much of it was taken does not matter.
            Ok(1..) => blocked = 0,
            Ok(0) => break,
            Err(_) => {
                blocked += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert_eq!(subject.post(&[], plain()).await.status, 200);
    subject.end().await;
}
