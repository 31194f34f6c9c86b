use super::*;
use crate::{
    exporters::shared::otlp::testing::{
        FUTURE, FarEnd, Reply, context, counted, future_request, meaning, otlp_batch, partial,
        pprof, pprof_batch, pprof_totals, prepare, totals,
    },
    net::testing::Ca,
    pipeline::{Delivery, DeliverySettings, Reason},
    profile::{
        Body, Origin,
        arrow::{Arrow, SyntheticArrow},
        otlp::census,
    },
    runtime::Tasks,
    settings::Duration,
};
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{self, UNIX_EPOCH},
};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tonic::Code;

fn exporter_of(settings: serde_json::Value, context: &Context) -> OtlpExporter {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    settings.build(context).unwrap()
}

fn exporter(address: SocketAddr, more: serde_json::Value) -> OtlpExporter {
    let mut settings = json!({"endpoint": format!("http://{address}")});
    let settings_map = settings.as_object_mut().unwrap();
    settings_map.extend(more.as_object().unwrap().clone());
    exporter_of(settings, &context())
}

/// A backend that takes everything.
async fn taking() -> FarEnd {
    FarEnd::start(|_, _| Reply::grpc(b"")).await
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

// === bodies ===

#[tokio::test]
async fn what_nobody_edited_leaves_in_the_bytes_in_which_it_came() {
    use Compression::{Gzip, None, Zstd};
    let plain = future_request(&["api", "web"], 3);
    let far = taking().await;
    for (setting, came, leaves) in [
        ("none", None, None),
        ("none", Gzip, None),
        ("none", Zstd, None),
        ("gzip", None, Gzip),
        ("gzip", Gzip, Gzip),
        ("gzip", Zstd, Gzip),
        ("zstd", None, Zstd),
        ("zstd", Gzip, Gzip),
        ("zstd", Zstd, Zstd),
    ] {
        let exporter = exporter(far.address, json!({"compression": setting}));
        let wire = came.compress(&plain).unwrap();
        exporter.export(&otlp_batch(&wire, came)).await.unwrap();
        let (bytes, compression) = far.last().message();
        assert_eq!(compression, leaves, "{setting} {came:?}");
        if came == leaves {
            assert_eq!(bytes, wire, "{setting} {came:?}");
        }
        let arrived = leaves.inflate(&bytes, 1 << 20).unwrap();
        assert_eq!(arrived, plain, "{setting} {came:?}");
    }
    let sent = far.last();
    assert_eq!(sent.path, EXPORT);
    assert_eq!(sent.headers["otlp-profiles-development-version"], "1");
    assert_eq!(sent.headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn fields_of_a_future_version_survive_edits_and_filters() {
    let plain = future_request(&["api", "web"], 3);
    let far = taking().await;
    let exporter = exporter(far.address, json!({"compression": "none"}));
    let mut batch = otlp_batch(&plain, Compression::None);
    batch.profiles.pop();
    let mut edit = batch.profiles[0].labels.edit();
    edit.set("juju_model", "apps");
    batch.profiles[0].labels = edit.build();
    exporter.export(&batch).await.unwrap();
    let (sent, _) = far.last().message();
    for text in FUTURE.iter().chain(&["juju_model", "apps", "api"]) {
        assert!(has(&sent, text), "{text}");
    }
    assert!(!has(&sent, "web"));
    assert_eq!(totals(&sent), [("samples".to_owned(), 1 + 2 + 3)].into());
}

#[tokio::test]
async fn pprofs_leave_as_one_request_that_others_can_read() {
    let far = taking().await;
    let batch = pprof_batch(5);
    for (setting, came) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ] {
        let exporter = exporter(far.address, json!({"compression": setting}));
        let prepared = exporter.prepare(&batch.profiles, &context().memory);
        assert_eq!(prepared.unwrap().len(), 5);
        exporter.export(&batch).await.unwrap();
        let (bytes, compression) = far.last().message();
        assert_eq!(compression, came);
        let plain = compression.inflate(&bytes, 64 << 20).unwrap();
        assert_eq!(totals(&plain), pprof_totals(&batch));
        assert_eq!(otlp_batch(&plain, Compression::None).count(), 5 * 4);
    }
    assert_eq!(far.arrived().len(), 3, "one request each");
}

#[tokio::test]
async fn what_parca_agent_pushed_leaves_as_otlp() {
    let far = taking().await;
    let exporter = exporter(far.address, json!({"compression": "none"}));
    let synthetic = SyntheticArrow::busy(1);
    for arrow in [synthetic.v1().unwrap(), synthetic.v2().unwrap()] {
        let profile = Profile {
            labels: [("juju_model", "apps")].into_iter().collect(),
            body: Body::ParcaArrow(arrow),
            received: UNIX_EPOCH,
        };
        let memory = context().memory;
        let mut prepared = exporter.prepare(&[profile], &memory).unwrap();
        let parts = prepared.remove(0).unwrap();
        // One for each process, all of one request, which they hold the memory of.
        assert_eq!(parts.len(), 12);
        let profiles: Vec<Profile> = parts.iter().map(|part| part.profile.clone()).collect();
        let request = profiles[0].body.as_otlp().unwrap().request();
        assert_eq!(memory.used(), request.held());
        drop(parts);
        assert_eq!(memory.used(), 0);
        for profile in &profiles {
            assert_eq!(profile.labels.get("juju_model"), Some("apps"));
            assert!(profile.body.can_join(&profiles[0].body));
        }
        let batch = Batch::new(Origin::default(), profiles);
        exporter.export(&batch).await.unwrap();
        let (plain, _) = far.last().message();
        assert_eq!(totals(&plain), [("samples".to_owned(), 2_000)].into());
    }
}

#[tokio::test]
async fn what_is_no_arrow_is_dropped_with_its_reason() {
    let context = context();
    let settings = json!({"endpoint": "http://127.0.0.1:1", "max_inflated_bytes": "64KiB"});
    let exporter = exporter_of(settings, &context);
    let large = SyntheticArrow::busy(1).v2().unwrap();
    let cut = large.samples().slice(..1_000);
    for (arrow, reason) in [
        (
            Arrow::v2(Bytes::from_static(b"<html>")),
            Reason::InvalidProfile,
        ),
        (Arrow::v2(cut), Reason::InvalidProfile),
        (large, Reason::TooLarge),
    ] {
        let mut profile = pprof("a", Bytes::new());
        profile.body = Body::ParcaArrow(arrow);
        assert_eq!(prepare(&exporter, profile).err(), Some(reason));
    }
    assert!(counted(&context, "unrepairable_profiles_total") > 0);
}

#[tokio::test]
async fn a_pprof_goes_along_when_asked_for() {
    let far = taking().await;
    let batch = pprof_batch(1);
    let body = batch.profiles[0].body.as_pprof().unwrap().bytes().clone();
    for (setting, expected) in [("none", None), ("keep", Some(body))] {
        let settings = json!({"compression": "none", "original_payload": setting});
        exporter(far.address, settings)
            .export(&batch)
            .await
            .unwrap();
        let (plain, _) = far.last().message();
        let kept = otlp_batch(&plain, Compression::None);
        let (resource, _) = kept.profiles[0].body.as_otlp().unwrap().decode().unwrap();
        let payloads: Vec<_> = resource.scope_profiles[0]
            .profiles
            .iter()
            .filter(|profile| !profile.original_payload.is_empty())
            .map(|profile| profile.original_payload.clone())
            .collect();
        assert_eq!(payloads.first().map(|p| Bytes::from(p.to_vec())), expected);
        assert!(payloads.len() <= 1);
    }
}

#[tokio::test]
async fn what_is_no_pprof_is_dropped_with_its_reason() {
    let context = context();
    let settings = json!({"endpoint": "http://127.0.0.1:1", "max_inflated_bytes": "4KiB"});
    let exporter = exporter_of(settings, &context);
    let bomb = crate::profile::pprof::compress(&[0; 1 << 20]);
    for (body, reason) in [
        (Bytes::from_static(b"<html>"), Reason::InvalidProfile),
        (Bytes::new(), Reason::InvalidProfile),
        (bomb, Reason::TooLarge),
        // A sample without any sample type.
        (
            Bytes::from_static(&[0x12, 2, 0x10, 1]),
            Reason::InvalidProfile,
        ),
    ] {
        assert_eq!(prepare(&exporter, pprof("a", body)).err(), Some(reason));
    }
    // Nothing in it: nothing to send.
    let empty = Bytes::from_static(&[0x32, 0]);
    assert_eq!(prepare(&exporter, pprof("a", empty)).unwrap().len(), 0);
    assert!(counted(&context, "unrepairable_profiles_total") > 0);
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_not_sent() {
    let far = taking().await;
    let exporter = exporter(far.address, json!({"max_request_bytes": "4KiB"}));
    let large = future_request(&["api"], 200);
    assert!(large.len() > 4 << 10);
    for compression in [Compression::None, Compression::Gzip] {
        let batch = otlp_batch(&compression.compress(&large).unwrap(), compression);
        let error = exporter.export(&batch).await;
        assert_eq!(meaning(&error), "too large");
        assert!(error.unwrap_err().to_string().contains("max_request_bytes"));
    }
    assert_eq!(
        meaning(&exporter.export(&pprof_batch(1)).await),
        "too large"
    );
    assert!(far.arrived().is_empty());
}

#[tokio::test]
async fn bodies_of_several_requests_are_not_joined() {
    let far = taking().await;
    let exporter = exporter(far.address, json!({}));
    let wire = future_request(&["api"], 1);
    let mut batch = otlp_batch(&wire, Compression::None);
    batch
        .profiles
        .extend(otlp_batch(&wire, Compression::None).profiles);
    assert_eq!(meaning(&exporter.export(&batch).await), "split");
    assert!(far.arrived().is_empty());
}

// === answers ===

#[tokio::test]
async fn refusals_arrive_with_their_meaning() {
    let one = otlp_batch(&future_request(&["api"], 1), Compression::None);
    let several = pprof_batch(2);
    for (reply, meant, composed) in [
        (
            Reply::refused(Code::Unavailable, "x", None),
            "retry",
            "retry",
        ),
        (
            Reply::refused(Code::Unavailable, "x", Some(7)),
            "retry after",
            "retry after",
        ),
        (
            Reply::refused(Code::ResourceExhausted, "x", Some(7)),
            "retry after",
            "retry after",
        ),
        (
            Reply::refused(Code::ResourceExhausted, "x", None),
            "rejected",
            "rejected",
        ),
        (Reply::refused(Code::DataLoss, "x", None), "retry", "retry"),
        (
            Reply::refused(Code::InvalidArgument, "x", None),
            "rejected",
            "bad part",
        ),
        (
            Reply::refused(Code::Unauthenticated, "x", None),
            "unauthorized",
            "unauthorized",
        ),
        (
            Reply::refused(Code::Unimplemented, "x", None),
            "unimplemented",
            "unimplemented",
        ),
        (
            Reply::refused(
                Code::ResourceExhausted,
                "grpc: received message larger than max",
                None,
            ),
            "too large",
            "too large",
        ),
        (
            Reply::http(413, "text/html", "<html>"),
            "too large",
            "too large",
        ),
        (
            Reply::http(407, "text/html", ""),
            "unauthorized",
            "unauthorized",
        ),
        (
            Reply::http(503, "text/html", "").with("retry-after", "9"),
            "retry after",
            "retry after",
        ),
        (Reply::http(502, "text/html", ""), "retry", "retry"),
        (
            Reply::http(404, "text/html", ""),
            "unimplemented",
            "unimplemented",
        ),
        (Reply::http(200, "text/html", ""), "rejected", "rejected"),
    ] {
        let answer = reply.clone();
        let far = FarEnd::start(move |_, _| answer.clone()).await;
        let exporter = exporter(far.address, json!({}));
        assert_eq!(meaning(&exporter.export(&one).await), meant, "{reply:?}");
        assert_eq!(
            meaning(&exporter.export(&several).await),
            composed,
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn retry_info_is_obeyed() {
    let far = FarEnd::start(|_, _| Reply::refused(Code::Unavailable, "busy", Some(7))).await;
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    let error = exporter(far.address, json!({})).export(&batch).await;
    let Err(ExportError::Retry { after, cause }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(after, Some(time::Duration::from_secs(7)));
    assert_eq!(cause, "Unavailable: busy");
}

#[tokio::test]
async fn partial_success_is_counted_and_taken() {
    let context = context();
    for (number, answer) in [
        partial(2, "two are too old"),
        partial(3, "two are too old"),
        partial(0, "a warning"),
        partial(0, ""),
        partial(-5, ""),
    ]
    .into_iter()
    .enumerate()
    {
        // As grpc-go does: in the compression of the request.
        let message = answer.encode_to_vec();
        let far = FarEnd::start(move |arrived, _| {
            assert_eq!(
                arrived.headers["grpc-accept-encoding"],
                "identity,gzip,zstd"
            );
            let compression = arrived.compression("grpc-encoding");
            let message = compression.compress(&message.clone().into()).unwrap();
            let mut reply = Reply::grpc(&message);
            if compression != Compression::None {
                reply.body = [&[1], &reply.body[1..]].concat().into();
                reply = reply.with("grpc-encoding", compression.name());
            }
            reply
        })
        .await;
        let compression = ["none", "gzip", "zstd"][number % 3];
        let settings =
            json!({"endpoint": format!("http://{}", far.address), "compression": compression});
        let batch = otlp_batch(&future_request(&["api"], 5), Compression::None);
        exporter_of(settings, &context)
            .export(&batch)
            .await
            .unwrap();
    }
    let rejected = counted(&context, "partial_success_rejected_profiles_total");
    assert_eq!(rejected, 5);
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_a_success() {
    for reply in [
        Reply::grpc(&[0xff; 9]),
        Reply {
            body: Bytes::new(),
            ..Reply::grpc(b"")
        },
        Reply::grpc(&[0; 100_000]),
    ] {
        let far = FarEnd::start(move |_, _| reply.clone()).await;
        let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
        exporter(far.address, json!({}))
            .export(&batch)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn metadata_of_the_origin_goes_out_again() {
    let far = taking().await;
    let exporter = exporter(far.address, json!({"headers": {"x-region": "here"}}));
    let mut batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    batch.origin = Origin {
        metadata: [("x-scope-orgid", "apps"), ("x-region", "there")]
            .into_iter()
            .collect(),
        ..Origin::default()
    };
    exporter.export(&batch).await.unwrap();
    let sent = far.last();
    assert_eq!(sent.headers["x-scope-orgid"], "apps");
    let regions: Vec<_> = sent.headers.get_all("x-region").iter().collect();
    assert_eq!(regions, ["here"]);
}

// === connections ===

#[tokio::test]
async fn a_backend_that_is_not_there_yet_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = exporter(address, json!({}));
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    assert_eq!(meaning(&exporter.export(&batch).await), "retry");
    assert_eq!(meaning(&exporter.probe().await), "retry");
    let far = FarEnd::on(&address.to_string(), None, |_, _| Reply::grpc(b"")).await;
    exporter.export(&batch).await.unwrap();
    exporter.probe().await.unwrap();
    assert_eq!(far.last().message(), (Bytes::new(), Compression::None));
}

#[tokio::test]
async fn a_backend_that_dies_under_a_request_is_told_from_one_that_says_no() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Tasks::default().spawn("dying", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                continue;
            };
            // It takes the request, and is gone.
            let taken = connection.accept().await;
            drop(taken);
        }
    });
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    let result = exporter(address, json!({})).export(&batch).await;
    assert_eq!(meaning(&result), "died", "{result:?}");
}

#[tokio::test]
async fn time_that_runs_out_is_a_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Tasks::default().spawn("silent", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let _requests = connection.accept().await;
        std::future::pending::<()>().await;
    });
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    let exporter = exporter(address, json!({"timeout": "100ms"}));
    assert_eq!(meaning(&exporter.export(&batch).await), "retry");
}

#[tokio::test]
async fn both_sides_show_certificates() {
    let ca = Ca::new("ca");
    let server = ca.issue(&["127.0.0.1"]).server(Some(&ca), &["h2"]);
    let far = FarEnd::on("127.0.0.1:0", Some(server), |_, _| Reply::grpc(b"")).await;
    let client = ca.issue(&["relay"]);
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    let settings =
        |tls: serde_json::Value| json!({"endpoint": far.address.to_string(), "tls": tls});
    let tls = json!({"ca_pem": ca.pem, "cert_pem": client.cert, "key_pem": client.key});
    let good = exporter_of(settings(tls), &context());
    good.export(&batch).await.unwrap();
    let without = exporter_of(settings(json!({"ca_pem": ca.pem})), &context());
    let error = without.export(&batch).await;
    assert_eq!(meaning(&error), "retry");
    assert!(error.unwrap_err().to_string().contains("cert_file"));
}

#[tokio::test]
async fn a_plain_port_is_told_to_whoever_configured_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Tasks::default().spawn("plain", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    let exporter = exporter_of(json!({"endpoint": address.to_string()}), &context());
    let batch = otlp_batch(&future_request(&["api"], 1), Compression::None);
    assert_eq!(meaning(&exporter.export(&batch).await), "retry");
}

// === with delivery ===

fn deliver(exporter: OtlpExporter, context: &Context) -> Delivery {
    let mut settings = DeliverySettings::default();
    settings.retry_on_failure.initial_interval = Duration::from_millis(10);
    settings.retry_on_failure.max_interval = Duration::from_millis(50);
    settings.sending_queue.flush_timeout = Duration::from_millis(10);
    Delivery::start(
        context.id.clone(),
        std::sync::Arc::new(exporter),
        settings.clone(),
        settings.memory_queue(),
        &context.metrics,
        &context.status,
        context.memory.clone(),
    )
}

async fn settle(delivery: &Delivery) {
    let emptied = async {
        while delivery.ledger().balance().queued > 0 {
            tokio::time::sleep(time::Duration::from_millis(5)).await;
        }
    };
    let limit = time::Duration::from_secs(20);
    tokio::time::timeout(limit, emptied).await.unwrap();
}

/// A backend that takes plain requests of so many bytes.
async fn limited(bytes: usize) -> FarEnd {
    FarEnd::start(move |arrived, _| {
        let (message, compression) = arrived.message();
        match compression.inflate(&message, 64 << 20).unwrap().len() {
            size if size > bytes => Reply::refused(
                Code::ResourceExhausted,
                &format!("grpc: received message larger than max ({size} vs. {bytes})"),
                None,
            ),
            _ => Reply::grpc(b""),
        }
    })
    .await
}

/// All plain requests that were taken.
fn taken(far: &FarEnd, bytes: usize) -> Vec<Bytes> {
    let arrived = far.arrived().into_iter().map(|arrived| {
        let (message, compression) = arrived.message();
        compression.inflate(&message, 64 << 20).unwrap()
    });
    arrived.filter(|plain| plain.len() <= bytes).collect()
}

fn sum(requests: &[Bytes]) -> i64 {
    requests
        .iter()
        .flat_map(|plain| totals(plain))
        .map(|(_, sum)| sum)
        .sum()
}

#[tokio::test]
async fn what_the_backend_finds_too_large_arrives_in_pieces() {
    let far = limited(5_000).await;
    let wire = future_request(&["a", "b", "c"], 100);
    let context = context();
    let settings = json!({"endpoint": format!("http://{}", far.address)});
    let delivery = deliver(exporter_of(settings, &context), &context);
    let batch = otlp_batch(&wire, Compression::None);
    delivery.offer_for_test(batch).await;
    settle(&delivery).await;
    let balance = delivery.ledger().balance();
    assert_eq!((balance.sent, balance.enqueued), (300, 300));
    let pieces = taken(&far, 5_000);
    assert!(pieces.len() > 3, "{}", pieces.len());
    assert_eq!(sum(&pieces), 3 * (1..=100).sum::<i64>());
    assert!(pieces.iter().all(|piece| census(piece).is_ok()));
}

#[tokio::test]
async fn a_large_pprof_arrives_in_pieces() {
    let far = limited(40_000).await;
    let context = context();
    let settings = json!({"endpoint": format!("http://{}", far.address)});
    let delivery = deliver(exporter_of(settings, &context), &context);
    let batch = pprof_batch(3);
    let expected: i64 = pprof_totals(&batch).values().sum();
    delivery.offer_for_test(batch).await;
    settle(&delivery).await;
    assert_eq!(delivery.ledger().balance().sent, 3);
    assert_eq!(sum(&taken(&far, 40_000)), expected);
}

#[tokio::test]
async fn a_piece_that_cannot_be_divided_is_dropped_for_its_size() {
    let far = limited(100).await;
    let context = context();
    let settings = json!({"endpoint": format!("http://{}", far.address)});
    let delivery = deliver(exporter_of(settings, &context), &context);
    let wire = future_request(&["a"], 2);
    delivery
        .offer_for_test(otlp_batch(&wire, Compression::None))
        .await;
    settle(&delivery).await;
    let balance = delivery.ledger().balance();
    assert_eq!(balance.dropped.get(&Reason::TooLarge), Some(&2));
    assert!(far.arrived().len() < 4, "it is not tried for ever");
}

#[tokio::test]
async fn outages_cost_nothing_but_time() {
    let far = FarEnd::start(|_, number| match number {
        0 => Reply::refused(Code::Unavailable, "starting", None),
        1 => Reply::refused(Code::ResourceExhausted, "busy", Some(0)),
        2 => Reply::http(502, "text/html", ""),
        _ => Reply::grpc(b""),
    })
    .await;
    let context = context();
    let settings = json!({"endpoint": format!("http://{}", far.address)});
    let delivery = deliver(exporter_of(settings, &context), &context);
    let wire = Compression::Gzip
        .compress(&future_request(&["a", "b"], 2))
        .unwrap();
    delivery
        .offer_for_test(otlp_batch(&wire, Compression::Gzip))
        .await;
    settle(&delivery).await;
    assert_eq!(delivery.ledger().balance().sent, 4);
    assert_eq!(far.last().message(), (wire, Compression::Gzip));
}

#[tokio::test(start_paused = true)]
async fn without_memory_it_waits_and_says_so() {
    let context = context();
    let settings = json!({"endpoint": "http://127.0.0.1:1", "compression": "gzip"});
    let exporter = exporter_of(settings, &context);
    let _all = context.memory.try_take(context.memory.limit()).unwrap();
    let batch = otlp_batch(&future_request(&["a"], 2), Compression::None);
    let error = exporter.export(&batch).await;
    assert_eq!(meaning(&error), "retry");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("service.memory.limit"), "{error}");
}

// === settings ===

#[test]
fn every_key_of_the_collector_is_known() {
    let settings: Settings = serde_json::from_value(json!({
        "endpoint": "dns:///collector:4317",
        "tls": {"ca_file": "ca.pem"},
        "headers": {"x-scope-orgid": "apps"},
        "compression": "zstd",
        "keepalive": {"time": "10s", "timeout": "5s", "permit_without_stream": true},
        "balancer_name": "round_robin",
        "wait_for_ready": true,
        "timeout": "5s",
        "proxy_url": "http://proxy:3128",
    }))
    .unwrap();
    assert!(settings.problems().is_empty());
    assert_eq!(settings.max_request_bytes.get(), 4 << 20);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let settings: Settings = serde_json::from_value(json!({
        "wait_for_ready": false,
        "max_request_bytes": "1KiB",
        "max_inflated_bytes": "1KiB",
        "max_request_profiles": 0,
    }))
    .unwrap();
    let paths: Vec<_> = settings.problems().into_iter().map(|p| p.path).collect();
    assert_eq!(
        paths,
        [
            "endpoint",
            "max_request_bytes",
            "max_inflated_bytes",
            "max_request_profiles",
            "wait_for_ready",
        ]
    );
}
