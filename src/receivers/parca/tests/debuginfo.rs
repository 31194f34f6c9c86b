//! Debug symbols, and what else is passed on.

use super::{
    upstream::{Bucket, Parca},
    wire::Wire,
    *,
};
use crate::{
    r#gen::{
        debuginfo::{
            InitiateUploadRequest, InitiateUploadResponse, MarkUploadFinishedRequest,
            ShouldInitiateUploadRequest, ShouldInitiateUploadResponse, UploadInfo,
            UploadInstructions, UploadRequest, UploadResponse,
            debuginfo_service_client::DebuginfoServiceClient, upload_instructions::UploadStrategy,
            upload_request::Data,
        },
        opentelemetry::proto::collector::profiles::v1development::{
            ExportProfilesServiceRequest, profiles_service_client::ProfilesServiceClient,
        },
        telemetry::{ReportPanicRequest, telemetry_service_client::TelemetryServiceClient},
    },
    net::ClientAuth,
    receivers::parca::debuginfo::UPLOAD,
};
use futures_util::{StreamExt, stream};
use tonic::Status;

const IN_PROGRESS: &str =
    "A previous upload is still in-progress and not stale yet (only stale uploads can be retried).";

/// What an agent cuts files into.
const CHUNK: usize = 8 << 20;

fn upstream(address: SocketAddr, settings: &mut Settings) {
    settings.upstream = Some(GrpcClientSettings {
        endpoint: format!("http://{address}"),
        auth: ClientAuth {
            bearer_token: Some("of-the-relay".to_owned().into()),
            ..ClientAuth::default()
        },
        ..GrpcClientSettings::default()
    });
}

/// A relay before a Parca.
async fn passing(parca: &Parca) -> Subject {
    Subject::with(|settings| upstream(parca.address, settings)).await
}

fn client(subject: &Subject) -> DebuginfoServiceClient<GrpcChannel> {
    DebuginfoServiceClient::new(subject.channel())
}

fn about(build_id: &str) -> ShouldInitiateUploadRequest {
    ShouldInitiateUploadRequest {
        build_id: build_id.to_owned(),
        build_id_type: 1,
        ..ShouldInitiateUploadRequest::default()
    }
}

fn no(reason: &str) -> ShouldInitiateUploadResponse {
    ShouldInitiateUploadResponse {
        should_initiate_upload: false,
        reason: reason.to_owned(),
    }
}

fn initiate(size: usize) -> InitiateUploadRequest {
    InitiateUploadRequest {
        build_id: "abcd".to_owned(),
        size: size as i64,
        hash: "hash".to_owned(),
        ..InitiateUploadRequest::default()
    }
}

fn instructions(strategy: UploadStrategy, signed_url: &str) -> InitiateUploadResponse {
    InitiateUploadResponse {
        upload_instructions: Some(UploadInstructions {
            build_id: "abcd".to_owned(),
            upload_id: "upload-1".to_owned(),
            upload_strategy: strategy.into(),
            signed_url: signed_url.to_owned(),
            ..UploadInstructions::default()
        }),
    }
}

fn info() -> UploadRequest {
    UploadRequest {
        data: Some(Data::Info(UploadInfo {
            build_id: "abcd".to_owned(),
            upload_id: "upload-1".to_owned(),
            ..UploadInfo::default()
        })),
    }
}

fn chunk(bytes: Bytes) -> UploadRequest {
    UploadRequest {
        data: Some(Data::ChunkData(bytes)),
    }
}

/// A file of `size` bytes, as an agent sends it.
fn messages(size: usize) -> (Bytes, Vec<UploadRequest>) {
    let file: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
    let chunks = (0..size.div_ceil(CHUNK)).map(|at| {
        let end = size.min((at + 1) * CHUNK);
        chunk(file.slice(at * CHUNK..end))
    });
    let messages = [info()].into_iter().chain(chunks).collect();
    (file, messages)
}

async fn upload(subject: &Subject, messages: Vec<UploadRequest>) -> Result<UploadResponse, Status> {
    let answer = client(subject).upload(stream::iter(messages)).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn questions_and_answers_pass_with_the_credentials_of_the_relay() {
    let parca = Parca::start();
    let subject = Subject::with(|settings| {
        upstream(parca.address, settings);
        let names = vec!["x-scope-orgid".to_owned(), "authorization".to_owned()];
        settings.server.include_metadata = crate::net::serve::IncludeMetadata::Names(names);
    })
    .await;
    let mut request = tonic::Request::new(about("abcd"));
    for (name, value) in [
        ("authorization", "Bearer of-the-agent"),
        ("x-scope-orgid", "apps"),
        ("x-other", "ends here"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let answer = client(&subject).should_initiate_upload(request).await;
    let answer = answer.unwrap().into_inner();
    assert!(answer.should_initiate_upload);
    assert_eq!(answer.reason, "First time we see this Build ID.");
    let asked = parca.state().asked.clone();
    let headers = &asked[0].1;
    assert_eq!(headers["authorization"], "Bearer of-the-relay");
    assert_eq!(headers["x-scope-orgid"], "apps");
    assert!(!headers.contains_key("x-other"), "{headers:?}");
    assert_eq!(subject.counted("should_initiate_upload", "ok"), 1);
    subject.end().await;
}

#[tokio::test]
async fn that_a_file_is_there_is_asked_once_and_all_else_each_time() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    let ask = async |build_id: &str| {
        let answer = client(&subject)
            .should_initiate_upload(about(build_id))
            .await;
        answer.unwrap().into_inner()
    };
    parca.state().should = Ok(no("it is there"));
    for _ in 0..3 {
        assert_eq!(ask("abcd").await, no("it is there"));
    }
    assert_eq!(parca.asked("should"), 1);
    parca.state().should = Ok(no(IN_PROGRESS));
    for _ in 0..2 {
        assert_eq!(ask("ef").await, no(IN_PROGRESS));
    }
    assert_eq!(parca.asked("should"), 3);
    let cached = r#"profile_relay_receiver_debuginfo_cached_answers_total{receiver="parca"}"#;
    assert_eq!(subject.metric(cached), 2);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_unavailable_and_never_a_no() {
    let parca = Parca::start();
    let subject = Subject::with(|settings| {
        upstream(parca.address, settings);
        settings.upstream.as_mut().unwrap().timeout = "300ms".parse().unwrap();
    })
    .await;
    let check = async |what: &str| {
        let mut client = client(&subject);
        let finished = MarkUploadFinishedRequest::default();
        for status in [
            client
                .should_initiate_upload(about("abcd"))
                .await
                .unwrap_err(),
            client.initiate_upload(initiate(1)).await.unwrap_err(),
            client.mark_upload_finished(finished).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
            assert!(status.message().contains("upstream"), "{status:?}");
            assert!(retry_delay(&status).is_some());
        }
    };
    parca.state().hangs = true;
    check("a black hole").await;
    parca.state().hangs = false;
    for refused in [
        Status::unauthenticated("who?"),
        Status::permission_denied("no"),
        Status::unavailable("later"),
    ] {
        parca.state().should = Err(refused.clone());
        let asked = client(&subject).should_initiate_upload(about("abcd")).await;
        let status = asked.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains(refused.message()), "{status:?}");
    }
    parca.kill();
    check("gone").await;
    let gone = upload(&subject, messages(10).1).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable, "{gone:?}");
}

#[tokio::test]
async fn what_the_upstream_itself_says_is_passed() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    for code in [
        Code::FailedPrecondition,
        Code::AlreadyExists,
        Code::InvalidArgument,
    ] {
        parca.state().initiate = Err(Status::new(code, "as it says"));
        let refused = client(&subject).initiate_upload(initiate(1)).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, "as it says"));
    }
    assert_eq!(subject.counted("initiate_upload", "ok"), 2);
    assert_eq!(subject.counted("initiate_upload", "invalid"), 1);
}

#[tokio::test]
async fn without_an_upstream_nothing_is_given_up_for_good() {
    let subject = Subject::start().await;
    let mut client = client(&subject);
    let answer = client.should_initiate_upload(about("abcd")).await.unwrap();
    assert_eq!(answer.into_inner(), no(IN_PROGRESS));
    let refused = client.initiate_upload(initiate(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no upstream"), "{refused:?}");
}

#[tokio::test]
async fn an_upload_passes_as_it_comes_and_takes_no_memory() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    let (file, messages) = messages(3 * CHUNK + 5);
    let answer = upload(&subject, messages.clone()).await.unwrap();
    assert_eq!(answer.size, file.len() as u64);
    let (info, size, digest) = parca.state().uploads[0].clone();
    assert_eq!((info.upload_id.as_str(), size), ("upload-1", answer.size));
    let pieces = messages[1..].iter().map(|message| match &message.data {
        Some(Data::ChunkData(chunk)) => seen::key("", [], &[chunk]),
        _ => panic!("no chunk"),
    });
    let pieces: Vec<_> = pieces.collect();
    assert_eq!(digest, seen::key("", [], &[&pieces.concat()]));
    until("all came back", || subject.memory.used() == 0).await;
    let bytes = r#"profile_relay_receiver_debuginfo_uploaded_bytes_total{receiver="parca",strategy="grpc"}"#;
    assert!(subject.metric(bytes) > answer.size);
}

#[tokio::test]
async fn an_upstream_that_reads_slowly_holds_the_agent_back() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    parca.reads.send(false).unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = sent.clone();
    let (_, messages) = messages(12 * CHUNK);
    // Pulled by the connection as far as it may send.
    let pulled = stream::iter(messages).inspect(move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let mut client = client(&subject);
    let uploading = Tasks::default().spawn("upload", async move { client.upload(pulled).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(before < 7, "{before} of 13 messages are out");
    parca.reads.send(true).unwrap();
    let answer = uploading.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.size, 12 * CHUNK as u64);
}

#[tokio::test]
async fn what_would_end_the_upstream_does_not_reach_it() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    let mut wire = Wire::connect(subject.address).await;
    let both = [
        info().encode_to_vec(),
        chunk(Bytes::from_static(b"x")).encode_to_vec(),
    ];
    for first in [
        Vec::new(),
        chunk(Bytes::from_static(b"x")).encode_to_vec(),
        // The last of a choice counts.
        both.concat(),
        vec![0xff],
        vec![0; 1 << 20],
    ] {
        let status = wire.call(UPLOAD, &[], wire::framed(&first)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let status = wire.call(UPLOAD, &[], Bytes::new()).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(parca.asked("upload"), 0);
}

#[tokio::test]
async fn an_upload_that_falls_silent_or_is_reset_ends_on_both_sides() {
    let parca = Parca::start();
    let subject = Subject::with(|settings| {
        upstream(parca.address, settings);
        settings.debuginfo.idle_timeout = "200ms".parse().unwrap();
    })
    .await;
    let half = stream::iter(messages(CHUNK).1).chain(stream::pending());
    let silent = client(&subject).upload(half).await.unwrap_err();
    assert_eq!(silent.code(), Code::DeadlineExceeded, "{silent:?}");
    assert!(silent.message().contains("debuginfo.idle_timeout"));
    until("the upstream notices", || parca.state().broken == 1).await;

    let half = stream::iter(messages(CHUNK).1).chain(stream::pending());
    let mut agent = client(&subject);
    let uploading = Tasks::default().spawn("upload", async move { agent.upload(half).await });
    until("it has begun", || parca.asked("upload") == 2).await;
    uploading.abort();
    // A cancelled stream is cut off for a Parca; to hyper, which serves here, it may
    // look like one that has ended.
    let ended = || {
        let state = parca.state();
        state.broken + state.uploads.len() == 2
    };
    until("the upstream notices", ended).await;
    assert_eq!(subject.counted("upload", "late"), 1);
    until("it is counted", || subject.counted("upload", "broken") == 1).await;
}

#[tokio::test]
async fn an_upstream_that_dies_in_the_middle_is_unavailable() {
    let parca = Parca::start();
    let subject = passing(&parca).await;
    let half = stream::iter(messages(CHUNK).1).chain(stream::pending());
    let mut agent = client(&subject);
    let uploading = Tasks::default().spawn("upload", async move { agent.upload(half).await });
    until("it has begun", || parca.asked("upload") == 1).await;
    parca.kill();
    let died = uploading.await.unwrap().unwrap_err();
    assert_eq!(died.code(), Code::Unavailable, "{died:?}");
}

#[tokio::test]
async fn an_upload_to_a_signed_url_goes_through_the_relay() {
    let parca = Parca::start();
    let mut bucket = Bucket::start(200).await;
    let subject = passing(&parca).await;
    let url = format!("http://{}/bucket/abcd?X-Signature=secret", bucket.address);
    parca.state().initiate = Ok(instructions(UploadStrategy::SignedUrl, &url));
    parca.state().takes_uploads = false;
    let (file, messages) = messages(CHUNK + 5);
    let answer = client(&subject).initiate_upload(initiate(file.len())).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer, instructions(UploadStrategy::Grpc, ""));

    let answer = upload(&subject, messages.clone()).await.unwrap();
    assert_eq!(answer.size, file.len() as u64);
    let put = bucket.puts.recv().await.unwrap();
    assert_eq!(put.path, "/bucket/abcd?X-Signature=secret");
    assert_eq!(put.headers["content-length"], file.len().to_string());
    assert!(!put.headers.contains_key("authorization"));
    assert!(!put.headers.contains_key("transfer-encoding"));
    assert!(put.body.unwrap() == file);
    let request = MarkUploadFinishedRequest {
        upload_id: "upload-1".to_owned(),
        ..MarkUploadFinishedRequest::default()
    };
    client(&subject)
        .mark_upload_finished(request)
        .await
        .unwrap();
    assert_eq!(parca.state().finished, ["upload-1"]);

    // It is over, and a relay that was started anew knows as little.
    let again = upload(&subject, messages).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");
    until("all came back", || subject.memory.used() == 0).await;
}

#[tokio::test]
async fn an_upload_to_a_signed_url_is_what_was_agreed_upon_or_nothing() {
    let parca = Parca::start();
    let mut bucket = Bucket::start(403).await;
    let subject = passing(&parca).await;
    let url = format!("http://{}/x?X-Signature=secret", bucket.address);
    parca.state().initiate = Ok(instructions(UploadStrategy::SignedUrl, &url));
    let (file, messages) = messages(1_000);
    for (agreed, code) in [
        (file.len() + 1, Code::InvalidArgument),
        (file.len() - 1, Code::InvalidArgument),
        (file.len(), Code::Unavailable),
    ] {
        let initiated = client(&subject).initiate_upload(initiate(agreed)).await;
        initiated.unwrap();
        let refused = upload(&subject, messages.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(!refused.message().contains("secret"), "{refused:?}");
    }
    // Only the last one was whole.
    let whole = async {
        loop {
            let put = bucket.puts.recv().await.unwrap();
            if let Some(body) = put.body {
                break assert!(body == file);
            }
        }
    };
    tokio::time::timeout(MANY, whole).await.unwrap();
    assert!(bucket.puts.try_recv().is_err());
    drop(bucket);
    let refused = upload(&subject, messages).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(!refused.message().contains("secret"), "{refused:?}");
}

#[tokio::test]
async fn more_uploads_than_are_allowed_wait_for_their_turn() {
    let parca = Parca::start();
    let subject = Subject::with(|settings| {
        upstream(parca.address, settings);
        settings.debuginfo.max_concurrent_uploads = 2;
    })
    .await;
    parca.reads.send(false).unwrap();
    let uploads = (0..5).map(|_| upload(&subject, messages(1_000).1));
    let uploads = futures_util::future::join_all(uploads);
    let watching = async {
        until("two have begun", || parca.asked("upload") == 2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(parca.asked("upload"), 2);
        parca.reads.send(true).unwrap();
    };
    let (uploads, ()) = tokio::join!(uploads, watching);
    assert!(uploads.iter().all(Result::is_ok), "{uploads:?}");
    assert_eq!(parca.asked("upload"), 5);
}

#[tokio::test]
async fn the_report_of_a_panic_is_always_a_success() {
    let report = || ReportPanicRequest {
        stderr: "panic: out of everything".to_owned(),
        metadata: [("agent_version".to_owned(), "v0.49".to_owned())].into(),
    };
    let alone = Subject::start().await;
    let mut agent = TelemetryServiceClient::new(alone.channel());
    agent.report_panic(report()).await.unwrap();

    let parca = Parca::start();
    let subject = passing(&parca).await;
    let mut agent = TelemetryServiceClient::new(subject.channel());
    agent.report_panic(report()).await.unwrap();
    assert_eq!(parca.state().panics, ["panic: out of everything"]);
    parca.kill();
    agent.report_panic(report()).await.unwrap();
    assert_eq!(subject.counted("report_panic", "ok"), 2);
}

#[tokio::test]
async fn other_services_are_passed_on_when_they_are_to() {
    let parca = Parca::start();
    let subject = Subject::with(|settings| {
        upstream(parca.address, settings);
        settings.other_services = OtherServices::Proxy;
    })
    .await;
    let mut agent = ProfilesServiceClient::new(subject.channel());
    let mut request = tonic::Request::new(ExportProfilesServiceRequest::default());
    request
        .metadata_mut()
        .insert("x-other", "ends here".parse().unwrap());
    request
        .metadata_mut()
        .insert("traceparent", "00-a-b-01".parse().unwrap());
    let answer = agent.export(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-from").unwrap(), "upstream");
    let asked = parca.state().asked.clone();
    let headers = &asked[0].1;
    assert_eq!(headers["authorization"], "Bearer of-the-relay");
    assert_eq!(headers["traceparent"], "00-a-b-01");
    assert!(!headers.contains_key("x-other"));

    let mut wire = Wire::connect(subject.address).await;
    let status = wire.call("/no.Such/Thing", &[], wire::framed(b"")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    // The upstream's own word.
    assert!(!status.message().contains("profile-relay"), "{status:?}");
    parca.kill();
    let status = wire.call("/no.Such/Thing", &[], wire::framed(b"")).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

async fn until(what: &str, mut wish: impl FnMut() -> bool) {
    let wait = async {
        while !wish() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(MANY, wait).await.is_ok(), "{what}");
}
