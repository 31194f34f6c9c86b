//! OTLP senders and Parca work together: what is pushed as OTLP is stored under
//! its own names.

use crate::{
    config,
    far_end::{Behaviour, FarEnd, real::flat, rules},
    harness::Relay,
    requests,
};
use profile_relay::r#gen::{
    opentelemetry::proto::collector::profiles::v1development::{
        ExportProfilesServiceRequest, profiles_service_client::ProfilesServiceClient,
    },
    pprof::Profile,
};
use prost::Message;
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

/// A relay between OTLP over gRPC and a `parca` exporter; `more` stands in the
/// configuration's root.
fn relay(store: &FarEnd, exporter: &str, service: &str, more: &str) -> (Relay, String) {
    let relay = Relay::run(&format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         exporters: {{parca: {{{}{exporter}}}}}\n{more}\n\
         service: {{{service}pipelines: {{profiles: {{receivers: [otlp], exporters: [parca]{}}}}}}}\n",
        config::to(store.addr(), ""),
        if more.is_empty() {
            ""
        } else {
            ", processors: [relabel, labels, filter]"
        },
    ));
    let line = relay.logged("protocol=grpc");
    let rest = line.split_once("endpoint=").map(|(_, rest)| rest);
    let endpoint = rest.and_then(|rest| rest.split_whitespace().next());
    let endpoint = format!("http://{}", endpoint.expect("an address"));
    (relay, endpoint)
}

async fn client(endpoint: &str) -> ProfilesServiceClient<Channel> {
    let client = ProfilesServiceClient::connect(endpoint.to_owned()).await;
    client
        .expect("the relay listens")
        .send_compressed(CompressionEncoding::Gzip)
}

fn decoded(body: &bytes::Bytes) -> Profile {
    Profile::decode(rules::inflate(body).expect("gzip or plain")).expect("a pprof")
}

/// Several resources of one dictionary.
fn several(cases: &[&str]) -> ExportProfilesServiceRequest {
    let mut request = requests::sound(cases[0]);
    for case in &cases[1..] {
        request
            .resource_profiles
            .extend(requests::sound(case).resource_profiles);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_values_arrive_under_their_own_names() {
    let store = FarEnd::start(Behaviour::default());
    let (relay, endpoint) = relay(&store, "", "", "");
    let request = several(&["one", "two"]);
    client(&endpoint)
        .await
        .export(request)
        .await
        .expect("accepted");
    relay.until("both are stored", |m| m.books("parca").sent == 2);
    let stored = store.stored();
    let mut cases: Vec<_> = stored.iter().map(|s| s.labels["case"].as_str()).collect();
    cases.sort_unstable();
    assert_eq!(cases, ["one", "two"]);
    for stored in &stored {
        assert_eq!(stored.labels["__name__"], "otlp_cpu");
        assert_eq!(stored.labels["service_name"], "api");
        let wanted = requests::FLAT.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(flat(&decoded(&stored.body)), wanted.into());
    }
    let metrics = relay.metrics();
    assert_eq!(
        metrics.sum("receiver_accepted_profiles_total", &[("receiver", "otlp")]),
        2
    );
    assert_eq!(store.crashes(), [""; 0]);
    assert_eq!(relay.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_work_on_resources() {
    let store = FarEnd::start(Behaviour::default());
    let processors = "processors:\n  \
         relabel: {relabel_configs: [{source_labels: [case], regex: drop, action: drop}]}\n  \
         labels: {actions: [{key: team, value: a, action: insert}]}\n  \
         filter: {exclude: [{labels: {case: filtered}}]}";
    let (relay, endpoint) = relay(&store, "", "", processors);
    let request = several(&["keep", "drop", "filtered"]);
    client(&endpoint)
        .await
        .export(request)
        .await
        .expect("accepted");
    relay.until("one is stored", |m| m.books("parca").sent == 1);
    let stored = store.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].labels["case"], "keep");
    assert_eq!(stored[0].labels["team"], "a");
    let metrics = relay.metrics();
    let dropped = |processor| {
        metrics.sum(
            "processor_dropped_profiles_total",
            &[("processor", processor)],
        )
    };
    assert_eq!((dropped("relabel"), dropped("filter")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_reaches_a_store_that_it_would_end() {
    let store = FarEnd::start(Behaviour::default());
    let (relay, endpoint) = relay(&store, "", "", "");
    let mut client = client(&endpoint).await;
    let mut accepted = 0;
    for shape in requests::SHAPES {
        let mut request = requests::sound(shape.name);
        (shape.change)(&mut request);
        match client.export(request).await {
            Ok(_) => accepted += 1,
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{}", shape.name),
        }
    }
    client
        .export(requests::sound("last"))
        .await
        .expect("accepted");
    let metrics = relay.until("all have come to an end", |m| {
        let books = m.books("parca");
        books.enqueued == accepted + 1 && books.queued == 0
    });
    assert!(metrics.books("parca").sent >= 10);
    assert_eq!(store.crashes(), [""; 0]);
    assert!(
        store
            .stored()
            .iter()
            .any(|s| s.labels.get("case").is_some_and(|case| case == "last"))
    );
}
