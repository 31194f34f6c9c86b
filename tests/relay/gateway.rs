//! Relays behind a relay: models that reach the outside by one gateway, which knows
//! them by certificate and token and lets nobody write another's labels.

use crate::{
    agent::{Agent, File, Habit, Mark},
    certificates::Authority,
    config,
    far_end::{Behaviour, FarEnd, Log, generation::Generation},
    harness::{LIMIT, Relay, until},
    otlp_in::{PROTOBUF, address, post, request},
    support::sink::{Sink, Taken},
};
use bytes::Bytes;
use std::{fs, net::SocketAddr};
use tokio::runtime::Runtime;

const SAMPLES: &[u8] = include_bytes!("../data/arrow/v1_samples.arrows");
const STACKS: &[u8] = include_bytes!("../data/arrow/v1_stacks.arrows");
const V2: &[u8] = include_bytes!("../data/arrow/v2.arrows");

/// Certificates for both sides, and a token for each model.
fn folder(authority: &Authority, token: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    authority.write(&path("ca.pem"));
    authority
        .certify()
        .write(&path("cert.pem"), &path("key.pem"));
    fs::write(path("token"), token).expect("a file");
    folder
}

const TLS_IN: &str = "tls: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem}, \
     auth: {bearer_token_file: token, only_listed: true, identities: {\
     \"*\": {metadata: {x-scope-orgid: \"{name}\"}}, \
     team-a: {labels: {juju_model: model-a}}, \
     team-b: {allow: {labels: {juju_model: [\"model-b.*\"]}}}}}";

const TLS_OUT: &str = "tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}, \
     auth: {bearer_token_file: token}";

/// A model's relay, which says of each profile that it is of `model`.
fn of_model(authority: &Authority, token: &str, model: &str, gateway: &str) -> Relay {
    let delivery = config::delivery("");
    let yaml = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         processors: {{labels: {{actions: [{{key: juju_model, value: {model}, action: insert}}]}}}}\n\
         exporters: {{otlp: {{endpoint: \"https://{gateway}\", {TLS_OUT}, {delivery}}}}}\n\
         service:\n  pipelines: {{profiles: {{receivers: [otlp], processors: [labels], exporters: [otlp]}}}}\n"
    );
    Relay::run_in(folder(authority, token), &yaml)
}

fn send(relay: &Relay, service: &str) {
    let (status, told) = post(&address(relay, "http"), PROTOBUF, &request(&[service]));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&told));
}

/// What arrived: tenant, service and model of each profile.
fn arrived(taken: &[Taken]) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for taken in taken {
        let tenant = taken.headers.get("x-scope-orgid");
        let tenant = tenant.and_then(|tenant| tenant.to_str().ok());
        for resource in &taken.request.resource_profiles {
            let resource = resource.resource.as_ref().expect("a resource");
            let value = |key: &str| {
                let found = resource.attributes.iter().find(|a| a.key == key);
                let text = format!("{:?}", found.map(|found| &found.value));
                let mut quoted = text.split('"');
                quoted.nth(1).unwrap_or_default().to_owned()
            };
            let tenant = tenant.unwrap_or_default().to_owned();
            all.push((tenant, value("service.name"), value("juju_model")));
        }
    }
    all.sort();
    all
}

#[test]
fn models_share_a_gateway_and_none_writes_as_another() {
    let authority = Authority::new();
    let sink = Sink::start();
    let backend = sink.addr();
    drop(sink);
    let delivery = config::delivery("");
    let gateway = Relay::run_in(
        folder(
            &authority,
            "team-a token-a\nteam-b token-b\nstranger token-c\n",
        ),
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\", {TLS_IN}}}}}}}}}\n\
             exporters: {{otlp: {{endpoint: \"http://{backend}\", {delivery}}}}}\n\
             service:\n  pipelines: {{profiles: {{receivers: [otlp], exporters: [otlp]}}}}\n"
        ),
    );
    let grpc = address(&gateway, "grpc");
    let forger = of_model(&authority, "token-a", "model-b-1", &grpc);
    let honest = of_model(&authority, "token-b", "model-b-1", &grpc);
    let liar = of_model(&authority, "token-b", "model-a", &grpc);
    let stranger = of_model(&authority, "token-c", "model-a", &grpc);
    send(&forger, "forged");
    send(&honest, "honest");
    send(&liar, "lied");
    send(&stranger, "strange");
    // The backend is away: the gateway has what the models' relays are rid of.
    for relay in [&forger, &honest] {
        relay.until("the gateway has it", |metrics| {
            metrics.books("otlp").sent == 1 && metrics.books("otlp").queued == 0
        });
    }
    gateway.until("the backend is away", |metrics| {
        let labels = [("exporter", "otlp"), ("outcome", "retry")];
        metrics.sum("exporter_attempts_total", &labels) > 0
    });
    assert_eq!(gateway.books("otlp").queued, 2);
    // Who may not write that is told, and the others are kept waiting for it.
    for relay in [&liar, &stranger] {
        relay.until("it is refused", |metrics| {
            let labels = [("exporter", "otlp"), ("outcome", "unauthorized")];
            metrics.sum("exporter_attempts_total", &labels) > 0
        });
        assert_eq!(relay.books("otlp").queued, 1);
    }
    let sink = Sink::at(backend);
    let expected = [
        ("team-a", "forged", "model-a"),
        ("team-b", "honest", "model-b-1"),
    ]
    .map(|(tenant, service, model)| (tenant.into(), service.into(), model.into()));
    let all = |taken: &[Taken]| arrived(taken) == expected;
    assert!(sink.wait(LIMIT, all), "{:?}", arrived(&sink.taken()));
    let secret = |text: &str| {
        ["token-a", "token-b", "token-c"]
            .iter()
            .any(|t| text.contains(t))
    };
    assert!(!secret(&gateway.log()), "{}", gateway.log());
}

/// A relay for agents that sends to a Parca, or to what looks like one.
fn for_agents(folder: tempfile::TempDir, receiver: &str, exporter: &str) -> Relay {
    let delivery = config::delivery("");
    Relay::run_in(
        folder,
        &format!(
            "receivers: {{parca: {{endpoint: \"127.0.0.1:0\"{receiver}}}}}\n\
             exporters: {{parca: {{{exporter}, {delivery}}}}}\n\
             service:\n  pipelines: {{profiles: {{receivers: [parca], exporters: [parca]}}}}\n"
        ),
    )
}

#[test]
fn what_agents_push_passes_two_relays() {
    let authority = Authority::new();
    for generation in [Generation::V0_27, Generation::V0_28] {
        let store = FarEnd::start(Behaviour {
            generation,
            ..Behaviour::default()
        });
        let out = format!("endpoint: \"http://{}\"", store.addr());
        let tokens = folder(&authority, "team-a token-a\n");
        let gateway = for_agents(tokens, &format!(", {TLS_IN}"), &out);
        let out = format!(
            "endpoint: \"https://{}\", {TLS_OUT}",
            address(&gateway, "grpc")
        );
        let inner = for_agents(folder(&authority, "token-a"), "", &out);
        let listening: SocketAddr = address(&inner, "grpc").parse().expect("an address");
        let runtime = Runtime::new().expect("a runtime");
        let _agent = runtime.block_on(async {
            let agent = Agent::dial(listening, 60.0).await;
            agent
                .write_arrow(&Bytes::from_static(V2))
                .await
                .expect("a success");
            let (samples, stacks) = (Bytes::from_static(SAMPLES), Bytes::from_static(STACKS));
            let written = agent.write(&samples, &stacks, Habit::Leaves).await;
            written.expect("a success");
            agent
        });
        let both = |log: &Log| log.arrow.len() == 2;
        assert!(
            store.wait(LIMIT, both),
            "{}\n{}",
            inner.log(),
            gateway.log()
        );
        let by_write = store
            .log()
            .arrow
            .iter()
            .filter(|a| a.stacks.is_some())
            .count();
        let expected = if generation == Generation::V0_28 {
            1
        } else {
            2
        };
        assert_eq!(by_write, expected, "{generation:?}");
        let tenants = store.log().calls;
        let tenants = tenants
            .iter()
            .map(|(_, headers)| headers.get("x-scope-orgid"));
        let others: Vec<_> = tenants
            .filter(|t| *t != Some(&"team-a".to_owned()))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        // The gateway stamps what its client says nothing of.
        let stamped = |bytes: &Bytes| contains(bytes, b"juju_model");
        assert!(store.log().arrow.iter().all(|a| stamped(&a.samples)));
        for relay in [&inner, &gateway] {
            until("both are delivered", || {
                let books = relay.books("parca");
                (books.sent == 2 && books.queued == 0).then_some(())
            });
        }
    }
}

fn contains(bytes: &Bytes, text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|found| found == text)
}

#[test]
fn debug_symbols_pass_two_relays() {
    let authority = Authority::new();
    let symbols: Vec<_> = (0..8)
        .map(|number| File {
            build_id: format!("build-{number}"),
            bytes: (0..9_u32 << 20).map(|at| (at % 251) as u8).collect(),
        })
        .collect();
    for secure in [false, true] {
        let store = FarEnd::start(Behaviour::default());
        let out = format!("endpoint: \"http://{}\"", store.addr());
        let tls = if secure {
            format!(", {TLS_IN}")
        } else {
            String::new()
        };
        let receiver = format!("{tls}, upstream: {{{out}}}");
        let tokens = folder(&authority, "team-a token-a\n");
        let gateway = for_agents(tokens, &receiver, &out);
        let grpc = address(&gateway, "grpc");
        let out = match secure {
            true => format!("endpoint: \"https://{grpc}\", {TLS_OUT}"),
            false => format!("endpoint: \"http://{grpc}\""),
        };
        let receiver = format!(", upstream: {{{out}}}");
        let inner = for_agents(folder(&authority, "token-a"), &receiver, &out);
        let listening: SocketAddr = address(&inner, "grpc").parse().expect("an address");
        let runtime = Runtime::new().expect("a runtime");
        let marks = runtime.block_on(async {
            let agent = Agent::dial(listening, 60.0).await;
            agent.upload_all(&symbols).await
        });
        let all = marks.values().all(|mark| *mark == Mark::ForGood);
        assert!(
            all,
            "{secure}: {marks:?}\n{}\n{}",
            inner.log(),
            gateway.log()
        );
        let crc = crc32fast::hash(&symbols[0].bytes);
        let log = store.log();
        assert_eq!((log.files.len(), log.finished.len()), (8, 8));
        assert!(log.files.iter().all(|file| file.crc == crc));
    }
}
