//! What is scraped as pprof leaves as OTLP, over gRPC and over HTTP.

use crate::{
    harness::{LIMIT, Relay},
    support::sink::{Fault, Sink, Taken, pprof_totals, totals},
    target::{Answer, ClosedPort, Target},
};
use bytes::Bytes;
use profile_relay::profile::{otlp::Compression, pprof::SyntheticProfile};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A program whose every profile is another one.
fn program() -> Target {
    let seed = AtomicU64::new(0);
    Target::start(move |_| {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        let profile = SyntheticProfile {
            time: Duration::from_secs(1_750_000_000 + seed),
            ..SyntheticProfile::heap(seed)
        };
        Answer::Profile(profile.encode())
    })
}

/// A relay that scrapes `target` and sends to `exporters`.
fn configuration(target: &Target, exporters: &str, ids: &str) -> String {
    let job = crate::config::job("api", &[target.addr()], "");
    format!(
        "receivers: {{pprof: {{scrape_configs: [{job}]}}}}\n\
         exporters:\n{exporters}\n\
         service:\n  pipelines: {{profiles: {{receivers: [pprof], exporters: [{ids}]}}}}\n"
    )
}

fn exporter(id: &str, settings: &str) -> String {
    let delivery = crate::config::delivery("");
    format!("  {id}: {{{settings}, {delivery}}}\n")
}

/// The times of the profiles that arrived, which tell them apart.
fn times(taken: &[Taken]) -> BTreeSet<u64> {
    let resources = taken.iter().flat_map(|t| &t.request.resource_profiles);
    let scopes = resources.flat_map(|resource| &resource.scope_profiles);
    let profiles = scopes.flat_map(|scope| &scope.profiles);
    profiles.map(|profile| profile.time_unix_nano).collect()
}

/// Ends scraping, and waits until `sink` has all that was scraped.
fn settled(relay: &Relay, target: &Target, exporter: &str) {
    target.set(|_| crate::target::not_found());
    relay.until("nothing is queued", |metrics| {
        let books = metrics.books(exporter);
        books.queued == 0 && books.sent == metrics.accepted()
    });
}

#[test]
fn scraped_profiles_arrive_over_grpc_and_http_with_the_same_totals() {
    let target = program();
    let sinks = [(); 4].map(|()| Sink::start());
    let [grpc, proto, json, keep] = &sinks;
    let exporters = [
        exporter("otlp", &format!("endpoint: \"http://{}\"", grpc.addr())),
        exporter(
            "otlp_http",
            &format!("endpoint: \"http://{}\", compression: zstd", proto.addr()),
        ),
        exporter(
            "otlp_http/json",
            &format!(
                "profiles_endpoint: \"http://{}/profiles\", encoding: json, compression: none",
                json.addr()
            ),
        ),
        exporter(
            "otlp/keep",
            &format!(
                "endpoint: \"{}\", tls: {{insecure: true}}, compression: none, original_payload: keep",
                keep.addr()
            ),
        ),
    ]
    .concat();
    let ids = "otlp, otlp_http, otlp_http/json, otlp/keep";
    let relay = Relay::run(&configuration(&target, &exporters, ids));
    for sink in &sinks {
        let several = |taken: &[Taken]| times(taken).len() >= 3;
        assert!(sink.wait(LIMIT, several), "{}", relay.log());
    }
    for id in ids.split(", ") {
        settled(&relay, &target, id);
    }
    let served = target.served();
    let expected = pprof_totals(&served);
    assert!(expected.len() > 100);
    for (sink, way, compression) in [
        (grpc, "grpc", Compression::Gzip),
        (proto, "proto", Compression::Zstd),
        (json, "json", Compression::None),
        (keep, "grpc", Compression::None),
    ] {
        let taken = sink.taken();
        assert_eq!(totals(taken.iter().map(|t| &t.request)), expected, "{way}");
        for request in &taken {
            assert_eq!((request.way, request.compression), (way, compression));
            assert_eq!(request.headers["otlp-profiles-development-version"], "1");
            assert_eq!(attribute(request, "job").as_deref(), Some("api"));
            let scope = &request.request.resource_profiles[0].scope_profiles[0];
            assert_eq!(scope.scope.as_ref().expect("a scope").name, "memory");
        }
    }
    let kept: Vec<Bytes> = keep.taken().iter().flat_map(payloads).collect();
    assert_eq!(kept.len(), served.len());
    assert!(kept.iter().all(|body| served.contains(body)));
    let ended = relay.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

/// A string attribute of the first resource.
fn attribute(taken: &Taken, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let resource = taken.request.resource_profiles[0].resource.as_ref()?;
    let attribute = resource.attributes.iter().find(|a| a.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn payloads(taken: &Taken) -> Vec<Bytes> {
    let resources = taken.request.resource_profiles.iter();
    let profiles = resources
        .flat_map(|r| &r.scope_profiles)
        .flat_map(|s| &s.profiles);
    profiles
        .filter(|profile| profile.original_payload_format == "pprof")
        .map(|profile| profile.original_payload.clone().into())
        .collect()
}

#[test]
fn backends_that_come_late_get_everything_once() {
    let target = program();
    let (grpc, http) = (ClosedPort::new(), ClosedPort::new());
    let exporters = [
        exporter("otlp", &format!("endpoint: \"http://{}\"", grpc.addr())),
        exporter(
            "otlp_http",
            &format!("endpoint: \"http://{}\"", http.addr()),
        ),
    ]
    .concat();
    let relay = Relay::run(&configuration(&target, &exporters, "otlp, otlp_http"));
    relay.until("several profiles wait for both", |metrics| {
        metrics.books("otlp").queued >= 3 && metrics.books("otlp_http").queued >= 3
    });
    let shown = relay.json("/api/status").to_string();
    assert!(shown.contains("connection refused"), "{shown}");
    let addresses = (grpc.addr(), http.addr());
    drop((grpc, http));
    let (grpc, http) = (Sink::at(addresses.0), Sink::at(addresses.1));
    for (sink, id) in [(&grpc, "otlp"), (&http, "otlp_http")] {
        settled(&relay, &target, id);
        let books = relay.books(id);
        assert_eq!((books.dropped, books.queued), (0, 0));
        let taken = sink.taken();
        let expected = pprof_totals(&target.served());
        assert_eq!(totals(taken.iter().map(|t| &t.request)), expected, "{id}");
    }
}

#[test]
fn refusals_are_retried_dropped_or_counted_as_the_specification_says() {
    for (id, way) in [("otlp", "grpc"), ("otlp_http", "proto")] {
        let target = program();
        let sink = Sink::start();
        sink.faults([Fault::Unavailable, Fault::Partial(3), Fault::Broken]);
        let settings = format!("endpoint: \"http://{}\"", sink.addr());
        let relay = Relay::run(&configuration(&target, &exporter(id, &settings), id));
        assert!(
            sink.wait(LIMIT, |taken| taken.len() >= 3),
            "{}",
            relay.log()
        );
        target.set(|_| crate::target::not_found());
        let metrics = relay.until("nothing is queued", |m| m.books(id).queued == 0);
        // One was broken for good; what was rejected in part counts as sent.
        assert_eq!(
            metrics.dropped(id, "rejected_by_backend"),
            1,
            "{}",
            metrics.text()
        );
        let rejected = "exporter_partial_success_rejected_profiles_total";
        assert_eq!(metrics.sum(rejected, &[("exporter", id)]), 3);
        let books = metrics.books(id);
        assert_eq!(books.sent + 1, metrics.accepted());
        let log = relay.log();
        assert!(log.contains("rejected some profiles"), "{log}");
        assert!(sink.taken().iter().all(|taken| taken.way == way));
    }
}
